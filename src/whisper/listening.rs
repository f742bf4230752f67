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

/// An engine's states, one for each kind of window, made when first needed.
pub(super) struct States<'m> {
    context: &'m WhisperContext,
    full: Option<WhisperState>,
    trimmed: Option<WhisperState>,
}

impl<'m> States<'m> {
    pub(super) fn new(context: &'m WhisperContext) -> Self {
        Self { context, full: None, trimmed: None }
    }

    /// Makes the state that most chunks use.
    pub(super) fn reserve(&mut self) -> Result<()> {
        let state = self.take(MOST_USED)?;
        self.put_back(MOST_USED, state);
        Ok(())
    }

    /// A state for one call, which is gone unless it is put back.
    pub(super) fn take(&mut self, window: Window) -> Result<WhisperState> {
        match self.of(window).take() {
            Some(state) => Ok(state),
            None => Ok(self.context.create_state().context("no memory for an engine's state: lower WORKER_COUNT")?),
        }
    }

    pub(super) fn put_back(&mut self, window: Window, state: WhisperState) {
        *self.of(window) = Some(state);
    }

    fn of(&mut self, window: Window) -> &mut Option<WhisperState> {
        match window {
            Window::Full => &mut self.full,
            Window::Trimmed(_) => &mut self.trimmed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(seconds: f64) -> Window {
        Listening::default().window((seconds * f64::from(SAMPLE_RATE)) as usize)
    }

    #[test]
    fn a_chunk_gets_the_smallest_window_that_holds_it_with_a_margin() {
        assert_eq!(window(1.0), Window::Trimmed(768));
        assert_eq!(window(14.0), Window::Trimmed(768));
        assert_eq!(window(14.2), Window::Trimmed(1024));
        assert_eq!(window(20.0), Window::Trimmed(1280));
        assert_eq!(window(28.0), Window::Full);
        assert_eq!(window(40.0), Window::Full);
        assert_eq!(Listening::Full.window(16_000), Window::Full);
    }

    #[test]
    fn trimmed_windows_are_of_the_sizes_that_the_engine_does_not_round_up() {
        assert!(STEPS.iter().all(|step| step % PADDING == 0));
        assert!(STEPS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
