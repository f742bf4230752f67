//! Jobs and transcripts as users see them. Reads only.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Deserialize;

use super::Queue;
use super::fail::find;
use super::finish::{assemble, assemble_pass};
use crate::db::Statements;
use crate::error::{Error, Result};
use crate::job::{Delivery, Destination, Job, JobError, JobState, RunpodTexts};
use crate::runpod_payload::{Spoken, Timings};
use crate::transcript::Transcript;

/// Which jobs to list.
#[derive(Clone, Debug)]
pub struct JobFilter {
    pub status: Option<JobState>,
    pub model: Option<String>,
    /// Only jobs submitted then or later, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    pub limit: usize,
    /// Only jobs submitted before this one: the last of the page before.
    pub after: Option<String>,
}

const COLUMNS: &str = "
    select j.id, j.state, j.source, j.audio_ms, j.done_ms, j.created_at_ms, j.started_at_ms, j.finished_at_ms,
        j.language, j.model, j.error_code, j.error_message, j.warnings, j.options -> '$.metadata' as metadata,
        (select count(*) from attempts a join tasks t on t.id = a.task_id where a.job_pk = j.pk and t.kind <> 'deliver')
            as attempts,
        (select json_group_array(json_object('kind', kind, 'target', target, 'state', state, 'attempts', attempts,
                'last_error', last_error, 'next_attempt_at_ms', next_attempt_at_ms, 'finished_at_ms', finished_at_ms))
            from (select * from deliveries d where d.job_id = j.id order by d.seq)) as deliveries,
        (select json_group_array(worker_id) from (
            select distinct a.worker_id from attempts a join tasks t on t.id = a.task_id
            where a.job_pk = j.pk and t.kind = 'transcribe' order by 1)) as worker_ids
    from jobs j";

