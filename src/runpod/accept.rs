//! From what RunPod hands out to a job here: under RunPod's own id, once, whatever is wrong with it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Desk;
use crate::app::{Draft, Intake, Source};
use crate::error::{Error, Result};
use crate::job::{FrontDoor, JobError, JobState, NewJob, Options, RunpodTexts};
use crate::queue::unix_now_ms;
use crate::runpod_payload::{Audio, INIT_FAILED, Input};
use crate::storage::{Incoming, S3Config, upload_source};

const MAX_ID_CHARS: usize = 128;
/// Names of our own in the folders where jobs have files.
const OUR_NAMES: [&str; 1] = ["webhooks"];
/// Of a message about a job that has no row here.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// A job as it was asked for.
pub(super) struct Asked {
    audio: Audio,
    options: Options,
    keys: Option<S3Config>,
}

impl Asked {
    /// Reads a job. Its webhook is told by RunPod itself, and its other fields mean nothing here.
    ///
    /// # Errors
    /// `Config` where it is no object with an input, or its keys are none.
    pub(super) fn read(job: &mut Value, intake: &Intake) -> Result<Self> {
        let mut part = |name: &str| job.get_mut(name).map(Value::take).unwrap_or_default();
        let keys = Some(part("s3Config")).filter(|keys| !keys.is_null()).map(serde_json::from_value).transpose();
        let keys = keys.map_err(|_| {
            let message = "s3Config is not understood: allowed are accessId, accessSecret, bucketName and endpointUrl";
            Error::Config(message.to_owned())
        })?;
        let Input { audio, mut options, model } = Input::parse(part("input"))?;
        if let (Some(model), Some(texts)) = (model.filter(|model| !intake.serves(model)), &mut options.runpod) {
            texts.warnings.push(format!("the model {model} is not loaded here: the served one was used"));
        }
        Ok(Self { audio, options, keys })
    }

    /// The job to submit under this id. Audio that came with it is put into `incoming`.
    pub(super) fn draft(self, intake: &Intake, id: String, max_bytes: u64, incoming: &mut Incoming) -> Result<Draft> {
        let source = match self.audio {
            Audio::Address(address) => Source::address(&address)?,
            Audio::Base64(text) => store(&text, max_bytes, incoming)?,
        };
        intake.new_job(id, FrontDoor::Runpod, source, self.options, self.keys)
    }
}

impl Desk {
    /// Takes in what a poll has brought. Whatever has an id gets an answer.
    pub(super) fn accept(&self, job: Value) {
        let Some(id) = job["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned) else {
            tracing::error!("RunPod handed out something without an id: it cannot be answered");
            return;
        };
        if !is_name(&id) {
            let message = "the id of the job is no name: allowed are letters, digits, - and _";
            return self.refuse(&id, "invalid_id", message);
        }
        if let Err(error) = self.take_in(&id, job) {
            tracing::error!(job = id, %error, "the job could not be taken in");
            self.refuse(&id, error.code(), &error.to_string());
        }
    }

    fn take_in(&self, id: &str, job: Value) -> Result<()> {
        let queue = &self.intake.queue;
        match queue.progress(id) {
            Err(Error::NotFound(_)) => self.submit(id, job),
            Err(error) => Err(error),
            Ok((JobState::Queued | JobState::Running, _)) => {
                tracing::info!(job = id, "RunPod handed out a job again that is being worked on");
                Ok(())
            }
            Ok((JobState::Completed, _)) => {
                tracing::info!(job = id, "RunPod handed out a job again that is done: its result is sent once more");
                match queue.redeliver(id, unix_now_ms()) {
                    // It is on its way.
                    Err(Error::Conflict(_)) => Ok(()),
                    sent => sent,
                }
            }
            Ok((JobState::Failed | JobState::TimedOut, _)) => {
                tracing::info!(job = id, "RunPod handed out a job again that had failed");
                queue.retry(id, unix_now_ms())
            }
            Ok((JobState::Cancelled, _)) => {
                // RunPod stops jobs that ran too long as well, and their users may want them tried again.
                tracing::info!(job = id, "RunPod handed out a job again that it had stopped: it begins anew");
                queue.forget_cancelled(id)?;
                self.submit(id, job)
            }
        }
    }

    /// A new job. What it cannot be done for is its end at once, and told as every other end is.
    fn submit(&self, id: &str, mut job: Value) -> Result<()> {
        let asked = Asked::read(&mut job, &self.intake);
        let submitted = asked.and_then(|asked| self.submit_asked(id, asked));
        match submitted {
            Ok(()) => Ok(()),
            Err(error @ (Error::Config(_) | Error::InvalidInput { .. } | Error::Overloaded(_))) => {
                tracing::info!(job = id, %error, "the input was refused");
                let job = self.refused_job(id);
                self.intake.queue.submit_failed(job, error.code(), &error.to_string(), unix_now_ms())
            }
            Err(error) => Err(error),
        }
    }

