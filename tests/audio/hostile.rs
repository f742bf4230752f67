//! Files that mean harm, or are damaged in every way that chance finds: each ends in time, with a verdict.

use std::path::Path;
use std::process::Command;

use whisperq::audio::Limits;
use whisperq::error::Error;

use super::formats::decode_in_child;
use super::{NO_LIMIT, SPEECH, check_refused, decode_all, fixture};

const A_MINUTE: Limits = Limits { max_audio_ms: 60_000 };

/// Decodes bytes in a child.
fn decode_bytes(bytes: &[u8], limits: Limits) -> whisperq::error::Result<(Vec<f32>, whisperq::audio::Decoded)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    decode_in_child(file.path(), limits)
}

fn format(name: &str) -> Vec<u8> {
    std::fs::read(fixture("formats").join(name)).unwrap()
}

#[test]
fn an_hour_in_a_few_kilobytes_stops_at_the_limit() {
    let bomb = format("hour-of-silence.flac");
    assert!(bomb.len() < 20_000);
    check_refused(decode_bytes(&bomb, A_MINUTE), "too_long");
}

#[test]
fn what_may_never_end_is_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.wav");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, Path::new("/dev/zero"), folder.path()] {
        check_refused(decode_all(path, &NO_LIMIT), "not_audio");
        check_refused(decode_in_child(path, NO_LIMIT), "not_audio");
    }
}

#[test]
fn a_wav_of_unknown_length_is_read_to_its_end() {
    let mut file = SPEECH.file(&[0, 1].repeat(16_000));
    let size_at = file.windows(4).position(|id| id == b"data").unwrap() + 4;
    for size in [u32::MAX, 0x7fff_ffff] {
        file[size_at..size_at + 4].copy_from_slice(&size.to_le_bytes());
        let (samples, decoded) = decode_bytes(&file, NO_LIMIT).unwrap();
        assert_eq!((samples.len(), decoded.warnings), (16_000, Vec::new()));
    }
}

#[test]
fn a_packet_of_four_gigabytes_is_not_waited_for() {
    let mut file = format("aac-16k.m4a");
    let sizes_at = file.windows(4).position(|id| id == b"stsz").unwrap() + 16;
    file[sizes_at..sizes_at + 4].copy_from_slice(&0xffff_fff0_u32.to_be_bytes());
    let error = decode_bytes(&file, A_MINUTE).map(|(_, decoded)| decoded).unwrap_err();
    assert!(!error.is_retryable(), "{error}");
}

#[test]
fn a_track_that_starts_in_a_million_years_is_too_long() {
    let mut file = format("late.mp4");
    // The second track's first edit, which is empty, in thousandths of a second.
    let edit_at = file.windows(4).rposition(|id| id == b"elst").unwrap() + 12;
    file[edit_at..edit_at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    check_refused(decode_bytes(&file, A_MINUTE), "too_long");
}

#[test]
fn playlists_are_not_followed() {
    let target = fixture("sample.wav").display().to_string();
    let hls = format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n");
    let concat = format!("ffconcat version 1.0\nfile '{target}'\n");
    for list in [&hls, &concat] {
        check_refused(decode_bytes(list.as_bytes(), A_MINUTE), "not_audio");
        // As what only ffmpeg reads, so that it gets to see them.
        for signature in [&b"#!AMR\n"[..], b"\0\0\x01\xba\n", b".snd\0\n", b"\0\0\0\x08wide\n"] {
            let disguised = [signature, list.as_bytes()].concat();
            // Letters can be taken for a frame of speech or two, but not for the seconds that the list names.
            let heard = match decode_bytes(&disguised, A_MINUTE) {
                Err(Error::InvalidInput { .. }) => 0,
                outcome => outcome.unwrap().0.len(),
            };
            assert!(heard < 8_000, "{signature:?}: {heard} samples");
        }
    }
}

#[test]
fn a_recording_that_ends_early_gives_what_there_is() {
    let whole = format("mp3.mp3");
    let (samples, decoded) = decode_bytes(&whole[..whole.len() / 2], NO_LIMIT).unwrap();
    assert!((20_000..30_000).contains(&samples.len()), "{}", samples.len());
    assert!(decoded.warnings[0].starts_with("truncated: "), "{:?}", decoded.warnings);
}

#[test]
fn a_recording_of_which_the_rest_could_not_be_read_says_so() {
    let twice = [format("vorbis.ogg"), format("vorbis.ogg")].concat();
    let mut broken = format("opus.webm");
    let middle = broken.len() / 2;
    broken[middle..middle + 200].fill(0x55);
    for (bytes, expected) in [(twice, "damaged: reading stopped after"), (broken, "truncated: the file ends 1.")] {
        let (samples, decoded) = decode_bytes(&bytes, NO_LIMIT).unwrap();
        assert!(!samples.is_empty());
        assert!(decoded.warnings.iter().any(|warning| warning.starts_with(expected)), "{decoded:?}");
    }
}

#[test]
fn damage_anywhere_ends_in_a_recording_or_a_refusal() {
    let mut random = fastrand::Rng::with_seed(11);
    let files: Vec<_> = std::fs::read_dir(fixture("formats")).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in files.iter().filter(|path| !path.ends_with("hour-of-silence.flac")) {
        let intact = std::fs::read(path).unwrap();
        for round in 0..4 {
            let mut bytes = intact.clone();
            // Half of the damage goes to where headers are.
            let reach = if round % 2 == 0 { bytes.len().min(600) } else { bytes.len() };
            for _ in 0..random.usize(1..20) {
                bytes[random.usize(..reach)] = random.u8(..);
            }
            match decode_bytes(&bytes, A_MINUTE) {
                Ok(_) | Err(Error::InvalidInput { .. }) => {}
                Err(error) => panic!("{} in round {round}: {error}", path.display()),
            }
        }
    }
}
