//! RunPod's queue as a worker sees it: which requests there are and how they look. When to send which, and what an answer
//! means for the jobs here, is known above.

mod address;

use std::time::Duration;

use crate::error::{Error, Result};
use crate::http_client::{Answer, Outbound, OutboundError, Patience, Poll, Reach, Target, Url, Wait};
use address::{Places, STOP, TAKE, TAKE_BATCH, for_job, with};

/// The server holds a poll back for as long; what lasts longer hangs.
const POLL: Duration = Duration::from_secs(90);
/// A batch of the longest jobs that there are.
const MAX_BATCH_BYTES: usize = 256 * 1024 * 1024;
/// More than this is no list of jobs to stop.
const MAX_STOP_BYTES: usize = 1024 * 1024;
/// What a heartbeat may name, as in RunPod's own worker.
const MAX_IDS_BYTES: usize = 64 * 1024;
/// Of whom it is that asks.
const VERSION: &str = concat!("whisperq-", env!("CARGO_PKG_VERSION"));

/// What the environment of a worker says of its queue.
#[derive(Clone, Debug)]
pub struct Settings {
    pub get_job: String,
    pub post_output: Option<String>,
    pub post_stream: Option<String>,
    pub ping: Option<String>,
    pub worker_id: String,
    pub hostname: String,
    pub gpu_type_id: String,
    pub key: String,
}

/// The way to one queue; clones share connections.
#[derive(Clone)]
pub struct Platform {
    outbound: Outbound,
    take: String,
    output: Option<String>,
    stream: Option<String>,
    ping: Option<String>,
    pub worker_id: String,
    pub hostname: String,
    key: String,
}

/// The two places for messages of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Output,
    Stream,
}

/// A worker that cannot work.
pub struct Unhealthy<'a> {
    pub check: &'a str,
    pub reason: &'a str,
}

impl Platform {
    pub fn new(settings: &Settings) -> Self {
        let places = Places { worker_id: &settings.worker_id, gpu_type_id: &settings.gpu_type_id };
        let fill = |template: &Option<String>| template.as_ref().map(|template| places.fill(template));
        Self {
            outbound: Outbound::new(true, Patience::default()),
            take: places.fill_for_worker(&settings.get_job),
            output: fill(&settings.post_output),
            stream: fill(&settings.post_stream),
            ping: settings.ping.as_ref().map(|template| places.fill_for_worker(template)),
            worker_id: settings.worker_id.clone(),
            hostname: settings.hostname.clone(),
            key: settings.key.clone(),
        }
    }

    /// Asks for as many jobs as are wanted and waits until there are any. `busy`: whether others are being worked on.
    pub fn take(&self, wanted: usize, busy: bool, wait: &mut Wait) -> Result<Answer, OutboundError> {
        self.take_within(wanted, busy, POLL, wait)
    }

    /// The same, for a time of one's own.
    pub fn take_within(
        &self,
        wanted: usize,
        busy: bool,
        time: Duration,
        wait: &mut Wait,
    ) -> Result<Answer, OutboundError> {
        let (size, busy) = (wanted.to_string(), if busy { "1" } else { "0" });
        let batch = self.take.replace(TAKE, TAKE_BATCH);
        let address = if wanted > 1 && batch != self.take {
            with(&batch, &[("batch_size", &size), ("job_in_progress", busy)])
        } else {
            with(&self.take, &[("job_in_progress", busy)])
        };
        self.get(&address, &Poll { time, max_bytes: MAX_BATCH_BYTES }, wait)
    }

    /// Whether this queue tells which jobs to stop.
    pub fn has_stop(&self) -> bool {
        self.take.contains(TAKE)
    }

    /// Waits for jobs to stop.
    pub fn stop(&self, wait: &mut Wait) -> Result<Answer, OutboundError> {
        self.get(&self.take.replace(TAKE, STOP), &Poll { time: POLL, max_bytes: MAX_STOP_BYTES }, wait)
    }

    pub fn has_ping(&self) -> bool {
        self.ping.is_some()
    }

    pub fn has_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Says that this worker lives, and which jobs it holds.
    pub fn ping(&self, held: &[String], time: Duration) -> Result<Answer, OutboundError> {
        let ids = held.join(",");
        let end = if ids.len() > MAX_IDS_BYTES { ids[..MAX_IDS_BYTES].rfind(',').unwrap_or(0) } else { ids.len() };
        let version = ("runpod_version", VERSION);
        let said = if held.is_empty() { vec![version] } else { vec![("job_id", &ids[..end]), version] };
        self.say(&said, time)
    }

    /// Says that it cannot work.
    pub fn unhealthy(&self, why: &Unhealthy<'_>, time: Duration) -> Result<Answer, OutboundError> {
        let Unhealthy { check, reason } = why;
        let said = [("status", "unhealthy"), ("check", *check), ("reason", *reason), ("runpod_version", VERSION)];
        self.say(&said, time)
    }

    fn say(&self, said: &[(&str, &str)], time: Duration) -> Result<Answer, OutboundError> {
        let Some(ping) = &self.ping else {
            return Err(OutboundError::Unreachable("RUNPOD_WEBHOOK_PING is not set".to_owned()));
        };
        let target = self.target(&with(ping, said), &[])?;
        self.outbound.poll(&target, &Poll { time, max_bytes: MAX_STOP_BYTES }, &mut || Ok(()))
    }

    /// Posts a message of a job; nobody reads the answer beyond its status.
    pub fn post(
        &self,
        place: Place,
        job_id: &str,
        is_stream: bool,
        body: Vec<u8>,
        wait: &mut Wait,
    ) -> Result<Answer, OutboundError> {
        let (template, name) = match place {
            Place::Output => (&self.output, "RUNPOD_WEBHOOK_POST_OUTPUT"),
            Place::Stream => (&self.stream, "RUNPOD_WEBHOOK_POST_STREAM"),
        };
        let template = template.as_ref().ok_or_else(|| Error::Config(format!("{name} is not set")))?;
        let address = with(&for_job(template, job_id), &[("isStream", if is_stream { "true" } else { "false" })]);
        // The body is JSON; RunPod's own worker says this of it, and this is what its server is used to.
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded"), ("charset", "utf-8")];
        // An id that cannot stand in a header is still in the address.
        headers.extend(job_id.bytes().all(|c| c.is_ascii_graphic()).then_some(("x-request-id", job_id)));
        self.outbound.post(&self.target(&address, &headers)?, body, wait)
    }

    fn get(&self, address: &str, poll: &Poll, wait: &mut Wait) -> Result<Answer, OutboundError> {
        let target = self.target(address, &[("content-type", "application/json")])?;
        self.outbound.poll(&target, poll, wait)
    }

    fn target(&self, address: &str, headers: &[(&str, &str)]) -> Result<Target, OutboundError> {
        let unreadable = |_| OutboundError::Unreachable("an address of RunPod's cannot be read".to_owned());
        let url = Url::parse(address).map_err(unreadable)?;
        let all = [("authorization", self.key.as_str())].into_iter().chain(headers.iter().copied());
        let headers = all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Target { url, headers, reach: Reach::Anywhere })
    }
}
