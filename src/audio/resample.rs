//! Streaming conversion of mono audio from any rate to 16 kHz. The only file that knows rubato.

use anyhow::Context;
use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use super::SAMPLE_RATE;
use crate::error::Result;

/// Input frames per transform, rounded up to what the rates allow. Large, so that the low-pass filter is steep: speech
/// is kept up to 7.5 kHz and nothing above 8 kHz folds back. The delay that this brings, half an output block, is taken
/// off again; with this number the blocks are even at all usual rates, so that no half sample of delay remains.
const BLOCK_FRAMES: usize = 5292;

/// Takes mono samples at one rate and gives 16 kHz: no delay, exact length.
pub(super) struct Resampler {
    input_rate: u32,
    /// `None` for input that is at 16 kHz already: it passes untouched.
    converter: Option<Converter>,
    frames_in: u64,
}

impl Resampler {
    pub(super) fn new(input_rate: u32) -> Result<Self> {
        let converter = if input_rate == SAMPLE_RATE { None } else { Some(Converter::new(input_rate)?) };
        Ok(Self { input_rate, converter, frames_in: 0 })
    }

    /// Takes the next samples and hands on what is ready, possibly nothing.
    pub(super) fn push(&mut self, block: &[f32], sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        self.frames_in += block.len() as u64;
        let Some(converter) = &mut self.converter else { return sink(block) };
        converter.pending.extend_from_slice(block);
        while converter.pending.len() >= converter.fft.input_frames_next() {
            converter.convert_block(u64::MAX, sink)?;
        }
        Ok(())
    }

    /// Hands on the tail. The whole output is then as long as the input, to the nearest sample.
    pub(super) fn finish(self, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let Some(mut converter) = self.converter else { return Ok(()) };
        let (frames_in, rate_in, rate_out) = (self.frames_in, u64::from(self.input_rate), u64::from(SAMPLE_RATE));
        let frames_out = (frames_in * rate_out + rate_in / 2) / rate_in;
        while converter.frames_out < frames_out {
            converter.pending.resize(converter.fft.input_frames_next(), 0.0);
            converter.convert_block(frames_out, sink)?;
        }
        Ok(())
    }
}

struct Converter {
    fft: Fft<f32>,
    /// Input that does not yet fill a block.
    pending: Vec<f32>,
    output: Vec<f32>,
    /// Output frames still to be dropped: the filter's delay.
    delay_left: usize,
    frames_out: u64,
}

impl Converter {
    fn new(input_rate: u32) -> Result<Self> {
        let fft = Fft::new(input_rate as usize, SAMPLE_RATE as usize, BLOCK_FRAMES, 1, FixedSync::Both)
            .with_context(|| format!("Failed to set up resampling from {input_rate} Hz"))?;
        let output = vec![0.0; fft.output_frames_max()];
        let delay_left = fft.output_delay();
        Ok(Self { fft, pending: Vec::new(), output, delay_left, frames_out: 0 })
    }

    /// Converts the first block of `pending` and hands it on, never more than `limit` frames over the whole stream.
    fn convert_block(&mut self, limit: u64, sink: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let (frames_in, frames_out) = (self.fft.input_frames_next(), self.fft.output_frames_next());
        let input = InterleavedSlice::new(&self.pending, 1, frames_in).context("Failed to frame audio")?;
        let mut output = InterleavedSlice::new_mut(&mut self.output, 1, frames_out).context("Failed to frame audio")?;
        self.fft.process_into_buffer(&input, &mut output, None).context("Failed to resample audio")?;
        self.pending.drain(..frames_in);

        let skipped = self.delay_left.min(frames_out);
        self.delay_left -= skipped;
        let wanted = (limit - self.frames_out).min((frames_out - skipped) as u64) as usize;
        self.frames_out += wanted as u64;
        sink(&self.output[skipped..skipped + wanted])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMPLITUDE: f32 = 0.5;

    fn sine(hertz: f64, rate: u32, frames: usize) -> Vec<f32> {
        let step = std::f64::consts::TAU * hertz / f64::from(rate);
        (0..frames).map(|frame| AMPLITUDE * (step * frame as f64).sin() as f32).collect()
    }

    /// In blocks of an odd size, as a decoder would give them.
    fn resample(input: &[f32], rate: u32) -> Vec<f32> {
        let mut output = Vec::new();
        let mut sink = |block: &[f32]| {
            output.extend_from_slice(block);
            Ok(())
        };
        let mut resampler = Resampler::new(rate).expect("rate");
        input.chunks(1151).for_each(|block| resampler.push(block, &mut sink).expect("push"));
        resampler.finish(&mut sink).expect("finish");
        output
    }

    fn peak(samples: &[f32]) -> f32 {
        samples.iter().fold(0.0, |peak, sample| sample.abs().max(peak))
    }

    #[test]
    fn a_sine_keeps_its_amplitude_and_its_place_at_every_rate() {
        for rate in [8_000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000] {
            let output = resample(&sine(1000.0, rate, rate as usize), rate);
            let expected = sine(1000.0, SAMPLE_RATE, SAMPLE_RATE as usize);
            assert_eq!(output.len(), expected.len(), "{rate} Hz");
            // A shift of one sample, 1/16 ms, would leave a difference of 0.19: the edges, where the sine starts and
            // stops at once, ring and are left out.
            let difference: Vec<f32> = output.iter().zip(&expected).map(|(a, b)| a - b).collect();
            assert!(peak(&difference[800..15_200]) < 0.005, "{rate} Hz: {}", peak(&difference[800..15_200]));
        }
    }

    #[test]
    fn speech_frequencies_pass_and_higher_ones_do_not_fold_back() {
        let kept = resample(&sine(7500.0, 48_000, 48_000), 48_000);
        assert!(peak(&kept[800..15_200]) > 0.98 * AMPLITUDE);
        let folded = resample(&sine(9000.0, 48_000, 48_000), 48_000);
        assert!(peak(&folded[800..15_200]) < 0.001);
    }

    #[test]
    fn the_output_is_as_long_as_the_input_to_the_nearest_sample() {
        for (frames, rate, expected) in
            [(0, 44_100, 0), (1, 8_000, 2), (1, 44_100, 0), (2, 44_100, 1), (44_101, 44_100, 16_000)]
        {
            assert_eq!(resample(&vec![0.1; frames], rate).len(), expected, "{frames} frames at {rate} Hz");
        }
    }

    #[test]
    fn audio_at_16_khz_passes_untouched() {
        let input = sine(440.0, SAMPLE_RATE, 5000);
        assert_eq!(resample(&input, SAMPLE_RATE), input);
    }
}
