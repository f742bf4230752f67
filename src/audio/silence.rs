//! Where a recording is cut into chunks for the engine: in silence, found by loudness alone. Pure arithmetic over one
//! loudness per 20 ms; whether a chunk holds speech is not decided here.

use std::ops::Range;

use super::SAMPLE_RATE;

/// Default limit of a chunk for callers of `plan`. Whisper hears 30 s at once; the two seconds of slack keep a closing
/// timestamp inside that window.
pub const MAX_CHUNK_SECONDS: u64 = 28;

/// Whisper's window: what is beyond it in a chunk would be lost.
const WINDOW_MS: u64 = 30_000;

/// Whisper reads nothing from very short audio, and older versions of the engine read out of bounds.
const MIN_CHUNK_MS: u64 = 1000;

const FRAME_MS: u64 = 20;
const FRAME_SAMPLES: usize = (SAMPLE_RATE as u64 * FRAME_MS / 1000) as usize;
const MIN_CHUNK_SAMPLES: u64 = SAMPLE_RATE as u64 * MIN_CHUNK_MS / 1000;
const MIN_CHUNK_FRAMES: usize = (MIN_CHUNK_MS / FRAME_MS) as usize;

/// Under this loudness a frame is silent in any recording: about -55 dB of full scale.
const SILENT_RMS: f32 = 60.0 / 32_768.0;

/// Recordings with a noise floor above `SILENT_RMS` have pauses too: their quietest fifth counts as silent.
const SILENT_SHARE: f64 = 0.2;

/// Shorter gaps lie inside words (the closure of a "t" is about 100 ms).
const MIN_SILENCE_FRAMES: usize = 160 / FRAME_MS as usize;

/// How far before the limit a longer pause is preferred to a later one.
const PAUSE_SEARCH_FRAMES: usize = 7_000 / FRAME_MS as usize;

/// Without silence, the cut goes to the quietest stretch this long in the last part of the chunk.
const QUIET_FRAMES: usize = 200 / FRAME_MS as usize;
const HARD_CUT_SEARCH_FRAMES: usize = 10_000 / FRAME_MS as usize;

/// A stretch of a recording, in 16 kHz samples from its start; `end_sample` is the first one that is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub start_sample: u64,
    pub end_sample: u64,
    /// Whether the end is a cut through sound, for want of silence: a word may be split there.
    pub hard_cut: bool,
}

/// Measures a recording while it is decoded: one RMS (root mean square, 0 to 1) per 20 ms, 0.7 MB an hour.
#[derive(Clone, Debug, Default)]
pub struct FrameEnergies {
    rms: Vec<f32>,
    total_samples: u64,
    open_frame_squares: f64,
}

impl FrameEnergies {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next 16 kHz samples, in blocks of any size.
    pub fn push(&mut self, block: &[f32]) {
        for &sample in block {
            self.open_frame_squares += f64::from(sample) * f64::from(sample);
            self.total_samples += 1;
            if self.open_frame_samples() == 0 {
                self.rms.push((self.open_frame_squares / FRAME_SAMPLES as f64).sqrt() as f32);
                self.open_frame_squares = 0.0;
            }
        }
    }

    /// Length so far, in 16 kHz samples.
    pub fn total_samples(&self) -> u64 {
        self.total_samples
    }

    fn open_frame_samples(&self) -> usize {
        (self.total_samples % FRAME_SAMPLES as u64) as usize
    }

    /// The loudness under which a frame of this recording counts as silent.
    fn silence_threshold(&self) -> f32 {
        if self.rms.is_empty() {
            return SILENT_RMS;
        }
        let mut sorted = self.rms.clone();
        let rank = (sorted.len() as f64 * SILENT_SHARE) as usize;
        let (_, percentile, _) = sorted.select_nth_unstable_by(rank, f32::total_cmp);
        percentile.max(SILENT_RMS)
    }
}

