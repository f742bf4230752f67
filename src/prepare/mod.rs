//! The `prepare` step: decode a recording, cut it where nobody speaks, and hand each chunk to the spool and the queue while
//! decoding goes on. A repeated preparation goes on from what the one before has left.

mod rebuild;

use std::path::Path;
use std::sync::Arc;

use crate::audio::{self, Chunk, Decoder, PlanSettings, PlannedChunk, Planner, Sound};
use crate::error::{Error, Result};
use crate::queue::{Claim, Order, Plan, Stored, Work, unix_now_ms};
use crate::spool::Spool;
use crate::storage::{Recording, Storage, Version, Wanted, is_address};
use crate::transcript::Control;
use crate::turns::{Rank, Turn, Turns};
use crate::worker::{Outcome, Worker};
use rebuild::Rebuild;

/// Everyone waits for his turn alike: what is urgent is fetched first already.
const ANY: Rank = (0, 0);

/// What a preparing thread works with.
pub struct Prepare {
    pub worker: Worker,
    pub spool: Spool,
    pub storage: Storage,
    pub lane: String,
    pub decoder: Decoder,
    /// Shared by the threads that take turns in decoding.
    pub turns: Arc<Turns>,
    pub max_audio_bytes: u64,
}

impl Prepare {
    /// Prepares one job, if one is waiting.
    pub fn step(&self) -> Result<Outcome> {
        let worker = &self.worker;
        let claim =
            worker.queue.claim("prepare", &self.lane, &worker.process_id, worker.slot.worker_id(), unix_now_ms())?;
        let Some(claim) = claim else { return Ok(Outcome::Idle) };
        let Work::Prepare(stored) = &claim.work else { return Ok(Outcome::Idle) };
        let span =
            tracing::info_span!("prepare", job = claim.job_id, task = claim.task.id, worker = worker.slot.worker_id());
        let _entered = span.enter();
        worker.perform(
            claim.task,
            |control| self.prepare(&claim, stored, control),
            |plan| worker.queue.finish_prepare(claim.task, plan, unix_now_ms()),
        );
        Ok(Outcome::Worked)
    }

    /// The end of the plan, or nothing where the job has one and only its samples were wanted.
    fn prepare(&self, claim: &Claim, stored: &Stored, control: &Control) -> Result<Option<Plan>> {
        let recording = self.recording(claim, control)?;
        let path = recording.path();
        let turn = self.turns.take(ANY, &mut || control.go_on())?;
        self.spool.keep_only(&claim.job_id, &stored.unfinished);
        // What was fetched belongs to nobody else.
        let version = claim.source_version.as_deref().filter(|_| recording.fetched.is_none());
        let check = || check_file(path, version, self.max_audio_bytes);
        check()?;
        let mut split = Split::new(self, claim, stored, control, turn);
        split.queued.release_held()?;
        let decoded = self.decoder.decode(path, &mut || control.go_on(), &mut |block| split.push(block));
        let decoded = decoded.map_err(|error| named(&claim.source, error))?;
        // What was written over meanwhile may be half of one and half of the other.
        check()?;
        let chunks = split.finish()?;
        let audio_ms = audio::samples_to_ms(decoded.samples).cast_signed();
        tracing::info!(audio_ms, chunks, "decoded");
        if stored.planned {
            return Ok(None);
        }
        let mut warnings = decoded.warnings;
        if chunks == 0 && stored.end_sample == 0 {
            warnings.push("no speech was found in the recording".to_owned());
        }
        Ok(Some(Plan { audio_ms, warnings }))
    }

    /// The file to decode; one that is elsewhere is fetched first, before anyone's turn to decode.
    fn recording(&self, claim: &Claim, control: &Control) -> Result<Recording> {
        let wanted = Wanted {
            job_id: &claim.job_id,
            attempt: claim.task.attempt,
            source: &claim.source,
            sealed: &claim.options.sealed,
            version: claim.source_version.as_deref(),
            max_bytes: self.max_audio_bytes,
        };
        let recording = self.storage.recording(&wanted, &mut || control.go_on())?;
        if let Some(Version { tag, bytes }) = &recording.fetched {
            self.worker.queue.note_source(claim.task, tag.clone(), *bytes)?;
        }
        Ok(recording)
    }
}

/// Of a recording that came from elsewhere its owner is told which it was.
fn named(source: &str, error: Error) -> Error {
    match error {
        Error::InvalidInput { code, message } if is_address(source) => {
            Error::invalid(code, format!("{source}: {message}; trying again as it is does not help"))
        }
        error => error,
    }
}

/// Where the samples of one recording go: into the chunks of an earlier plan that lack theirs, and into a new plan.
struct Split<'a> {
    queued: Queued<'a>,
    rebuild: Rebuild,
    /// Absent where the plan is complete.
    planner: Option<Planner>,
}

/// The chunks on their way to the spool and the queue.
struct Queued<'a> {
    prepare: &'a Prepare,
    claim: &'a Claim,
    control: &'a Control,
    /// Absent while the spool is full: others may decode meanwhile.
    turn: Option<Turn>,
    order: Order,
    /// Chunks up to here are known from an earlier attempt.
    known_samples: u64,
    added: usize,
}

