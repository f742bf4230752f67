//! `whisperq sql` and `whisperq system`: looking into the queue.

use super::table::{TableFormat, render};
use super::{Done, report, say};
use crate::app;
use crate::config::Config;
use crate::error::Result;
use crate::queue::unix_now_ms;
use crate::system;

/// Ask the database a question; it is opened for reading only.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq sql \"select worker_id, count(*) from chunks group by 1\" --format csv")]
pub(super) struct Args {
    /// One SELECT on the views workers, queue, chunks, segments
    sql: String,
    #[arg(long, value_enum, default_value_t)]
    format: TableFormat,
}

/// Show the queue, the jobs by state and the workers.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq system")]
pub(super) struct SystemArgs {}

pub(super) fn run(args: &Args, config: &Config) -> Result<Done> {
    let queue = app::open_queue(config)?;
    let table = system::query(queue.db(), &args.sql)?;
    say(&render(&table, args.format)?)?;
    if table.truncated {
        report(&format!("only the first {} rows are shown: add a limit or a where", table.rows.len()));
    }
    Ok(Done::Well)
}

pub(super) fn run_system(config: &Config) -> Result<Done> {
    let queue = app::open_queue(config)?;
    for (title, table) in system::overview(queue.db(), unix_now_ms())? {
        say(&format!("{title}\n{}\n", render(&table, TableFormat::Table)?))?;
    }
    Ok(Done::Well)
}
