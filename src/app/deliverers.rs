//! The threads that carry results away; those that post them to RunPod's queue are apart, and in a worker of RunPod's only.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::{App, Builder, spawn};
use crate::config::{Config, Secret};
use crate::deliver::{Deliver, Outlet, Signer};
use crate::error::Result;
use crate::queue::{DELIVER_LANE, RUNPOD_LANE, new_id};
use crate::runpod_platform::{Platform, Settings};
use crate::shutdown::Shutdown;
use crate::worker::Slot;

/// Results that are carried away at the same time; all of that is waiting for those who take them.
const DELIVERERS: usize = 8;
/// Results that are posted at the same time; each is a wait for one answer.
const POSTERS: usize = 4;

/// The way to RunPod's queue, as the environment has it; none elsewhere.
pub fn open_platform(config: &Config) -> Option<Platform> {
    let runpod = config.runpod.clone();
    let settings = Settings {
        get_job: runpod.get_job?,
        post_output: runpod.post_output,
        post_stream: runpod.post_stream,
        ping: runpod.ping,
        worker_id: runpod.pod_id.unwrap_or_else(new_id),
        hostname: runpod.pod_hostname,
        gpu_type_id: runpod.gpu_type_id.unwrap_or_default(),
        key: runpod.ai_api_key.as_ref().map(Secret::reveal).unwrap_or_default().to_owned(),
    };
    Some(Platform::new(&settings))
}

impl App {
    /// As [`App::start`], for a worker of RunPod's.
    pub fn start_worker(config: &Config, platform: Platform, shutdown: &Shutdown) -> Result<(Self, Arc<Outlet>)> {
        let app = Self::start_with(config, "runpod", false, Some(platform), shutdown)?;
        let outlet = app.outlet.clone().ok_or_else(|| anyhow::anyhow!("a worker without a way to its queue"))?;
        Ok((app, outlet))
    }
}

impl Builder<'_> {
    pub(super) fn deliver_threads(
        &self,
        signer: Option<&Signer>,
        slots: &mut Vec<Arc<Slot>>,
    ) -> Result<Vec<JoinHandle<()>>> {
        let thread = |n| {
            let name = format!("deliver-{n}");
            let worker = self.worker(&name, slots);
            let (storage, signer) = (self.intake.storage.clone(), signer.cloned());
            let device = self.intake.device;
            let deliver = Deliver { worker, storage, signer, device, lane: DELIVER_LANE, outlet: None };
            spawn(name, move || deliver.worker.run(|| deliver.step()))
        };
        (0..DELIVERERS).map(thread).collect()
    }

    pub(super) fn outlet(&self, platform: Platform) -> Arc<Outlet> {
        let intake = self.intake;
        Arc::new(Outlet::new(platform, intake.queue.clone(), intake.storage.clone(), intake.device))
    }

    pub(super) fn runpod_threads(
        &self,
        outlet: &Arc<Outlet>,
        slots: &mut Vec<Arc<Slot>>,
    ) -> Result<Vec<JoinHandle<()>>> {
        let thread = |n| {
            let name = format!("runpod-{n}");
            let deliver = Deliver {
                worker: self.worker(&name, slots),
                storage: self.intake.storage.clone(),
                signer: None,
                device: self.intake.device,
                lane: RUNPOD_LANE,
                outlet: Some(outlet.clone()),
            };
            spawn(name, move || deliver.worker.run(|| deliver.step()))
        };
        (0..POSTERS).map(thread).collect()
    }
}
