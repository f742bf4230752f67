//! The way of a job's messages to RunPod's queue: progress and segments while it runs, then its result, once; in this order,
//! because whoever sends for a job holds its turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::http_client::{Answer, OutboundError};
use crate::job::{Job, JobError, JobState, RunpodTexts};
use crate::queue::{Claim, Heard, Instead, Queue, unix_now_ms};
use crate::runpod_payload::{self, Failure};
use crate::runpod_platform::{Place, Platform};
use crate::storage::{Output, S3Config, Storage};
use crate::transcript::Control;

/// Progress is news only for so long.
const PROGRESS_TIME: Duration = Duration::from_secs(5);
/// So often the last segments are tried before the result goes without them: it holds them all.
const STREAM_TRIES: i64 = 3;
/// So often S3 is tried, for about eight minutes: RunPod's own limit for a job is ten, and an error is better than nothing.
const SPILL_TRIES: i64 = 20;
/// How long the address of a result in S3 is good, as with RunPod's own worker. It is the longest that S3 signs.
const RESULT_VALID: Duration = Duration::from_secs(7 * 24 * 3600);

/// Outputs up to this length RunPod takes, by its own documentation.
const SURE_OUTPUT_BYTES: usize = 10 * 1000 * 1000;

/// What all senders of a worker share.
pub struct Outlet {
    pub platform: Platform,
    pub queue: Queue,
    pub storage: Storage,
    pub device: &'static str,
    turns: Mutex<HashMap<String, Turn>>,
}

/// The right to send for one job.
type Turn = Arc<Mutex<()>>;

impl Outlet {
    pub fn new(platform: Platform, queue: Queue, storage: Storage, device: &'static str) -> Self {
        Self { platform, queue, storage, device, turns: Mutex::default() }
    }

    fn turn(&self, job_id: &str) -> Turn {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(job_id.to_owned()).or_default().clone()
    }