impl Queue {
    /// One job.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn job(&self, job_id: &str, now_ms: i64) -> Result<Job> {
        self.db.read(|conn| {
            let mut statement = conn.statement(&format!("{COLUMNS} where j.id = ?1"))?;
            let job = statement.query_row([job_id], |row| from_row(row, now_ms)).optional()?;
            job.ok_or_else(|| not_found(job_id))
        })
    }

    /// State and progress alone, cheap enough to be asked many times a second.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn progress(&self, job_id: &str) -> Result<(JobState, f64)> {
        self.db.read(|conn| {
            let mut statement = conn.statement("select state, audio_ms, done_ms from jobs where id = ?1")?;
            let found = statement.query_row([job_id], |row| {
                let status = row.get::<_, String>(0)?.parse().unwrap_or(JobState::Failed);
                Ok((status, progress(status, row.get(1)?, row.get(2)?)))
            });
            found.optional()?.ok_or_else(|| not_found(job_id))
        })
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// `NotFound` where there is no job to go on after.
    pub fn jobs(&self, filter: &JobFilter, now_ms: i64) -> Result<Vec<Job>> {
        self.db.read(|conn| {
            if let Some(id) = &filter.after {
                find(conn, id)?;
            }
            let mut statement = conn.statement(&format!(
                "{COLUMNS} where (:state is null or j.state = :state) and (:model is null or j.model = :model)
                     and (:since is null or j.created_at_ms >= :since)
                     and (:after is null or j.pk < (select pk from jobs where id = :after))
                 order by j.pk desc limit :limit"
            ))?;
            let params = named_params! {
                ":state": filter.status.map(JobState::name), ":model": filter.model, ":since": filter.since_ms,
                ":after": filter.after, ":limit": filter.limit as i64,
            };
            let jobs = statement.query_map(params, |row| from_row(row, now_ms))?.collect::<Result<_, _>>()?;
            Ok(jobs)
        })
    }

    /// Whether each of `job_ids` may still need its recording, as a failed one does that may be tried again; `None` where
    /// there is no such job.
    pub fn need_recording(&self, job_ids: &[&str]) -> Result<Vec<Option<bool>>> {
        if job_ids.is_empty() {
            return Ok(Vec::new());
        }
        self.db.read(|conn| {
            let mut needs = conn.statement("select state not in ('completed', 'cancelled') from jobs where id = ?1")?;
            job_ids.iter().map(|id| Ok(needs.query_row([id], |row| row.get(0)).optional()?)).collect()
        })
    }

    /// Those of `job_ids` that have ended or are not known.
    pub fn ended_among(&self, job_ids: Vec<String>) -> Result<Vec<String>> {
        if job_ids.is_empty() {
            return Ok(job_ids);
        }
        self.db.read(|conn| {
            let mut open = conn.statement("select 1 from jobs where id = ?1 and state in ('queued', 'running')")?;
            let mut ended = Vec::new();
            for id in job_ids {
                if !open.exists([&id])? {
                    ended.push(id);
                }
            }
            Ok(ended)
        })
    }

    /// Those of `job_ids` that have not ended and that no living process takes: a command line left them behind, and whoever
    /// is there keeps to jobs of its own, as command lines do, or serves another model.
    pub fn abandoned_among(&self, job_ids: &[String]) -> Result<Vec<String>> {
        self.db.read(|conn| {
            let mut abandoned = conn.statement(
                "select 1 from jobs where id = ?1 and owner is null and state in ('queued', 'running')
                     and not exists (select 1 from processes p join worker_threads w on w.process_id = p.id
                         where p.ended_at_ms is null and p.command <> 'transcribe' and w.model = jobs.model)",
            )?;
            let mut found = Vec::new();
            for id in job_ids {
                if abandoned.exists([id])? {
                    found.push(id.clone());
                }
            }
            Ok(found)
        })
    }

    /// The transcript of a completed job: the translation where one was asked for.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` with the state while the job is not completed.
    pub fn transcript(&self, job_id: &str) -> Result<Transcript> {
        self.db.read(|conn| assemble(conn, completed(conn, job_id)?))
    }

    /// What was spoken in a completed job, and what it means where a translation was asked for.
    ///
    /// # Errors
    /// As [`Queue::transcript`].
    pub fn spoken(&self, job_id: &str) -> Result<Spoken> {
        self.db.read(|conn| {
            let pk = completed(conn, job_id)?;
            let transcript = assemble_pass(conn, pk, false)?;
            let translated = Some(assemble(conn, pk)?).filter(|transcript| transcript.translated);
            Ok(Spoken { transcript, translation: translated, timings: timings(conn, pk)? })
        })
    }

    /// How a job that came in RunPod's shape is to be answered.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn runpod_texts(&self, job_id: &str) -> Result<RunpodTexts> {
        self.db.read(|conn| {
            let texts: Option<Option<String>> = conn
                .statement("select options -> '$.runpod' from jobs where id = ?1")?
                .query_row([job_id], |row| row.get(0))
                .optional()?;
            let texts = texts.ok_or_else(|| not_found(job_id))?;
            Ok(texts.and_then(|texts| serde_json::from_str(&texts).ok()).unwrap_or_default())
        })
    }
}

/// A row of the view.
#[derive(Deserialize)]
struct DeliveryRow {
    kind: Destination,
    target: Option<String>,
    state: String,
    attempts: i64,
    last_error: Option<String>,
    next_attempt_at_ms: Option<i64>,
    finished_at_ms: Option<i64>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            kind: row.kind,
            target: row.target.unwrap_or_default(),
            state: row.state,
            attempts: row.attempts,
            last_error: row.last_error,
            next_attempt_at: row.next_attempt_at_ms.map(format_rfc3339),
            finished_at: row.finished_at_ms.map(format_rfc3339),
        }
    }
}

/// The key of a job that is completed.
fn completed(conn: &Connection, job_id: &str) -> Result<i64> {
    let (pk, state) = find(conn, job_id)?;
    if state == JobState::Completed.name() {
        return Ok(pk);
    }
    Err(Error::Conflict(format!("job {job_id} is {state}: it has no transcript")))
}

