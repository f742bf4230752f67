//! A bench for the queue: a database in a folder of its own and the short words in which the tests speak.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use whisperq::audio::Chunk;
use whisperq::db::{Db, Durability};
use whisperq::error::{Error, Result};
use whisperq::job::{FrontDoor, Job, JobState, NewJob, Options};
use whisperq::queue::{self, ChunkResult, Claim, Limits, Order, Plan, Queue, TaskRef};
use whisperq::shutdown::Shutdown;
use whisperq::transcript::Segment;
use whisperq::worker::{Slot, Worker};

use super::invariants;

pub(super) const MODEL: &str = "tiny";
/// The moment at which most tests happen.
pub(super) const NOW: i64 = 1_700_000_000_000;
pub(super) const LEASE_MS: i64 = 30_000;
/// The process that the claims of the tests belong to, and its neighbor.
pub(super) const ME: &str = "me";
pub(super) const OTHER: &str = "other";

pub(super) struct Bench {
    folder: TempDir,
    pub(super) queue: Queue,
}

pub(super) fn limits() -> Limits {
    Limits {
        lease_ms: LEASE_MS,
        max_attempts: 3,
        max_queued: 10_000,
        job_ttl_ms: 60_000,
        execution_timeout_ms: 600_000,
    }
}

/// A queue on the database of `folder`, as another process would open it.
pub(super) fn open(folder: &Path, limits: Limits) -> Queue {
    Queue::new(Arc::new(Db::open(&folder.join("queue.db")).unwrap()), limits, folder.join("proc"))
}

pub(super) fn new_job() -> NewJob {
    NewJob {
        id: queue::new_id(),
        idempotency_key: None,
        front_door: FrontDoor::Cli,
        source: "/audio/a.wav".to_owned(),
        source_version: Some("1".to_owned()),
        source_bytes: None,
        model: MODEL.to_owned(),
        language: None,
        options: Options::default(),
        owner: None,
    }
}

/// Chunks of one second each.
pub(super) fn seconds(range: Range<u64>) -> Vec<Chunk> {
    let second = |n: u64| Chunk { start_sample: n * 16_000, end_sample: (n + 1) * 16_000, hard_cut: false };
    range.map(second).collect()
}

/// The end of a plan of `count` seconds.
pub(super) fn plan(count: u64) -> Plan {
    Plan { audio_ms: count.cast_signed() * 1000, warnings: Vec::new() }
}

/// Ends a preparation with `count` chunks of a second.
pub(super) fn finish_plan(queue: &Queue, task: TaskRef, count: u64, order: Order, now_ms: i64) {
    queue.add_chunks(task, seconds(0..count), order, now_ms).unwrap();
    queue.finish_prepare(task, Some(plan(count)), now_ms).unwrap();
}

/// The lane of the tests' jobs, which are of unknown size.
pub(super) fn lane(kind: &str, owner: &str) -> String {
    match kind {
        "prepare" => queue::prepare_lane(false, MODEL, Some(owner)),
        _ => queue::transcribe_lane(MODEL, Some(owner)),
    }
}

pub(super) fn result(text: &str) -> ChunkResult {
    let segment = Segment {
        start_ms: 0,
        end_ms: 500,
        text: text.to_owned(),
        seek_ms: 0,
        tokens: vec![1, 2],
        temperature: 0.0,
        avg_logprob: -0.25,
        compression_ratio: 1.0,
        no_speech_prob: 0.0,
        speech_prob: None,
        words: None,
    };
    ChunkResult { language: "en".to_owned(), language_probability: None, segments: vec![segment], engine_ms: 7 }
}

pub(super) fn fault() -> Error {
    anyhow::anyhow!("the engine is out of memory").into()
}

#[track_caller]
pub(super) fn assert_lost(result: Result<()>) {
    assert!(matches!(result, Err(Error::ClaimLost)), "{result:?}");
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(limits())
    }

    pub(super) fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path(), limits);
        Self { folder, queue }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn submit(&self) -> String {
        self.submit_as(|_| ())
    }

    pub(super) fn submit_as(&self, change: impl FnOnce(&mut NewJob)) -> String {
        let mut job = new_job();
        change(&mut job);
        self.queue.submit(job, NOW).unwrap().id
    }

    /// Does the next preparation: `count` chunks of a second.
    pub(super) fn prepare(&self, count: u64, order: Order) {
        let claim = self.claim_prepare().unwrap();
        finish_plan(&self.queue, claim.task, count, order, NOW);
    }

    /// A job whose `count` chunks wait to be claimed.
    pub(super) fn planned(&self, count: u64) -> String {
        let id = self.submit();
        self.prepare(count, Order::Free);
        id
    }

    pub(super) fn claim_prepare(&self) -> Option<Claim> {
        self.queue.claim("prepare", &queue::prepare_lane(false, MODEL, None), ME, "prepare-0", NOW).unwrap()
    }

    pub(super) fn try_claim(&self) -> Option<Claim> {
        self.queue.claim("transcribe", MODEL, ME, "gpu-0", NOW).unwrap()
    }

    pub(super) fn claim(&self) -> Claim {
        self.try_claim().unwrap()
    }

    /// The place of an engine's thread.
    pub(super) fn worker(&self) -> Worker {
        Worker {
            queue: self.queue.clone(),
            slot: Slot::new("gpu-0".to_owned()),
            process_id: ME.to_owned(),
            shutdown: Shutdown::default(),
        }
    }

    pub(super) fn finish(&self, claim: &Claim) {
        self.queue.finish_chunk(claim.task, result("So"), NOW).unwrap();
    }

    pub(super) fn job(&self, id: &str) -> Job {
        self.queue.job(id, NOW).unwrap()
    }

    #[track_caller]
    pub(super) fn assert_state(&self, id: &str, state: JobState) {
        assert_eq!(self.job(id).status, state);
    }

    /// The code of the error that the job ended with.
    pub(super) fn code(&self, id: &str) -> Option<String> {
        self.job(id).error.map(|error| error.code)
    }

    pub(super) fn number(&self, sql: &str) -> i64 {
        self.queue.db().read(|conn| Ok(conn.query_row(sql, [], |row| row.get(0))?)).unwrap()
    }

    pub(super) fn text(&self, sql: &str) -> String {
        self.queue.db().read(|conn| Ok(conn.query_row(sql, [], |row| row.get(0))?)).unwrap()
    }

    /// Runs SQL behind the queue's back.
    pub(super) fn sql(&self, sql: &str) -> Result<()> {
        let sql = sql.to_owned();
        self.queue.db().write(Durability::Normal, move |conn| Ok(conn.execute_batch(&sql)?))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            invariants::check(self.queue.db());
        }
    }
}
