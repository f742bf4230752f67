//! `whisperq jobs`: list, show, cancel and retry jobs, of the local queue or of a server's.

use clap::Subcommand;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::table::{TableFormat, render};
use super::{Done, say, usual_key};
use crate::app;
use crate::config::Config;
use crate::error::Result;
use crate::http_client::Api;
use crate::job::{Delivery, Job, JobState};
use crate::queue::{JobFilter, Queue, unix_now_ms};
use crate::system::Table;

/// List, show, cancel and retry jobs: of this machine's queue or, with --server, over HTTP.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq jobs list --status failed")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Ask this whisperq, such as http://127.0.0.1:8080, instead of the local queue
    #[arg(long, value_name = "URL", global = true)]
    server: Option<String>,
    /// One of that server's keys [default: the first one in API_KEY]
    #[arg(long, value_name = "KEY", global = true)]
    api_key: Option<String>,
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
    /// Where a job's results go, and whether they have
    #[command(after_help = "Example: whisperq jobs deliveries 0198c2f4-7a51-7bb2-9f0e-1f2d3c4b5a69")]
    Deliveries {
        id: String,
        #[arg(long, value_enum, default_value_t)]
        format: TableFormat,
    },
    /// Send a job's results again, to its output_uri and its webhook
    #[command(after_help = "Example: whisperq jobs redeliver 0198c2f4-7a51-7bb2-9f0e-1f2d3c4b5a69")]
    Redeliver { id: String },
}

/// Where the jobs are.
enum Source {
    Local(Queue),
    Server(Api),
}

pub(super) fn run(args: Args, config: &Config) -> Result<Done> {
    let source = match &args.server {
        Some(url) => Source::Server(Api::new(url, args.api_key.as_deref().or(usual_key(config)))?),
        None => Source::Local(app::open_queue(config)?),
    };
    match args.command {
        Command::List { status, limit, after, format } => {
            let status = status.as_deref().map(str::parse::<JobState>).transpose()?;
            let jobs = source.list(JobFilter { status, model: None, since_ms: None, limit, after })?;
            say(&render(&listed(&jobs), format)?)
        }
        Command::Show { id } => {
            let job = source.show(&id)?;
            say(&(serde_json::to_string_pretty(&job).map_err(anyhow::Error::from)? + "\n"))
        }
        Command::Cancel { id } => {
            source.cancel(&id)?;
            say(&format!("job {id} is cancelled\n"))
        }
        Command::Retry { id } => say(&source.retry(&id)?),
        Command::Deliveries { id, format } => say(&render(&delivered(&source.show(&id)?), format)?),
        Command::Redeliver { id } => say(&source.redeliver(&id)?),
    }?;
    Ok(Done::Well)
}

impl Source {
    fn list(&self, filter: JobFilter) -> Result<Vec<Job>> {
        match self {
            Self::Local(queue) => queue.jobs(&filter, unix_now_ms()),
            Self::Server(api) => list_over_http(api, filter),
        }
    }

    fn show(&self, id: &str) -> Result<Job> {
        match self {
            Self::Local(queue) => queue.job(id, unix_now_ms()),
            Self::Server(api) => Ok(api.get(&["jobs", id], &[])?),
        }
    }

    fn cancel(&self, id: &str) -> Result<()> {
        match self {
            Self::Local(queue) => queue.cancel(id, unix_now_ms()),
            Self::Server(api) => Ok(api.delete::<IgnoredAny>(&["jobs", id]).map(drop)?),
        }
    }

    /// The same.
    fn redeliver(&self, id: &str) -> Result<String> {
        match self {
            Self::Local(queue) => {
                queue.redeliver(id, unix_now_ms())?;
                Ok(format!("the results of job {id} are sent again by the whisperq serve of this DATA_DIR\n"))
            }
            Self::Server(api) => {
                api.post::<IgnoredAny>(&["jobs", id, "redeliver"])?;
                Ok(format!("the results of job {id} are sent again\n"))
            }
        }
    }

    /// Returns what to tell: a server works by itself, the local queue only while a command runs.
    fn retry(&self, id: &str) -> Result<String> {
        let queued = format!("job {id} is queued again");
        match self {
            Self::Local(queue) => {
                queue.retry(id, unix_now_ms())?;
                Ok(format!("{queued}: repeat the whisperq transcribe that it came from to run it now\n"))
            }
            Self::Server(api) => {
                api.post::<IgnoredAny>(&["jobs", id, "retry"])?;
                Ok(queued + "\n")
            }
        }
    }
}

fn delivered(job: &Job) -> Table {
    let columns = ["kind", "target", "state", "attempts", "next_attempt_at", "finished_at", "last_error"];
    let row = |delivery: &Delivery| -> Vec<Value> {
        vec![
            serde_json::json!(delivery.kind),
            delivery.target.clone().into(),
            delivery.state.clone().into(),
            delivery.attempts.into(),
            delivery.next_attempt_at.clone().into(),
            delivery.finished_at.clone().into(),
            delivery.last_error.clone().into(),
        ]
    };
    let rows = job.deliveries.iter().map(row).collect();
    Table { columns: columns.map(str::to_owned).to_vec(), rows, truncated: false }
}

#[derive(Deserialize)]
struct Page {
    jobs: Vec<Job>,
    next: Option<String>,
}

/// Page after page: a server may give fewer jobs at once than are wanted.
fn list_over_http(api: &Api, filter: JobFilter) -> Result<Vec<Job>> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut after = filter.after;
    while jobs.len() < filter.limit {
        let limit = (filter.limit - jobs.len()).to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(filter.status.map(|status| ("status", status.name())));
        query.extend(after.as_deref().map(|after| ("after", after)));
        let page: Page = api.get(&["jobs"], &query)?;
        let ended = page.jobs.is_empty() || page.next.is_none();
        jobs.extend(page.jobs);
        if ended {
            break;
        }
        after = page.next;
    }
    jobs.truncate(filter.limit);
    Ok(jobs)
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
