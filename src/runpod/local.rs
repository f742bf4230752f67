//! A worker without a queue: one input, done here and shown, as RunPod's own workers do it for developers.

use std::time::Duration;

use serde_json::{Value, json};

use super::accept::Asked;
use crate::app::App;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::queue::{new_id, unix_now_ms};
use crate::runpod_payload::{self, Failure, Input};
use crate::shutdown::Shutdown;

const LOOK: Duration = Duration::from_millis(200);
const WORKER: &str = "local";

/// What RunPod would have been sent, and whether that is a result.
pub struct Tested {
    pub body: Value,
    pub is_well: bool,
}

/// Does the job in `text`, `{"input": {…}}`.
///
/// # Errors
/// `Config` where that is no job.
pub fn test(config: &Config, text: &str, asked: &Shutdown) -> Result<Tested> {
    let mut job: Value = serde_json::from_str(text)
        .map_err(|error| Error::Config(format!("the test input is no JSON, {{\"input\": {{…}}}}: {error}")))?;
    if job.get("input").is_none_or(Value::is_null) {
        return Err(Error::Config("the test input has no input: {\"input\": {…}}".to_owned()));
    }
    // What makes no job is said before the model is loaded.
    Input::parse(job["input"].clone())?;
    let app = App::start(config, "runpod", true, asked)?;
    let tested = submit(&app, &mut job, config.max_audio_bytes).and_then(|id| ended(&app, &id, asked));
    app.shut_down(Duration::ZERO)?;
    tested
}

fn submit(app: &App, job: &mut Value, max_audio_bytes: u64) -> Result<String> {
    let (intake, id) = (app.intake(), new_id());
    let mut incoming = intake.storage.uploads().receive(&id);
    let mut draft = Asked::read(job, intake)?.draft(intake, id, max_audio_bytes, &mut incoming)?;
    draft.job.owner = Some(intake.process_id.clone());
    let submitted = intake.submit(draft)?;
    incoming.keep();
    Ok(submitted.id)
}

fn ended(app: &App, id: &str, asked: &Shutdown) -> Result<Tested> {
    let queue = &app.intake().queue;
    loop {
        let seen = queue.wake().seen();
        let job = queue.job(id, unix_now_ms())?;
        let texts = queue.runpod_texts(id)?;
        if job.status == JobState::Completed {
            let output = runpod_payload::output(&job, &queue.spoken(id)?, &texts, app.intake().device)?;
            return Ok(Tested { body: runpod_payload::answer(output, &texts), is_well: true });
        }
        if let Some(error) = job.error.as_ref().filter(|_| job.status.is_terminal()) {
            let body = runpod_payload::failed(&Failure::of(error, WORKER, WORKER), &texts);
            return Ok(Tested { body, is_well: false });
        }
        if asked.is_triggered() || app.is_dead() {
            let why = if app.is_dead() { "the model could not be loaded" } else { "interrupted" };
            return Ok(Tested { body: json!({"error": why}), is_well: false });
        }
        queue.wake().wait(seen, LOOK);
    }
}