/// Cuts a recording into chunks of `MIN_CHUNK_MS` to `max_chunk_ms`, contiguous and covering all of it; a recording
/// under a second is one chunk, an empty one none. `max_chunk_ms` is held between twice the minimum and 30 s.
pub fn plan(energies: &FrameEnergies, max_chunk_ms: u64) -> Vec<Chunk> {
    let max_frames = (max_chunk_ms.clamp(2 * MIN_CHUNK_MS, WINDOW_MS) / FRAME_MS) as usize;
    let threshold = energies.silence_threshold();
    let mut chunks = Vec::new();
    let mut start = 0;
    while energies.total_samples - samples_at(start) > samples_at(max_frames) {
        // Leaves at least the minimum after the cut too, so that no sliver remains at the end.
        let last_frame = (energies.total_samples - MIN_CHUNK_SAMPLES) / FRAME_SAMPLES as u64;
        let latest = (start + max_frames).min(last_frame as usize);
        let earliest = start + MIN_CHUNK_FRAMES;
        let silent = best_pause(&energies.rms[earliest..latest], threshold).map(|middle| earliest + middle);
        let cut = silent.unwrap_or_else(|| quietest(&energies.rms, earliest, latest));
        chunks.push(chunk(samples_at(start), samples_at(cut), silent.is_none()));
        start = cut;
    }
    if energies.total_samples > 0 {
        chunks.push(chunk(samples_at(start), energies.total_samples, false));
    }
    chunks
}

fn chunk(start_sample: u64, end_sample: u64, hard_cut: bool) -> Chunk {
    Chunk { start_sample, end_sample, hard_cut }
}

fn samples_at(frame: usize) -> u64 {
    (frame * FRAME_SAMPLES) as u64
}

/// The middle of the longest pause of the last seconds, the later of equals; without one there, of the last one before.
/// A long pause ends a sentence more often than a short one, and a chunk that ends with its sentence reads better.
fn best_pause(rms: &[f32], threshold: f32) -> Option<usize> {
    let recent = rms.len().saturating_sub(PAUSE_SEARCH_FRAMES);
    let mut best: Option<Range<usize>> = None;
    for pause in pauses(rms, threshold) {
        let older = best.as_ref().is_none_or(|best| best.end <= recent);
        if older || best.as_ref().is_some_and(|best| pause.len() >= best.len()) {
            best = Some(pause);
        }
    }
    best.map(|pause| pause.start + pause.len() / 2)
}

/// The runs of silent frames that are long enough to be pauses, in order.
fn pauses(rms: &[f32], threshold: f32) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + rms[from..].iter().position(|&frame| frame < threshold)?;
            let end = rms[start..].iter().position(|&frame| frame >= threshold).map_or(rms.len(), |loud| start + loud);
            from = end;
            if end - start >= MIN_SILENCE_FRAMES {
                return Some(start..end);
            }
        }
    })
}

