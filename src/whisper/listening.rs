//! How much of its 30 s window the encoder works through. Its cost grows faster than the window, and a chunk that fills
//! half of it does not need the other half.
//!
//! With flash attention the engine rounds the window up to a multiple of 256 positions and lets the surplus rows take
//! part, with whatever an earlier call of another window has left in them (whisper.cpp #3941). The steps below are such
//! multiples, so they read no surplus row and can share a state; the full window reads 36, so its state is never used for
//! anything else. Language detection, which takes over the window of the call before, is left to that state too.

use anyhow::Context;
use whisper_rs::{WhisperContext, WhisperState};

use crate::audio::SAMPLE_RATE;
use crate::error::Result;

const POSITIONS_PER_SECOND: usize = 50;
const SAMPLES_PER_POSITION: usize = SAMPLE_RATE as usize / POSITIONS_PER_SECOND;
/// What the engine rounds a window up to, in positions.
const PADDING: u16 = 256;
/// Windows shorter than the full one, in positions.
const STEPS: [u16; 3] = [3 * PADDING, 4 * PADDING, 5 * PADDING];
/// What a window has beyond the chunk at least, in positions: 1.3 s of silence. See benches/README.md.
const MARGIN_POSITIONS: usize = 64;

const MOST_USED: Window = Window::Trimmed(STEPS[0]);

/// The part of the window that one call works through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    Full,
    /// So many positions, a multiple of `PADDING`.
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
#[derive(Clone, Copy, Debug)]
pub enum Listening {
    /// The smallest step that holds the chunk and this many positions more.
    Fitted { margin: usize },
    /// So many positions whatever the chunk, a multiple of 256: to see what too few of them do.
    Fixed { positions: u16 },
    /// The full window, whatever the chunk.
    Full,
}

impl Default for Listening {
    fn default() -> Self {
        Self::Fitted { margin: MARGIN_POSITIONS }
    }
}

impl Listening {
    pub(super) fn window(self, samples: usize) -> Window {
        let margin = match self {
            Self::Fitted { margin } => margin,
            Self::Fixed { positions } => return Window::Trimmed(positions),
            Self::Full => return Window::Full,
        };
        let needed = samples.div_ceil(SAMPLES_PER_POSITION) + margin;
        STEPS.into_iter().find(|&step| usize::from(step) >= needed).map_or(Window::Full, Window::Trimmed)
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
        let state = self.take(MOST_USED)?;
        self.put_back(MOST_USED, state);
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
