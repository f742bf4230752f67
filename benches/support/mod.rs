//! What the benches of the engine share: recordings with a known text, time, and how many words are wrong.

use std::path::Path;

use whisperq::audio::{self, Limits, PlanSettings, PlannedChunk, Planner};

/// A recording, decoded, and the words that are said in it: its text lies beside it as `NAME.txt`.
pub(crate) struct Recording {
    pub(crate) samples: Vec<f32>,
    pub(crate) spoken: Vec<String>,
}

impl Recording {
    pub(crate) fn read(path: &Path) -> Self {
        let samples = Self::samples(path);
        let spoken = words(&std::fs::read_to_string(path.with_extension("txt")).unwrap());
        Self { samples, spoken }
    }

    pub(crate) fn samples(path: &Path) -> Vec<f32> {
        let mut samples = Vec::new();
        let mut sink = |block: &[f32]| {
            samples.extend_from_slice(block);
            Ok(())
        };
        audio::decode(path, &Limits { max_audio_ms: u64::MAX }, &mut sink).unwrap();
        samples
    }

    /// As they are spooled.
    pub(crate) fn chunks(&self, max_seconds: u64) -> Vec<Vec<f32>> {
        let mut chunks = Vec::new();
        let mut planner = Planner::new(PlanSettings { max_chunk_ms: max_seconds * 1000, vad: true });
        let mut sink = |planned: PlannedChunk| {
            chunks.push(planned.sound.samples);
            Ok(())
        };
        planner.push(&self.samples, &mut sink).unwrap();
        planner.finish(&mut sink).unwrap();
        chunks
    }
}

/// What this thread has computed so far: with one thread the engine computes in its caller, and other work on the
/// machine disturbs this less than time on the clock.
pub(crate) fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e6
}

pub(crate) fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

pub(crate) fn words(text: &str) -> Vec<String> {
    let kept = |c: char| if c == '-' { Some(' ') } else { (c.is_alphanumeric() || c.is_whitespace()).then_some(c) };
    let plain: String = text.to_lowercase().chars().filter_map(kept).collect();
    plain.split_whitespace().map(str::to_owned).collect()
}

/// Wrong, missing and surplus words.
pub(crate) fn errors(spoken: &[String], heard: &[String]) -> usize {
    let mut distances: Vec<usize> = (0..=heard.len()).collect();
    for (row, word) in spoken.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut distances[0], row + 1);
        for (column, other) in heard.iter().enumerate() {
            let substituted = diagonal + usize::from(word != other);
            diagonal = distances[column + 1];
            distances[column + 1] = substituted.min(diagonal + 1).min(distances[column] + 1);
        }
    }
    distances[heard.len()]
}
