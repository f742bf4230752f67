//! From probabilities to speech, step by step: two thresholds, so that a wavering probability is one stretch, and a
//! least length, so that a click is none.

use super::vad::Ear;

/// Speech begins at this probability and ends under the other.
const ON: f32 = 0.5;
const OFF: f32 = 0.35;

/// A shorter stretch is a click: 64 ms.
const MIN_SPEECH_STEPS: usize = 2;

/// A recording of less than a second is over before the detector is sure of anything.
const SHORT_ON: f32 = 0.3;

/// Tells speech from the rest of a recording, a few frames late.
pub(super) struct Listener {
    ear: Ear,
    /// Steps of the stretch under way, known to be speech or not yet.
    run: usize,
    peak: f32,
}

/// What a step turned out to be.
pub(super) struct Heard {
    /// How likely it is speech, 0 to 1.
    pub(super) probability: f32,
    /// How many steps, up to and with this one, are now known to be speech: none, this one, or with it those before that
    /// had to wait for it.
    pub(super) speech_steps: usize,
}

impl Listener {
    pub(super) fn new() -> Self {
        Self { ear: Ear::new(), run: 0, peak: 0.0 }
    }

    /// Takes the next step.
    pub(super) fn hear(&mut self, samples: &[f32]) -> Heard {
        let threshold = if self.run > 0 { OFF } else { ON };
        let probability = self.ear.hear(samples);
        self.peak = self.peak.max(probability);
        self.run = if probability >= threshold { self.run + 1 } else { 0 };
        let speech_steps = match self.run {
            run if run < MIN_SPEECH_STEPS => 0,
            MIN_SPEECH_STEPS => MIN_SPEECH_STEPS,
            _ => 1,
        };
        Heard { probability, speech_steps }
    }

    /// Whether there may have been speech, in a recording that was too short to tell.
    pub(super) fn may_have_heard_speech(&self) -> bool {
        self.peak >= SHORT_ON
    }
}
