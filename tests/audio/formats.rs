//! Every format that is read, by the sample recording encoded in each: the same sound, at the same time.

use std::path::Path;

use whisperq::audio::{Decoded, Decoder, Limits, SAMPLE_RATE};
use whisperq::error::Result;

use super::{NO_LIMIT, decode_all, fixture, rms};

/// How far times may be off, in milliseconds; under what a reader of subtitles sees.
const TOLERANCE_MS: f64 = 50.0;

/// Our own program, decoding in a child.
pub(super) fn decoder(limits: Limits) -> Decoder {
    Decoder::new(env!("CARGO_BIN_EXE_whisperq").into(), limits)
}

pub(super) fn decode_in_child(path: &Path, limits: Limits) -> Result<(Vec<f32>, Decoded)> {
    let mut samples = Vec::new();
    let decoded = decoder(limits).decode(path, &mut || Ok(()), &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    })?;
    assert_eq!(samples.len() as u64, decoded.samples);
    Ok((samples, decoded))
}

/// By how many milliseconds `heard` lags behind `reference`, and how alike they are then.
fn lag(heard: &[f32], reference: &[f32]) -> (f64, f32) {
    let likeness = |lag: isize| {
        let (heard_from, reference_from) = (lag.max(0) as usize, (-lag).max(0) as usize);
        let heard = heard.get(heard_from..).unwrap_or_default();
        let reference = &reference[reference_from..];
        let product: f32 = heard.iter().zip(reference).step_by(2).map(|(a, b)| a * b).sum();
        let energy = |samples: &[f32]| samples.iter().step_by(2).map(|sample| sample * sample).sum::<f32>();
        let length = heard.len().min(reference.len());
        product / (energy(&heard[..length]) * energy(&reference[..length])).sqrt().max(1e-3)
    };
    let per_ms = SAMPLE_RATE as isize / 1000;
    let lags = (-200 * per_ms..2000 * per_ms).step_by(8).map(|lag| (lag, likeness(lag)));
    let (lag, likeness) = lags.max_by(|(_, one), (_, other)| one.total_cmp(other)).unwrap();
    (lag as f64 / per_ms as f64, likeness)
}

fn check(name: &str, late_ms: f64) {
    let path = fixture("formats").join(name);
    let (reference, _) = decode_all(&fixture("sample.wav"), &NO_LIMIT).unwrap();
    let (heard, decoded) = decode_in_child(&path, NO_LIMIT).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(decoded.warnings, [""; 0], "{name}");
    let (lag_ms, likeness) = lag(&heard, &reference);
    assert!((lag_ms - late_ms).abs() < TOLERANCE_MS, "{name} comes {lag_ms} ms late, not {late_ms}");
    assert!(likeness > 0.9, "{name} is something else: {likeness}");
    let loudness = rms(&heard) / rms(&reference);
    assert!((0.25..1.1).contains(&loudness), "{name}: {loudness} times as loud");
}

#[test]
fn every_format_is_read_with_its_times() {
    for name in [
        "mp3.mp3",
        "vorbis.ogg",
        "opus.ogg",
        "opus.webm",
        "opus.mp4",
        "aac-16k.m4a",
        "aac-44k-stereo.m4a",
        "aac-fragmented.mp4",
        "aac.aac",
        "aac.mkv",
        "flac.flac",
        "flac.ogg",
        "alac.m4a",
        "alac.caf",
        "aiff.aiff",
        "aifc.aifc",
        "adpcm-ms.wav",
        "adpcm-ima.wav",
        "film.mp4",
        "two-tracks.mkv",
    ] {
        check(name, 0.0);
        let path = fixture("formats").join(name);
        let (in_child, _) = decode_in_child(&path, NO_LIMIT).unwrap();
        assert!(in_child == decode_all(&path, &NO_LIMIT).unwrap().0, "{name} is another one in a child");
    }
}

#[test]
fn a_track_that_starts_late_comes_late() {
    for name in ["late.mp4", "late.mkv", "late-opus.mkv"] {
        check(name, 1500.0);
    }
}

#[test]
fn what_we_cannot_read_is_read_by_ffmpeg() {
    for name in ["aac-5.1.m4a", "ac3.ac3", "wma.wma"] {
        check(name, 0.0);
    }
    // Its encoder's delay is written nowhere: 1105 frames.
    check("film.avi", 69.0);
}

#[test]
fn without_ffmpeg_the_error_says_that_it_is_needed() {
    let path = fixture("formats").join("ac3.ac3");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_whisperq"));
    let output =
        command.env_clear().env("PATH", "/nowhere").args(["decode", "--max-audio-ms", "10000"]).arg(path).output();
    let output = output.unwrap();
    let verdict = String::from_utf8(output.stderr).unwrap();
    assert!(verdict.lines().last().unwrap().contains("\"unsupported_format\""), "{verdict}");
    assert!(verdict.contains("Dolby Digital") && verdict.contains("install ffmpeg"), "{verdict}");
    assert!(output.stdout.is_empty() && !output.status.success());
}

#[test]
fn a_film_without_sound_has_no_audio_track() {
    let path = fixture("formats").join("silent-film.mp4");
    assert_eq!(decode_in_child(&path, NO_LIMIT).unwrap_err().code(), "no_audio_track");
}
