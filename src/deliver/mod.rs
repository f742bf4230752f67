//! The `deliver` step: carries the results of an ended job to where they go. A delivery is repeated until it has arrived or
//! was tried often enough, so receivers may see one twice, under the same name.

mod documents;
mod runpod;
mod webhook;

use std::sync::Arc;

use serde_json::json;

use crate::error::{Error, Result};
use crate::job::{Destination, Job, JobState, RunpodTexts};
use crate::queue::{Claim, Work, unix_now_ms};
use crate::runpod_payload;
use crate::storage::{Output, Storage};
use crate::transcript::{Control, Transcript};
use crate::worker::{Outcome, Worker};
pub use runpod::Outlet;
pub use webhook::Signer;

/// What a delivering thread works with.
pub struct Deliver {
    pub worker: Worker,
    pub storage: Storage,
    /// Absent: webhooks go unsigned.
    pub signer: Option<Signer>,
    /// Where the engine runs: cpu or cuda.
    pub device: &'static str,
    /// Where its deliveries wait: `DELIVER_LANE`, or `RUNPOD_LANE`.
    pub lane: &'static str,
    /// The way to RunPod's queue, for those who take from `RUNPOD_LANE`.
    pub outlet: Option<Arc<Outlet>>,
}

impl Deliver {
    /// Makes one delivery, if one is waiting.
    pub fn step(&self) -> Result<Outcome> {
        let worker = &self.worker;
        let worker_id = worker.slot.worker_id();
        let claim = worker.queue.claim("deliver", self.lane, &worker.process_id, worker_id, unix_now_ms())?;
        let Some(claim) = claim else { return Ok(Outcome::Idle) };
        let Work::Deliver { destination, generation } = claim.work else { return Ok(Outcome::Idle) };
        let span = tracing::info_span!("deliver", job = claim.job_id, task = claim.task.id, worker = worker_id);
        let _entered = span.enter();
        worker.perform(
            claim.task,
            |control| self.deliver(&claim, destination, generation, control),
            |()| worker.queue.finish_delivery(claim.task, unix_now_ms()),
        );
        Ok(Outcome::Worked)
    }

    fn deliver(&self, claim: &Claim, destination: Destination, generation: i64, control: &Control) -> Result<()> {
        let queue = &self.worker.queue;
        let job = queue.job(&claim.job_id, unix_now_ms())?;
        if !job.status.is_terminal() {
            // It was just begun anew, which took this delivery back.
            return Err(Error::ClaimLost);
        }
        let transcript = (job.status == JobState::Completed).then(|| queue.transcript(&claim.job_id)).transpose()?;
        match destination {
            Destination::Output => self.output(claim, &job, transcript.as_ref(), control),
            Destination::Webhook => self.webhook(claim, &job, generation, transcript.as_ref(), control),
            Destination::Runpod => {
                let outlet =
                    self.outlet.as_ref().ok_or_else(|| anyhow::anyhow!("only a worker of RunPod's can do it"))?;
                outlet.finish(claim, &job, control)
            }
        }
    }

    fn output(&self, claim: &Claim, job: &Job, transcript: Option<&Transcript>, control: &Control) -> Result<()> {
        let secrets = self.storage.secrets_of_output(&job.id, &claim.options.sealed)?;
        let Some(place) = secrets.output_uri.as_ref().or(claim.options.output_uri.as_ref()) else { return Ok(()) };
        let keys = secrets.s3_config.as_ref().filter(|_| secrets.output_uri.is_some());
        for (address, format) in documents::of(job, transcript.is_some(), place, &claim.options.output_formats)? {
            // One after the other: a long transcript in many formats is large.
            let document = documents::render(job, transcript, format)?;
            self.storage.write(&Output { address: &address, keys }, document.into_bytes(), &mut || control.go_on())?;
        }
        Ok(())
    }

    fn webhook(
        &self,
        claim: &Claim,
        job: &Job,
        generation: i64,
        transcript: Option<&Transcript>,
        control: &Control,
    ) -> Result<()> {
        let secret = self.storage.secrets_of_webhook(&job.id, &claim.options.sealed)?.webhook;
        let Some(address) = secret.as_ref().or(claim.options.webhook.as_ref()) else { return Ok(()) };
        let body = match &claim.options.runpod {
            Some(texts) => self.cloud_message(job, texts, claim.options.webhook.as_deref().unwrap_or_default())?,
            None => webhook::body(job, transcript)?,
        };
        let headers = webhook::headers(self.signer.as_ref(), &job.id, generation, unix_now_ms() / 1000, &body)?;
        self.storage.post(address, headers, body.into_bytes(), &mut || control.go_on())
    }
}

impl Deliver {
    /// What RunPod's cloud posts; of the input only what may be shown.
    fn cloud_message(&self, job: &Job, texts: &RunpodTexts, webhook: &str) -> Result<String> {
        let queue = &self.worker.queue;
        let spoken = (job.status == JobState::Completed).then(|| queue.spoken(&job.id)).transpose()?;
        let mut message = runpod_payload::told(job, spoken.as_ref(), texts, self.device)?;
        message["input"] = json!({"audio": job.source});
        message["webhook"] = webhook.into();
        Ok(message.to_string())
    }
}
