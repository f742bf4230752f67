//! The chunks of a job: queued while its recording is still being decoded, and what an earlier preparation left of them.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::fail::owned;
use super::fair::{credit_ms, release_waiters, start_tag};
use super::{PENDING, Queue, SAMPLES_PER_MS, TaskRef, transcribe_lane};
use crate::audio::Chunk;
use crate::db::{Durability, Statements};
use crate::error::{Error, Result};

/// In what order the chunks of a job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All at once.
    Free,
    /// The first one alone, because it finds the language, then the rest.
    FirstThenRest,
    /// One after the other, because each one carries the text of the one before.
    Chain,
}

/// What `prepare` knows at the end of the recording; its chunks were added one by one.
#[derive(Clone, Debug)]
pub struct Plan {
    pub audio_ms: i64,
    pub warnings: Vec<String>,
}

/// What earlier attempts to prepare a job have left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Whether all chunks are known, so that only samples are wanted again.
    pub planned: bool,
    /// Where the known chunks end, in samples; a plan goes on there.
    pub end_sample: u64,
    /// Start and end of those that are still to be transcribed, in order.
    pub unfinished: Vec<(u64, u64)>,
}

/// The job of a plan, as far as its chunks depend on it.
struct JobRow {
    pk: i64,
    lane: String,
    priority: i64,
    translate: bool,
}

/// A chunk of the job that was queued before.
#[derive(Clone, Copy)]
struct Earlier {
    id: i64,
    seq: i64,
    /// Where the next chunk starts in the claim order.
    end: i64,
    done: bool,
}

impl Queue {
    /// Queues the next chunks of a recording that is still being decoded.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task; nothing is queued then.
    pub fn add_chunks(&self, task: TaskRef, chunks: Vec<Chunk>, order: Order, now_ms: i64) -> Result<()> {
        // Should a loss of power undo this, it undoes all later steps too, and the chunks are planned once more.
        self.db.write(Durability::Normal, move |conn| {
            // A preparation that gets on is not what makes processes vanish.
            let job_pk: Option<i64> = conn
                .statement(
                    "update tasks set lost_count = 0 where id = ?1 and attempt = ?2 and state = 'running'
                     returning job_pk",
                )?
                .query_row((task.id, task.attempt), |row| row.get(0))
                .optional()?;
            insert_chunks(conn, job_pk.ok_or(Error::ClaimLost)?, &chunks, order, now_ms)
        })?;
        self.wake.notify();
        Ok(())
    }

    /// Notes which version of a recording was fetched, and its length in bytes: later work must be on the same.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task.
    pub fn note_source(&self, prepare: TaskRef, version: Option<String>, bytes: u64) -> Result<()> {
        self.db.write(Durability::Normal, move |conn| {
            owned(conn, prepare)?;
            conn.statement(
                "update jobs set source_version = coalesce(source_version, ?2), source_bytes = ?3
                 where pk = (select job_pk from tasks where id = ?1)",
            )?
            .execute((prepare.id, version, bytes.cast_signed()))?;
            Ok(())
        })
    }

    /// Start and end of the chunks that wait for a preparation, in samples.
    pub fn waiting_for(&self, prepare: TaskRef) -> Result<Vec<(u64, u64)>> {
        self.db.read(|conn| {
            let mut statement = conn.statement(
                "select start_sample, end_sample from tasks
                 where waits_for = ?1 and state = 'blocked' and kind = 'transcribe' order by start_sample",
            )?;
            let chunks = statement.query_map([prepare.id], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
            })?;
            Ok(chunks.collect::<Result<_, _>>()?)
        })
    }

    /// Queues the chunk that waits for its samples to be decoded again, before the rest of the recording is.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task.
    pub fn release_chunk(&self, prepare: TaskRef, start_sample: u64, now_ms: i64) -> Result<()> {
        self.db.write(Durability::Normal, move |conn| {
            owned(conn, prepare)?;
            release_waiters(conn, prepare.id, Some(start_sample.cast_signed()), now_ms)
        })?;
        self.wake.notify();
        Ok(())
    }
}

/// Says that all chunks are there; what was left out of them as silence counts as done.
pub(super) fn seal(conn: &Connection, job_pk: i64, plan: &Plan) -> Result<()> {
    let more = serde_json::to_string(&plan.warnings).map_err(anyhow::Error::from)?;
    let sealed = conn
        .statement(
            "update jobs set planned = 1, audio_ms = :audio_ms,
                 done_ms = min(:audio_ms, done_ms + max(0, :audio_ms - (
                     select coalesce(sum(end_sample - start_sample), 0) / :per_ms from tasks
                     where job_pk = :pk and kind = 'transcribe' and pass = 0))),
                 warnings = (select json_group_array(value) from
                     (select value from json_each(warnings) union all select value from json_each(:more)))
             where pk = :pk and planned = 0 and state in ('queued', 'running')",
        )?
        .execute(named_params! {
            ":pk": job_pk, ":audio_ms": plan.audio_ms, ":per_ms": SAMPLES_PER_MS, ":more": more,
        })?;
    if sealed == 1 { Ok(()) } else { Err(Error::ClaimLost) }
}

