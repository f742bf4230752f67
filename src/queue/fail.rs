//! Everything that ends otherwise than well: errors and their back-off, tasks given back, jobs failed, cancelled or out
//! of time.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::deliver::{self, insert_deliveries};
use super::fair::{release_waiters, requeue};
use super::finish::close_attempt;
use super::read::not_found;
use super::{PENDING, Queue, TaskRef};
use crate::db::{Durability, Statements};
use crate::error::{Error, Result};
use crate::job::JobState;

/// The first retry comes after about this long; each further one waits four times as long.
const BACKOFF_MS: i64 = 1_000;
const MAX_BACKOFF_MS: i64 = 60_000;
/// One pass of the housekeeping ends at most this many overdue jobs, so that it never holds the writer for long.
const EXPIRE_BATCH: i64 = 100;

/// How a job ends other than by completing.
pub(super) struct Ending<'a> {
    pub(super) state: JobState,
    pub(super) code: &'a str,
    pub(super) message: &'a str,
}

impl Queue {
    /// Records that an attempt failed: the task is tried again after a pause, or its job fails, when the error is of a
    /// kind that stays or has come too often. `jitter` from 0 to 1 spreads the retries.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task.
    pub fn fail(&self, task: TaskRef, error: &Error, jitter: f64, now_ms: i64) -> Result<()> {
        let max_attempts = self.limits.max_attempts;
        let (retryable, code, message) = (error.is_retryable(), error.code(), error.to_string());
        self.db.write(Durability::Full, move |conn| {
            let Counted { job_pk, errors, delivers_to } = count_error(conn, task)?;
            close_attempt(conn, task, "error", Some(&message), None, now_ms)?;
            let usual = Patience { most: max_attempts, growth: 4, longest_ms: MAX_BACKOFF_MS };
            let patience = delivers_to.map_or(usual, deliver::patience);
            if retryable && errors < patience.most {
                return delay(conn, task.id, now_ms + backoff_ms(errors, jitter, &patience));
            }
            give_up(conn, task.id, job_pk, &Ending { state: JobState::Failed, code, message: &message }, now_ms)
        })?;
        self.wake.notify();
        Ok(())
    }

    /// Gives a claimed task back unharmed, as on shutdown: nothing is counted against it.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task.
    pub fn release(&self, task: TaskRef, now_ms: i64) -> Result<()> {
        self.db.write(Durability::Normal, move |conn| {
            owned(conn, task)?;
            close_attempt(conn, task, "released", None, None, now_ms)?;
            requeue(conn, task.id, now_ms)
        })?;
        self.wake.notify();
        Ok(())
    }

    /// Cancels a job that has not ended. Workers in the middle of a chunk of it learn so at their next look.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when the job has ended already.
    pub fn cancel(&self, job_id: &str, now_ms: i64) -> Result<()> {
        let id = job_id.to_owned();
        self.db.write(Durability::Full, move |conn| {
            let (pk, state) = find(conn, &id)?;
            let ending = Ending { state: JobState::Cancelled, code: "cancelled", message: "cancelled on request" };
            if end_job(conn, pk, &ending, now_ms)? {
                return Ok(());
            }
            Err(Error::Conflict(format!("job {id} is {state}: only a queued or running job can be cancelled")))
        })?;
        self.wake.notify();
        Ok(())
    }

    /// Cancels the jobs that wait for their first worker, other than those whose owner waits for them; returns how many.
    pub fn purge(&self, now_ms: i64) -> Result<usize> {
        let mut purged = 0;
        loop {
            let batch = self.db.write(Durability::Full, move |conn| {
                let mut statement = conn
                    .statement("select pk from jobs where state = 'queued' and owner is null order by pk limit ?1")?;
                let waiting: Vec<i64> =
                    statement.query_map([EXPIRE_BATCH], |row| row.get(0))?.collect::<Result<_, _>>()?;
                for pk in &waiting {
                    let ending = Ending { state: JobState::Cancelled, code: "cancelled", message: "purged on request" };
                    end_job(conn, *pk, &ending, now_ms)?;
                }
                Ok(waiting.len())
            })?;
            purged += batch;
            if batch < EXPIRE_BATCH as usize {
                self.wake.notify();
                return Ok(purged);
            }
        }
    }

