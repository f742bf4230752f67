//! What the parent makes of a child that crashes, hangs, lies or never ends. A script stands in for the child.

use std::path::Path;
use std::time::{Duration, Instant};

use whisperq::audio::{Decoded, Decoder, Limits};
use whisperq::error::{Error, Result};

use super::fixture;

const LIMITS: Limits = Limits { max_audio_ms: 60_000 };

fn stand_in() -> Decoder {
    Decoder::new(fixture("stand-in.sh"), LIMITS)
}

/// Decodes with a child that behaves like this.
fn decode(behavior: &str) -> Result<(Vec<f32>, Decoded)> {
    // Only those that hang are waited for in vain; the others are given time, should the machine be busy.
    let hangs = ["hang", "hang-with-children", "close-and-hang", "chatter"].contains(&behavior);
    let mut decoder = stand_in();
    if hangs {
        decoder.stall_limit = Duration::from_millis(300);
    }
    let mut samples = Vec::new();
    let decoded = decoder.decode(Path::new(behavior), &mut || Ok(()), &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    })?;
    Ok((samples, decoded))
}

fn check(behavior: &str, code: &str, says: &str) {
    let error = decode(behavior).map(|(_, decoded)| decoded).unwrap_err();
    assert_eq!(error.code(), code, "{behavior}: {error}");
    assert!(error.to_string().contains(says), "{behavior}: {error}");
    assert_eq!(error.is_retryable(), code == "internal", "{behavior}");
}

#[test]
fn a_child_that_keeps_the_rules_is_believed() {
    assert_eq!(decode("one-sample").unwrap().0, [0.0]);
    assert_eq!(decode("chatty").unwrap().0, [0.0]);
    assert_eq!(decode("not-a-number").unwrap().0, [0.0]);
}

#[test]
fn a_child_that_crashes_costs_its_file_and_nothing_else() {
    check("crash", "undecodable", "signal 11");
    check("crash", "undecodable", "ffmpeg -i");
    check("abort", "undecodable", "memory");
    // Whoever kills it, it was not the file.
    check("killed", "internal", "signal 9");
}

#[test]
fn a_child_that_hangs_is_stopped() {
    for behavior in ["hang", "hang-with-children", "close-and-hang", "chatter"] {
        check(behavior, "undecodable", "gave nothing for 0.3 s");
    }
}

#[test]
fn a_child_that_never_ends_is_stopped_at_the_limit() {
    check("endless", "too_long", "60 seconds");
}

#[test]
fn what_does_not_add_up_is_no_recording() {
    for behavior in ["odd-bytes", "too-few", "no-verdict", "nonsense", "failing", "nothing"] {
        check(behavior, "internal", "decoder");
    }
}

#[test]
fn a_program_that_cannot_be_started_is_worth_another_try() {
    let decoder = Decoder::new("/nowhere/whisperq".into(), LIMITS);
    let error = decoder.decode(Path::new("any"), &mut || Ok(()), &mut |_| Ok(())).unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[test]
fn a_child_sees_nothing_of_the_environment() {
    assert!(decode("environment").is_ok());
}

/// Whether a process, given as its child wrote it into the samples, is gone.
fn is_gone(samples: &[f32]) -> bool {
    let digits: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let pid: u32 = std::str::from_utf8(&digits).unwrap().parse().unwrap();
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn whoever_watches_ends_the_child_at_once() {
    let mut samples = Vec::new();
    let started = Instant::now();
    let mut calls = 0;
    let outcome = stand_in().decode(
        Path::new("hang"),
        &mut || {
            calls += 1;
            if calls > 5 { Err(Error::Aborted) } else { Ok(()) }
        },
        &mut |block| {
            samples.extend_from_slice(block);
            Ok(())
        },
    );
    assert!(matches!(outcome, Err(Error::Aborted)));
    assert!(started.elapsed() < Duration::from_secs(5), "asked only every {:?}", started.elapsed() / 5);
    assert!(is_gone(&samples));
}

#[test]
fn an_error_of_the_receiver_ends_the_child_at_once() {
    let mut samples = Vec::new();
    let outcome = stand_in().decode(Path::new("hang"), &mut || Ok(()), &mut |block| {
        samples.extend_from_slice(block);
        if samples.len() == 2 { Err(Error::Aborted) } else { Ok(()) }
    });
    assert!(matches!(outcome, Err(Error::Aborted)));
    assert!(is_gone(&samples));
}
