//! The copies of the model in memory: how many, on which GPU each, and loading them. Who computes with them is `engine`'s
//! business.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use anyhow::anyhow;

use super::spawn;
use crate::config::Config;
use crate::error::Result;
use crate::models::ModelFile;
use crate::whisper::{self, Demand, Device, Model};

/// The loaded model, as often as it is needed. Instance *k* is copy *k* modulo their number, on GPU *k* modulo theirs.
pub(super) struct Copies {
    model: ModelFile,
    gpus: Vec<Device>,
    instances: usize,
    /// Each is loaded by the first thread that wants it; the reason, where that failed.
    loaded: Vec<OnceLock<Result<Model, String>>>,
}

impl Copies {
    /// Nothing is loaded yet.
    pub(super) fn new(config: &Config, model: ModelFile) -> Arc<Self> {
        let gpus = whisper::gpus();
        let instances = instances(config, &model, &gpus);
        // Weights that only the CPU reads are the same for all instances, and quicker to read where there is one copy.
        let copies = if gpus.is_empty() { 1 } else { instances };
        let loaded = (0..copies).map(|_| OnceLock::new()).collect();
        Arc::new(Self { model, gpus, instances, loaded })
    }

    /// Begins to load the copy that is used first: what a program does meanwhile, its first chunk need not wait for.
    pub(super) fn load_first(self: &Arc<Self>) -> Result<Loading> {
        let copies = self.clone();
        let thread = spawn("load".to_owned(), move || {
            // Whoever asks for the copy is told if it could not be loaded.
            let _ = copies.get(0);
        })?;
        Ok(Loading(Some(thread)))
    }

    /// The model of an instance, once it is loaded.
    ///
    /// # Errors
    /// Where whisper.cpp cannot load it, the same for everyone who shares the copy.
    pub(super) fn get(&self, instance: usize) -> Result<&Model> {
        let loaded = self.loaded[instance % self.loaded.len()]
            .get_or_init(|| Model::load(&self.model.path, self.gpu(instance)).map_err(|error| error.to_string()));
        Ok(loaded.as_ref().map_err(|error| anyhow!(error.clone()))?)
    }

    pub(super) fn model(&self) -> &ModelFile {
        &self.model
    }

    pub(super) fn on_cpu(&self) -> bool {
        self.gpus.is_empty()
    }

    /// The instance that worker number `worker` computes with.
    pub(super) fn instance_of(&self, worker: usize) -> usize {
        worker % self.instances
    }

    /// What an instance lies on, in words.
    pub(super) fn device(&self, instance: usize) -> String {
        self.gpu(instance).map_or_else(|| "cpu".to_owned(), |gpu| format!("{} #{gpu}", self.gpus[gpu].name))
    }

    fn gpu(&self, instance: usize) -> Option<usize> {
        (!self.on_cpu()).then(|| instance % self.gpus.len())
    }
}

/// A copy that is being loaded. Dropping it waits, so that a start that fails does not end the process under whisper.cpp.
pub(super) struct Loading(Option<JoinHandle<()>>);

impl Loading {
    /// The thread, to be waited for by someone else.
    pub(super) fn into_thread(mut self) -> Option<JoinHandle<()>> {
        self.0.take()
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // It has no result, and a panic would have been reported.
        let _ = self.0.take().map(JoinHandle::join);
    }
}

/// As many as are wanted and fit.
fn instances(config: &Config, model: &ModelFile, gpus: &[Device]) -> usize {
    let wanted = config.model_instances;
    if gpus.is_empty() {
        if cfg!(feature = "cuda") {
            tracing::warn!("this build is for GPUs but sees none: the engine runs on the CPU, many times slower");
        }
        return wanted;
    }
    if wanted < gpus.len() {
        tracing::warn!("MODEL_INSTANCES={wanted} leaves some of the {} GPUs without a model", gpus.len());
    }
    let demand = Demand::new(&model.header, wanted, config.worker_count);
    let (instances, warning) = whisper::fitting_instances(&demand, gpus);
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    instances
}
