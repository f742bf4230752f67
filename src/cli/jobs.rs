//! `whisperq jobs`: list, show, cancel and retry jobs of the local queue.

use clap::Subcommand;
use serde_json::Value;

use super::table::{TableFormat, render};
use super::{Done, say};
use crate::app;
use crate::config::Config;
use crate::error::Result;
use crate::job::{Job, JobState};
use crate::queue::{JobFilter, unix_now_ms};
use crate::system::Table;

/// List, show, cancel and retry jobs.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq jobs list --status failed")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Newest first
    #[command(after_help = "Example: whisperq jobs list --status failed --limit 5")]
    List {
        /// queued, running, completed, failed, cancelled or timed_out
        #[arg(long)]
        status: Option<String>,
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Go on after this job, the last one of the page before
        #[arg(long, value_name = "ID")]
        after: Option<String>,
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
    /// Everything about one job, as JSON
    #[command(after_help = "Example: whisperq jobs show 0198c2f4-7a51-7bb2-9f0e-1f2d3c4b5a69")]
    Show { id: String },
    /// End a job that has not ended
    #[command(after_help = "Example: whisperq jobs cancel 0198c2f4-7a51-7bb2-9f0e-1f2d3c4b5a69")]
    Cancel { id: String },
    /// Queue a failed or timed-out job again; finished chunks are kept
    #[command(after_help = "Example: whisperq jobs retry 0198c2f4-7a51-7bb2-9f0e-1f2d3c4b5a69")]
    Retry { id: String },
}

pub(super) fn run(args: Args, config: &Config) -> Result<Done> {
    let queue = app::open_queue(config)?;
    let now_ms = unix_now_ms();
    match args.command {
        Command::List { status, limit, after, format } => {
            let status = status.as_deref().map(str::parse::<JobState>).transpose()?;
            let jobs = queue.jobs(&JobFilter { status, model: None, since_ms: None, limit, after }, now_ms)?;
            say(&render(&listed(&jobs), format)?)
        }
        Command::Show { id } => {
            let job = queue.job(&id, now_ms)?;
            say(&(serde_json::to_string_pretty(&job).map_err(anyhow::Error::from)? + "\n"))
        }
        Command::Cancel { id } => {
            queue.cancel(&id, now_ms)?;
            say(&format!("job {id} is cancelled\n"))
        }
        Command::Retry { id } => {
            queue.retry(&id, now_ms)?;
            say(&format!("job {id} is queued again: repeat the whisperq transcribe that it came from to run it now\n"))
        }
    }?;
    Ok(Done::Well)
}

fn listed(jobs: &[Job]) -> Table {
    let columns = ["id", "status", "progress", "created_at", "audio_seconds", "model", "source", "error"];
    let row = |job: &Job| -> Vec<Value> {
        vec![
            job.id.clone().into(),
            job.status.name().into(),
            format!("{:.0} %", job.progress * 100.0).into(),
            job.created_at.clone().into(),
            job.audio_seconds.into(),
            job.model.clone().into(),
            job.source.clone().into(),
            job.error.as_ref().map(|error| error.message.clone()).into(),
        ]
    };
    Table { columns: columns.map(str::to_owned).to_vec(), rows: jobs.iter().map(row).collect(), truncated: false }
}
