//! When a chunk's text is doubted, what is tried next, and which text is kept. Everything here depends on the chunk
//! alone, so that a chunk gives the same text wherever and whenever it runs.
//!
//! 1. A text from a trimmed window is doubted if it repeats itself anywhere, if its last phrase comes twice, if a segment
//!    begins where the chunk has ended, or if the engine had to raise the temperature. It is tried again with the full
//!    window, and that text is kept unless it loops more or repeats more at its end.
//! 2. A text that goes round in circles, alone or together with the prompt that it was given, is tried again without the
//!    prompt, then warmer in steps. The first that does not is kept; where all do, the one that repeats least.
//!
//! whisper.cpp itself raises the temperature of a window whose tokens are improbable or never end, and drops a window
//! that the model takes for silence and is unsure of; it knows nothing of repetition in what it accepts.

use super::listening::Window;
use super::params::Settings;
use super::repetition::Units;
use crate::transcript::{ChunkRequest, ChunkText};

/// Above this ratio of plain to compressed length a text repeats itself; OpenAI's value.
const MAX_COMPRESSION_RATIO: f32 = 2.4;

/// Judges the attempts at one chunk.
pub(super) struct Judge {
    /// What the prompt said, of which a text must not be the continued loop.
    before: Units,
    length_ms: i64,
    max_ratio: f32,
}

/// What speaks against a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    trimmed: bool,
    /// Words that only go on with a loop.
    looping: usize,
    /// Words at the end that repeat those before them.
    tail: usize,
    ratio: f32,
    too_repetitive: bool,
    /// Text where there was no more sound, or text that took a higher temperature than asked for.
    strained: bool,
}

impl Judge {
    pub(super) fn of(request: &ChunkRequest<'_>, length_ms: i64) -> Self {
        Self {
            before: Units::of(request.prompt.unwrap_or_default()),
            length_ms,
            max_ratio: request.options.compression_ratio_threshold.unwrap_or(MAX_COMPRESSION_RATIO),
        }
    }

    pub(super) fn verdict(&self, chunk: &ChunkText, settings: &Settings) -> Verdict {
        let text: String = chunk.segments.iter().map(|segment| segment.text.as_str()).collect();
        let units = Units::of(&text);
        // What the engine says without having read the text before is no echo of it.
        let looping = if settings.prompted() { units.looping(&self.before) } else { units.looping(&Units::default()) };
        let ratio = chunk.segments.first().map_or(0.0, |segment| segment.compression_ratio);
        let strained = chunk.segments.iter().any(|segment| {
            segment.temperature > settings.temperature() || (segment.start_ms >= self.length_ms && self.length_ms > 0)
        });
        Verdict {
            trimmed: settings.window() != Window::Full,
            looping,
            tail: units.repeated_tail(),
            ratio,
            too_repetitive: looping > 0 || ratio > self.max_ratio,
            strained,
        }
    }
}

impl Verdict {
    /// The attempt to make after one with these settings, when this is the verdict on the best so far.
    pub(super) fn next(&self, settings: &Settings) -> Option<Settings> {
        let mut next = settings.clone();
        let again = if settings.window() != Window::Full {
            (self.too_repetitive || self.tail > 0 || self.strained) && next.open_window()
        } else {
            self.too_repetitive && (next.drop_prompt() || next.raise_temperature())
        };
        again.then_some(next)
    }

