//! Deliveries: the tasks that carry a job's results to where they go, queued in the transaction that ends the job. They are
//! tried longer than other tasks, and whatever becomes of them, the job stays as it ended.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::fail::{Patience, find};
use super::fair::{release_waiters, start_tag};
use super::finish::{close_attempt, mark_done};
use super::{Queue, TaskRef};
use crate::db::{Durability, Statements};
use crate::error::{Error, Result};
use crate::job::{Destination, JobState};

/// Where deliveries wait: any process on this database can do them.
pub const DELIVER_LANE: &str = "deliver";
/// Errors of one delivery before it is given up; with the pauses between them these are more than five hours.
const MAX_ERRORS: i64 = 12;
const MAX_BACKOFF_MS: i64 = 3_600_000;
/// Where the results wait that only a worker of RunPod's can post.
pub const RUNPOD_LANE: &str = "deliver-runpod";
/// RunPod ends jobs that it hears nothing of: the pauses are short, and together about an hour.
const RUNPOD_MAX_ERRORS: i64 = 120;
const RUNPOD_MAX_BACKOFF_MS: i64 = 30_000;

/// How a delivery is tried again.
pub(super) fn patience(destination: i64) -> Patience {
    if destination == Destination::Runpod as i64 {
        Patience { most: RUNPOD_MAX_ERRORS, growth: 2, longest_ms: RUNPOD_MAX_BACKOFF_MS }
    } else {
        Patience { most: MAX_ERRORS, growth: 4, longest_ms: MAX_BACKOFF_MS }
    }
}

impl Queue {
    /// Ends a delivery that has arrived, and lets go on what waited for it.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task.
    pub fn finish_delivery(&self, task: TaskRef, now_ms: i64) -> Result<()> {
        self.db.write(Durability::Full, move |conn| {
            mark_done(conn, task, now_ms)?;
            close_attempt(conn, task, "done", None, None, now_ms)?;
            release_waiters(conn, task.id, None, now_ms)
        })?;
        self.wake.notify();
        Ok(())
    }

    /// Queues the deliveries of an ended job again, those that arrived too; one that waits for its next try is tried now.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when the job has not ended or delivers nothing.
    pub fn redeliver(&self, job_id: &str, now_ms: i64) -> Result<()> {
        let id = job_id.to_owned();
        self.db.write(Durability::Full, move |conn| {
            let (pk, state) = find(conn, &id)?;
            let state: JobState = state.parse()?;
            if !state.is_terminal() {
                return Err(Error::Conflict(format!(
                    "job {id} is {state}: its results are delivered when it has ended"
                )));
            }
            let due = conn
                .statement(
                    "update tasks set run_at_ms = ?2 where job_pk = ?1 and kind = 'deliver' and state = 'delayed'",
                )?
                .execute((pk, now_ms))?;
            if insert_deliveries(conn, pk, state, now_ms)? + due == 0 {
                return Err(Error::Conflict(format!(
                    "job {id} has nothing to deliver now: it names no webhook and no output_uri, or both are under way"
                )));
            }
            Ok(())
        })?;
        self.promote(now_ms)?;
        self.wake.notify();
        Ok(())
    }

    /// Whether each of `jobs` (its id, and what the caller knows of it) may still need its secrets other than the webhook's address, as a failed one does that may be
    /// tried again; `None` where there is no such job.
    pub fn need_secrets(&self, jobs: &[(String, bool)]) -> Result<Vec<Option<bool>>> {
        self.db.read(|conn| {
            let mut needs = conn.statement(
                "select state not in ('completed', 'cancelled') or exists (
                     select 1 from tasks where job_pk = pk and kind = 'deliver' and tasks.state not in ('done', 'cancelled'))
                 from jobs where id = ?1",
            )?;
            jobs.iter().map(|(id, _)| Ok(needs.query_row([id], |row| row.get(0)).optional()?)).collect()
        })
    }
}

/// Queues what a job that has just ended sends out; returns how much. What it sent at an earlier end is sent anew.
pub(super) fn insert_deliveries(conn: &Connection, job_pk: i64, state: JobState, now_ms: i64) -> Result<usize> {
    let (priority, output, webhook, runpod): (i64, bool, bool, bool) = conn
        .statement(
            "select priority, output_uri is not null, webhook is not null, coalesce(from_runpod, 0)
             from jobs where pk = ?1",
        )?
        .query_row([job_pk], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    // Who cancels a job wants nothing written, and RunPod's queue forgets it.
    let stands = state != JobState::Cancelled;
    let files =
        if output && stands { insert(conn, job_pk, priority, Destination::Output, None, now_ms)? } else { None };
    let mut count = usize::from(files.is_some());
    // Neither waits for the other: a webhook may be out of reach for hours.
    for (destination, wanted) in [(Destination::Webhook, webhook), (Destination::Runpod, runpod && stands)] {
        if wanted {
            count += usize::from(insert(conn, job_pk, priority, destination, files, now_ms)?.is_some());
        }
    }
    Ok(count)
}

fn insert(
    conn: &Connection,
    job_pk: i64,
    priority: i64,
    destination: Destination,
    before: Option<i64>,
    now_ms: i64,
) -> Result<Option<i64>> {
    let mut statement = conn.statement(
        "insert into tasks (job_pk, kind, seq, lane, priority, key, state, waits_for)
         values (:job, 'deliver', :seq, :lane, :priority, :key, iif(:before is null, 'queued', 'blocked'), :before)
         on conflict (job_pk, kind, pass, seq) do update set state = excluded.state, key = excluded.key,
             waits_for = excluded.waits_for, generation = generation + 1, error_count = 0, crash_count = 0, lost_count = 0,
             finished_at_ms = null
         where state in ('done', 'failed', 'cancelled')
         returning id",
    )?;
    let lane = if destination == Destination::Runpod { RUNPOD_LANE } else { DELIVER_LANE };
    let params = named_params! {
        ":job": job_pk, ":seq": destination as i64, ":lane": lane, ":priority": priority,
        ":key": start_tag(conn, "deliver", lane, priority, now_ms)?, ":before": before,
    };
    Ok(statement.query_row(params, |row| row.get(0)).optional()?)
}