    /// Ends the jobs that waited or ran too long, other than those whose owner waits for them; returns how many.
    pub fn expire(&self, now_ms: i64) -> Result<usize> {
        let expired = self.db.write(Durability::Full, move |conn| {
            let waited = overdue(
                conn,
                "select pk from jobs where state = 'queued' and ttl_deadline_ms <= ?1 and owner is null
                 order by ttl_deadline_ms limit ?2",
                now_ms,
            )?;
            let ran = overdue(
                conn,
                "select pk from jobs where state = 'running' and execution_deadline_ms <= ?1 and owner is null
                 order by execution_deadline_ms limit ?2",
                now_ms,
            )?;
            let ttl = "the job waited longer than its ttl_seconds; raise it (JOB_TTL_SECONDS) or retry the job";
            let execution = "the job ran longer than its execution_timeout_seconds; raise it \
                             (EXECUTION_TIMEOUT_SECONDS) and retry the job: finished chunks are kept";
            for (jobs, code, message) in [(&waited, "ttl_expired", ttl), (&ran, "execution_timeout", execution)] {
                for pk in jobs {
                    end_job(conn, *pk, &Ending { state: JobState::TimedOut, code, message }, now_ms)?;
                }
            }
            Ok(waited.len() + ran.len())
        })?;
        if expired > 0 {
            self.wake.notify();
        }
        Ok(expired)
    }
}

