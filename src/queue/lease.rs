//! Leases: keeping them while work goes on, and taking tasks back from attempts that will never finish.

use rusqlite::{Connection, OptionalExtension};

use super::fail::{Ending, give_up};
use super::fair::requeue;
use super::finish::close_attempt;
use super::submit::disown;
use super::{Queue, TaskRef};
use crate::crash::Culprit;
use crate::db::{Durability, Statements};
use crate::error::{Error, Result};
use crate::job::JobState;

/// A chunk that killed its process this often is taken to be the cause.
const MAX_CRASHES: i64 = 2;
/// A chunk whose process vanished this often without a trace is given up all the same.
const MAX_LOSSES: i64 = 10;
/// One pass of the housekeeping touches at most this many tasks, so that it never holds the writer for long.
const BATCH: i64 = 500;

/// Why an attempt will never finish.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The work on this very task stopped or killed the process.
    Crashed,
    /// The process vanished, for whatever reason.
    Lost,
}

impl Queue {
    /// Extends the leases of `tasks` and marks the process alive; returns those that are no longer its own, to be
    /// stopped.
    pub fn renew(&self, process_id: &str, tasks: &[TaskRef], now_ms: i64) -> Result<Vec<TaskRef>> {
        let (process_id, tasks) = (process_id.to_owned(), tasks.to_vec());
        let lease_until_ms = now_ms + self.limits.lease_ms;
        self.db.write(Durability::Normal, move |conn| {
            conn.statement("update processes set heartbeat_at_ms = ?2 where id = ?1")?
                .execute((&process_id, now_ms))?;
            let mut update = conn.statement(
                "update tasks set lease_until_ms = ?4
                 where id = ?1 and attempt = ?2 and state = 'running' and process_id = ?3",
            )?;
            let mut lost = Vec::new();
            for task in tasks {
                if update.execute((task.id, task.attempt, &process_id, lease_until_ms))? == 0 {
                    lost.push(task);
                }
            }
            Ok(lost)
        })
    }

    /// The ones among `tasks` that their attempts no longer own; reads only.
    pub fn lost_among(&self, tasks: &[TaskRef]) -> Result<Vec<TaskRef>> {
        self.db.read(|conn| {
            let mut owned =
                conn.statement("select 1 from tasks where id = ?1 and attempt = ?2 and state = 'running'")?;
            let mut lost = Vec::new();
            for &task in tasks {
                if !owned.exists((task.id, task.attempt))? {
                    lost.push(task);
                }
            }
            Ok(lost)
        })
    }

    /// Takes back tasks whose lease has run out, other than those of `own_process`, which knows better; returns how many.
    pub fn reap(&self, own_process: &str, now_ms: i64) -> Result<usize> {
        let own_process = own_process.to_owned();
        let reaped = self.db.write(Durability::Full, move |conn| {
            let tasks = running(
                conn,
                "select id, attempt from tasks where state = 'running' and lease_until_ms <= ?1 and process_id <> ?2
                 limit ?3",
                (now_ms, own_process, BATCH),
            )?;
            take_back_all(conn, &tasks, Cause::Lost, now_ms)
        })?;
        self.notify_if(reaped)
    }

    /// Takes back everything that a dead process held and closes its row; returns how many tasks that were. `culprit`: what
    /// it was killed by, which counts only while it is among them; a thread of the engine's own is taken to have worked on
    /// the only task there was.
    pub(super) fn recover(&self, dead_process: &str, culprit: Option<Culprit>, now_ms: i64) -> Result<usize> {
        let dead = dead_process.to_owned();
        let recovered = self.db.write(Durability::Full, move |conn| {
            let tasks = running(
                conn,
                "select id, attempt from tasks where state = 'running' and process_id = ?1 limit ?2",
                (&dead, i64::MAX),
            )?;
            let alone = tasks.len() == 1;
            let (crashed, lost): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| match culprit {
                Some(Culprit::Task(held)) => *task == TaskRef { id: held.task, attempt: held.attempt },
                Some(Culprit::Unknown) => alone,
                None => false,
            });
            let mut recovered = take_back_all(conn, &crashed, Cause::Crashed, now_ms)?;
            recovered += take_back_all(conn, &lost, Cause::Lost, now_ms)?;
            disown(conn, &dead, now_ms)?;
            conn.statement("update processes set ended_at_ms = ?2 where id = ?1 and ended_at_ms is null")?
                .execute((&dead, now_ms))?;
            Ok(recovered)
        })?;
        self.notify_if(recovered)
    }

    /// Records that this very task stopped its process: after the second time it fails with `worker_crashed`.
    ///
    /// # Errors
    /// `ClaimLost` when this attempt no longer owns the task.
    pub fn crash(&self, task: TaskRef, now_ms: i64) -> Result<()> {
        self.db.write(Durability::Full, move |conn| take_back(conn, task, Cause::Crashed, now_ms))?;
        self.wake.notify();
        Ok(())
    }

    /// Queues the delayed tasks whose time has come; returns how many.
    pub fn promote(&self, now_ms: i64) -> Result<usize> {
        let promoted = self.db.write(Durability::Normal, move |conn| {
            let mut due = conn.statement(
                "select id from tasks where state = 'delayed' and run_at_ms <= ?1 order by run_at_ms limit ?2",
            )?;
            let due: Vec<i64> = due.query_map((now_ms, BATCH), |row| row.get(0))?.collect::<Result<_, _>>()?;
            for &id in &due {
                requeue(conn, id, now_ms)?;
            }
            Ok(due.len())
        })?;
        self.notify_if(promoted)
    }

    fn notify_if(&self, changed: usize) -> Result<usize> {
        if changed > 0 {
            self.wake.notify();
        }
        Ok(changed)
    }
}

fn running(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Vec<TaskRef>> {
    let mut statement = conn.statement(sql)?;
    let tasks = statement
        .query_map(params, |row| Ok(TaskRef { id: row.get(0)?, attempt: row.get(1)? }))?
        .collect::<Result<_, _>>()?;
    Ok(tasks)
}

fn take_back_all(conn: &Connection, tasks: &[TaskRef], cause: Cause, now_ms: i64) -> Result<usize> {
    let mut taken = 0;
    for &task in tasks {
        match take_back(conn, task, cause, now_ms) {
            Ok(()) => taken += 1,
            // An earlier task of the same process ended their common job.
            Err(Error::ClaimLost) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

/// Ends an attempt for its worker: the task is queued at once, or fails when this has happened too often.
fn take_back(conn: &Connection, task: TaskRef, cause: Cause, now_ms: i64) -> Result<()> {
    let crashed = cause == Cause::Crashed;
    let counted: Option<(i64, i64, i64)> = conn
        .statement(
            "update tasks set crash_count = crash_count + ?3, lost_count = lost_count + 1 - ?3
             where id = ?1 and attempt = ?2 and state = 'running' returning job_pk, crash_count, lost_count",
        )?
        .query_row((task.id, task.attempt, crashed), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((job_pk, crashes, losses)) = counted else { return Err(Error::ClaimLost) };
    close_attempt(conn, task, if crashed { "crashed" } else { "lost" }, None, None, now_ms)?;
    let (code, message) = if crashes >= MAX_CRASHES {
        ("worker_crashed", "the engine crashed or hung on the same piece of this audio twice")
    } else if losses >= MAX_LOSSES {
        ("worker_lost", "the process working on this job vanished ten times; see its logs, then retry the job")
    } else {
        return requeue(conn, task.id, now_ms);
    };
    give_up(conn, task.id, job_pk, &Ending { state: JobState::Failed, code, message }, now_ms)
}
