//! The seam at the GPU: what a worker asks of an engine, and the hand it keeps on the engine while it works. The real
//! engine is `whisper`; tests of the queue bring their own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Segment;
use crate::error::{Error, Result};
use crate::job::Options;

/// One chunk of audio and how to transcribe it.
pub struct ChunkRequest<'a> {
    /// 16 kHz mono, at most 30 s.
    pub samples: &'a [f32],
    /// Absent: the engine finds out.
    pub language: Option<&'a str>,
    /// Into English, instead of the language that is spoken.
    pub translate: bool,
    /// Text that came before, or names and style to expect.
    pub prompt: Option<&'a str>,
    pub options: &'a Options,
}

/// What was said in a chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkText {
    /// ISO 639-1 code, as given or as detected.
    pub language: String,
    /// How sure the engine is of the language, 0 to 1; absent where it was given.
    pub language_probability: Option<f32>,
    /// Times count from the start of the chunk.
    pub segments: Vec<Segment>,
}

/// An engine that belongs to one worker thread.
pub trait Transcriber {
    /// Transcribes one chunk, ticking `control` as it goes.
    ///
    /// # Errors
    /// `Aborted` soon after `control` was told to abort; `Internal` where the engine failed.
    fn transcribe(&mut self, request: &ChunkRequest<'_>, control: &Control) -> Result<ChunkText>;
}

/// Shared by a thread that works and those that watch it: they see it move and can stop it.
#[derive(Debug, Default)]
pub struct Control {
    abort: AtomicBool,
    ticks: AtomicU64,
}

impl Control {
    pub fn abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
    }

    pub fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }

    /// Says that work moves on.
    pub fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Ticks, and says when to stop.
    ///
    /// # Errors
    /// `Aborted`.
    pub fn go_on(&self) -> Result<()> {
        self.tick();
        if self.is_aborted() { Err(Error::Aborted) } else { Ok(()) }
    }

    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Makes it ready for the next piece of work.
    pub fn reset(&self) {
        self.abort.store(false, Ordering::Relaxed);
        self.tick();
    }
}
