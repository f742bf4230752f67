//! The queue: every change of state of a job or a task, each one guarded UPDATE whose count of rows is checked. It knows
//! nothing of audio, engines or front doors. Time is an argument everywhere, in milliseconds since 1970.
//!
//! **Jobs** are what users asked for, **tasks** what workers claim. A job has one `prepare` task and one `transcribe`
//! task for each chunk, queued while the preparation goes on; a translation is a second pass over the same chunks. When it
//! has ended, `deliver` tasks carry its results away.
//!
//! ```text
//! task:  blocked ─▶ queued ─▶ running ─▶ done
//!                     ▲ ▲        ├─▶ failed      (error that cannot be retried, or once too often)
//!                     │ └delayed◀┤   cancelled   (its job ended)
//!                     └──────────┘ (lease lost, process died, released)
//! job:   queued ─▶ running ─▶ completed | failed | cancelled | timed_out
//! ```
//!
//! - A claim raises the task's `attempt`; every later write of that worker names (task, attempt) and is refused with
//!   `ClaimLost` when another attempt owns the task or its job has ended. A worker's name fences nothing.
//! - A claim holds a lease. The process renews it for all that its threads hold; past it, or as soon as the process's lock file
//!   is free, the task goes back to the queue and its attempt is closed as `lost`.
//! - Causes are counted apart: errors (retried with back-off up to MAX_ATTEMPTS), crashes that this task caused (2) and
//!   losses it had no part in (10).
//! - Terminal states absorb; only `retry` leaves them, with a new generation, and it keeps finished chunks.
//! - A process may own a job: its tasks are then in a lane of their own (`model@process`) that only that process asks, and
//!   no time limit but the owner's ends it. When the process is gone, the job is everyone's and its limits begin anew.

mod claim;
mod deliver;
mod fail;
mod fair;
mod finish;
mod follow;
mod lease;
mod plan;
mod process;
mod read;
mod retain;
mod retry;
mod runpod;
mod submit;
mod told;
mod wake;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use claim::{CLAIM, Claim, Work};
pub use deliver::{DELIVER_LANE, RUNPOD_LANE};
pub use finish::ChunkResult;
pub use follow::{Heard, Position};
pub use plan::{Order, Plan, Stored};
pub use process::{Process, WorkerRow, WorkerState};
pub use read::{JobFilter, format_rfc3339, parse_rfc3339_ms};
pub use submit::{Submitted, new_id};
pub use told::{Instead, Told};
pub use wake::Wake;

use crate::db::Db;

/// Positions are stored in samples, the claim order counts in milliseconds.
const SAMPLES_PER_MS: i64 = crate::audio::SAMPLE_RATE as i64 / 1000;
/// Recordings up to this size have a decoding slot of their own: a voice note does not wait for four films.
const SMALL_SOURCE_BYTES: i64 = 16 * 1024 * 1024;
/// The states in which a task still has something ahead of it, as the partial index `tasks_pending` names them.
const PENDING: &str = "('blocked', 'delayed', 'queued', 'running')";

/// The bounds that the queue enforces.
#[derive(Clone, Debug)]
pub struct Limits {
    pub lease_ms: i64,
    /// Errors of one task before its job fails.
    pub max_attempts: i64,
    /// Jobs waiting before a submit is refused.
    pub max_queued: i64,
    /// How long a job may wait for its first worker, where its options name nothing else.
    pub job_ttl_ms: i64,
    /// How long it may run from its first chunk, likewise.
    pub execution_timeout_ms: i64,
}

/// A claimed task as later writes must name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskRef {
    pub id: i64,
    pub attempt: i64,
}

/// The queue of one database; clones share it.
#[derive(Clone)]
pub struct Queue {
    db: Arc<Db>,
    wake: Arc<Wake>,
    limits: Limits,
    process_dir: PathBuf,
}

impl Queue {
    pub fn new(db: Arc<Db>, limits: Limits, process_dir: PathBuf) -> Self {
        Self { db, wake: Arc::default(), limits, process_dir }
    }

    /// Moves with every commit of this process that may have made work or ended a job.
    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    pub fn db(&self) -> &Db {
        &self.db
    }
}

/// The lane that the chunks for a model wait in, apart where a process owns their job.
pub fn transcribe_lane(model: &str, owner: Option<&str>) -> String {
    owned_lane(model, owner)
}

/// The lane that a job is prepared from: small recordings do not stand behind large ones, and nobody decodes for a model
/// that he does not serve. A recording of unknown size counts as large.
pub fn prepare_lane(small: bool, model: &str, owner: Option<&str>) -> String {
    owned_lane(&format!("{}/{model}", if small { "small" } else { "large" }), owner)
}

fn owned_lane(base: &str, owner: Option<&str>) -> String {
    owner.map_or_else(|| base.to_owned(), |owner| format!("{base}@{owner}"))
}

/// Whether a recording of so many bytes counts as small.
fn is_small(source_bytes: Option<i64>) -> bool {
    source_bytes.is_some_and(|bytes| bytes <= SMALL_SOURCE_BYTES)
}

/// The wall clock, for callers to pass in.
pub fn unix_now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// With the other tests, but built into the crate: nowhere else can a guard be weakened.
#[cfg(test)]
#[path = "../../tests/queue/mod.rs"]
mod tests;
