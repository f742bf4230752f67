//! The `transcribe` step: claim a chunk, wait for its turn, read its samples, run the engine, record the segments. It does
//! not know which engine it runs, and `queue` does not know what an engine is.

use std::sync::Arc;
use std::time::Instant;

use crate::audio::{self, samples_to_ms};
use crate::error::{Error, Result};
use crate::queue::{ChunkResult, Claim, Work, unix_now_ms};
use crate::spool::Spool;
use crate::transcript::{ChunkRequest, ChunkText, Control, Segment, Transcriber};
use crate::turns::{Rank, Turn, Turns};
use crate::worker::{Outcome, Worker};

/// A segment in which no moment is speech with at least this probability was made up by the engine: it writes something
/// for applause and engine noise too.
const MIN_PEAK_SPEECH: f32 = 0.2;

/// What a transcribing thread works with.
pub struct Transcribe<'a> {
    pub worker: Worker,
    pub spool: Spool,
    pub lane: String,
    /// Shared by the threads that take turns in computing.
    pub turns: Arc<Turns>,
    /// Kept from one chunk to the next: whether others come first is known once the next is claimed.
    pub turn: Option<Turn>,
    pub engine: Box<dyn Transcriber + 'a>,
}

/// The chunk that a claim names.
struct Span {
    from: u64,
    to: u64,
    translate: bool,
    previous_text: Option<String>,
}

impl Transcribe<'_> {
    /// Transcribes one chunk, if one is waiting.
    pub fn step(&mut self) -> Result<Outcome> {
        let (worker, spool) = (self.worker.clone(), self.spool.clone());
        let claim =
            worker.queue.claim("transcribe", &self.lane, &worker.process_id, worker.slot.worker_id(), unix_now_ms());
        let claim = match claim {
            Ok(Some(claim)) => claim,
            nothing => {
                self.turn = None;
                return nothing.map(|_| Outcome::Idle);
            }
        };
        let Work::Transcribe { seq, translate, last_pass, start_sample, end_sample, previous_text } =
            claim.work.clone()
        else {
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
        let chunk = Span { from: start_sample, to: end_sample, translate, previous_text };
        worker.perform(
            claim.task,
            |control| {
                self.take_turn(claim.rank, control)?;
                self.transcribe(&claim, &chunk, control)
            },
            |result| match result {
                Some(result) => {
                    worker.queue.finish_chunk(claim.task, result, unix_now_ms())?;
                    if last_pass {
                        spool.remove_chunk(&claim.job_id, start_sample, end_sample);
                    }
                    Ok(())
                }
                None => worker.queue.prepare_again(claim.task, unix_now_ms()),
            },
        );
        Ok(Outcome::Worked)
    }

    /// Waits until this chunk is the first of all that are claimed and there is a turn for it; what has not begun when the
    /// process is to end is given back.
    fn take_turn(&mut self, rank: Rank, control: &Control) -> Result<()> {
        let shutdown = &self.worker.shutdown;
        let mut wait = || if shutdown.is_triggered() { Err(Error::Aborted) } else { control.go_on() };
        let turn = match self.turn.take() {
            Some(turn) => turn.pass_on(rank, &mut wait)?,
            None => self.turns.take(rank, &mut wait)?,
        };
        wait()?;
        self.turn = Some(turn);
        Ok(())
    }

    /// The chunk's text, or nothing where its samples are gone and must be decoded again.
    fn transcribe(&mut self, claim: &Claim, chunk: &Span, control: &Control) -> Result<Option<ChunkResult>> {
        let Some(sound) = self.spool.read(&claim.job_id, chunk.from, chunk.to)? else {
            tracing::debug!("the decoded audio is gone; decoding it once more");
            return Ok(None);
        };
        let begun = Instant::now();
        let prompt = prompt(claim.options.prompt.as_deref(), chunk.previous_text.as_deref());
        let request = ChunkRequest {
            samples: &sound.samples,
            language: claim.language.as_deref(),
            translate: chunk.translate,
            prompt: prompt.as_deref(),
            options: &claim.options,
        };
        let mut text = self.engine.transcribe(&request, control)?;
        judge(&mut text.segments, &sound.speech_probs, claim.options.skips_silence());
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

/// Gives each segment its mean probability of speech, and drops those without any where that is wanted.
fn judge(segments: &mut Vec<Segment>, speech: &[f32], drop_silent: bool) {
    let frame_at =
        |ms: i64| (audio::ms_to_samples(ms.cast_unsigned()) as usize / audio::VAD_FRAME_SAMPLES).min(speech.len());
    segments.retain_mut(|segment| {
        let first = frame_at(segment.start_ms).min(speech.len().saturating_sub(1));
        let frames = &speech[first..frame_at(segment.end_ms).max(first + 1).min(speech.len())];
        segment.speech_prob = (!frames.is_empty()).then(|| frames.iter().sum::<f32>() / frames.len() as f32);
        let kept = !drop_silent || frames.iter().any(|&probability| probability >= MIN_PEAK_SPEECH);
        if !kept {
            tracing::debug!(text = segment.text, "dropped: there is no speech");
        }
        kept
    });
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
    ChunkResult { language: text.language, language_probability: text.language_probability, segments, engine_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start_ms: i64, end_ms: i64) -> Segment {
        Segment {
            start_ms,
            end_ms,
            text: "So".to_owned(),
            seek_ms: 0,
            tokens: Vec::new(),
            temperature: 0.0,
            avg_logprob: 0.0,
            compression_ratio: 1.0,
            no_speech_prob: 0.0,
            speech_prob: None,
            words: None,
        }
    }

    /// The speech probabilities of what is left of two segments, one over speech and one over silence.
    fn judged(drop_silent: bool) -> Vec<Option<f32>> {
        let speech = [vec![0.25, 0.75], vec![0.0; 60]].concat();
        let mut segments = vec![segment(0, 64), segment(64, 900)];
        judge(&mut segments, &speech, drop_silent);
        segments.iter().map(|segment| segment.speech_prob).collect()
    }

    #[test]
    fn a_segment_without_speech_is_dropped_unless_everything_is_wanted() {
        assert_eq!(judged(true), [Some(0.5)]);
        assert_eq!(judged(false), [Some(0.5), Some(0.0)]);
    }

    #[test]
    fn a_segment_that_ends_where_it_begins_or_behind_the_samples_is_judged_by_the_nearest_moment() {
        let mut segments = vec![segment(32, 32), segment(5_000, 6_000)];
        judge(&mut segments, &[0.0, 0.5, 1.0], false);
        assert_eq!(segments[0].speech_prob, Some(0.5));
        assert_eq!(segments[1].speech_prob, Some(1.0));
        judge(&mut segments, &[], true);
        assert!(segments.is_empty(), "no samples, no speech");
    }
}
