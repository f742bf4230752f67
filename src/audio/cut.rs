//! Where a stretch of sound that is too long for one chunk is cut: in a pause of speech, else where it is quiet.

use std::ops::Range;

use super::SAMPLES_PER_MS;

/// What is known of one frame of a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Frame {
    /// Mean square of the samples.
    pub(super) energy: f32,
    /// How likely it is speech, 0 to 1.
    pub(super) speech_prob: f32,
    /// Whether it counts as speech.
    pub(super) speech: bool,
}

/// Fine enough to find the gap between two words, and a half of what the voice detector takes at once.
pub(super) const FRAME_SAMPLES: usize = 256;
const FRAME_MS: usize = FRAME_SAMPLES / SAMPLES_PER_MS as usize;

impl Frame {
    pub(super) fn new(samples: &[f32], speech_prob: f32) -> Self {
        let energy = samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32;
        Self { energy, speech_prob, speech: false }
    }
}

/// A place to cut at, in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) at: usize,
    /// For want of a pause the cut goes through sound.
    pub(super) hard: bool,
}

/// Under this loudness a frame is silent: about -55 dB of full scale.
const SILENT_RMS: f32 = 60.0 / 32_768.0;

/// In a soft recording silence is softer still: 35 dB under the loudest twentieth.
const SILENT_BELOW_LOUD: f32 = 0.018;
const LOUD_SHARE: f64 = 0.05;

/// Recordings with a noise floor above that have pauses too: the quietest fifth around counts as silent.
const SILENT_SHARE: f64 = 0.2;

/// Shorter gaps lie inside words (the closure of a "t" is about 100 ms).
const MIN_PAUSE_FRAMES: usize = 160 / FRAME_MS;

/// How far before the limit a longer pause is preferred to a later one.
const PAUSE_SEARCH_FRAMES: usize = 7_000 / FRAME_MS;

/// Without a pause, the cut goes to the quietest stretch this long in the last part of the chunk.
const QUIET_FRAMES: usize = 192 / FRAME_MS;
const HARD_CUT_SEARCH_FRAMES: usize = 10_000 / FRAME_MS;

/// The best cut between `earliest` and `latest`, both allowed; `frames` go on after `latest` where more is known.
pub(super) fn best_cut(frames: &[Frame], earliest: usize, latest: usize) -> Cut {
    let threshold = silence_threshold(frames);
    best_pause(frames, earliest, latest, |frame| !frame.speech)
        .or_else(|| best_pause(frames, earliest, latest, |frame| frame.energy < threshold))
        .map_or_else(|| Cut { at: quietest(frames, earliest, latest), hard: true }, |at| Cut { at, hard: false })
}

/// The energy under which a frame counts as silent among these.
fn silence_threshold(frames: &[Frame]) -> f32 {
    let mut energies: Vec<f32> = frames.iter().map(|frame| frame.energy).collect();
    let mut percentile = |share: f64| {
        let rank = (energies.len() as f64 * share) as usize;
        *energies.select_nth_unstable_by(rank, f32::total_cmp).1
    };
    let loud = percentile(1.0 - LOUD_SHARE);
    let floor = SILENT_RMS.powi(2).min(loud * SILENT_BELOW_LOUD.powi(2));
    // Digital silence is under every threshold.
    percentile(SILENT_SHARE).max(floor).max(f32::MIN_POSITIVE)
}

/// The middle of the longest pause of the last seconds, the later of equals; without one there, of the last one before.
/// A long pause ends a sentence more often than a short one, and a chunk that ends with its sentence reads better.
fn best_pause(frames: &[Frame], earliest: usize, latest: usize, silent: impl Fn(&Frame) -> bool) -> Option<usize> {
    let recent = latest.saturating_sub(PAUSE_SEARCH_FRAMES).max(earliest);
    let mut best: Option<Range<usize>> = None;
    for pause in pauses(&frames[earliest..], silent) {
        let pause = earliest + pause.start..earliest + pause.end;
        if pause.start >= latest {
            break;
        }
        let older = best.as_ref().is_none_or(|best| best.end <= recent);
        if older || best.as_ref().is_some_and(|best| pause.len() >= best.len()) {
            best = Some(pause);
        }
    }
    best.map(|pause| (pause.start + pause.len() / 2).min(latest))
}

