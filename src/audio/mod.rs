//! From a file to what the engine hears: 16 kHz mono samples, and the places where a recording can be cut. Nothing
//! here knows of jobs or of the network; the file names, extensions and media types that users give are never trusted.

mod child;
mod confined;
mod cut;
mod decode;
mod mp4;
mod open;
mod plan;
mod resample;
mod sniff;
mod speech;
mod timeline;
mod vad;
mod verdict;

use std::path::Path;

use crate::error::{Error, Result};
use decode::{Failure, Recording};
use resample::Resampler;

pub use child::{Decoder, own_program};
pub use confined::decode_confined;
pub use plan::{Chunk, LONG_CHUNK_SECONDS, PlanSettings, PlannedChunk, Planner, SHORT_CHUNK_SECONDS};
pub use vad::{Sound, VAD_FRAME_SAMPLES, speech_probabilities};

/// What Whisper models take, in samples per second.
pub const SAMPLE_RATE: u32 = 16_000;

const SAMPLES_PER_MS: u64 = SAMPLE_RATE as u64 / 1000;

/// Where decoding stops with an error.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_audio_ms: u64,
}

/// What is known once a whole recording has been decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Length at 16 kHz.
    pub samples: u64,
    /// What was wrong with the file and could be lived with, in words for its owner.
    pub warnings: Vec<String>,
}

/// Decodes a recording in any format that is known by its content, and hands it to `sink` in blocks of 16 kHz mono
/// samples, nominally within -1 to 1 and always finite. Memory does not grow with the length of the recording. What the
/// sink got before an error is void. A malformed file can take this process down: [`Decoder`] runs it in another.
///
/// # Errors
///
/// `InvalidInput` with one of the codes `empty_file`, `not_audio`, `unsupported_format`, `no_audio_track`,
/// `undecodable` and `too_long`; `Internal` when the file cannot be read; whatever `sink` returns.
pub fn decode(path: &Path, limits: &Limits, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<Decoded> {
    Ok(decode_here(path, limits, sink)?)
}

/// The same, but tells apart what ffmpeg may read; the sink has got nothing then.
fn decode_here(path: &Path, limits: &Limits, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<Decoded, Failure> {
    let mut recording = Recording::open(path)?;
    let mut resampler = Resampler::new(recording.sample_rate())?;
    let mut samples = 0;
    let mut bounded = |block: &[f32]| {
        samples += block.len() as u64;
        if samples > ms_to_samples(limits.max_audio_ms) {
            return Err(too_long(limits));
        }
        sink(block)
    };
    while let Some(block) = recording.next_block()? {
        resampler.push(block, &mut bounded)?;
    }
    let warnings = recording.finish()?;
    resampler.finish(&mut bounded)?;
    Ok(Decoded { samples, warnings })
}

fn too_long(limits: &Limits) -> Error {
    let seconds = limits.max_audio_ms as f64 / 1000.0;
    Error::invalid("too_long", format!("the recording is longer than the {seconds} seconds that are allowed"))
}

/// Whole milliseconds in so many 16 kHz samples, rounded down.
pub const fn samples_to_ms(samples: u64) -> u64 {
    samples / SAMPLES_PER_MS
}

/// 16 kHz samples in so many milliseconds; the largest count there is for more than 30 million years.
pub const fn ms_to_samples(ms: u64) -> u64 {
    ms.saturating_mul(SAMPLES_PER_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_and_samples_convert_both_ways() {
        assert_eq!(ms_to_samples(28_000), 448_000);
        assert_eq!(samples_to_ms(448_015), 28_000);
        assert_eq!(samples_to_ms(ms_to_samples(123_457)), 123_457);
        assert_eq!(ms_to_samples(u64::MAX), u64::MAX);
    }
}