/// Clocks are set back now and then: no time is less than nothing.
fn timings(conn: &Connection, job_pk: i64) -> Result<Timings> {
    let mut statement = conn.statement(
        "select max(0, min(a.started_at_ms) - j.created_at_ms) as queue_ms,
             sum(iif(t.kind = 'prepare' and a.outcome = 'done', a.finished_at_ms - a.started_at_ms, 0)) as prepare_ms,
             coalesce(sum(a.engine_ms), 0) as engine_ms, max(0, j.finished_at_ms - j.created_at_ms) as total_ms
         from jobs j join attempts a on a.job_pk = j.pk join tasks t on t.id = a.task_id
         where j.pk = ?1 and t.kind <> 'deliver'",
    )?;
    let timings = statement.query_row([job_pk], |row| {
        Ok(Timings {
            queue_ms: row.get("queue_ms")?,
            prepare_ms: row.get("prepare_ms")?,
            engine_ms: row.get("engine_ms")?,
            total_ms: row.get("total_ms")?,
        })
    })?;
    Ok(timings)
}

pub(super) fn not_found(job_id: &str) -> Error {
    Error::NotFound(format!("there is no job {job_id}; `whisperq jobs list` shows the jobs"))
}

fn from_row(row: &Row<'_>, now_ms: i64) -> rusqlite::Result<Job> {
    let state: String = row.get("state")?;
    let status = state.parse().unwrap_or(JobState::Failed);
    let audio_ms: Option<i64> = row.get("audio_ms")?;
    let created: i64 = row.get("created_at_ms")?;
    let started: Option<i64> = row.get("started_at_ms")?;
    let finished: Option<i64> = row.get("finished_at_ms")?;
    let code: Option<String> = row.get("error_code")?;
    let message: Option<String> = row.get("error_message")?;
    Ok(Job {
        id: row.get("id")?,
        status,
        progress: progress(status, audio_ms, row.get("done_ms")?),
        source: row.get("source")?,
        created_at: format_rfc3339(created),
        started_at: started.map(format_rfc3339),
        finished_at: finished.map(format_rfc3339),
        delay_time_ms: started.map(|started| started - created),
        execution_time_ms: started.map(|started| finished.unwrap_or(now_ms).max(started) - started),
        audio_seconds: audio_ms.map(|ms| ms as f64 / 1000.0),
        language: row.get("language")?,
        model: row.get("model")?,
        attempts: row.get("attempts")?,
        worker_ids: json(row, "worker_ids")?,
        error: code.zip(message).map(|(code, message)| JobError { code, message }),
        warnings: json(row, "warnings")?,
        deliveries: json::<Vec<DeliveryRow>>(row, "deliveries")?.into_iter().map(Delivery::from).collect(),
        metadata: row.get::<_, Option<String>>("metadata")?.and_then(|text| serde_json::from_str(&text).ok()),
    })
}

/// The share of the audio that is done; 1 only when the job is.
fn progress(status: JobState, audio_ms: Option<i64>, done_ms: i64) -> f64 {
    match (status, audio_ms) {
        (JobState::Completed, _) => 1.0,
        (_, Some(audio_ms)) if audio_ms > 0 => (done_ms as f64 / audio_ms as f64).clamp(0.0, 0.999),
        _ => 0.0,
    }
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}

/// A time such as 2026-01-31T12:00:00Z, in milliseconds since 1970.
///
/// # Errors
/// `Config`, saying what is allowed.
pub fn parse_rfc3339_ms(text: &str) -> Result<i64> {
    let time: Timestamp = text.parse().map_err(|_| {
        Error::Config(format!("{text} is not a time: allowed is RFC 3339, such as 2026-01-31T12:00:00Z"))
    })?;
    Ok(time.as_millisecond())
}

/// Always with three digits of a second, so that text sorts as time does.
pub fn format_rfc3339(unix_ms: i64) -> String {
    format!("{:.3}", Timestamp::from_millisecond(unix_ms).unwrap_or(Timestamp::UNIX_EPOCH))
}
