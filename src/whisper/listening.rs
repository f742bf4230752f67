//! How much of its 30 s window the encoder works through. Its cost grows faster than the window, and a chunk that fills
//! half of it does not need the other half.
//!
//! With flash attention the engine rounds the window up to a multiple of 256 positions and lets the surplus rows take
//! part, with whatever an earlier call of another window has left in them (whisper.cpp #3941). Its steps below are such
//! multiples, so they read no surplus row and can share a state; the full window reads 36, so its state is never used for
//! anything else. Language detection, which takes over the window of the call before, is left to that state too.

use anyhow::Context;
use whisper_rs::{WhisperContext, WhisperState};

use crate::audio::SAMPLE_RATE;
use crate::error::Result;

const POSITIONS_PER_SECOND: usize = 50;
const SAMPLES_PER_POSITION: usize = SAMPLE_RATE as usize / POSITIONS_PER_SECOND;
/// All that a model has, in positions.
const FULL_POSITIONS: usize = 1500;

/// The windows of one kind of attention, in positions. See benches/README.md.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// They are multiples of this.
    step: usize,
    least: usize,
    /// What a window has beyond the chunk at least. With too few the end is lost or comes twice.
    margin: usize,
}

impl Windows {
    pub(super) const FLASH: Self = Self { step: 256, least: 768, margin: 64 };
    /// In the steps that fill the processor's vectors.
    pub(super) const PLAIN: Self = Self { step: 16, least: 512, margin: 128 };

    fn fitting(self, samples: usize, margin: usize) -> Window {
        let needed = samples.div_ceil(SAMPLES_PER_POSITION) + margin;
        let positions = needed.next_multiple_of(self.step).max(self.least);
        let trimmed = u16::try_from(positions).ok().filter(|_| positions < FULL_POSITIONS);
        trimmed.map_or(Window::Full, Window::Trimmed)
    }
}

/// The part of the window that one call works through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    Full,
    /// So many positions.
    Trimmed(u16),
}

impl Window {
    /// As the engine's parameter, where 0 is all that the model has.
    pub(super) fn audio_ctx(self) -> i32 {
        match self {
            Self::Full => 0,
            Self::Trimmed(positions) => i32::from(positions),
        }
    }
}

/// Which window a chunk gets.
#[derive(Clone, Copy, Debug, Default)]
pub enum Listening {
    /// The smallest that holds the chunk and a margin.
    #[default]
    Fitted,
    /// The same with so many positions as margin: to see what another one does.
    WithMargin { margin: usize },
    /// So many positions whatever the chunk; with flash attention a multiple of 256.
    Fixed { positions: u16 },
    /// The full window, whatever the chunk.
    Full,
}

impl Listening {
    pub(super) fn window(self, windows: Windows, samples: usize) -> Window {
        match self {
            Self::Fitted => windows.fitting(samples, windows.margin),
            Self::WithMargin { margin } => windows.fitting(samples, margin),
            Self::Fixed { positions } => Window::Trimmed(positions),
            Self::Full => Window::Full,
        }
    }
}

/// An engine's one state: a second one for the other kind of window would double what a worker takes of a GPU's memory.
pub(super) struct States<'m> {
    context: &'m WhisperContext,
    kept: Option<(Kind, WhisperState)>,
}

/// Windows that may share a state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    Trimmed,
}

impl<'m> States<'m> {
    pub(super) fn new(context: &'m WhisperContext) -> Self {
        Self { context, kept: None }
    }

    /// Makes the state that most chunks use.
    pub(super) fn reserve(&mut self) -> Result<()> {
        let most_used = Window::Trimmed(0);
        let state = self.take(most_used)?;
        self.put_back(most_used, state);
        Ok(())
    }

    /// A state for one call, which is gone unless it is put back.
    pub(super) fn take(&mut self, window: Window) -> Result<WhisperState> {
        match self.kept.take() {
            Some((kind, state)) if kind == Kind::of(window) => Ok(state),
            other => {
                // Freed before the next one takes its place.
                drop(other);
                Ok(self.context.create_state().context("no memory for an engine's state: lower WORKER_COUNT")?)
            }
        }
    }

    pub(super) fn put_back(&mut self, window: Window, state: WhisperState) {
        self.kept = Some((Kind::of(window), state));
    }
}

impl Kind {
    fn of(window: Window) -> Self {
        match window {
            Window::Full => Self::Full,
            Window::Trimmed(_) => Self::Trimmed,
        }
    }
}