fn overdue(conn: &Connection, sql: &str, now_ms: i64) -> Result<Vec<i64>> {
    let mut statement = conn.statement(sql)?;
    let jobs = statement.query_map((now_ms, EXPIRE_BATCH), |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(jobs)
}

/// How often a task is tried, and how long the pauses between are.
pub(super) struct Patience {
    /// Errors before it is given up.
    pub(super) most: i64,
    /// Each pause is so many times the one before.
    pub(super) growth: i64,
    pub(super) longest_ms: i64,
}

/// Growing with every error, and somewhere between half and one and a half of that.
fn backoff_ms(errors: i64, jitter: f64, patience: &Patience) -> i64 {
    let exponent = u32::try_from(errors - 1).unwrap_or(0).min(8);
    let pause = (BACKOFF_MS * patience.growth.pow(exponent)).min(patience.longest_ms);
    (pause as f64 * (0.5 + jitter.clamp(0.0, 1.0))) as i64
}

pub(super) fn find(conn: &Connection, job_id: &str) -> Result<(i64, String)> {
    conn.statement("select pk, state from jobs where id = ?1")?
        .query_row([job_id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .ok_or_else(|| not_found(job_id))
}

/// The fence for everything that is not a finish.
pub(super) fn owned(conn: &Connection, task: TaskRef) -> Result<()> {
    let found: Option<i64> = conn
        .statement("select 1 from tasks where id = ?1 and attempt = ?2 and state = 'running'")?
        .query_row((task.id, task.attempt), |row| row.get(0))
        .optional()?;
    found.map(|_| ()).ok_or(Error::ClaimLost)
}

/// A task after one more error.
struct Counted {
    job_pk: i64,
    errors: i64,
    /// Which delivery it is, if it is one.
    delivers_to: Option<i64>,
}

fn count_error(conn: &Connection, task: TaskRef) -> Result<Counted> {
    let counted = conn
        .statement(
            "update tasks set error_count = error_count + 1
             where id = ?1 and attempt = ?2 and state = 'running' returning job_pk, error_count,
                 iif(kind = 'deliver', seq, null)",
        )?
        .query_row((task.id, task.attempt), |row| {
            Ok(Counted { job_pk: row.get(0)?, errors: row.get(1)?, delivers_to: row.get(2)? })
        });
    counted.optional()?.ok_or(Error::ClaimLost)
}

fn delay(conn: &Connection, task_id: i64, run_at_ms: i64) -> Result<()> {
    let delayed = conn
        .statement(
            "update tasks set state = 'delayed', run_at_ms = ?2, lease_until_ms = null, process_id = null,
                 worker_id = null
             where id = ?1 and state = 'running'",
        )?
        .execute((task_id, run_at_ms))?;
    if delayed == 1 { Ok(()) } else { Err(Error::ClaimLost) }
}

/// Fails a claimed task for good, and its job with it, unless that had ended before; what waited for a delivery goes on.
pub(super) fn give_up(conn: &Connection, task_id: i64, job_pk: i64, ending: &Ending<'_>, now_ms: i64) -> Result<()> {
    mark_failed(conn, task_id, now_ms)?;
    end_job(conn, job_pk, ending, now_ms)?;
    release_waiters(conn, task_id, None, now_ms)
}

fn mark_failed(conn: &Connection, task_id: i64, now_ms: i64) -> Result<()> {
    let failed = conn
        .statement(
            "update tasks set state = 'failed', finished_at_ms = ?2, lease_until_ms = null, process_id = null,
                 worker_id = null
             where id = ?1 and state = 'running'",
        )?
        .execute((task_id, now_ms))?;
    if failed == 1 { Ok(()) } else { Err(Error::ClaimLost) }
}

/// Ends a job and takes its tasks out of the queue; false when it had ended before.
pub(super) fn end_job(conn: &Connection, job_pk: i64, ending: &Ending<'_>, now_ms: i64) -> Result<bool> {
    let ended = conn
        .statement(
            "update jobs set state = :state, error_code = :code, error_message = :message,
                 finished_at_ms = max(:now, coalesce(started_at_ms, created_at_ms))
             where pk = :pk and state in ('queued', 'running')",
        )?
        .execute(named_params! {
            ":state": ending.state.name(), ":code": ending.code, ":message": ending.message, ":now": now_ms,
            ":pk": job_pk,
        })?;
    if ended == 0 {
        return Ok(false);
    }
    cancel_tasks(conn, job_pk, now_ms)?;
    insert_deliveries(conn, job_pk, ending.state, now_ms)?;
    Ok(true)
}

/// Takes everything of a job out of the queue.
pub(super) fn cancel_tasks(conn: &Connection, job_pk: i64, now_ms: i64) -> Result<()> {
    conn.statement(
        "update attempts set outcome = 'cancelled', finished_at_ms = max(?2, started_at_ms)
         where outcome is null and (task_id, attempt) in
             (select id, attempt from tasks where job_pk = ?1 and state = 'running')",
    )?
    .execute((job_pk, now_ms))?;
    conn.statement(&format!(
        "update tasks set state = 'cancelled', finished_at_ms = ?2, lease_until_ms = null, process_id = null,
             worker_id = null, run_at_ms = null
         where job_pk = ?1 and state in {PENDING}"
    ))?
    .execute((job_pk, now_ms))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{MAX_BACKOFF_MS, Patience, deliver};
    use crate::job::Destination;

    #[test]
    fn back_off_grows_fourfold_up_to_a_minute_and_is_spread_by_half() {
        let usual = Patience { most: 3, growth: 4, longest_ms: MAX_BACKOFF_MS };
        let backoff_ms = |errors, jitter| super::backoff_ms(errors, jitter, &usual);
        assert_eq!(backoff_ms(1, 0.5), 1_000);
        assert_eq!(backoff_ms(2, 0.5), 4_000);
        assert_eq!(backoff_ms(3, 0.0), 8_000);
        assert_eq!(backoff_ms(3, 1.0), 24_000);
        assert_eq!(backoff_ms(50, 0.5), 60_000);
        let of = |destination, errors| super::backoff_ms(errors, 0.5, &deliver::patience(destination as i64));
        assert_eq!(of(Destination::Webhook, 50), 3_600_000);
        assert_eq!([1, 2, 3, 4, 5, 6, 50].map(|n| of(Destination::Runpod, n) / 1000), [1, 2, 4, 8, 16, 30, 30]);
    }
}
