//! Decoding: what is read, how exactly, and what is refused with which code.

mod child;
mod formats;
mod hostile;

use std::path::{Path, PathBuf};

use anyhow::Context;
use whisperq::audio::{Decoded, Limits, SAMPLE_RATE, decode, samples_to_ms};
use whisperq::error::{Error, Result};

const NO_LIMIT: Limits = Limits { max_audio_ms: u64::MAX };

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn decode_all(path: &Path, limits: &Limits) -> Result<(Vec<f32>, Decoded)> {
    let mut samples = Vec::new();
    let decoded = decode(path, limits, &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    })?;
    assert_eq!(samples.len() as u64, decoded.samples);
    assert!(samples.iter().all(|sample| sample.is_finite()));
    Ok((samples, decoded))
}

/// Decodes bytes under a name that says nothing about them.
fn decode_bytes(bytes: &[u8]) -> Result<(Vec<f32>, Decoded)> {
    let file = tempfile::NamedTempFile::new().context("Failed to make a file")?;
    std::fs::write(file.path(), bytes).context("Failed to write")?;
    decode_all(file.path(), &NO_LIMIT)
}

fn rms(samples: &[f32]) -> f32 {
    (samples.iter().map(|sample| sample * sample).sum::<f32>() / samples.len() as f32).sqrt()
}

/// How a WAV file says that it is coded.
#[derive(Clone, Copy)]
struct Wav {
    format: u16,
    channels: u16,
    rate: u32,
    bits: u16,
}

const PCM: u16 = 1;
const FLOAT: u16 = 3;
const A_LAW: u16 = 6;
const MU_LAW: u16 = 7;
const UNKNOWN: u16 = 0x7777;
const SPEECH: Wav = Wav { format: PCM, channels: 1, rate: SAMPLE_RATE, bits: 16 };

impl Wav {
    fn file(self, data: &[u8]) -> Vec<u8> {
        let fmt_bytes: u32 = if matches!(self.format, A_LAW | MU_LAW) { 18 } else { 16 };
        let block = self.channels.wrapping_mul(self.bits / 8);
        let mut file = b"RIFF".to_vec();
        file.extend((20 + fmt_bytes + data.len() as u32).to_le_bytes());
        file.extend(b"WAVEfmt ");
        file.extend(fmt_bytes.to_le_bytes());
        file.extend([self.format, self.channels].map(u16::to_le_bytes).concat());
        file.extend([self.rate, self.rate.wrapping_mul(block.into())].map(u32::to_le_bytes).concat());
        file.extend([block, self.bits].map(u16::to_le_bytes).concat());
        file.resize(20 + fmt_bytes as usize, 0);
        file.extend(b"data");
        file.extend((data.len() as u32).to_le_bytes());
        file.extend(data);
        file
    }
}

fn check_refused(outcome: Result<(Vec<f32>, Decoded)>, code: &str) {
    match outcome {
        Err(Error::InvalidInput { code: found, message }) => assert_eq!(found, code, "{message}"),
        other => panic!("expected {code}, got {:?}", other.map(|(_, decoded)| decoded)),
    }
}

#[test]
fn a_16_khz_wav_is_read_sample_for_sample() {
    let file = std::fs::read(fixture("sample.wav")).expect("fixture");
    let pcm = &file[file.windows(4).position(|id| id == b"data").expect("data") + 8..];
    let expected: Vec<f32> =
        pcm.as_chunks().0.iter().map(|&sample| f32::from(i16::from_le_bytes(sample)) / 32_768.0).collect();
    let (samples, decoded) = decode_all(&fixture("sample.wav"), &NO_LIMIT).expect("decodes");
    assert_eq!(samples, expected);
    assert_eq!(decoded.warnings, [""; 0]);
}

#[test]
fn an_mp3_is_as_long_as_what_was_encoded() {
    let (samples, decoded) = decode_all(&fixture("sample.mp3"), &NO_LIMIT).expect("decodes");
    // 289,800 frames at 24 kHz went into the encoder.
    assert_eq!(samples.len(), 289_800 * 2 / 3);
    assert!(rms(&samples) > 0.02);
    assert_eq!(decoded.warnings, [""; 0]);
}

