//! One transcribing thread around its model: loads it, works, and records in which state it is. Which threads there are, and
//! on which GPU, is decided in `mod`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::Result;
use crate::models::ModelFile;
use crate::queue::{self, WorkerState};
use crate::spool::Spool;
use crate::transcribe::Transcribe;
use crate::whisper::{Cores, Model};
use crate::worker::Worker;

/// The models of the process, each loaded by the first thread that wants it; the reason, where that failed.
pub(super) type Models = Vec<OnceLock<Result<Model, String>>>;

/// One transcribing thread before its model is loaded.
pub(super) struct EngineThread {
    pub(super) worker: Worker,
    pub(super) spool: Spool,
    pub(super) lane: String,
    pub(super) model: ModelFile,
    pub(super) models: Arc<Models>,
    pub(super) instance: usize,
    pub(super) gpu: Option<usize>,
    pub(super) device: String,
    pub(super) cores: Arc<Cores>,
    pub(super) failed: Arc<AtomicUsize>,
}

impl EngineThread {
    /// Loads the model, or waits for the thread that shares it, then works until shutdown.
    pub(super) fn run(self) {
        if let Err(error) = self.work() {
            tracing::error!(worker = self.worker.slot.worker_id(), %error, "the worker could not start");
            self.report(WorkerState::Failed, Some(&error.to_string()));
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.worker.queue.wake().notify();
        }
    }

    fn work(&self) -> Result<()> {
        self.report(WorkerState::Loading, None);
        let model = self.models[self.instance]
            .get_or_init(|| Model::load(&self.model.path, self.gpu).map_err(|error| error.to_string()))
            .as_ref()
            .map_err(|error| anyhow::anyhow!(error.clone()))?;
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
        Ok(())
    }

    fn report(&self, state: WorkerState, error: Option<&str>) {
        let worker = queue::WorkerRow {
            process_id: self.worker.process_id.clone(),
            worker_id: self.worker.slot.worker_id().to_owned(),
            model: self.model.name.clone(),
            model_instance: self.instance,
            device: self.device.clone(),
            state,
            error: error.map(str::to_owned),
        };
        if let Err(error) = self.worker.queue.report_worker(worker) {
            tracing::error!(worker = self.worker.slot.worker_id(), %error, "cannot record the state of the worker");
        }
    }
}
