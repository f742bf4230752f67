//! The mel filter bank that Whisper was trained with: Slaney's scale and his normalization, over a 400-point transform
//! at 16 kHz. CTranslate2 files do not carry it, ggml files must.

use crate::models::file::FREQUENCY_BINS;

const SAMPLE_RATE_HZ: f64 = 16_000.0;
const FFT_SAMPLES: f64 = 400.0;
/// Slaney's scale is linear up to here and logarithmic above.
const BREAK_HZ: f64 = 1000.0;
const BREAK_MEL: f64 = 15.0;
const HZ_PER_LINEAR_MEL: f64 = BREAK_HZ / BREAK_MEL;
/// From the break upwards 27 mels are a factor of 6.4.
const MELS_PER_LOG_STEP: f64 = 27.0;
const LOG_STEP: f64 = 6.4;

/// Weights of `bands` triangular filters, band after band, each over all frequency bins.
pub(super) fn filters(bands: usize) -> Vec<f32> {
    let top_mel = mel_from_hz(SAMPLE_RATE_HZ / 2.0);
    let edges_hz: Vec<f64> =
        (0..bands + 2).map(|edge| hz_from_mel(top_mel * edge as f64 / (bands + 1) as f64)).collect();
    edges_hz.windows(3).flat_map(|edges_hz| band([edges_hz[0], edges_hz[1], edges_hz[2]])).collect()
}

/// A triangle between the outer edges with its tip at the middle one, scaled to an area of one.
fn band([low_hz, tip_hz, high_hz]: [f64; 3]) -> impl Iterator<Item = f32> {
    (0..FREQUENCY_BINS).map(move |bin| {
        let hz = f64::from(bin) * SAMPLE_RATE_HZ / FFT_SAMPLES;
        let rising = (hz - low_hz) / (tip_hz - low_hz);
        let falling = (high_hz - hz) / (high_hz - tip_hz);
        (rising.min(falling).max(0.0) * 2.0 / (high_hz - low_hz)) as f32
    })
}

fn mel_from_hz(hz: f64) -> f64 {
    if hz < BREAK_HZ {
        return hz / HZ_PER_LINEAR_MEL;
    }
    BREAK_MEL + (hz / BREAK_HZ).ln() / LOG_STEP.ln() * MELS_PER_LOG_STEP
}

fn hz_from_mel(mel: f64) -> f64 {
    if mel < BREAK_MEL {
        return mel * HZ_PER_LINEAR_MEL;
    }
    BREAK_HZ * LOG_STEP.powf((mel - BREAK_MEL) / MELS_PER_LOG_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_goes_both_ways() {
        assert_eq!(mel_from_hz(1000.0), 15.0);
        assert!((mel_from_hz(6400.0) - 42.0).abs() < 1e-9);
        for hz in [0.0, 40.0, 999.0, 1000.0, 5000.0, 8000.0] {
            assert!((hz_from_mel(mel_from_hz(hz)) - hz).abs() < 1e-9, "{hz}");
        }
    }

    #[test]
    fn the_weights_are_those_that_whisper_was_trained_with() {
        let check = |bands: usize, band: usize, bin: usize, weight: f32| {
            let found = filters(bands)[band * 201 + bin];
            assert!((found - weight).abs() < 1e-8, "{bands} bands, band {band}, bin {bin}: {found}");
        };
        check(80, 0, 0, 0.0);
        check(80, 0, 1, 0.024_862_595);
        check(80, 79, 190, 0.002_232_055);
        check(128, 0, 1, 0.012_373_987);
        check(128, 127, 198, 0.002_228_560_4);
    }

    #[test]
    fn wide_bands_have_an_area_of_one() {
        for bands in [80, 128] {
            let filters = filters(bands);
            let top = &filters[(bands - 1) * 201..];
            let area: f32 = top.iter().sum::<f32>() * 40.0;
            assert!((area - 1.0).abs() < 0.02, "{area}");
        }
    }
}
