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
use crate::worker::{POLL, Worker};

/// So many chunks must wait before a thread that starts on demand loads its model: the first is taken before that is done.
const WORTH_A_MODEL: u32 = 2;

/// One transcribing thread before its model is loaded.
pub(super) struct EngineThread {
    pub(super) worker: Worker,
    pub(super) spool: Spool,
    pub(super) lane: String,
    pub(super) copies: &'static Copies,
    pub(super) instance: usize,
    pub(super) cores: Arc<Cores>,
    pub(super) failed: Arc<AtomicUsize>,
    /// Loads its model once there is work for it, so that it is not in the way of the thread that has some already.
    pub(super) on_demand: bool,
}

impl EngineThread {
    /// Loads the model, or waits for the thread that shares it, then works until shutdown. On demand it may do nothing.
    pub(super) fn run(self) {
        if let Err(error) = self.work() {
            tracing::error!(worker = self.worker.slot.worker_id(), %error, "the worker could not start");
            self.report(WorkerState::Failed, Some(&error.to_string()));
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.worker.queue.wake().notify();
        }
    }

    fn work(&self) -> Result<()> {
        if self.on_demand && !self.wait_for_work()? {
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
        // The process ends, which frees its memory sooner than whisper.cpp does.
        std::mem::forget(transcribe);
        Ok(())
    }

    /// Until there is work for one more thread, or one has failed whose work it could do; false on shutdown.
    fn wait_for_work(&self) -> Result<bool> {
        let queue = &self.worker.queue;
        while !self.worker.shutdown.is_triggered() {
            let seen = queue.wake().seen();
            let failed = self.failed.load(Ordering::Relaxed) > 0;
            if failed || queue.has_queued("transcribe", &self.lane, WORTH_A_MODEL)? {
                return Ok(true);
            }
            queue.wake().wait(seen, POLL);
        }
        Ok(false)
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
