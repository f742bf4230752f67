//! A queue in a folder of its own on the disk, for durability is part of what is measured.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use whisperq::db::Db;
use whisperq::queue::{Limits, Process, Queue, WorkerRow, WorkerState, unix_now_ms};

pub(crate) const MODEL: &str = "tiny";
pub(crate) const WORKER: &str = "worker-0";

/// A process at the queue, registered like a service, so that finished chunks are counted for its worker.
pub(crate) struct Hand {
    pub(crate) queue: Queue,
    pub(crate) process: Process,
}

pub(crate) struct Ground {
    // Dropped in this order: the database closes before its folder goes.
    pub(crate) hand: Hand,
    folder: TempDir,
}

impl Hand {
    pub(crate) fn open(folder: &Path) -> Self {
        let limits = Limits {
            lease_ms: 60_000,
            max_attempts: 3,
            max_queued: i64::MAX,
            job_ttl_ms: 600_000,
            execution_timeout_ms: 600_000,
        };
        let db = Db::open(&folder.join("queue.db")).unwrap();
        let queue = Queue::new(Arc::new(db), limits, folder.join("processes"));
        let process = queue.register("bench", unix_now_ms()).unwrap();
        let worker = WorkerRow {
            process_id: process.id().to_owned(),
            worker_id: WORKER.to_owned(),
            model: MODEL.to_owned(),
            model_instance: 0,
            device: "cpu".to_owned(),
            state: WorkerState::Ready,
            error: None,
        };
        queue.report_worker(worker).unwrap();
        Self { queue, process }
    }
}

impl Ground {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { hand: Hand::open(folder.path()), folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
