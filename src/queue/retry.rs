//! The operator's retry: the only way out of a terminal state, always with a new generation, keeping finished chunks.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::Queue;
use super::fail::find;
use super::fair::start_tag;
use crate::db::Durability;
use crate::error::{Error, Result};

impl Queue {
    /// Queues a failed or timed-out job again, for any worker. Its audio is decoded once more; its plan and its finished
    /// chunks are kept.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when the job is in another state.
    pub fn retry(&self, job_id: &str, now_ms: i64) -> Result<()> {
        let id = job_id.to_owned();
        self.db.write(Durability::Full, move |conn| {
            let (pk, state) = find(conn, &id)?;
            if !reopen(conn, pk, now_ms)? {
                return Err(Error::Conflict(format!(
                    "job {id} is {state}: only a failed or timed_out job can be retried"
                )));
            }
            let prepare = requeue_prepare(conn, pk, now_ms)?;
            block_unfinished_chunks(conn, pk, prepare)
        })?;
        self.wake.notify();
        Ok(())
    }
}

fn reopen(conn: &Connection, pk: i64, now_ms: i64) -> Result<bool> {
    let reopened = conn
        .prepare_cached(
            "update jobs set state = 'queued', generation = generation + 1, owner = null, error_code = null,
                 error_message = null, started_at_ms = null, execution_deadline_ms = null, finished_at_ms = null,
                 ttl_deadline_ms = ?2 + ttl_ms
             where pk = ?1 and state in ('failed', 'timed_out')",
        )?
        .execute((pk, now_ms))?;
    Ok(reopened == 1)
}

/// The samples of an ended job are gone, so decoding always comes first.
fn requeue_prepare(conn: &Connection, pk: i64, now_ms: i64) -> Result<i64> {
    let priority: i64 =
        conn.prepare_cached("select priority from jobs where pk = ?1")?.query_row([pk], |row| row.get(0))?;
    let key = start_tag(conn, "prepare", "prepare", priority, now_ms)?;
    conn.prepare_cached(
        "update tasks set state = 'queued', generation = generation + 1, lane = 'prepare', key = ?2, error_count = 0,
             crash_count = 0, lost_count = 0, finished_at_ms = null
         where job_pk = ?1 and kind = 'prepare' and state in ('done', 'failed', 'cancelled')
         returning id",
    )?
    .query_row((pk, key), |row| row.get(0))
    .optional()?
    .ok_or_else(|| Error::Conflict("the job has no task to decode its audio".to_owned()))
}

/// A chunk that waited for another unfinished one still does; the others wait for the audio.
fn block_unfinished_chunks(conn: &Connection, pk: i64, prepare: i64) -> Result<()> {
    conn.prepare_cached(
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
