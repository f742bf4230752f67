//! How a recording becomes chunks for the engine, while it is decoded: long stretches without speech are left out, and
//! speech that goes on is cut in its pauses. Works frame by frame, so that how the samples arrive changes nothing, and
//! keeps no more than the chunk that is open.

use super::cut::{FRAME_SAMPLES, Frame, best_cut};
use super::ms_to_samples;
use super::speech::Listener;
use super::vad::{Sound, VAD_FRAME_SAMPLES};
use crate::error::Result;

/// The usual limit of a chunk: what the engine's smallest window holds. As exact as longer ones, by measurement, a third
/// cheaper, and nobody waits long for a chunk to end; see benches/README.md.
pub const SHORT_CHUNK_SECONDS: u64 = 14;

/// The limit where the engine listens with its full window anyway. Whisper hears 30 s at once; the two seconds of slack
/// keep a closing timestamp inside.
pub const LONG_CHUNK_SECONDS: u64 = 28;

/// Whisper's window: what is beyond it in a chunk would be lost.
const WINDOW_MS: u64 = 30_000;

/// Whisper reads nothing from very short audio, and older versions of the engine read out of bounds. More than a second
/// by the frame that may be missing at the end of a recording.
const MIN_CHUNK_FRAMES: usize = frames_in(1_024);

/// What is kept before and after speech: the detector is late by a frame or two, and soft sounds escape it.
const PAD_FRAMES: usize = frames_in(304);

/// A longer stretch without speech ends a chunk and is left out.
const LONG_SILENCE_FRAMES: usize = frames_in(2_000);

/// What is remembered while nobody speaks: enough for the pad, a word that is not sure yet and the shortest chunk.
const LEAD_IN_FRAMES: usize = 2 * MIN_CHUNK_FRAMES;

/// The detector takes this many frames at once.
const STEP_FRAMES: usize = VAD_FRAME_SAMPLES / FRAME_SAMPLES;

/// A stretch of a recording, in 16 kHz samples from its start; `end_sample` is the first one that is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub start_sample: u64,
    pub end_sample: u64,
    /// Whether the end is a cut through sound, for want of silence: a word may be split there.
    pub hard_cut: bool,
}

/// A chunk and what is heard in it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedChunk {
    pub chunk: Chunk,
    pub sound: Sound,
}

#[derive(Clone, Copy, Debug)]
pub struct PlanSettings {
    /// Held between two seconds and Whisper's window.
    pub max_chunk_ms: u64,
    /// Whether to leave out what is not speech; otherwise every sample is in exactly one chunk.
    pub vad: bool,
}

/// Cuts a recording into chunks of a second or more (a shorter recording is one), none longer than the settings allow.
pub struct Planner {
    max_frames: usize,
    listener: Listener,
    /// Otherwise all counts as speech.
    skips_silence: bool,
    /// What is kept of the recording, from `first_sample` on.
    samples: Vec<f32>,
    first_sample: u64,
    /// One for every whole frame of `samples`.
    frames: Vec<Frame>,
    open: Option<Open>,
}

/// A chunk under way, in frames of those kept.
#[derive(Clone, Copy)]
struct Open {
    start: usize,
    speech_end: usize,
}

impl Planner {
    pub fn new(settings: PlanSettings) -> Self {
        let shortest_limit = 2 * MIN_CHUNK_FRAMES;
        let max_frames = frames_in(settings.max_chunk_ms.min(WINDOW_MS)).max(shortest_limit);
        Self {
            max_frames,
            listener: Listener::new(),
            skips_silence: settings.vad,
            samples: Vec::new(),
            first_sample: 0,
            frames: Vec::new(),
            open: None,
        }
    }

    /// Takes the next 16 kHz samples; hands on each chunk as soon as its end is decided.
    ///
    /// # Errors
    ///
    /// Whatever `sink` returns.
    pub fn push(&mut self, block: &[f32], sink: &mut dyn FnMut(PlannedChunk) -> Result<()>) -> Result<()> {
        let mut rest = block;
        while !rest.is_empty() {
            let missing = VAD_FRAME_SAMPLES - (self.samples.len() - self.samples_at(self.frames.len()));
            let (next, later) = rest.split_at(missing.min(rest.len()));
            self.samples.extend_from_slice(next);
            rest = later;
            if next.len() == missing {
                self.hear();
                self.decide(sink)?;
            }
        }
        Ok(())
    }