    fn submit_asked(&self, id: &str, mut asked: Asked) -> Result<()> {
        if let Some(texts) = &mut asked.options.runpod {
            texts.from_queue = true;
        }
        let mut incoming = self.intake.storage.uploads().receive(id);
        let draft = asked.draft(&self.intake, id.to_owned(), self.max_audio_bytes, &mut incoming)?;
        let is_here = draft.job.source_bytes.is_some();
        let submitted = self.intake.submit(draft)?;
        if is_here && !submitted.resumed {
            incoming.keep();
        }
        tracing::info!(job = id, "taken from RunPod");
        Ok(())
    }

    fn refused_job(&self, id: &str) -> NewJob {
        let texts = RunpodTexts { from_queue: true, ..RunpodTexts::default() };
        NewJob {
            id: id.to_owned(),
            idempotency_key: None,
            front_door: FrontDoor::Runpod,
            source: upload_source("refused"),
            source_version: None,
            source_bytes: None,
            model: self.intake.model.name.clone(),
            language: None,
            options: Options { runpod: Some(texts), ..Options::default() },
            owner: None,
        }
    }

    /// Says no to a job that has no row here.
    fn refuse(&self, id: &str, code: &str, message: &str) {
        let error = JobError { code: code.to_owned(), message: message.to_owned() };
        for n in 0..TRIES {
            match self.outlet.refuse(id, &error, &mut || Ok(())) {
                Err(error) if error.is_retryable() => drop(self.over.wait(PAUSE * 2_u32.pow(n))),
                Err(error) => return tracing::error!(job = id, %error, "RunPod does not want to hear of the job"),
                Ok(()) => return,
            }
        }
        tracing::error!(job = id, "RunPod could not be told that the job is refused");
    }

    /// Ends a job because this worker cannot work.
    pub(super) fn fail(&self, job_id: &str, reason: &str) {
        if let Err(error) = self.intake.queue.fail_job(job_id, INIT_FAILED, reason, unix_now_ms()) {
            tracing::error!(job = job_id, %error, "the job could not be failed");
        }
    }
}

fn store(base64: &str, max_bytes: u64, incoming: &mut Incoming) -> Result<Source> {
    let audio = decode(base64)?;
    if audio.len() as u64 > max_bytes {
        return Err(Error::invalid("too_large", "the audio is longer than MAX_AUDIO_BYTES allows"));
    }
    let mut file = std::fs::OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600).open(incoming.path());
    file.and_then(|mut file| file.write_all(&audio)).context("cannot store the recording")?;
    incoming.complete()?;
    Ok(Source { name: upload_source("audio"), version: None, bytes: Some(audio.len() as u64) })
}

/// Whether an id can name the files of a job.
fn is_name(id: &str) -> bool {
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    plain && id.len() <= MAX_ID_CHARS && !OUR_NAMES.contains(&id)
}

/// With or without `data:` before it, and with line ends in it or not.
fn decode(text: &str) -> Result<Vec<u8>> {
    let text = text.split_once(";base64,").map_or(text, |(_, data)| data);
    let text: String = text.split_ascii_whitespace().collect();
    let wrong = "audio_base64 is not base64 text (RFC 4648, with padding)";
    let audio = STANDARD.decode(text).map_err(|_| Error::Config(wrong.to_owned()))?;
    if audio.is_empty() {
        return Err(Error::invalid("empty_file", "the audio is empty"));
    }
    Ok(audio)
}

#[cfg(test)]
mod tests {
    use super::{decode, is_name};

    #[test]
    fn ids_of_runpod_are_names_and_paths_are_none() {
        for id in ["0198c2f4-7a51-7bb2-9f0e-1f2d3c4b5a69-u1", "sync-5b1-e1", "a_1"] {
            assert!(is_name(id), "{id}");
        }
        for id in ["../x", "a/b", "a.part", "webhooks", "a b", "ä", &"a".repeat(129)] {
            assert!(!is_name(id), "{id}");
        }
    }

    #[test]
    fn audio_comes_with_and_without_a_head_and_in_lines() {
        for text in ["aGk=", "data:audio/wav;base64,aGk=", "aG\nk=\r\n"] {
            assert_eq!(decode(text).unwrap(), b"hi");
        }
        assert!(decode("").is_err() && decode("a?").is_err());
    }
}
