//! How a decoding child tells its parent the outcome: lines of JSON on standard error, the last one the verdict. The child
//! is believed in nothing that could be checked: what it read came from a stranger.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use anyhow::anyhow;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::Decoded;
use crate::error::{Error, Result};

/// The codes that a child may give; others are not passed on.
const CODES: [&str; 6] = ["empty_file", "not_audio", "unsupported_format", "no_audio_track", "undecodable", "too_long"];

/// Bounds on what a child may say to users.
const MAX_WARNINGS: usize = 8;
const MAX_MESSAGE_CHARS: usize = 500;

const ADVICE: &str = "convert it with `ffmpeg -i FILE -ac 1 -ar 16000 recording.wav` and submit that";

/// What ffmpeg says when a file has pictures only.
const NO_AUDIO_STREAM: &str = "matches no streams";

/// A line from the child.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Line {
    Done {
        samples: u64,
        warnings: Vec<String>,
    },
    Failed {
        error: Fault,
    },
    /// From here on, standard output and error are those of another program.
    HandedOver {
        decoder: String,
    },
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Fault {
    code: String,
    message: String,
}

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        Self { code: error.code().to_owned(), message: error.to_string() }
    }
}

/// An input that the decoder cannot cope with, and what its owner can do.
pub(super) fn undecodable(what: &str) -> Error {
    Error::invalid("undecodable", format!("{what}: {ADVICE}"))
}

/// The outcome of a child that has ended and of which `samples` samples came.
pub(super) fn judge(status: ExitStatus, report: &str, samples: u64) -> Result<Decoded> {
    if let Some(signal) = status.signal() {
        return Err(killed(signal));
    }
    let mut lines = report.lines().filter(|line| !line.trim().is_empty()).map(parse);
    let first = lines.next().flatten();
    let is_handed_over = matches!(first, Some(Line::HandedOver { .. }));
    match lines.next_back().unwrap_or(first) {
        Some(Line::Done { samples: promised, warnings }) if status.success() && promised == samples => {
            let warnings = warnings.iter().take(MAX_WARNINGS).map(|warning| cleaned(warning)).collect();
            Ok(Decoded { samples, warnings })
        }
        Some(Line::Failed { error: Fault { code, message } }) if !status.success() => {
            match CODES.iter().find(|known| **known == code) {
                Some(known) => Err(Error::invalid(known, cleaned(&message))),
                None => Err(Error::Internal(anyhow!("the decoder failed: {}", cleaned(&message)))),
            }
        }
        _ if is_handed_over => judge_ffmpeg(status, report, samples),
        _ => Err(Error::Internal(anyhow!("the decoder ended with {status} after {samples} samples without a verdict"))),
    }
}

fn judge_ffmpeg(status: ExitStatus, report: &str, samples: u64) -> Result<Decoded> {
    if report.contains(NO_AUDIO_STREAM) {
        return Err(Error::invalid("no_audio_track", "the file has no audio track"));
    }
    if !status.success() {
        return Err(Error::invalid(
            "undecodable",
            "the file is damaged, or of a kind that even ffmpeg cannot read: play it to see what is left, and send another copy",
        ));
    }
    if samples == 0 {
        return Err(Error::invalid("empty_file", "the file has an audio track but no audio"));
    }
    let complained = report.lines().count() > 1;
    let warnings = if complained { vec!["damaged: ffmpeg found errors in the file".to_owned()] } else { Vec::new() };
    Ok(Decoded { samples, warnings })
}

/// A signal tells whose fault the end was: the file's, or of whoever sent it.
fn killed(signal: i32) -> Error {
    let name = Signal::from_named_raw(signal);
    match name {
        Some(Signal::XCPU) => undecodable("decoding the file took too much processor time"),
        Some(Signal::ABORT) => undecodable("the decoder crashed on the file or ran out of memory (signal 6)"),
        // Sent from outside: by an operator, a shutdown, or a machine that is out of memory.
        Some(Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT | Signal::KILL) => {
            Error::Internal(anyhow!("the decoder was stopped by signal {signal}"))
        }
        _ => undecodable(&format!("the decoder crashed on the file (signal {signal})")),
    }
}

fn parse(line: &str) -> Option<Line> {
    serde_json::from_str(line).ok()
}

fn cleaned(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn code(status: ExitStatus, report: &str, samples: u64) -> &'static str {
        judge(status, report, samples).expect_err("an error").code()
    }

    #[test]
    fn the_last_line_is_the_verdict() {
        let report = "thread panicked\n{\"samples\":7,\"warnings\":[\"damaged: 1\\u001b\"]}\n";
        let decoded = judge(exit(0), report, 7).expect("decoded");
        assert_eq!(decoded, Decoded { samples: 7, warnings: vec!["damaged: 1".to_owned()] });
        let refusal = "{\"error\":{\"code\":\"too_long\",\"message\":\"too long\"}}";
        assert_eq!(code(exit(1), refusal, 7), "too_long");
    }

    #[test]
    fn what_does_not_add_up_is_no_success() {
        let done = "{\"samples\":7,\"warnings\":[]}";
        for (status, report, samples) in [
            (exit(0), "", 7),
            (exit(0), done, 6),
            (exit(1), done, 7),
            (exit(0), "{\"samples\":7}", 7),
            (exit(0), "{\"samples\":-1,\"warnings\":[]}", 7),
            (exit(0), "{\"error\":{\"code\":\"too_long\",\"message\":\"\"}}", 7),
            (exit(1), "{\"error\":{\"code\":\"made_up\",\"message\":\"\"}}", 7),
            (exit(127), "error while loading shared libraries", 0),
        ] {
            assert_eq!(code(status, report, samples), "internal", "{report}");
        }
    }

    #[test]
    fn a_crash_is_the_files_fault_and_a_kill_is_not() {
        for signal in [Signal::SEGV, Signal::ABORT, Signal::XCPU, Signal::ILL] {
            let error = judge(ExitStatus::from_raw(signal.as_raw()), "", 7).expect_err("an error");
            assert_eq!(error.code(), "undecodable");
            assert!(error.to_string().contains("ffmpeg -i"), "{error}");
        }
        for signal in [Signal::TERM, Signal::KILL] {
            assert_eq!(code(ExitStatus::from_raw(signal.as_raw()), "", 7), "internal");
        }
    }

    #[test]
    fn ffmpeg_is_judged_by_what_it_does() {
        let handed = "{\"decoder\":\"ffmpeg\"}\n";
        assert_eq!(judge(exit(0), handed, 9).expect("decoded").warnings, [""; 0]);
        let decoded = judge(exit(0), &format!("{handed}[aac] channel element 1.2 is not allocated\n"), 9);
        assert!(decoded.expect("decoded").warnings[0].contains("damaged"));
        assert_eq!(code(exit(0), handed, 0), "empty_file");
        assert_eq!(code(exit(1), &format!("{handed}Stream map '0:a:0' matches no streams.\n"), 0), "no_audio_track");
        assert_eq!(code(exit(1), &format!("{handed}Invalid data found\n"), 9), "undecodable");
        let missing = "{\"error\":{\"code\":\"unsupported_format\",\"message\":\"install ffmpeg\"}}";
        assert_eq!(code(exit(1), &format!("{handed}{missing}\n"), 0), "unsupported_format");
    }
}