/// The frame boundary with the least energy around it in the last seconds before `latest`; the last of equals.
fn quietest(rms: &[f32], earliest: usize, latest: usize) -> usize {
    let from = earliest.max(latest.saturating_sub(HARD_CUT_SEARCH_FRAMES));
    let energy_around = |cut: usize| -> f64 {
        rms[cut - QUIET_FRAMES / 2..cut + QUIET_FRAMES / 2].iter().map(|&frame| f64::from(frame).powi(2)).sum()
    };
    (from..=latest).rev().min_by(|&a, &b| energy_around(a).total_cmp(&energy_around(b))).unwrap_or(latest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A power of two, so that sums of squares are exact and equal places tie.
    const LOUD: f32 = 0.125;
    const SECOND: usize = 1000 / FRAME_MS as usize;

    /// A recording given as (frames, loudness) stretches, all frames whole.
    fn recording(stretches: &[(usize, f32)]) -> FrameEnergies {
        let rms: Vec<f32> = stretches.iter().flat_map(|&(frames, rms)| std::iter::repeat_n(rms, frames)).collect();
        FrameEnergies { total_samples: samples_at(rms.len()), rms, open_frame_squares: 0.0 }
    }

    /// The cuts in frames, those through sound with a minus sign.
    fn cuts(energies: &FrameEnergies, max_chunk_ms: u64) -> Vec<i64> {
        let mut chunks = plan(energies, max_chunk_ms);
        chunks.pop();
        let frame = |chunk: &Chunk| (chunk.end_sample / FRAME_SAMPLES as u64) as i64;
        chunks.iter().map(|chunk| if chunk.hard_cut { -frame(chunk) } else { frame(chunk) }).collect()
    }

    #[test]
    fn a_block_of_samples_becomes_one_rms_per_20_ms_whatever_its_size() {
        let samples: Vec<f32> = (0..1000).map(|i| if i < 320 { 0.5 } else { -0.25 }).collect();
        let mut energies = FrameEnergies::new();
        samples.chunks(7).for_each(|block| energies.push(block));
        assert_eq!(energies.rms, [0.5, 0.25, 0.25]);
        assert_eq!(energies.total_samples(), 1000);
    }

    #[test]
    fn the_cut_is_in_the_middle_of_the_last_pause_before_the_limit() {
        let energies = recording(&[(5 * SECOND, LOUD), (10, 0.0), (4 * SECOND, LOUD), (20, 0.0), (8 * SECOND, LOUD)]);
        assert_eq!(cuts(&energies, 12_000), [5 * 50 + 10 + 4 * 50 + 10]);
    }

    #[test]
    fn a_gap_under_160_ms_is_no_pause() {
        let energies = |gap| recording(&[(5 * SECOND, LOUD), (gap, 0.0), (12 * SECOND, LOUD)]);
        assert_eq!(cuts(&energies(8), 10_000)[0], 5 * 50 + 4);
        assert!(cuts(&energies(7), 10_000)[0] < 0);
    }

    #[test]
    fn without_a_pause_the_cut_is_at_the_quietest_place_of_the_last_ten_seconds() {
        // Dips of 120 ms are no pauses. The 200 ms around the cut hold all of the dip.
        let dip = (6, LOUD / 2.0);
        let early_and_late = [(10 * SECOND, LOUD), dip, (8 * SECOND, LOUD), dip, (20 * SECOND, LOUD)];
        assert_eq!(cuts(&recording(&early_and_late), 28_000), [-(18 * 50 + 6 + 5)]);
        let only_early = [(10 * SECOND, LOUD), dip, (25 * SECOND, LOUD)];
        assert_eq!(cuts(&recording(&only_early), 28_000), [-(28 * 50)]);
    }

    #[test]
    fn the_quietest_fifth_is_silent_in_a_noisy_recording() {
        let hum = 10.0 * SILENT_RMS;
        let energies = recording(&[(9 * SECOND, LOUD), (50, hum / 2.0), (9 * SECOND, LOUD), (250, hum)]);
        assert_eq!(cuts(&energies, 15_000), [9 * 50 + 25]);
    }

    #[test]
    fn the_last_chunk_is_never_a_sliver() {
        // The pause at 9.8 s would leave 0.4 s: the cut is made earlier.
        let energies = recording(&[(480, LOUD), (20, 0.0), (10, LOUD)]);
        let chunks = plan(&energies, 10_000);
        assert_eq!(chunks.len(), 2);
        assert!(chunks[1].end_sample - chunks[1].start_sample >= MIN_CHUNK_SAMPLES, "{chunks:?}");
    }

    #[test]
    fn short_recordings_are_one_chunk_and_empty_ones_none() {
        assert_eq!(plan(&FrameEnergies::new(), 28_000), []);
        let mut energies = FrameEnergies::new();
        energies.push(&[0.1; 4800]);
        assert_eq!(plan(&energies, 28_000), [chunk(0, 4800, false)]);
    }

    /// Loud and silent stretches of random length, with a last frame that is not whole.
    fn random_recording(random: &mut fastrand::Rng) -> FrameEnergies {
        let (count, longest) = (random.usize(1..120), random.usize(2..1500));
        let stretches: Vec<(usize, f32)> =
            (0..count).map(|_| (random.usize(1..longest), random.f32() * random.f32().powi(4))).collect();
        let mut energies = recording(&stretches);
        energies.total_samples += random.u64(0..FRAME_SAMPLES as u64);
        energies
    }

    #[test]
    fn every_plan_covers_the_recording_in_chunks_within_bounds() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..2000 {
            let energies = random_recording(&mut random);
            let max_ms = random.u64(0..40_000);
            let chunks = plan(&energies, max_ms);
            assert_eq!(chunks, plan(&energies.clone(), max_ms), "round {round}");

            let starts = chunks.iter().map(|chunk| chunk.start_sample);
            let ends = chunks.iter().map(|chunk| chunk.end_sample);
            assert!(starts.chain([energies.total_samples]).eq([0].into_iter().chain(ends)), "round {round}: a gap");
            let max_samples = max_ms.clamp(2 * MIN_CHUNK_MS, WINDOW_MS) * u64::from(SAMPLE_RATE) / 1000;
            for chunk in &chunks {
                let samples = chunk.end_sample - chunk.start_sample;
                assert!(samples <= max_samples, "round {round}: {chunk:?}");
                assert!(samples >= MIN_CHUNK_SAMPLES.min(energies.total_samples), "round {round}: {chunk:?}");
            }
        }
    }
}
