//! One transcribing thread around its model: waits for it, works, and records in which state it is. Which threads there
//! are is decided in `mod`, and on which GPU in `copies`.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::copies::Copies;
use crate::error::Result;
use crate::queue::{self, WorkerState};
use crate::spool::Spool;
use crate::transcribe::Transcribe;
use crate::turns::Turns;
use crate::whisper::Cores;
use crate::worker::{Outcome, Slot, Worker};

/// What the transcribing threads know of each other.
pub(super) struct Crew {
    slots: Vec<Arc<Slot>>,
    /// Threads that work, or will when their model is loaded, or have failed at that.
    started: AtomicUsize,
    failed: AtomicUsize,
}

impl Crew {
    pub(super) fn new(slots: Vec<Arc<Slot>>) -> Arc<Self> {
        Arc::new(Self { slots, started: AtomicUsize::new(0), failed: AtomicUsize::new(0) })
    }

    /// Whether none is left that could do anything.
    pub(super) fn is_dead(&self) -> bool {
        self.failed.load(Ordering::Relaxed) >= self.slots.len()
    }

    /// How many have started and are free to take a chunk, or will be.
    fn free(&self) -> usize {
        let busy = self.slots.iter().filter(|slot| slot.held().is_some()).count();
        self.started.load(Ordering::Relaxed).saturating_sub(self.failed.load(Ordering::Relaxed) + busy)
    }
}

/// One transcribing thread before its model is loaded.
pub(super) struct EngineThread {
    pub(super) worker: Worker,
    pub(super) spool: Spool,
    pub(super) lane: String,
    pub(super) copies: Arc<Copies>,
    pub(super) instance: usize,
    pub(super) cores: Arc<Cores>,
    pub(super) turns: Arc<Turns>,
    pub(super) crew: Arc<Crew>,
    /// The thread's number, where it starts once there is work for it and those before it: so it is not in their way.
    pub(super) on_demand: Option<usize>,
}

impl EngineThread {
    /// Waits until it is needed and the model is loaded, then works until shutdown.
    pub(super) fn run(self) {
        if let Err(error) = self.work() {
            tracing::error!(worker = self.worker.slot.worker_id(), %error, "the worker could not start");
            self.report(WorkerState::Failed, Some(&error.to_string()));
            self.crew.failed.fetch_add(1, Ordering::Relaxed);
            self.worker.queue.wake().notify();
        }
    }

    fn work(&self) -> Result<()> {
        if self.on_demand.is_some_and(|number| !self.wait_for_work(number)) {
            return Ok(());
        }
        self.crew.started.fetch_add(1, Ordering::Relaxed);
        self.worker.queue.wake().notify();
        self.report(WorkerState::Loading, None);
        let model = self.copies.get(self.instance)?;
        let mut transcribe = Transcribe {
            worker: self.worker.clone(),
            spool: self.spool.clone(),
            lane: self.lane.clone(),
            turns: self.turns.clone(),
            turn: None,
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

    /// Until more chunks wait than the threads before this one can take; false on shutdown.
    fn wait_for_work(&self, number: usize) -> bool {
        self.worker.until(|| {
            let next = self.crew.started.load(Ordering::Relaxed) >= number;
            let enough = self.worker.queue.has_queued("transcribe", &self.lane, self.crew.free() + 1)?;
            Ok(if enough && next { ControlFlow::Break(()) } else { ControlFlow::Continue(Outcome::Idle) })
        })
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
