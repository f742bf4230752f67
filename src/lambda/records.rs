//! Events made of records: each recording becomes a job, once however often it is told, and the invocation lasts until all
//! of them are done and delivered, or its time is over. What is not done then is reported as failed, so that it comes again;
//! its finished chunks are kept.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::app::{Intake, Source, Taken, TakenJob};
use crate::error::{Error, Result};
use crate::job::{Delivery, FrontDoor, Job, JobState, Options};
use crate::queue::{new_id, unix_now_ms};

/// Who waits also looks by himself so often.
const LOOK: Duration = Duration::from_secs(1);
/// A delivery that failed less often is waited for, some seconds in all.
const DELIVERY_TRIES: i64 = 3;

/// The records of one event.
pub(super) enum Records {
    /// A notification of S3, as it came.
    Stored(String),
    /// A batch of SQS.
    Queued(Vec<Message>),
}

/// A message of SQS; its body is a notification of S3 or a job with the address of its audio.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    message_id: String,
    body: String,
}

/// What a notification or a message asks for.
struct Asked {
    /// Of jobs.
    ids: Vec<String>,
    /// Why something of it can be no job; the rest is done all the same.
    refused: Option<Error>,
}

impl Records {
    /// Works until all is done or `until`. The answer of a batch names the messages that failed; anything else fails whole.
    pub(super) fn work(self, intake: &Intake, until: Instant) -> Result<Value> {
        match self {
            Self::Stored(payload) => {
                let ids = stored(intake, payload.as_bytes()).and_then(|asked| finish(intake, asked, until))?;
                Ok(json!({"jobs": ids}))
            }
            Self::Queued(messages) => {
                // All are queued before one is waited for.
                let taken: Vec<(String, Result<Asked>)> =
                    messages.into_iter().map(|message| (message.message_id.clone(), message.take(intake))).collect();
                let failed = |(id, asked): (String, Result<Asked>)| {
                    let error = asked.and_then(|asked| finish(intake, asked, until)).err()?;
                    tracing::warn!(message = id, %error, "a message failed and will come again");
                    Some(json!({"itemIdentifier": id}))
                };
                Ok(json!({"batchItemFailures": taken.into_iter().filter_map(failed).collect::<Vec<_>>()}))
            }
        }
    }
}

impl Message {
    fn take(&self, intake: &Intake) -> Result<Asked> {
        let body: Value = serde_json::from_str(&self.body)
            .map_err(|error| Error::invalid("invalid_event", format!("the body of the message is no JSON: {error}")))?;
        match body {
            Value::Object(job) if job.contains_key("audio") => {
                Ok(Asked { ids: vec![self.submit(intake, job)?], refused: None })
            }
            // S3 says with a test that it may send here, and that makes no job.
            _ => stored(intake, self.body.as_bytes()),
        }
    }

    fn submit(&self, intake: &Intake, mut job: Map<String, Value>) -> Result<String> {
        let audio = job.remove("audio");
        let audio = audio.as_ref().and_then(Value::as_str).unwrap_or_default();
        let options = Options::from_fields(job)?.validate()?;
        let mut draft = intake.new_job(new_id(), FrontDoor::Lambda, Source::address(audio)?, options, None)?;
        // SQS gives a message the same id however often it delivers it.
        draft.job.idempotency_key = Some(format!("sqs:{}", self.message_id));
        let submitted = intake.submit(draft)?;
        tracing::info!(job = submitted.id, repeated = submitted.resumed, "submitted by a message");
        if submitted.resumed {
            again(intake, &submitted.id)?;
        }
        Ok(submitted.id)
    }
}

/// The jobs of a notification.
fn stored(intake: &Intake, notification: &[u8]) -> Result<Asked> {
    let Taken { jobs, refused, .. } = intake.take_notification(notification, |_| true)?;
    for job in jobs.iter().filter(|job| job.is_repeated) {
        again(intake, &job.id)?;
    }
    let ids = jobs.into_iter().map(|TakenJob { id, .. }| id).collect();
    Ok(Asked { ids, refused: refused.into_iter().next().map(|(_, error)| error) })
}

/// An event that comes again asks for another try of what has failed, and of what waits for its next try.
fn again(intake: &Intake, id: &str) -> Result<()> {
    let job = intake.queue.job(id, unix_now_ms())?;
    let tried = match job.status {
        JobState::Failed | JobState::TimedOut => intake.queue.retry(id, unix_now_ms()),
        JobState::Completed if job.deliveries.iter().any(|delivery| delivery.state != "done") => {
            intake.queue.redeliver(id, unix_now_ms())
        }
        _ => Ok(()),
    };
    match tried {
        // It has moved on since.
        Err(Error::Conflict(_)) => Ok(()),
        tried => tried,
    }
}

/// Waits for all jobs of a record, also where one of them has failed already: what is still to be done when the invocation
/// ends stands still.
///
/// # Errors
/// Why something is no job; `Transient` where one is not done in time, or not as it should be.
fn finish(intake: &Intake, asked: Asked, until: Instant) -> Result<Vec<String>> {
    let mut failure = asked.refused;
    for id in &asked.ids {
        let job = settled(intake, id, until)?;
        if failure.is_none() && !job.is_delivered() {
            failure = Some(Error::Transient { code: "unfinished", message: why(&job) });
        }
    }
    failure.map_or(Ok(asked.ids), Err)
}

/// The job once it is over, or as it is at the end of the time.
fn settled(intake: &Intake, id: &str, until: Instant) -> Result<Job> {
    loop {
        let seen = intake.queue.wake().seen();
        let job = intake.queue.job(id, unix_now_ms())?;
        let left = until.saturating_duration_since(Instant::now());
        if is_over(&job) || left.is_zero() {
            return Ok(job);
        }
        intake.queue.wake().wait(seen, left.min(LOOK));
    }
}

fn why(job: &Job) -> String {
    let id = &job.id;
    if let Some(error) = &job.error {
        return format!("job {id} of {} is {}: {}: {}", job.source, job.status, error.code, error.message);
    }
    if let Some(delivery) = job.deliveries.iter().find(|delivery| delivery.state != "done") {
        let error = delivery.last_error.as_deref().unwrap_or("not yet tried");
        return format!("job {id} is done, but its results did not reach {}: {error}", delivery.target);
    }
    let percent = (job.progress * 100.0).round();
    format!("job {id} of {} is {} ({percent} %) and goes on when the event comes again", job.source, job.status)
}

/// A delivery that failed for a moment is waited for: its message would come back only after a quarter of an hour.
fn is_over(job: &Job) -> bool {
    let is_soon = |delivery: &Delivery| delivery.state == "delayed" && delivery.attempts < DELIVERY_TRIES;
    job.is_settled() && !job.deliveries.iter().any(is_soon)
}
