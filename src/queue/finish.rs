//! What a worker did, recorded once: the end of a plan, a chunk and its segments, and with the last of them the
//! transcript and the end of the job, in the same transaction.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::deliver::insert_deliveries;
use super::fair::release_waiters;
use super::plan::{Plan, seal};
use super::{PENDING, Queue, SAMPLES_PER_MS, TaskRef};
use crate::db::{Durability, Statements};
use crate::error::{Error, Result};
use crate::job::JobState;
use crate::transcript::{Segment, Transcript};

/// What the engine made of one chunk; times of the segments count from the start of the recording.
#[derive(Clone, Debug)]
pub struct ChunkResult {
    pub language: String,
    pub language_probability: Option<f32>,
    pub segments: Vec<Segment>,
    pub engine_ms: i64,
}

/// The job that a finished task belongs to.
pub(super) struct Finished {
    job_pk: i64,
    pass: i64,
    seq: i64,
    samples: i64,
}

impl Queue {
    /// Ends a `prepare` task: with a plan, its job has all its chunks; without one (the job was planned before) only the
    /// waiting chunks go on.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task; nothing is changed then.
    pub fn finish_prepare(&self, task: TaskRef, plan: Option<Plan>, now_ms: i64) -> Result<()> {
        self.db.write(Durability::Full, move |conn| {
            let finished = mark_done(conn, task, now_ms)?;
            close_attempt(conn, task, "done", None, None, now_ms)?;
            if let Some(plan) = plan {
                seal(conn, finished.job_pk, &plan)?;
            }
            release_waiters(conn, task.id, None, now_ms)?;
            complete_if_done(conn, finished.job_pk, now_ms)
        })?;
        self.wake.notify();
        Ok(())
    }

    /// Stores a chunk's segments, and completes the job where this was its last chunk.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task; nothing is stored then.
    pub fn finish_chunk(&self, task: TaskRef, result: ChunkResult, now_ms: i64) -> Result<()> {
        self.db.write(Durability::Full, move |conn| {
            let finished = mark_done(conn, task, now_ms)?;
            close_attempt(conn, task, "done", None, Some(result.engine_ms), now_ms)?;
            store_segments(conn, &finished, &result.segments)?;
            count_chunk(conn, task, &finished, &result)?;
            release_waiters(conn, task.id, None, now_ms)?;
            complete_if_done(conn, finished.job_pk, now_ms)
        })?;
        self.wake.notify();
        Ok(())
    }
}

/// The fence: only the attempt that claimed the task, and only while it still runs.
pub(super) fn mark_done(conn: &Connection, task: TaskRef, now_ms: i64) -> Result<Finished> {
    let mut statement = conn.statement(
        "update tasks set state = 'done', finished_at_ms = :now, lease_until_ms = null, process_id = null,
             worker_id = null
         where id = :id and attempt = :attempt and state = 'running'
         returning job_pk, pass, seq, coalesce(end_sample - start_sample, 0) as samples",
    )?;
    let finished =
        statement.query_row(named_params! {":id": task.id, ":attempt": task.attempt, ":now": now_ms}, |row| {
            Ok(Finished {
                job_pk: row.get("job_pk")?,
                pass: row.get("pass")?,
                seq: row.get("seq")?,
                samples: row.get("samples")?,
            })
        });
    finished.optional()?.ok_or(Error::ClaimLost)
}

/// Writes the one outcome of an attempt. Clocks are set back now and then: nothing ends before it began.
pub(super) fn close_attempt(
    conn: &Connection,
    task: TaskRef,
    outcome: &str,
    error: Option<&str>,
    engine_ms: Option<i64>,
    now_ms: i64,
) -> Result<()> {
    conn.statement(
        "update attempts set outcome = :outcome, error = :error, engine_ms = :engine_ms,
             finished_at_ms = max(:now, started_at_ms)
         where task_id = :id and attempt = :attempt and outcome is null",
    )?
    .execute(named_params! {
        ":outcome": outcome, ":error": error, ":engine_ms": engine_ms, ":now": now_ms, ":id": task.id,
        ":attempt": task.attempt,
    })?;
    Ok(())
}

fn store_segments(conn: &Connection, chunk: &Finished, segments: &[Segment]) -> Result<()> {
    let mut insert = conn.statement(
        "insert into chunk_segments (job_pk, pass, seq, n, start_ms, end_ms, seek_ms, text, tokens, temperature,
             avg_logprob, compression_ratio, no_speech_prob, speech_prob, words)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    for (n, segment) in segments.iter().enumerate() {
        let tokens = serde_json::to_string(&segment.tokens).map_err(anyhow::Error::from)?;
        let words = segment.words.as_ref().map(serde_json::to_string).transpose().map_err(anyhow::Error::from)?;
        insert.execute(rusqlite::params![
            chunk.job_pk,
            chunk.pass,
            chunk.seq,
            n as i64,
            segment.start_ms,
            segment.end_ms,
            segment.seek_ms,
            segment.text,
            tokens,
            segment.temperature,
            segment.avg_logprob,
            segment.compression_ratio,
            segment.no_speech_prob,
            segment.speech_prob,
            words,
        ])?;
    }
    Ok(())
}

