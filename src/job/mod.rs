//! What a user asks for and what becomes of it: options, states, a job as every front door shows it. Pure data and
//! rules; how a job is stored is `queue`'s business.

pub mod language;
mod options;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
pub use options::{Options, RunpodTexts, TextFormat};

/// Where a job stands. The last four are terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

impl JobState {
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::TimedOut];

    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl std::str::FromStr for JobState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
            Error::Config(format!(
                "status={text} is not understood: allowed is {}",
                Self::ALL.map(Self::name).join(", ")
            ))
        })
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Which way a job came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontDoor {
    Cli,
    Http,
    /// RunPod's REST API, or its queue.
    Runpod,
    /// A notification of S3.
    S3,
    /// A message that a Lambda function was invoked with.
    Lambda,
}

impl FrontDoor {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Http => "http",
            Self::Runpod => "runpod",
            Self::S3 => "s3",
            Self::Lambda => "lambda",
        }
    }
}

/// A job about to be queued.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// From `queue::new_id`.
    pub id: String,
    /// The submitter's own name for it: a second submit under the same one gives the first job.
    pub idempotency_key: Option<String>,
    pub front_door: FrontDoor,
    /// What may be shown of where the audio is.
    pub source: String,
    /// Changes when the audio behind `source` does.
    pub source_version: Option<String>,
    /// Absent where only fetching it will tell.
    pub source_bytes: Option<u64>,
    /// The canonical name of the model that is to run it.
    pub model: String,
    /// Known beforehand, by the user or because the model speaks only one.
    pub language: Option<String>,
    pub options: Options,
    /// The process that keeps the job to itself.
    pub owner: Option<String>,
}

/// Why a job did not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// For programs; stable.
    pub code: String,
    /// For people; says what to do where something can be done.
    pub message: String,
}

/// A job as every front door shows it, and as a client of one reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    pub status: JobState,
    /// 0 to 1.
    pub progress: f64,
    #[serde(default)]
    pub source: String,
    /// RFC 3339, UTC, as the other times.
    pub created_at: String,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    /// From submit to the first chunk.
    pub delay_time_ms: Option<i64>,
    /// From the first chunk to the end, or so far.
    pub execution_time_ms: Option<i64>,
    pub audio_seconds: Option<f64>,
    pub language: Option<String>,
    pub model: String,
    /// How often work on it was begun.
    pub attempts: i64,
    pub worker_ids: Vec<String>,
    pub error: Option<JobError>,
    pub warnings: Vec<String>,
    /// Where its results go.
    #[serde(default)]
    pub deliveries: Vec<Delivery>,
    pub metadata: Option<Value>,
}

impl Job {
    /// Whether it has ended, and nothing that it sends out is on its way; what waits for its next try does not count.
    pub fn is_settled(&self) -> bool {
        let is_moving = |delivery: &Delivery| ["queued", "running"].contains(&delivery.state.as_str());
        self.status.is_terminal() && !self.deliveries.iter().any(is_moving)
    }

    /// Whether it is completed and its results are where they were to go.
    pub fn is_delivered(&self) -> bool {
        self.status == JobState::Completed && self.deliveries.iter().all(|delivery| delivery.state == "done")
    }
}

/// What of a job goes where, and whether it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub kind: Destination,
    /// What may be shown of the address.
    pub target: String,
    /// As a task's: blocked (until the one before is over), delayed, queued, running, done, failed or cancelled.
    pub state: String,
    pub attempts: i64,
    /// Of the last attempt that failed.
    pub last_error: Option<String>,
    /// RFC 3339, UTC, as the next.
    pub next_attempt_at: Option<String>,
    pub finished_at: Option<String>,
}

/// What kinds of place a job's results go to, in the order in which they go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// Transcripts, as files.
    Output,
    /// The job itself, as a message.
    Webhook,
    /// The result, to the queue that the job came from.
    Runpod,
}

impl Destination {
    pub const ALL: [Self; 3] = [Self::Output, Self::Webhook, Self::Runpod];
}
