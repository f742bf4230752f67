//! One request as a client makes it: upload, wait, look at the clock.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::http_client::{Api, ApiError};
use crate::job::{Job, JobState};
use crate::shutdown::Shutdown;

const TOO_MANY_REQUESTS: u16 = 429;
/// A request that is refused this often, each time after the wait that was asked for, has failed.
const MAX_REFUSALS: u32 = 20;
/// The wait after a refusal that names none.
const USUAL_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that is honored; more would be another test.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Looking again after a twentieth of the time so far keeps the error of a latency at 5 %, within these bounds.
const LOOKS: u32 = 20;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A server that is started again within this time keeps its jobs, and its clients wait for it.
const RESTART_TIME: Duration = Duration::from_secs(30);

/// What became of one request.
pub(super) struct Outcome {
    /// Which of the files.
    pub(super) file: usize,
    /// From the start of the upload until the end was seen, waits after refusals included.
    pub(super) latency: Duration,
    /// How often the server was too busy to take it.
    pub(super) refusals: u32,
    /// Seconds of audio that came back as text.
    pub(super) result: Result<f64, Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) message: String,
}

/// Why a request has no completed job.
enum Miss {
    Failed(Failure),
    Interrupted,
}

impl From<ApiError> for Miss {
    fn from(error: ApiError) -> Self {
        Self::Failed(Failure { code: error.code().to_owned(), message: error.to_string() })
    }
}

#[derive(Deserialize)]
struct Submitted {
    id: String,
}

/// Has one file transcribed; nothing when it was interrupted.
pub(super) fn request(api: &Api, path: &Path, file: usize, shutdown: &Shutdown) -> Option<Outcome> {
    let begun = Instant::now();
    let mut refusals = 0;
    let ended = submit(api, path, &mut refusals, shutdown).and_then(|id| wait(api, &id, shutdown));
    let result = match ended {
        Ok(job) => judge(job),
        Err(Miss::Failed(failure)) => Err(failure),
        Err(Miss::Interrupted) => return None,
    };
    Some(Outcome { file, latency: begun.elapsed(), refusals, result })
}

/// Uploads until it is taken.
fn submit(api: &Api, path: &Path, refusals: &mut u32, shutdown: &Shutdown) -> Result<String, Miss> {
    loop {
        let pause = match api.upload::<Submitted>(&["jobs"], path) {
            Ok(submitted) => return Ok(submitted.id),
            Err(ApiError::Refused { status: TOO_MANY_REQUESTS, retry_after, .. }) if *refusals < MAX_REFUSALS => {
                retry_after.unwrap_or(USUAL_WAIT).min(LONGEST_WAIT)
            }
            Err(error) => return Err(error.into()),
        };
        *refusals += 1;
        if shutdown.wait(pause) {
            return Err(Miss::Interrupted);
        }
    }
}

fn wait(api: &Api, id: &str, shutdown: &Shutdown) -> Result<Job, Miss> {
    let begun = Instant::now();
    let mut last_answer = begun;
    loop {
        match api.get::<Job>(&["jobs", id], &[]) {
            Ok(job) if job.status.is_terminal() => return Ok(job),
            Ok(_) => last_answer = Instant::now(),
            Err(error) if error.is_passing() && last_answer.elapsed() < RESTART_TIME => {}
            Err(error) => return Err(error.into()),
        }
        if shutdown.wait((begun.elapsed() / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)) {
            // Nobody will look at it. Where the server does not hear of that, it only works for nothing.
            let _ = api.delete::<IgnoredAny>(&["jobs", id]);
            return Err(Miss::Interrupted);
        }
    }
}

fn judge(job: Job) -> Result<f64, Failure> {
    match (job.status, job.error) {
        (JobState::Completed, _) => Ok(job.audio_seconds.unwrap_or(0.0)),
        (_, Some(error)) => Err(Failure { code: error.code, message: error.message }),
        (status, None) => Err(Failure { code: status.name().to_owned(), message: format!("the job is {status}") }),
    }
}