    /// Forgets all jobs but these.
    pub fn keep_only(&self, held: &[String]) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|job_id, _| held.contains(job_id));
    }

    /// Tells how far a running job is; nothing of one that has ended meanwhile, whose result may be out already.
    pub fn report(&self, job_id: &str, texts: &RunpodTexts, with_progress: bool) -> Result<()> {
        let turn = self.turn(job_id);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let job = self.queue.job(job_id, unix_now_ms())?;
        if job.status != JobState::Running {
            return Ok(());
        }
        let end = Instant::now() + PROGRESS_TIME;
        let mut wait = || if Instant::now() < end { Ok(()) } else { Err(Error::Aborted) };
        if self.streams(texts) {
            self.stream(job_id, &mut wait)?;
        }
        if !with_progress {
            return Ok(());
        }
        let body = runpod_payload::progress(&job).to_string().into_bytes();
        heard(self.platform.post(Place::Output, job_id, false, body, &mut wait))
    }

    /// Tells that a job that was handed out is none, without a row of it.
    pub fn refuse(&self, job_id: &str, error: &JobError, wait: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let body = self.failure(error, &RunpodTexts::default());
        heard(self.platform.post(Place::Output, job_id, false, body.to_string().into_bytes(), wait))
    }

    /// Sends the result of an ended job.
    pub(super) fn finish(&self, claim: &Claim, job: &Job, control: &Control) -> Result<()> {
        let turn = self.turn(&job.id);
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = claim.options.runpod.clone().unwrap_or_default();
        let mut wait = || control.go_on();
        if self.streams(&texts) && job.status == JobState::Completed {
            match self.stream(&job.id, &mut wait) {
                Err(error) if error.is_retryable() && claim.task.attempt <= STREAM_TRIES => return Err(error),
                Err(error) => tracing::warn!(job = job.id, %error, "the last segments were not taken"),
                Ok(()) => {}
            }
        }
        let body = self.result(job, &texts)?;
        let told = self.queue.told(&job.id)?;
        let status = match told.refused {
            Some(status) => status,
            None => match self.post_result(job, &texts, &body, &mut wait) {
                Ok(answer) if job.status == JobState::Completed && is_too_long(claim, &answer, &body) => {
                    // From here on it is never sent again: what is said in its place must be all that is ever heard.
                    self.queue.note_refused(&job.id, answer.status)?;
                    answer.status
                }
                answer => return heard(answer),
            },
        };
        let instead = match told.instead {
            Some(instead) => instead,
            None => self.decide(claim, &body, status, &mut wait)?,
        };
        let body = self.said_instead(claim, &texts, instead)?;
        heard(self.post_result(job, &texts, &body, &mut wait))
    }

    fn post_result(
        &self,
        job: &Job,
        texts: &RunpodTexts,
        body: &Value,
        wait: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Answer, OutboundError> {
        self.platform.post(Place::Output, &job.id, self.streams(texts), body.to_string().into_bytes(), wait)
    }

    fn streams(&self, texts: &RunpodTexts) -> bool {
        texts.streaming && self.platform.has_stream()
    }

    /// Sends the segments that were not sent yet.
    fn stream(&self, job_id: &str, wait: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let mut sent = self.queue.told(job_id)?.streamed;
        loop {
            let segments = self.queue.heard_after(job_id, sent)?;
            if segments.is_empty() {
                return Ok(());
            }
            for segment in segments {
                let body = json!({"output": shape(&segment)}).to_string().into_bytes();
                heard(self.platform.post(Place::Stream, job_id, false, body, wait))?;
                self.queue.note_streamed(job_id, segment.position)?;
                sent = Some(segment.position);
            }
        }
    }

    fn result(&self, job: &Job, texts: &RunpodTexts) -> Result<Value> {
        if job.status == JobState::Completed {
            let spoken = self.queue.spoken(&job.id)?;
            return Ok(runpod_payload::answer(runpod_payload::output(job, &spoken, texts, self.device)?, texts));
        }
        let unknown = || JobError { code: job.status.name().to_owned(), message: format!("the job is {}", job.status) };
        Ok(self.failure(&job.error.clone().unwrap_or_else(unknown), texts))
    }

    fn failure(&self, error: &JobError, texts: &RunpodTexts) -> Value {
        let Platform { hostname, worker_id, .. } = &self.platform;
        runpod_payload::failed(&Failure::of(error, hostname, worker_id), texts)
    }

    /// Decides what is said in place of an output that RunPod does not take: where in S3 it is, or why it is nowhere.
    /// That is kept before it is said, because it may be heard without our knowing.
    fn decide(
        &self,
        claim: &Claim,
        body: &Value,
        status: u16,
        wait: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Instead> {
        let text = body["output"].to_string();
        let why = format!("RunPod answered {status} to the output of {} bytes", text.len());
        let lost = |how: &str| {
            Instead::Error(JobError { code: "output_refused".to_owned(), message: format!("{why}, and {how}") })
        };
        let instead = match self.place(claim)? {
            None => {
                lost("there is no place for it in S3: send s3Config with bucketName, or set OUTPUT_URI on the endpoint")
            }
            Some((address, keys)) => {
                let to = Output { address: &address, keys: keys.as_ref() };
                let written = self.storage.write(&to, text.into_bytes(), wait);
                match written.and_then(|()| self.storage.presigned_download(&to, RESULT_VALID)) {
                    Ok(_) => Instead::Address(address),
                    Err(error @ Error::InvalidInput { .. }) => lost(&error.to_string()),
                    Err(error) if error.is_retryable() && claim.task.attempt > SPILL_TRIES => lost(&error.to_string()),
                    Err(error) => return Err(error),
                }
            }
        };
        self.queue.decide_instead(&claim.job_id, instead)
    }

    fn said_instead(&self, claim: &Claim, texts: &RunpodTexts, instead: Instead) -> Result<Value> {
        let address = match instead {
            Instead::Error(error) => return Ok(self.failure(&error, texts)),
            Instead::Address(address) => address,
        };
        // Signed anew each time: a signature is a secret, and ends.
        let place = self.place(claim)?.filter(|(place, _)| *place == address);
        let gone = || Error::invalid("transfer_failed", format!("the keys to {address} are gone"));
        let keys = place.ok_or_else(gone)?.1;
        let url = self.storage.presigned_download(&Output { address: &address, keys: keys.as_ref() }, RESULT_VALID)?;
        Ok(runpod_payload::answer(json!({"url": url.as_str()}), texts))
    }

    /// Where a result goes that is too long, and with whose keys: to the user's own bucket, else where transcripts go.
    fn place(&self, claim: &Claim) -> Result<Option<(String, Option<S3Config>)>> {
        let secrets = self.storage.secrets_of_result(&claim.job_id, &claim.options.sealed)?;
        let name = format!("{}.output.json", claim.job_id);
        if let Some(keys) = &secrets.s3_config
            && let Some(bucket) = &keys.bucket_name
        {
            return Ok(Some((format!("s3://{bucket}/{name}"), Some(keys.clone()))));
        }
        let place = claim.options.output_uri.as_deref().filter(|place| place.starts_with("s3://"));
        let keys = secrets.s3_config.filter(|_| secrets.output_uri.is_some());
        Ok(place.map(|place| (format!("{}/{name}", place.trim_end_matches('/')), keys)))
    }
}

/// Whether RunPod does not want an output for its length. It refuses long ones with 400 too; a short one of which an
/// earlier try may have been heard is then refused because it is there, and must not be contradicted.
fn is_too_long(claim: &Claim, answer: &Answer, body: &Value) -> bool {
    let is_first = claim.task.attempt == 1;
    answer.status == 413 || (answer.status == 400 && (is_first || body.to_string().len() > SURE_OUTPUT_BYTES))
}

fn shape(segment: &Heard) -> Value {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    json!({"start": seconds(segment.start_ms), "end": seconds(segment.end_ms), "text": segment.text.trim()})
}

/// Whether a message has arrived, and whether it is worth sending again. A key that is refused is mended by others.
fn heard(answer: Result<Answer, OutboundError>) -> Result<()> {
    let transient = |message: String| Error::Transient { code: "transfer_failed", message };
    match answer {
        Ok(answer) if answer.is_success() => Ok(()),
        Ok(Answer { status, .. }) if matches!(status, 401 | 403 | 408 | 425 | 429 | 500..) => {
            Err(transient(format!("RunPod answered {status}")))
        }
        Ok(answer) => Err(Error::invalid("transfer_failed", format!("RunPod answered {}", answer.status))),
        Err(OutboundError::Stopped(error)) => Err(error),
        Err(error) => Err(transient(format!("RunPod cannot be reached: {error}"))),
    }
}