impl<'a> Split<'a> {
    fn new(prepare: &'a Prepare, claim: &'a Claim, stored: &Stored, control: &'a Control, turn: Turn) -> Self {
        let lacking = stored.unfinished.iter().copied();
        let lacking = lacking.filter(|&(start, end)| !prepare.spool.holds(&claim.job_id, start, end)).collect();
        // Words are timed with the full window, whatever is in it.
        let max_chunk_seconds =
            if claim.options.word_timestamps { audio::LONG_CHUNK_SECONDS } else { audio::SHORT_CHUNK_SECONDS };
        let settings = PlanSettings { max_chunk_ms: max_chunk_seconds * 1000, vad: claim.options.skips_silence() };
        Self {
            queued: Queued {
                prepare,
                claim,
                control,
                turn: Some(turn),
                order: order(claim),
                known_samples: stored.end_sample,
                added: 0,
            },
            rebuild: Rebuild::new(lacking),
            planner: (!stored.planned).then(|| Planner::new(settings)),
        }
    }

    fn push(&mut self, block: &[f32]) -> Result<()> {
        self.queued.control.go_on()?;
        let Self { queued, rebuild, planner } = self;
        rebuild.push(block, &mut |start, samples| queued.restore(start, samples))?;
        planner.as_mut().map_or(Ok(()), |planner| planner.push(block, &mut |chunk| queued.add(chunk)))
    }

    /// How many chunks were added to the plan.
    fn finish(mut self) -> Result<usize> {
        self.rebuild.finish()?;
        if let Some(planner) = self.planner {
            planner.finish(&mut |chunk| self.queued.add(chunk))?;
        }
        Ok(self.queued.added)
    }
}

impl Queued<'_> {
    /// Queues what of a chunk is not known from an earlier attempt. The plan is the same in every attempt of the same
    /// program; after an upgrade a chunk may lie across the end of what is known.
    fn add(&mut self, planned: PlannedChunk) -> Result<()> {
        let PlannedChunk { chunk, sound } = planned;
        let start_sample = chunk.start_sample.max(self.known_samples);
        if start_sample >= chunk.end_sample {
            return Ok(());
        }
        self.spool(start_sample, &sound.after((start_sample - chunk.start_sample) as usize))?;
        let chunk = Chunk { start_sample, ..chunk };
        self.prepare.worker.queue.add_chunks(self.claim.task, vec![chunk], self.order, unix_now_ms())?;
        self.added += 1;
        self.pass_on()
    }

    /// Lets others decode who wait for it.
    fn pass_on(&mut self) -> Result<()> {
        if let Some(turn) = self.turn.take() {
            self.turn = Some(turn.pass_on(ANY, &mut || self.control.go_on())?);
        }
        Ok(())
    }

    /// Gives a chunk that was queued before its samples back, and lets it go on if it waits for them.
    fn restore(&mut self, start_sample: u64, samples: &[f32]) -> Result<()> {
        self.spool(start_sample, &Sound::heard(samples.to_vec()))?;
        self.release_held()
    }

    /// Lets the chunks go on that wait for this preparation and have their samples: should all of them wait until the last
    /// is there, a full spool would never empty. A chunk may have begun to wait just after its samples came, so this is
    /// looked at again and again.
    fn release_held(&self) -> Result<()> {
        let Prepare { spool, worker, .. } = self.prepare;
        for (start, end) in worker.queue.waiting_for(self.claim.task)? {
            if spool.holds(&self.claim.job_id, start, end) {
                worker.queue.release_chunk(self.claim.task, start, unix_now_ms())?;
            }
        }
        Ok(())
    }

    /// Waits for room, but for the first chunk; the turn goes to somebody else meanwhile.
    fn spool(&mut self, start_sample: u64, sound: &Sound) -> Result<()> {
        let (spool, job_id) = (&self.prepare.spool, &self.claim.job_id);
        if self.known_samples == 0 && self.added == 0 {
            return spool.write_first(job_id, start_sample, sound);
        }
        let mut turn = self.turn.take();
        let mut wait = || {
            turn = None;
            self.release_held()?;
            self.control.go_on()
        };
        spool.write(job_id, start_sample, sound, &mut wait)?;
        self.turn = match turn {
            Some(turn) => Some(turn),
            None => Some(self.prepare.turns.take(ANY, &mut || self.control.go_on())?),
        };
        Ok(())
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

/// What tells one version of a file from another, and its size in bytes; `None` where there is no such file.
pub fn file_version(path: &Path) -> Option<(String, u64)> {
    let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let modified = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((format!("{}-{}", metadata.len(), modified.as_nanos()), metadata.len()))
}

fn check_file(path: &Path, version: Option<&str>, max_bytes: u64) -> Result<()> {
    let Some((found, bytes)) = file_version(path) else {
        return Err(Error::invalid("not_found", "the recording is not there any more: submit it again"));
    };
    if bytes > max_bytes {
        let message = format!("the recording has {bytes} bytes, more than MAX_AUDIO_BYTES={max_bytes}");
        return Err(Error::invalid("too_large", message));
    }
    if version.is_some_and(|version| version != found) {
        let message = "the recording was changed after it was submitted: submit it again";
        return Err(Error::invalid("source_changed", message));
    }
    Ok(())
}
