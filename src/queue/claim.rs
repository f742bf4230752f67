//! Claiming: one probe of a partial index, then the bookkeeping of the claim, all in one transaction.

use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::fail::{self, Ending};
use super::fair::{advance, rank};
use super::finish::close_attempt;
use super::plan::{Stored, stored};
use super::{Queue, SAMPLES_PER_MS, TaskRef};
use crate::db::{Durability, Statements};
use crate::error::{Error, Result};
use crate::job::{Destination, JobState, Options};

/// A task that the caller now owns, with what it needs to do it.
#[derive(Clone, Debug)]
pub struct Claim {
    pub task: TaskRef,
    /// Who comes first where several that are claimed wait: the lower one.
    pub rank: (i64, i64),
    pub job_id: String,
    pub source: String,
    pub source_version: Option<String>,
    pub options: Options,
    /// Known at this moment: given, or detected by an earlier chunk.
    pub language: Option<String>,
    pub work: Work,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Decode the audio, going on from what an earlier attempt has left.
    Prepare(Stored),
    Transcribe {
        seq: i64,
        /// Into English; otherwise the text is in the language that is spoken.
        translate: bool,
        /// Whether no later pass needs the samples.
        last_pass: bool,
        start_sample: u64,
        end_sample: u64,
        /// The text of the chunk before, where the job wants it carried over.
        previous_text: Option<String>,
    },
    /// Carry the results of an ended job away; `generation` tells its ends apart.
    Deliver { destination: Destination, generation: i64 },
}

/// The columns of the claimed task.
struct TaskRow {
    task: TaskRef,
    delivers: bool,
    job_pk: i64,
    priority: i64,
    key: i64,
    pass: i64,
    seq: i64,
    start_sample: Option<i64>,
    end_sample: Option<i64>,
}

impl Queue {
    /// Claims the first task of `lane`, for the worker to finish within its lease; `None` when the lane is empty.
    pub fn claim(
        &self,
        kind: &'static str,
        lane: &str,
        process_id: &str,
        worker_id: &str,
        now_ms: i64,
    ) -> Result<Option<Claim>> {
        // A look without the right to write, so that idle threads leave the writer alone.
        if !self.has_queued(kind, lane, 1)? {
            return Ok(None);
        }
        let (lane, process_id, worker_id) = (lane.to_owned(), process_id.to_owned(), worker_id.to_owned());
        let lease_until_ms = now_ms + self.limits.lease_ms;
        self.db.write(Durability::Normal, move |conn| {
            loop {
                let Some(row) = take_first(conn, kind, &lane, &process_id, &worker_id, lease_until_ms)? else {
                    return Ok(None);
                };
                let length_ms = (row.end_sample.unwrap_or(0) - row.start_sample.unwrap_or(0)) / SAMPLES_PER_MS;
                advance(conn, kind, &lane, row.priority, row.key - length_ms)?;
                open_attempt(conn, &row, &process_id, &worker_id, now_ms)?;
                if kind == "transcribe" {
                    start_job(conn, row.job_pk, now_ms)?;
                }
                match load(conn, &row) {
                    Err(Error::InvalidInput { code, message }) => give_up(conn, &row, code, &message, now_ms)?,
                    claim => return claim.map(Some),
                }
            }
        })
    }
}

impl Queue {
    /// Whether at least so many tasks of `lane` wait to be claimed; `count` is 1 or more.
    pub fn has_queued(&self, kind: &str, lane: &str, count: usize) -> Result<bool> {
        self.db.read(|conn| {
            let mut probe = conn.statement(
                "select 1 from tasks where kind = ?1 and lane = ?2 and state = 'queued' limit 1 offset ?3 - 1",
            )?;
            Ok(probe.exists((kind, lane, count.cast_signed()))?)
        })
    }
}