    /// Hands on what is left.
    ///
    /// # Errors
    ///
    /// Whatever `sink` returns.
    pub fn finish(mut self, sink: &mut dyn FnMut(PlannedChunk) -> Result<()>) -> Result<()> {
        if self.samples.len() > self.samples_at(self.frames.len()) {
            self.hear();
        }
        if self.is_short() && self.listener.may_have_heard_speech() {
            self.open = Some(Open { start: 0, speech_end: self.frames.len() });
        }
        while let Some(open) = self.open {
            let end = (open.speech_end + PAD_FRAMES).min(self.frames.len());
            if end - open.start <= self.max_frames {
                return self.close(open.start, end, false, sink);
            }
            self.split(open, sink)?;
        }
        Ok(())
    }

    /// Hears what was not heard yet: one step, or what is left of one at the end of a recording.
    fn hear(&mut self) {
        let known = self.frames.len();
        let samples = &self.samples[self.samples_at(known)..];
        let heard = self.listener.hear(samples);
        let speech_steps = if self.skips_silence { heard.speech_steps } else { 1 };
        self.frames.extend(samples.chunks(FRAME_SAMPLES).map(|frame| Frame::new(frame, heard.probability)));
        if speech_steps > 0 {
            // Frames that are kept no more belong to an earlier chunk.
            let begin = known.saturating_sub((speech_steps - 1) * STEP_FRAMES);
            self.frames[begin..].iter_mut().for_each(|frame| frame.speech = true);
            let start = self.open.map_or(begin.saturating_sub(PAD_FRAMES), |open| open.start);
            self.open = Some(Open { start, speech_end: self.frames.len() });
        }
    }

    /// Ends the open chunk where that can be known by now.
    fn decide(&mut self, sink: &mut dyn FnMut(PlannedChunk) -> Result<()>) -> Result<()> {
        let known = self.frames.len();
        match self.open {
            Some(open) if known - open.speech_end >= LONG_SILENCE_FRAMES => {
                self.close(open.start, open.speech_end + PAD_FRAMES, false, sink)
            }
            // So late that the cut cannot leave too little for the next chunk.
            Some(open) if known - open.start >= self.max_frames + MIN_CHUNK_FRAMES => self.split(open, sink),
            None if known >= 2 * LEAD_IN_FRAMES => {
                self.forget(known - LEAD_IN_FRAMES);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Cuts a chunk that is too long.
    fn split(&mut self, open: Open, sink: &mut dyn FnMut(PlannedChunk) -> Result<()>) -> Result<()> {
        let earliest = open.start + MIN_CHUNK_FRAMES;
        let latest = (open.start + self.max_frames).min(self.frames.len() - MIN_CHUNK_FRAMES);
        let cut = best_cut(&self.frames, earliest, latest);
        let speech_end = self.frames[..cut.at].iter().rposition(|frame| frame.speech).map_or(0, |last| last + 1);
        let end = cut.at.min(speech_end + PAD_FRAMES);
        self.close(open.start, end, cut.hard, sink)
    }

    /// Hands on a chunk, made as long as a chunk must be, and looks for speech in what follows it.
    fn close(
        &mut self,
        start: usize,
        end: usize,
        hard_cut: bool,
        sink: &mut dyn FnMut(PlannedChunk) -> Result<()>,
    ) -> Result<()> {
        let end = end.max(start + MIN_CHUNK_FRAMES).min(self.frames.len());
        let start = start.min(end.saturating_sub(MIN_CHUNK_FRAMES));
        let samples = self.samples[self.samples_at(start)..self.samples_at(end)].to_vec();
        let start_sample = self.first_sample + self.samples_at(start) as u64;
        let end_sample = start_sample + samples.len() as u64;
        let speech_probs = self.frames[start..end].iter().step_by(STEP_FRAMES).map(|frame| frame.speech_prob).collect();
        self.forget(end);
        let first = self.frames.iter().position(|frame| frame.speech);
        let last = self.frames.iter().rposition(|frame| frame.speech);
        self.open =
            first.zip(last).map(|(first, last)| Open { start: first.saturating_sub(PAD_FRAMES), speech_end: last + 1 });
        let chunk = Chunk { start_sample, end_sample, hard_cut };
        sink(PlannedChunk { chunk, sound: Sound { samples, speech_probs } })
    }

    /// Whether this is all of the recording, and less than a chunk.
    fn is_short(&self) -> bool {
        self.first_sample == 0 && self.frames.len() < MIN_CHUNK_FRAMES
    }

    /// Drops the first frames.
    fn forget(&mut self, frames: usize) {
        let samples = self.samples_at(frames);
        self.frames.drain(..frames);
        self.samples.drain(..samples);
        self.first_sample += samples as u64;
    }

    /// Where a frame begins in `samples`; the last one may not be whole.
    fn samples_at(&self, frame: usize) -> usize {
        (frame * FRAME_SAMPLES).min(self.samples.len())
    }
}

/// Whole frames in so many milliseconds.
const fn frames_in(ms: u64) -> usize {
    ms_to_samples(ms) as usize / FRAME_SAMPLES
}
