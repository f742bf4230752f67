//! The operator's retry: the only way out of a terminal state, always with a new generation, keeping finished chunks.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::fail::{cancel_tasks, find};
use super::fair::start_tag;
use super::finish::close_attempt;
use super::submit::time_limits;
use super::{Limits, Queue, TaskRef, is_small, prepare_lane};
use crate::db::{Durability, Statements};
use crate::error::{Error, Result};
use crate::job::JobState;

impl Queue {
    /// Queues a failed or timed-out job again, for any worker. Its audio is decoded once more; its plan and its finished
    /// chunks are kept.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when the job is in another state.
    pub fn retry(&self, job_id: &str, now_ms: i64) -> Result<()> {
        let (id, limits) = (job_id.to_owned(), self.limits.clone());
        self.db.write(Durability::Full, move |conn| {
            let (pk, state) = find(conn, &id)?;
            let is_over = state.parse::<JobState>()?.is_terminal();
            if is_over {
                // What the last end had to tell is told again at the next.
                cancel_tasks(conn, pk, now_ms)?;
            }
            if !reopen(conn, pk, &limits, now_ms)? {
                return Err(Error::Conflict(format!(
                    "job {id} is {state}: only a failed or timed_out job can be retried"
                )));
            }
            let prepare = requeue_prepare(conn, pk, now_ms)?.ok_or(Error::ClaimLost)?;
            block_unfinished_chunks(conn, pk, prepare)
        })?;
        self.wake.notify();
        Ok(())
    }

    /// Lets a claimed chunk wait for its audio to be decoded again, because the samples are gone; nothing is counted
    /// against it.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task.
    pub fn prepare_again(&self, task: TaskRef, now_ms: i64) -> Result<()> {
        self.db.write(Durability::Full, move |conn| {
            let (job_pk, prepare): (i64, i64) = conn
                .statement(
                    "select t.job_pk, p.id from tasks t join tasks p on p.job_pk = t.job_pk and p.kind = 'prepare'
                     where t.id = ?1 and t.attempt = ?2 and t.state = 'running'",
                )?
                .query_row((task.id, task.attempt), |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?
                .ok_or(Error::ClaimLost)?;
            // The first chunk to notice asks for the decoding, the others find it asked for.
            requeue_prepare(conn, job_pk, now_ms)?;
            close_attempt(conn, task, "released", Some("the decoded audio was gone"), None, now_ms)?;
            conn.statement(
                "update tasks set state = 'blocked', waits_for = ?2, lease_until_ms = null, process_id = null,
                     worker_id = null
                 where id = ?1 and state = 'running'",
            )?
            .execute((task.id, prepare))?;
            Ok(())
        })?;
        self.wake.notify();
        Ok(())
    }
}

/// The time limits are those of now: a job that ran out of time is tried again because they were raised.
fn reopen(conn: &Connection, pk: i64, limits: &Limits, now_ms: i64) -> Result<bool> {
    let options: String =
        conn.statement("select options from jobs where pk = ?1")?.query_row([pk], |row| row.get(0))?;
    let (ttl_ms, execution_timeout_ms) = time_limits(&serde_json::from_str(&options).unwrap_or_default(), limits);
    let reopened = conn
        .statement(
            "update jobs set state = 'queued', generation = generation + 1, owner = null, error_code = null,
                 error_message = null, started_at_ms = null, execution_deadline_ms = null, finished_at_ms = null,
                 ttl_ms = :ttl, ttl_deadline_ms = :now + :ttl, execution_timeout_ms = :timeout
             where pk = :pk and state in ('failed', 'timed_out')",
        )?
        .execute(named_params! {":pk": pk, ":now": now_ms, ":ttl": ttl_ms, ":timeout": execution_timeout_ms})?;
    Ok(reopened == 1)
}

/// Queues the decoding once more; nothing where it is pending already.
fn requeue_prepare(conn: &Connection, pk: i64, now_ms: i64) -> Result<Option<i64>> {
    let (priority, model, owner, bytes): (i64, String, Option<String>, Option<i64>) = conn
        .statement("select priority, model, owner, source_bytes from jobs where pk = ?1")?
        .query_row([pk], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let lane = prepare_lane(is_small(bytes), &model, owner.as_deref());
    let key = start_tag(conn, "prepare", &lane, priority, now_ms)?;
    let requeued = conn
        .statement(
            "update tasks set state = 'queued', generation = generation + 1, lane = ?2, key = ?3, error_count = 0,
                 crash_count = 0, lost_count = 0, finished_at_ms = null
             where job_pk = ?1 and kind = 'prepare' and state in ('done', 'failed', 'cancelled')
             returning id",
        )?
        .query_row((pk, lane, key), |row| row.get(0))
        .optional()?;
    Ok(requeued)
}

/// A chunk that waited for another unfinished one still does; the others wait for the audio.
fn block_unfinished_chunks(conn: &Connection, pk: i64, prepare: i64) -> Result<()> {
    conn.statement(
        "update tasks set state = 'blocked', generation = generation + 1, error_count = 0, crash_count = 0,
             lost_count = 0, finished_at_ms = null,
             lane = (select model from jobs where pk = :pk),
             waits_for = coalesce(
                 (select before.id from tasks before where before.id = tasks.waits_for and before.kind = 'transcribe'
                      and before.state <> 'done'),
                 :prepare)
         where job_pk = :pk and kind = 'transcribe' and state in ('failed', 'cancelled')",
    )?
    .execute(named_params! {":pk": pk, ":prepare": prepare})?;
    Ok(())
}