fn open_attempt(conn: &Connection, row: &TaskRow, process_id: &str, worker_id: &str, now_ms: i64) -> Result<()> {
    conn.statement(
        "insert into attempts (task_id, attempt, job_pk, process_id, worker_id, started_at_ms)
         values (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((row.task.id, row.task.attempt, row.job_pk, process_id, worker_id, now_ms))?;
    Ok(())
}

/// Fails a job that cannot be read, so that it does not stand in the way of all the others in its lane.
fn give_up(conn: &Connection, row: &TaskRow, code: &str, message: &str, now_ms: i64) -> Result<()> {
    close_attempt(conn, row.task, "error", Some(message), None, now_ms)?;
    fail::give_up(conn, row.task.id, row.job_pk, &Ending { state: JobState::Failed, code, message }, now_ms)
}

/// The claim itself, public so that `tests/queue/cost.rs` can pin its plan and its cost.
pub const CLAIM: &str = "
    update tasks set state = 'running', attempt = attempt + 1, process_id = :process, worker_id = :worker,
        lease_until_ms = :lease
    where state = 'queued' and id = (
        select id from tasks where kind = :kind and lane = :lane and state = 'queued'
        order by priority desc, key, id limit 1)
    returning id, attempt, job_pk, priority, key, pass, seq, start_sample, end_sample";

fn take_first(
    conn: &Connection,
    kind: &str,
    lane: &str,
    process_id: &str,
    worker_id: &str,
    lease_until_ms: i64,
) -> Result<Option<TaskRow>> {
    let row = conn.statement(CLAIM)?.query_row(
        named_params! {
            ":process": process_id, ":worker": worker_id, ":lease": lease_until_ms, ":kind": kind, ":lane": lane,
        },
        |row| {
            Ok(TaskRow {
                task: TaskRef { id: row.get("id")?, attempt: row.get("attempt")? },
                delivers: kind == "deliver",
                job_pk: row.get("job_pk")?,
                priority: row.get("priority")?,
                key: row.get("key")?,
                pass: row.get("pass")?,
                seq: row.get("seq")?,
                start_sample: row.get("start_sample")?,
                end_sample: row.get("end_sample")?,
            })
        },
    );
    Ok(row.optional()?)
}

/// The first chunk claimed is what starts a job, and its clock.
fn start_job(conn: &Connection, job_pk: i64, now_ms: i64) -> Result<()> {
    conn.statement(
        "update jobs set state = 'running', started_at_ms = max(?2, created_at_ms),
             execution_deadline_ms = ?2 + execution_timeout_ms
         where pk = ?1 and state = 'queued'",
    )?
    .execute((job_pk, now_ms))?;
    Ok(())
}

fn load(conn: &Connection, row: &TaskRow) -> Result<Claim> {
    let mut statement = conn.statement(
        "select id, source, source_version, options, language, planned, generation from jobs where pk = ?1",
    )?;
    let (mut claim, options) = statement.query_row([row.job_pk], |job| from_job(row, job))?;
    claim.options = serde_json::from_str(&options).map_err(|error| {
        let message = format!("this whisperq does not understand the options of the job ({error}): use a newer one");
        Error::invalid("options_unknown", message)
    })?;
    match &mut claim.work {
        Work::Deliver { .. } => {}
        Work::Prepare(earlier) => *earlier = stored(conn, row.job_pk, earlier.planned)?,
        Work::Transcribe { seq, translate, last_pass, previous_text, .. } => {
            *last_pass = *translate || !claim.options.translate;
            // Only the first pass is a chain: what the second one finds before it depends on who was faster.
            if claim.options.condition_on_previous_text && !*translate {
                *previous_text = text_of_chunk(conn, row.job_pk, *seq - 1)?;
            }
        }
    }
    Ok(claim)
}

fn from_job(row: &TaskRow, job: &Row<'_>) -> rusqlite::Result<(Claim, String)> {
    let destination = Destination::ALL.into_iter().find(|destination| *destination as i64 == row.seq);
    let work = match (row.start_sample, row.end_sample) {
        _ if row.delivers => Work::Deliver {
            destination: destination.unwrap_or(Destination::Webhook),
            generation: job.get("generation")?,
        },
        (Some(start), Some(end)) => Work::Transcribe {
            seq: row.seq,
            translate: row.pass > 0,
            last_pass: false,
            start_sample: start.cast_unsigned(),
            end_sample: end.cast_unsigned(),
            previous_text: None,
        },
        _ => Work::Prepare(Stored { planned: job.get("planned")?, ..Stored::default() }),
    };
    let claim = Claim {
        task: row.task,
        rank: rank(row.priority, row.key, row.end_sample.unwrap_or(0) / SAMPLES_PER_MS),
        job_id: job.get("id")?,
        source: job.get("source")?,
        source_version: job.get("source_version")?,
        options: Options::default(),
        language: job.get("language")?,
        work,
    };
    Ok((claim, job.get("options")?))
}

fn text_of_chunk(conn: &Connection, job_pk: i64, seq: i64) -> Result<Option<String>> {
    let mut statement = conn.statement(
        "select group_concat(text, '') from
             (select text from chunk_segments where job_pk = ?1 and pass = 0 and seq = ?2 order by n)",
    )?;
    Ok(statement.query_row((job_pk, seq), |row| row.get(0))?)
}
