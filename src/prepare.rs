//! The `prepare` step: decode a recording to the spool, find where it can be cut, hand the plan to the queue.

use std::path::Path;

use crate::audio::{self, FrameEnergies, Limits};
use crate::error::{Error, Result};
use crate::queue::{Claim, Order, Plan, Work, unix_now_ms};
use crate::spool::Spool;
use crate::transcript::Control;
use crate::worker::{Outcome, Worker};

/// What a preparing thread works with.
pub struct Prepare {
    pub worker: Worker,
    pub spool: Spool,
    pub lane: String,
    pub limits: Limits,
    pub max_audio_bytes: u64,
}

impl Prepare {
    /// Prepares one job, if one is waiting.
    pub fn step(&self) -> Result<Outcome> {
        let worker = &self.worker;
        let claim =
            worker.queue.claim("prepare", &self.lane, &worker.process_id, worker.slot.worker_id(), unix_now_ms())?;
        let Some(claim) = claim else { return Ok(Outcome::Idle) };
        let span =
            tracing::info_span!("prepare", job = claim.job_id, task = claim.task.id, worker = worker.slot.worker_id());
        let _entered = span.enter();
        worker.perform(
            claim.task,
            |control| self.prepare(&claim, control),
            |plan| worker.queue.finish_prepare(claim.task, plan, unix_now_ms()),
        );
        Ok(Outcome::Worked)
    }

    /// The plan, or nothing where the job has one and only its samples were wanted.
    fn prepare(&self, claim: &Claim, control: &Control) -> Result<Option<Plan>> {
        let path = Path::new(&claim.source);
        check_file(path, claim.source_version.as_deref(), self.max_audio_bytes)?;
        let mut spooled = self.spool.create(&claim.job_id, claim.task.attempt)?;
        let mut energies = FrameEnergies::new();
        let decoded = audio::decode(path, &self.limits, &mut |block| {
            control.tick();
            if control.is_aborted() {
                return Err(Error::Aborted);
            }
            energies.push(block);
            spooled.write(block)
        })?;
        spooled.finish()?;
        let audio_ms = audio::samples_to_ms(decoded.samples).cast_signed();
        tracing::info!(audio_ms, "decoded");
        if claim.work == (Work::Prepare { planned: true }) {
            return Ok(None);
        }
        let chunks = audio::plan(&energies, audio::MAX_CHUNK_SECONDS * 1000);
        Ok(Some(Plan { audio_ms, chunks, order: order(claim), warnings: decoded.warnings }))
    }
}

/// Chunks run side by side unless one needs what an earlier one finds.
fn order(claim: &Claim) -> Order {
    if claim.options.condition_on_previous_text {
        Order::Chain
    } else if claim.language.is_none() {
        Order::FirstThenRest
    } else {
        Order::Free
    }
}

/// What tells one version of a file from another; `None` where there is no such file.
pub fn file_version(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let modified = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{}-{}", metadata.len(), modified.as_nanos()))
}

fn check_file(path: &Path, version: Option<&str>, max_bytes: u64) -> Result<()> {
    let Ok(metadata) = path.metadata() else {
        return Err(Error::invalid("not_found", format!("cannot read {}: no such file", path.display())));
    };
    if metadata.len() > max_bytes {
        let message = format!("{} has {} bytes, more than MAX_AUDIO_BYTES={max_bytes}", path.display(), metadata.len());
        return Err(Error::invalid("too_large", message));
    }
    if version.is_some() && file_version(path).as_deref() != version {
        let message = format!("{} was changed after it was submitted: submit it again", path.display());
        return Err(Error::invalid("source_changed", message));
    }
    Ok(())
}
