//! `whisperq sql` and `whisperq system`: looking into the queue.

use std::sync::Arc;

use super::table::{TableFormat, render};
use super::{Done, report, say};
use crate::app;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::queue::Queue;
use crate::system::{self, UserSql};

/// Ask the database a question; it is opened for reading only.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq sql \"select worker_id, count(*) from chunks group by 1\" --format csv")]
pub(super) struct Args {
    /// One SELECT on the views that README.md lists, such as job_history or chunks
    sql: String,
    #[arg(long, value_enum, default_value_t)]
    format: TableFormat,
}

/// Show the queue, the jobs by state and the workers.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq system")]
pub(super) struct SystemArgs {
    /// Count everything anew and compare it with the counters; takes a while on a long history
    #[arg(long)]
    check: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Done> {
    let queue = app::open_queue(config)?;
    let answer = UserSql::open(queue.db())?.ask(&args.sql, &Arc::default());
    let table = answer.map_err(|error| match error {
        Error::InvalidInput { message, .. } => Error::Config(message),
        other => other,
    })?;
    say(&render(&table, args.format)?)?;
    if table.truncated {
        report(&format!("only the first {} rows are shown: add a limit or a where", table.rows.len()));
    }
    Ok(Done::Well)
}

pub(super) fn run_system(args: &SystemArgs, config: &Config) -> Result<Done> {
    let queue = app::open_queue(config)?;
    if args.check {
        return check(&queue);
    }
    for (title, table) in system::overview(queue.db())? {
        say(&format!("{title}\n{}\n", render(&table, TableFormat::Table)?))?;
    }
    Ok(Done::Well)
}

fn check(queue: &Queue) -> Result<Done> {
    let drift = system::drift(queue.db())?;
    if drift.rows.is_empty() {
        say("every counter equals a real count\n")?;
        return Ok(Done::Well);
    }
    say(&render(&drift, TableFormat::Table)?)?;
    report("the counters above are wrong: please report this with a copy of the database (`whisperq backup FILE`)");
    Ok(Done::WithFailures)
}
