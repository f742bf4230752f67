//! `whisperq backup`: a copy of the database while it is in use.

use std::path::PathBuf;

use anyhow::Context;

use super::{Done, say};
use crate::app;
use crate::config::Config;
use crate::error::Result;

const MIB: f64 = (1 << 20) as f64;

/// Copy the database as it is at this moment to a new file, while jobs go on.
///
/// The copy holds jobs, transcripts and history, no recordings, and can be read by any SQLite from 3.40.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq backup /backups/whisperq-monday.db")]
pub(super) struct Args {
    /// The file to write; must not be there yet
    file: PathBuf,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Done> {
    let queue = app::open_queue(config)?;
    queue.db().backup(&args.file)?;
    let bytes = std::fs::metadata(&args.file).context("cannot look at the copy")?.len();
    say(&format!("{} ({:.1} MiB)\n", args.file.display(), bytes as f64 / MIB))?;
    Ok(Done::Well)
}
