//! One transcribing thread around its model: waits for it, works, and records in which state it is. Which threads there
//! are is decided in `mod`, and on which GPU in `copies`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::copies::Copies;
use crate::error::Result;
use crate::queue::{self, WorkerState};
use crate::spool::Spool;
use crate::transcribe::Transcribe;
use crate::whisper::Cores;
use crate::worker::{DATABASE_PAUSE, POLL, Worker};

/// One transcribing thread before its model is loaded.
pub(super) struct EngineThread {
    pub(super) worker: Worker,
    pub(super) spool: Spool,
    pub(super) lane: String,
    pub(super) copies: Arc<Copies>,
    pub(super) instance: usize,
    pub(super) cores: Arc<Cores>,
    pub(super) failed: Arc<AtomicUsize>,
    /// So many chunks must wait before it asks for its model, so that it is not in the way of the threads that have work.
    pub(super) starts_at: u32,
}

impl EngineThread {
    /// Waits until it is needed and the model is loaded, then works until shutdown.
    pub(super) fn run(self) {
        if let Err(error) = self.work() {
            tracing::error!(worker = self.worker.slot.worker_id(), %error, "the worker could not start");
            self.report(WorkerState::Failed, Some(&error.to_string()));
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.worker.queue.wake().notify();
        }
    }

    fn work(&self) -> Result<()> {
        if self.starts_at > 0 && !self.wait_for_work() {
            return Ok(());
        }
        self.report(WorkerState::Loading, None);
        let model = self.copies.get(self.instance)?;
        let mut transcribe = Transcribe {
            worker: self.worker.clone(),
            spool: self.spool.clone(),
            lane: self.lane.clone(),
            engine: Box::new(model.engine_sharing(self.cores.clone())?),
        };
        self.report(WorkerState::Ready, None);
        self.worker.queue.wake().notify();
        self.worker.run(|| transcribe.step());
        self.report(WorkerState::Stopped, None);
        if self.copies.on_cpu() {
            // The process ends, which frees its memory sooner than whisper.cpp does; what is on a GPU is not left to that.
            std::mem::forget(transcribe.engine);
            std::mem::forget(self.copies.clone());
        }
        Ok(())
    }

    /// Until there is work for one more thread, or one has failed whose work it could do; false on shutdown.
    fn wait_for_work(&self) -> bool {
        let (queue, shutdown) = (&self.worker.queue, &self.worker.shutdown);
        while !shutdown.is_triggered() {
            let seen = queue.wake().seen();
            let failed = self.failed.load(Ordering::Relaxed) > 0;
            match queue.has_queued("transcribe", &self.lane, self.starts_at) {
                Ok(enough) if enough || failed => return true,
                Ok(_) => queue.wake().wait(seen, POLL),
                Err(error) => {
                    tracing::error!(worker = self.worker.slot.worker_id(), %error, "cannot look for work; trying again");
                    shutdown.wait(DATABASE_PAUSE);
                }
            }
        }
        false
    }

    fn report(&self, state: WorkerState, error: Option<&str>) {
        let worker = queue::WorkerRow {
            process_id: self.worker.process_id.clone(),
            worker_id: self.worker.slot.worker_id().to_owned(),
            model: self.copies.model().name.clone(),
            model_instance: self.instance,
            device: self.copies.device(self.instance),
            state,
            error: error.map(str::to_owned),
        };
        if let Err(error) = self.worker.queue.report_worker(worker) {
            tracing::error!(worker = self.worker.slot.worker_id(), %error, "cannot record the state of the worker");
        }
    }
}
