//! What happens before the first invocation: limits by the room there is, the model loaded, and Lambda told where that fails.

use std::time::{Duration, Instant};

use serde_json::json;

use super::model;
use crate::app::App;
use crate::config::Config;
use crate::db;
use crate::error::{Error, Result};
use crate::http_client::{Outbound, Patience, Reach, Target, Url};
use crate::shutdown::Shutdown;
use crate::system;

/// Of what is free in DATA_DIR, so much is for decoded audio, and as much for one recording.
const SHARE: u64 = 4;
const MIN_SPOOL_BYTES: u64 = 16 << 20;
/// The longest wait for a model before looking again.
const LOOK: Duration = Duration::from_millis(500);

/// A running whisperq whose workers are ready.
///
/// # Errors
/// `Config` where it cannot work here.
pub(super) fn start(config: &Config, shutdown: &Shutdown) -> Result<App> {
    let started = Instant::now();
    let config = model::place(&limited(config)?)?;
    let app = App::start(&config, "lambda", false, shutdown)?;
    if !wait_for_workers(&app, config.worker_count, shutdown)? {
        let reason = failure(&app)?;
        app.shut_down(Duration::ZERO)?;
        return Err(Error::Config(format!("the model could not be loaded: {reason}")));
    }
    tracing::info!(model = app.intake().model.name, workers = config.worker_count, took = ?started.elapsed(), "ready");
    Ok(app)
}

/// The settings, kept within what is free: the folder is small there, and running out of it fails every job.
fn limited(config: &Config) -> Result<Config> {
    let mut config = config.clone();
    std::fs::create_dir_all(&config.data_dir).map_err(|error| {
        Error::Config(format!(
            "cannot create DATA_DIR={}: {error}; only /tmp can be written",
            config.data_dir.display()
        ))
    })?;
    let share = db::free_bytes(&config.data_dir)? / SHARE;
    config.spool_max_bytes = config.spool_max_bytes.min(share.max(MIN_SPOOL_BYTES));
    config.max_audio_bytes = config.max_audio_bytes.min(share.max(MIN_SPOOL_BYTES));
    Ok(config)
}

/// Whether one is ready once none is loading any more.
fn wait_for_workers(app: &App, workers: usize, shutdown: &Shutdown) -> Result<bool> {
    let intake = app.intake();
    loop {
        let seen = intake.queue.wake().seen();
        let health = system::health(intake.queue.db(), &intake.process_id)?;
        if app.is_dead() {
            return Ok(false);
        }
        if health.settled_workers() >= workers as i64 || shutdown.is_triggered() {
            return Ok(true);
        }
        intake.queue.wake().wait(seen, LOOK);
    }
}

/// What the first worker says that failed.
fn failure(app: &App) -> Result<String> {
    let workers = system::system(app.intake().queue.db())?.workers;
    let reason = workers.iter().find_map(|worker| worker["error"].as_str());
    Ok(reason.unwrap_or("the log says why").to_owned())
}

/// Lambda shows this in place of a process that ended without a word.
pub(super) fn report_failure(runtime_api: &str, error: &Error) {
    // cargo lambda puts the scheme before it.
    let host = runtime_api.trim_start_matches("http://");
    let address = format!("http://{host}/2018-06-01/runtime/init/error");
    let body = json!({"errorType": format!("whisperq.{}", error.code()), "errorMessage": error.to_string()});
    let headers = vec![("Lambda-Runtime-Function-Error-Type".to_owned(), "Runtime.InitError".to_owned())];
    let sent = Url::parse(&address).map_err(|error| error.to_string()).and_then(|url| {
        let target = Target { url, headers, reach: Reach::Anywhere };
        let outbound = Outbound::new(true, Patience::default());
        outbound.post(&target, body.to_string().into_bytes(), &mut || Ok(())).map_err(|error| error.to_string())
    });
    if let Err(why) = sent {
        tracing::error!(why, "Lambda could not be told that the start failed");
    }
}