/// Adds a chunk to what its job, and the worker that did it, have behind them; for the job it counts with its last
/// pass. The first language heard is the job's.
fn count_chunk(conn: &Connection, task: TaskRef, chunk: &Finished, result: &ChunkResult) -> Result<()> {
    let audio_ms = chunk.samples / SAMPLES_PER_MS;
    conn.statement(
        "update jobs set language = coalesce(language, ?3),
             language_probability = iif(language is null, ?5, language_probability),
             done_ms = done_ms + iif(?4 = coalesce(options ->> '$.translate', 0), ?2, 0)
         where pk = ?1",
    )?
    .execute((chunk.job_pk, audio_ms, &result.language, chunk.pass, result.language_probability))?;
    conn.statement(
        "update worker_threads set chunks_done = chunks_done + 1, audio_ms = audio_ms + ?3, engine_ms = engine_ms + ?4
         where (process_id, worker_id) =
             (select process_id, worker_id from attempts where task_id = ?1 and attempt = ?2)",
    )?
    .execute((task.id, task.attempt, audio_ms, result.engine_ms))?;
    Ok(())
}

/// Completes the job when it is planned and nothing of it is left to do.
fn complete_if_done(conn: &Connection, job_pk: i64, now_ms: i64) -> Result<()> {
    let open: bool = conn
        .statement(&format!(
            "select planned = 0 or state not in ('queued', 'running') or exists (
                 select 1 from tasks where job_pk = ?1 and kind in ('prepare', 'transcribe') and state in {PENDING})
             from jobs where pk = ?1"
        ))?
        .query_row([job_pk], |row| row.get(0))?;
    if open {
        return Ok(());
    }
    let transcript = assemble(conn, job_pk)?;
    conn.statement("insert into transcripts (job_pk, language, duration_ms, text) values (?1, ?2, ?3, ?4)")?
        .execute((job_pk, &transcript.language, transcript.duration_ms, transcript.text()))?;
    let completed = conn
        .statement(
            "update jobs set state = 'completed', finished_at_ms = max(?2, coalesce(started_at_ms, created_at_ms)),
                 started_at_ms = coalesce(started_at_ms, max(?2, created_at_ms)),
                 execution_deadline_ms = coalesce(execution_deadline_ms, ?2 + execution_timeout_ms)
             where pk = ?1 and planned = 1 and state in ('queued', 'running')",
        )?
        .execute((job_pk, now_ms))?;
    if completed != 1 {
        return Err(Error::ClaimLost);
    }
    insert_deliveries(conn, job_pk, JobState::Completed, now_ms)?;
    Ok(())
}

/// The transcript from the segments stored so far: the translation where one was asked for.
pub(super) fn assemble(conn: &Connection, job_pk: i64) -> Result<Transcript> {
    let translated = conn
        .statement("select coalesce(options ->> '$.translate', 0) from jobs where pk = ?1")?
        .query_row([job_pk], |row| row.get(0))?;
    assemble_pass(conn, job_pk, translated)
}

/// The segments of one pass, in order of time.
pub(super) fn assemble_pass(conn: &Connection, job_pk: i64, translated: bool) -> Result<Transcript> {
    let mut statement = conn.statement("select language, language_probability, audio_ms from jobs where pk = ?1")?;
    let (language, language_probability, duration_ms) = statement.query_row([job_pk], |row| {
        Ok((row.get::<_, Option<String>>(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?))
    })?;
    let mut statement = conn.statement(
        "select start_ms, end_ms, seek_ms, text, tokens, temperature, avg_logprob, compression_ratio, no_speech_prob,
             speech_prob, words
         from chunk_segments where job_pk = ?1 and pass = ?2 order by seq, n",
    )?;
    let mut rows = statement.query((job_pk, i64::from(translated)))?;
    let mut segments = Vec::new();
    while let Some(row) = rows.next()? {
        segments.push(segment(row)?);
    }
    Ok(Transcript {
        language: language.unwrap_or_else(|| "en".to_owned()),
        language_probability,
        duration_ms: duration_ms.unwrap_or(0),
        segments,
        translated,
    })
}

fn segment(row: &rusqlite::Row<'_>) -> Result<Segment> {
    let tokens: String = row.get("tokens")?;
    let words: Option<String> = row.get("words")?;
    Ok(Segment {
        start_ms: row.get("start_ms")?,
        end_ms: row.get("end_ms")?,
        text: row.get("text")?,
        seek_ms: row.get("seek_ms")?,
        tokens: serde_json::from_str(&tokens).map_err(anyhow::Error::from)?,
        temperature: row.get("temperature")?,
        avg_logprob: row.get("avg_logprob")?,
        compression_ratio: row.get("compression_ratio")?,
        no_speech_prob: row.get("no_speech_prob")?,
        speech_prob: row.get("speech_prob")?,
        words: words.map(|words| serde_json::from_str(&words)).transpose().map_err(anyhow::Error::from)?,
    })
}
