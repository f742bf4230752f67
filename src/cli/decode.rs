//! `whisperq decode`: the child that a preparing thread runs, not meant to be typed.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::Context;

use super::Done;
use crate::audio::{self, Limits};
use crate::error::Result;

/// Decode a recording to 16 kHz mono: 32-bit floats on standard output, a verdict in JSON on standard error.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq decode --max-audio-ms 3600000 -- talk.mp3 > talk.f32")]
pub(super) struct Args {
    file: PathBuf,
    #[arg(long)]
    max_audio_ms: u64,
}

pub(super) fn run(args: &Args) -> Result<Done> {
    // Not through the standard library's own buffer, which looks for the ends of lines.
    let output = std::io::stdout().as_fd().try_clone_to_owned().context("Failed to open standard output")?;
    let limits = Limits { max_audio_ms: args.max_audio_ms };
    let done = audio::decode_confined(&args.file, &limits, &mut File::from(output), &mut std::io::stderr());
    Ok(if done { Done::Well } else { Done::WithFailures })
}
