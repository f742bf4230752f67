//! The `transcribe` step: claim a chunk, read its samples, run the engine, record the segments. It does not know which
//! engine it runs, and `queue` does not know what an engine is.

use std::time::Instant;

use crate::audio::samples_to_ms;
use crate::error::Result;
use crate::queue::{ChunkResult, Claim, Work, unix_now_ms};
use crate::spool::Spool;
use crate::transcript::{ChunkRequest, ChunkText, Control, Transcriber};
use crate::worker::{Outcome, Worker};

/// What a transcribing thread works with.
pub struct Transcribe<'a> {
    pub worker: Worker,
    pub spool: Spool,
    pub lane: String,
    pub engine: Box<dyn Transcriber + 'a>,
}

/// The chunk that a claim names.
struct Span {
    from: u64,
    to: u64,
    previous_text: Option<String>,
}

impl Transcribe<'_> {
    /// Transcribes one chunk, if one is waiting.
    pub fn step(&mut self) -> Result<Outcome> {
        let worker = self.worker.clone();
        let claim =
            worker.queue.claim("transcribe", &self.lane, &worker.process_id, worker.slot.worker_id(), unix_now_ms())?;
        let Some(claim) = claim else { return Ok(Outcome::Idle) };
        let Work::Transcribe { seq, start_sample, end_sample, previous_text } = claim.work.clone() else {
            return Ok(Outcome::Idle);
        };
        let span = tracing::info_span!(
            "transcribe",
            job = claim.job_id,
            task = claim.task.id,
            chunk = seq,
            worker = worker.slot.worker_id()
        );
        let _entered = span.enter();
        let chunk = Span { from: start_sample, to: end_sample, previous_text };
        worker.perform(
            claim.task,
            |control| self.transcribe(&claim, &chunk, control),
            |result| match result {
                Some(result) => worker.queue.finish_chunk(claim.task, result, unix_now_ms()),
                None => worker.queue.prepare_again(claim.task, unix_now_ms()),
            },
        );
        Ok(Outcome::Worked)
    }

    /// The chunk's text, or nothing where its samples are gone and must be decoded again.
    fn transcribe(&mut self, claim: &Claim, chunk: &Span, control: &Control) -> Result<Option<ChunkResult>> {
        let Some(samples) = self.spool.read(&claim.job_id, chunk.from, chunk.to)? else {
            tracing::warn!("the decoded audio is gone; decoding it once more");
            return Ok(None);
        };
        let begun = Instant::now();
        let prompt = prompt(claim.options.prompt.as_deref(), chunk.previous_text.as_deref());
        let request = ChunkRequest {
            samples: &samples,
            language: claim.language.as_deref(),
            prompt: prompt.as_deref(),
            options: &claim.options,
        };
        let text = self.engine.transcribe(&request, control)?;
        let engine_ms = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        tracing::debug!(audio_ms = samples_to_ms(chunk.to - chunk.from), engine_ms, "transcribed");
        Ok(Some(in_recording(text, samples_to_ms(chunk.from).cast_signed(), engine_ms)))
    }
}

/// The user's prompt first, then what was just said.
fn prompt(given: Option<&str>, previous: Option<&str>) -> Option<String> {
    let parts: Vec<&str> = [given, previous].into_iter().flatten().filter(|part| !part.trim().is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// Moves the times of a chunk to where it stands in the recording.
fn in_recording(text: ChunkText, offset_ms: i64, engine_ms: i64) -> ChunkResult {
    let mut segments = text.segments;
    for segment in &mut segments {
        segment.seek_ms = offset_ms;
        segment.start_ms += offset_ms;
        segment.end_ms += offset_ms;
        for word in segment.words.iter_mut().flatten() {
            word.start_ms += offset_ms;
            word.end_ms += offset_ms;
        }
    }
    ChunkResult { language: text.language, segments, engine_ms }
}