#[test]
fn stereo_is_averaged_and_resampled() {
    let (samples, _) = decode_all(&fixture("stereo-44k.mp3"), &NO_LIMIT).expect("decodes");
    assert_eq!(samples.len(), 32_000);
    // What ffmpeg's decoder gives for the mean; either channel alone has 0.084.
    assert!((rms(&samples[1600..30_400]) - 0.0594).abs() < 0.0005, "{}", rms(&samples[1600..30_400]));
}

#[test]
fn every_depth_of_wav_reads_half_scale_as_one_half() {
    let check = |format, bits, sample: &[u8]| {
        let file = Wav { format, bits, ..SPEECH }.file(&sample.repeat(5000));
        let (samples, _) = decode_bytes(&file).expect("decodes");
        assert_eq!(samples.len(), 5000, "format {format}, {bits} bits");
        assert!(
            samples.iter().all(|sample| (sample - 0.5).abs() < 0.02),
            "format {format}, {bits} bits: {}",
            samples[0]
        );
    };
    check(PCM, 8, &[0xc0]);
    check(PCM, 16, &[0, 0x40]);
    check(PCM, 24, &[0, 0, 0x40]);
    check(PCM, 32, &[0, 0, 0, 0x40]);
    check(FLOAT, 32, &0.5f32.to_le_bytes());
    check(FLOAT, 64, &0.5f64.to_le_bytes());
    check(A_LAW, 8, &[0xa5]);
    check(MU_LAW, 8, &[0x8f]);
}

#[test]
fn samples_that_are_no_numbers_become_silence() {
    let data: Vec<u8> = [f32::NAN, f32::INFINITY, 0.25].repeat(1000).into_iter().flat_map(f32::to_le_bytes).collect();
    let (samples, _) = decode_bytes(&Wav { format: FLOAT, bits: 32, ..SPEECH }.file(&data)).expect("decodes");
    assert_eq!(samples[..3], [0.0, 0.0, 0.25]);
}

#[test]
fn a_recording_that_ends_early_is_read_up_to_there_with_a_warning() {
    let whole = std::fs::read(fixture("sample.wav")).expect("fixture");
    let (samples, decoded) = decode_bytes(&whole[..44 + 33_333]).expect("decodes");
    assert_eq!(samples.len(), 16_666);
    assert!(decoded.warnings[0].starts_with("truncated: the file ends 2."), "{:?}", decoded.warnings);

    let whole = std::fs::read(fixture("sample.mp3")).expect("fixture");
    let (samples, decoded) = decode_bytes(&whole[..whole.len() / 2]).expect("decodes");
    assert!((5_900..6_100).contains(&samples_to_ms(samples.len() as u64)));
    assert!(decoded.warnings[0].starts_with("truncated: the file ends 6."), "{:?}", decoded.warnings);
}

/// The frames of `sample.mp3`, 576 samples at 24 kHz each, without the tags before them: MP3 as a microphone gives it.
fn mp3_frames() -> Vec<Vec<u8>> {
    const FRAME_BYTES: usize = 168;
    let file = std::fs::read(fixture("sample.mp3")).unwrap_or_default();
    let start = file.windows(3).position(|header| header == [0xff, 0xf3, 0x74]).unwrap_or(file.len());
    file[start..].as_chunks::<FRAME_BYTES>().0.iter().map(|frame| frame.to_vec()).collect()
}

/// The frame header stays; what says how to decode the rest goes.
fn damage(frame: &mut [u8]) {
    frame[4..20].fill(0xff);
}

#[test]
fn damage_in_the_middle_costs_only_what_is_damaged() {
    let mut frames = mp3_frames();
    let (intact, _) = decode_bytes(&frames.concat()).expect("decodes");
    frames[200..210].iter_mut().for_each(|frame| damage(frame));
    let (samples, decoded) = decode_bytes(&frames.concat()).expect("decodes");
    assert_eq!(decoded.warnings, [format!("damaged: 10 of {} packets were replaced by silence", frames.len())]);
    assert_eq!(samples.len(), intact.len());
    let later = 215 * 384;
    assert!(samples[later..].iter().zip(&intact[later..]).all(|(a, b)| (a - b).abs() < 1e-4), "times are shifted");
}