/// What is known of a job's chunks when its preparation is claimed.
pub(super) fn stored(conn: &Connection, job_pk: i64, planned: bool) -> Result<Stored> {
    let end: i64 = conn
        .statement(
            "select coalesce(max(end_sample), 0) from tasks where job_pk = ?1 and kind = 'transcribe' and pass = 0",
        )?
        .query_row([job_pk], |row| row.get(0))?;
    let mut statement = conn.statement(&format!(
        "select distinct start_sample, end_sample from tasks
         where job_pk = ?1 and kind = 'transcribe' and state in {PENDING} order by start_sample"
    ))?;
    let unfinished = statement.query_map([job_pk], |row| {
        Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
    })?;
    Ok(Stored { planned, end_sample: end.cast_unsigned(), unfinished: unfinished.collect::<Result<_, _>>()? })
}

fn insert_chunks(conn: &Connection, job_pk: i64, chunks: &[Chunk], order: Order, now_ms: i64) -> Result<()> {
    if chunks.is_empty() {
        return Ok(());
    }
    let job = open_job(conn, job_pk)?;
    let mut first = earlier(conn, job_pk, "asc")?;
    let mut last = earlier(conn, job_pk, "desc")?;
    // A job's chunks queue one behind the other, however many batches they come in.
    let start = start_tag(conn, "transcribe", &job.lane, job.priority, now_ms)?;
    let mut end = last.map_or(start, |last| start.max(last.end));
    for chunk in chunks {
        let length_ms = (chunk.end_sample - chunk.start_sample).cast_signed() / SAMPLES_PER_MS;
        end += length_ms;
        let before = match order {
            Order::Free => None,
            Order::FirstThenRest => first,
            Order::Chain => last,
        };
        let seq = last.map_or(0, |last| last.seq + 1);
        let key = end - credit_ms(seq, length_ms);
        let waits_for = before.filter(|before| !before.done).map(|before| before.id);
        let id = insert(conn, &job, 0, seq, chunk, key, waits_for)?;
        if job.translate {
            insert(conn, &job, 1, seq, chunk, key, Some(id))?;
        }
        last = Some(Earlier { id, seq, end, done: false });
        first = first.or(last);
    }
    Ok(())
}

fn open_job(conn: &Connection, job_pk: i64) -> Result<JobRow> {
    let mut statement = conn.statement(
        "select model, owner, priority, coalesce(options ->> '$.translate', 0) from jobs
         where pk = ?1 and planned = 0 and state in ('queued', 'running')",
    )?;
    let job = statement.query_row([job_pk], |row| {
        let (model, owner): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        let lane = transcribe_lane(&model, owner.as_deref());
        Ok(JobRow { pk: job_pk, lane, priority: row.get(2)?, translate: row.get(3)? })
    });
    job.optional()?.ok_or(Error::ClaimLost)
}

fn earlier(conn: &Connection, job_pk: i64, direction: &str) -> Result<Option<Earlier>> {
    let mut statement = conn.statement(&format!(
        "select id, seq, key, (end_sample - start_sample) / {SAMPLES_PER_MS}, state = 'done' from tasks where job_pk = ?1 and kind = 'transcribe' and pass = 0
         order by seq {direction} limit 1"
    ))?;
    let earlier = statement.query_row([job_pk], |row| {
        let (seq, key): (i64, i64) = (row.get(1)?, row.get(2)?);
        Ok(Earlier { id: row.get(0)?, seq, end: key + credit_ms(seq, row.get(3)?), done: row.get(4)? })
    });
    Ok(earlier.optional()?)
}

/// One task; returns its id.
fn insert(
    conn: &Connection,
    job: &JobRow,
    pass: i64,
    seq: i64,
    chunk: &Chunk,
    key: i64,
    waits_for: Option<i64>,
) -> Result<i64> {
    conn.statement(
        "insert into tasks (job_pk, kind, pass, seq, lane, priority, key, state, waits_for, start_sample, end_sample,
             hard_cut)
         values (:job, 'transcribe', :pass, :seq, :lane, :priority, :key, iif(:waits_for is null, 'queued', 'blocked'),
             :waits_for, :start, :end, :hard_cut)",
    )?
    .execute(named_params! {
        ":job": job.pk, ":pass": pass, ":seq": seq, ":lane": job.lane, ":priority": job.priority, ":key": key,
        ":waits_for": waits_for, ":start": chunk.start_sample.cast_signed(), ":end": chunk.end_sample.cast_signed(),
        ":hard_cut": chunk.hard_cut,
    })?;
    Ok(conn.last_insert_rowid())
}
