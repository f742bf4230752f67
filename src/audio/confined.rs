//! What runs inside a decoding child: it takes away its own means, decodes, and says how that went. Where only ffmpeg
//! reads the file, the child becomes ffmpeg, with the same limits and under the same parent.

use std::ffi::OsString;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::decode::Failure;
use super::sniff::Kind;
use super::verdict::{Fault, Line};
use super::{Limits, SAMPLE_RATE, decode_here};
use crate::error::{Error, Result};

/// Decoding takes some megabytes; a file that asks for more is broken or hostile. Of the memory that can be written to
/// only: the libraries of a GPU build map far more than they use.
const MEMORY_BYTES: u64 = 512 << 20;

/// Even a slow machine decodes 20 times faster than real time; the rest is for the start.
const MIN_SPEED: u64 = 20;
const CPU_SECONDS_TO_START: u64 = 60;
/// The first limit can be told apart from other ends, the second cannot be ignored.
const CPU_SECONDS_TO_END: u64 = 5;

const PIPE_BYTES: usize = 64 << 10;

/// Decodes the file in this process, which must do nothing else and end then: samples go to `pcm`, which must be standard
/// output, as 32-bit little-endian floats, and the verdict to `report`, which must be standard error. False when it failed.
pub fn decode_confined(path: &Path, limits: &Limits, pcm: &mut dyn Write, report: &mut dyn Write) -> bool {
    let mut pcm = BufWriter::with_capacity(PIPE_BYTES, pcm);
    let outcome = confine(limits).map_err(Failure::Here).and_then(|()| {
        let decoded = decode_here(path, limits, &mut |block| write(&mut pcm, block))?;
        pcm.flush().context("Failed to hand on samples").map_err(Error::Internal)?;
        Ok(decoded)
    });
    let line = match outcome {
        Ok(decoded) => Line::Done { samples: decoded.samples, warnings: decoded.warnings },
        Err(failure) => {
            let error = match failure {
                Failure::Foreign(kind) if !kind.demuxers.is_empty() => become_ffmpeg(path, kind, report),
                failure => failure.into(),
            };
            Line::Failed { error: Fault::from(&error) }
        }
    };
    say(report, &line) && matches!(line, Line::Done { .. })
}

fn write(pcm: &mut dyn Write, block: &[f32]) -> Result<()> {
    for sample in block {
        pcm.write_all(&sample.to_le_bytes()).context("Failed to hand on samples")?;
    }
    Ok(())
}

/// Where even this cannot be written, nobody is left to tell.
fn say(report: &mut dyn Write, line: &Line) -> bool {
    serde_json::to_string(line).is_ok_and(|line| writeln!(report, "{line}").is_ok())
}

fn confine(limits: &Limits) -> Result<()> {
    // A parent that is killed cannot tell its child to stop.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("Failed to tie the decoder to its parent")?;
    let cpu_seconds = (limits.max_audio_ms / 1000 / MIN_SPEED).saturating_add(CPU_SECONDS_TO_START);
    lower(Resource::Core, 0, 0)?;
    lower(Resource::Data, MEMORY_BYTES, MEMORY_BYTES)?;
    lower(Resource::Cpu, cpu_seconds, cpu_seconds.saturating_add(CPU_SECONDS_TO_END))
}

/// A limit that is lower already stays.
fn lower(resource: Resource, current: u64, maximum: u64) -> Result<()> {
    let before = getrlimit(resource);
    let lowered = |before: Option<u64>, limit: u64| Some(before.map_or(limit, |before| before.min(limit)));
    let limit = Rlimit { current: lowered(before.current, current), maximum: lowered(before.maximum, maximum) };
    Ok(setrlimit(resource, limit).context("Failed to limit the decoder")?)
}

/// Returns only when it fails.
fn become_ffmpeg(path: &Path, kind: Kind, report: &mut dyn Write) -> Error {
    let mut command = Command::new("ffmpeg");
    command.args(ffmpeg_arguments(path, kind.demuxers));
    say(report, &Line::HandedOver { decoder: "ffmpeg".to_owned() });
    match command.exec() {
        missing if missing.kind() == ErrorKind::NotFound => Failure::Foreign(kind).into(),
        error => Error::Internal(anyhow!(error).context("Failed to start ffmpeg")),
    }
}

/// A file that names others (a playlist, a list of pieces) must not make ffmpeg read those: it may take the file for one
/// kind only, and open nothing but files. Holes in the audio become silence, so that times stay true; the sum of the
/// channels is scaled so that it cannot clip.
fn ffmpeg_arguments(path: &Path, demuxers: &str) -> Vec<OsString> {
    let mut file = OsString::from("file:");
    file.push(path);
    let filter = format!(
        "aresample=async=1:first_pts=0:rematrix_maxval=1,\
         aformat=sample_fmts=flt:channel_layouts=mono:sample_rates={SAMPLE_RATE}"
    );
    let input = ["-nostdin", "-v", "error", "-threads", "1", "-protocol_whitelist", "file", "-format_whitelist"];
    let output = ["-map", "0:a:0", "-vn", "-sn", "-dn", "-af", &filter, "-f", "f32le", "pipe:1"];
    let mut arguments: Vec<OsString> = input.into_iter().chain([demuxers, "-i"]).map(Into::into).collect();
    arguments.push(file);
    arguments.extend(output.map(OsString::from));
    arguments
}