#[test]
fn a_file_of_mostly_damage_is_not_audio() {
    let mut frames = mp3_frames();
    frames.iter_mut().enumerate().filter(|(index, _)| index % 3 != 0).for_each(|(_, frame)| damage(frame));
    check_refused(decode_bytes(&frames.concat()), "not_audio");
}

#[test]
fn two_mp3_frames_are_an_accident_and_three_a_recording() {
    let frames = mp3_frames();
    check_refused(decode_bytes(&frames[..2].concat()), "not_audio");
    assert_eq!(decode_bytes(&frames[..3].concat()).expect("decodes").1.samples, 3 * 384);
}

#[test]
fn an_mp3_joined_from_two_is_read_to_its_end() {
    let one = std::fs::read(fixture("sample.mp3")).expect("fixture");
    let (samples, _) = decode_bytes(&[&one[..], &one[..]].concat()).expect("decodes");
    assert!(samples.len() > 2 * 289_800 * 2 / 3, "{}", samples.len());
}

#[test]
fn what_is_not_audio_is_refused() {
    check_refused(decode_bytes(b""), "empty_file");
    check_refused(decode_bytes(&SPEECH.file(b"")), "empty_file");
    check_refused(decode_all(&fixture("page.html.mp3"), &NO_LIMIT), "not_audio");
    check_refused(decode_all(&fixture("noise-bytes.mp3"), &NO_LIMIT), "not_audio");
}

#[test]
fn random_bytes_are_never_taken_for_a_recording() {
    let mut random = fastrand::Rng::with_seed(1);
    for round in 0..400 {
        let mut bytes = vec![0; random.usize(1..60_000)];
        random.fill(&mut bytes);
        // Every other file starts like an MP3 frame, as a hostile or broken one would.
        if round % 2 == 0 {
            bytes.splice(..0, [0xff, 0xfb, 0x90, 0x64]);
        }
        if let Ok((_, decoded)) = decode_bytes(&bytes) {
            panic!("round {round}: {} bytes became {decoded:?}", bytes.len());
        }
    }
}

#[test]
fn formats_and_shapes_outside_of_what_is_read_are_named() {
    check_refused(decode_bytes(&Wav { format: UNKNOWN, bits: 4, ..SPEECH }.file(&[0; 4096])), "unsupported_format");
    check_refused(decode_bytes(&Wav { channels: 27, ..SPEECH }.file(&[0; 13_000])), "unsupported_format");
    check_refused(decode_bytes(&Wav { rate: 3_999, ..SPEECH }.file(&[0; 4096])), "unsupported_format");
    check_refused(decode_bytes(&Wav { rate: 384_001, ..SPEECH }.file(&[0; 4096])), "unsupported_format");
    assert!(decode_bytes(&Wav { channels: 26, ..SPEECH }.file(&[0; 5200])).is_ok());
}

#[test]
fn a_recording_over_the_limit_is_refused_before_it_is_decoded_whole() {
    let mut delivered = 0;
    let outcome = decode(&fixture("sample.mp3"), &Limits { max_audio_ms: 1000 }, &mut |block| {
        delivered += block.len();
        Ok(())
    });
    assert_eq!(outcome.unwrap_err().code(), "too_long");
    assert!(delivered <= 16_000);
    let exact = Limits { max_audio_ms: 3100 };
    assert!(decode_all(&fixture("sample.wav"), &exact).is_ok());
    check_refused(decode_all(&fixture("sample.wav"), &Limits { max_audio_ms: 3000 }), "too_long");
}

#[test]
fn an_error_of_the_receiver_stops_the_decoder_and_comes_back_as_it_is() {
    let outcome = decode(&fixture("sample.wav"), &NO_LIMIT, &mut |_| Err(Error::Aborted));
    assert!(matches!(outcome, Err(Error::Aborted)));
}

#[test]
fn a_missing_file_is_a_fault_worth_another_try() {
    let outcome = decode_all(Path::new("/nonexistent/recording.wav"), &NO_LIMIT);
    assert!(outcome.is_err_and(|error| error.is_retryable()));
}