    /// Whether a text with this verdict takes the place of the best so far.
    pub(super) fn beats(&self, best: &Self) -> bool {
        if best.trimmed {
            return (self.looping, self.tail) <= (best.looping, best.tail);
        }
        self.looping < best.looping || (self.looping == best.looping && self.ratio < best.ratio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Options;
    use crate::transcript::Segment;

    const LENGTH_MS: i64 = 10_000;
    const LOOP: &str = "I do not know. I do not know. I do not know. I do not know.";

    fn chunk(text: &str) -> ChunkText {
        let segment = Segment {
            start_ms: 0,
            end_ms: LENGTH_MS,
            text: text.to_owned(),
            seek_ms: 0,
            temperature: 0.0,
            avg_logprob: -0.2,
            compression_ratio: 1.0,
            no_speech_prob: 0.0,
            speech_prob: None,
            words: None,
            tokens: vec![1],
        };
        ChunkText { language: "en".to_owned(), language_probability: None, segments: vec![segment] }
    }

    fn begin(prompt: Option<&str>, window: Window) -> (Judge, Settings) {
        let request =
            ChunkRequest { samples: &[], language: Some("en"), translate: false, prompt, options: &Options::default() };
        (Judge::of(&request, LENGTH_MS), Settings::of(&request, window))
    }

    /// What is tried when every attempt says the same: window, prompt and temperature of each.
    fn ladder(prompt: Option<&str>, window: Window, said: &ChunkText) -> Vec<(Window, bool, f32)> {
        let (judge, first) = begin(prompt, window);
        let next = |settings: &Settings| judge.verdict(said, settings).next(settings);
        std::iter::successors(Some(first), next)
            .map(|settings| (settings.window(), settings.prompted(), settings.temperature()))
            .collect()
    }

    #[test]
    fn plain_text_is_kept_at_once_from_any_window() {
        for window in [Window::Full, Window::Trimmed(768)] {
            assert_eq!(ladder(Some("Before."), window, &chunk("All is well.")).len(), 1);
        }
    }

    #[test]
    fn a_repeated_tail_is_tried_once_more_and_only_from_a_trimmed_window() {
        let said = chunk("it shall not perish from the earth, perish from the earth.");
        assert_eq!(
            ladder(None, Window::Trimmed(768), &said),
            [(Window::Trimmed(768), false, 0.0), (Window::Full, false, 0.0)]
        );
        assert_eq!(ladder(None, Window::Full, &said).len(), 1);
    }

    #[test]
    fn text_behind_the_end_of_the_chunk_or_at_a_raised_temperature_opens_the_window() {
        let mut late = chunk("And thanks.");
        late.segments[0].start_ms = LENGTH_MS;
        assert_eq!(ladder(None, Window::Trimmed(1024), &late).len(), 2);
        let mut warm = chunk("And thanks.");
        warm.segments[0].temperature = 0.4;
        assert_eq!(ladder(None, Window::Trimmed(1024), &warm).len(), 2);
    }

    #[test]
    fn a_loop_is_tried_with_the_full_window_then_without_the_prompt_then_warmer() {
        let tried = ladder(Some("Before."), Window::Trimmed(768), &chunk(LOOP));
        assert_eq!(
            tried[..3],
            [(Window::Trimmed(768), true, 0.0), (Window::Full, true, 0.0), (Window::Full, false, 0.0)]
        );
        assert_eq!(tried.len(), 8);
        assert!(tried[3..].iter().all(|&(window, prompted, warm)| window == Window::Full && !prompted && warm > 0.1));
    }

    #[test]
    fn a_continued_loop_is_tried_without_its_prompt_and_believed_if_it_comes_again() {
        let tried = ladder(Some("We go home. We go home."), Window::Full, &chunk("We go home."));
        assert_eq!(tried, [(Window::Full, true, 0.0), (Window::Full, false, 0.0)]);
    }

    #[test]
    fn the_full_window_wins_unless_it_repeats_more() {
        let (judge, trimmed) = begin(None, Window::Trimmed(768));
        let full = Settings::of(
            &ChunkRequest {
                samples: &[],
                language: Some("en"),
                translate: false,
                prompt: None,
                options: &Options::default(),
            },
            Window::Full,
        );
        let tail = judge.verdict(&chunk("a b c d, c d"), &trimmed);
        assert!(judge.verdict(&chunk("a b c d, c d"), &full).beats(&tail));
        assert!(judge.verdict(&chunk("a b c d"), &full).beats(&tail));
        assert!(!judge.verdict(&chunk("a b c d, b c d"), &full).beats(&tail));
        assert!(!judge.verdict(&chunk(LOOP), &full).beats(&tail));
    }

    #[test]
    fn of_texts_that_all_loop_the_one_that_repeats_least_is_kept() {
        let (judge, full) = begin(None, Window::Full);
        let long = judge.verdict(&chunk(&LOOP.repeat(3)), &full);
        let short = judge.verdict(&chunk(LOOP), &full);
        assert!(short.beats(&long) && !long.beats(&short) && !long.beats(&long));
    }
}