/// The runs of silent frames that are long enough to be pauses, in order.
fn pauses(frames: &[Frame], silent: impl Fn(&Frame) -> bool) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + frames[from..].iter().position(&silent)?;
            let end = frames[start..].iter().position(|frame| !silent(frame)).map_or(frames.len(), |loud| start + loud);
            from = end;
            if end - start >= MIN_PAUSE_FRAMES {
                return Some(start..end);
            }
        }
    })
}

/// The frame boundary with the least energy around it in the last seconds before `latest`; the last of equals.
fn quietest(frames: &[Frame], earliest: usize, latest: usize) -> usize {
    let from = earliest.max(latest.saturating_sub(HARD_CUT_SEARCH_FRAMES));
    let energy_around = |cut: usize| -> f64 {
        frames[cut - QUIET_FRAMES / 2..cut + QUIET_FRAMES / 2].iter().map(|frame| f64::from(frame.energy)).sum()
    };
    (from..=latest).rev().min_by(|&a, &b| energy_around(a).total_cmp(&energy_around(b))).unwrap_or(latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: usize = 62;
    const LOUD: f32 = 0.125;

    /// Stretches of speech as (frames, loudness), and of non-speech where the loudness is negative.
    fn frames(stretches: &[(usize, f32)]) -> Vec<Frame> {
        let stretch = |&(count, rms): &(usize, f32)| {
            std::iter::repeat_n(Frame { energy: rms * rms, speech_prob: 0.0, speech: rms.is_sign_positive() }, count)
        };
        stretches.iter().flat_map(stretch).collect()
    }

    fn cut(stretches: &[(usize, f32)], latest: usize) -> Cut {
        best_cut(&frames(stretches), SECOND, latest)
    }

    const fn soft(at: usize) -> Cut {
        Cut { at, hard: false }
    }

    #[test]
    fn the_cut_is_in_the_middle_of_the_longest_pause_of_the_last_seconds() {
        let pauses = [(300, LOUD), (40, -LOUD), (300, LOUD), (20, -LOUD), (200, LOUD), (10, -LOUD), (300, LOUD)];
        assert_eq!(cut(&pauses, 900), soft(650));
    }

    #[test]
    fn a_pause_that_goes_on_after_the_limit_counts_whole() {
        let pauses = [(300, LOUD), (20, -LOUD), (300, LOUD), (60, -LOUD), (300, LOUD)];
        assert_eq!(cut(&pauses, 630), soft(630));
        assert_eq!(cut(&pauses, 660), soft(650));
    }

    #[test]
    fn speech_that_gets_no_pause_is_cut_where_it_is_soft() {
        let soft_gap = |gap| cut(&[(300, LOUD), (gap, 0.0), (700, LOUD)], 620);
        assert_eq!(soft_gap(10), soft(305));
        assert!(soft_gap(9).hard, "a gap under 160 ms lies in a word");
        let pause_and_gap = [(300, LOUD), (12, -LOUD), (200, LOUD), (20, 0.0), (300, LOUD)];
        assert_eq!(cut(&pause_and_gap, 700), soft(306), "a pause of speech comes before one of loudness");
    }

    #[test]
    fn without_a_pause_the_cut_is_at_the_quietest_place_of_the_last_ten_seconds() {
        let dips = [(900, LOUD), (8, LOUD / 2.0), (600, LOUD), (8, LOUD / 4.0), (700, LOUD)];
        let found = cut(&dips, 1750);
        assert!(found.hard && (1508..=1516).contains(&found.at), "{found:?}");
        let early = cut(&[(300, LOUD), (8, LOUD / 2.0), (2000, LOUD)], 1750);
        assert_eq!(early, Cut { at: 1750, hard: true });
    }

    #[test]
    fn pauses_are_found_in_noisy_and_in_soft_recordings() {
        let hum = 10.0 * SILENT_RMS;
        assert_eq!(cut(&[(400, LOUD), (40, hum), (300, LOUD), (300, 1.1 * hum)], 700), soft(420));
        let whisper = SILENT_RMS / 2.0;
        assert_eq!(cut(&[(400, whisper), (40, whisper / 100.0), (600, whisper)], 700), soft(420));
    }
}
