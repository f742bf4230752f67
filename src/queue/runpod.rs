//! What a worker of RunPod's asks its queue here: how much it could still take, which jobs it holds, and a job that is no
//! job. Its results leave as every other delivery does.

use rusqlite::{OptionalExtension, named_params};

use super::fail::{Ending, end_job, find};
use super::submit::{earlier, insert};
use super::{Queue, transcribe_lane};
use crate::db::{Durability, Statements};
use crate::error::Result;
use crate::job::{JobState, NewJob};

impl Queue {
    /// How much work for `model` is ready for a thread or on its way to that, counted up to about `most`: what waits for
    /// its next try counts, what waits for another chunk does not.
    pub fn ahead(&self, model: &str, most: usize) -> Result<usize> {
        let lane = transcribe_lane(model, None);
        let count = self.db.read(|conn| {
            let mut statement = conn.statement(
                "select (select count(*) from (select 1 from tasks
                             where kind = 'transcribe' and lane = :lane and state = 'queued' limit :most))
                      + (select count(*) from (select 1 from tasks
                             where kind = 'prepare' and state = 'queued' limit :most))
                      + (select count(*) from tasks where kind in ('prepare', 'transcribe') and state = 'running')
                      + (select count(*) from (select 1 from tasks
                             where kind in ('prepare', 'transcribe') and state = 'delayed' limit :most))",
            )?;
            let params = named_params! {":lane": lane, ":most": i64::try_from(most).unwrap_or(i64::MAX)};
            Ok(statement.query_row(params, |row| row.get::<_, i64>(0))?)
        })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// The jobs that RunPod waits for: those that have not ended, and those whose result has not arrived.
    pub fn held_for_runpod(&self) -> Result<Vec<String>> {
        self.db.read(|conn| {
            let mut statement = conn.statement(
                "select id from jobs where state = 'queued' and from_runpod
                 union all
                 select id from jobs where state = 'running' and from_runpod
                 union all
                 select j.id from tasks t join jobs j on j.pk = t.job_pk
                 where t.kind = 'deliver' and t.seq = 2 and t.state in ('blocked', 'delayed', 'queued', 'running')
                 order by 1",
            )?;
            let held = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(held)
        })
    }

    /// Takes a job in that cannot be done and ends it at once, so that whoever waits for it is told like of any other.
    /// One that came before under its id is left as it is.
    pub fn submit_failed(&self, job: NewJob, code: &str, message: &str, now_ms: i64) -> Result<()> {
        let (limits, code, message) = (self.limits.clone(), code.to_owned(), message.to_owned());
        self.db.write(Durability::Full, move |conn| {
            if earlier(conn, None, &job.id)?.is_none() {
                insert(conn, &job, &limits, now_ms)?;
                let (pk, _) = find(conn, &job.id)?;
                end_job(conn, pk, &Ending { state: JobState::Failed, code: &code, message: &message }, now_ms)?;
            }
            Ok(())
        })?;
        self.wake.notify();
        Ok(())
    }

    /// Removes a cancelled job, so that its id can be given out again; false where it is not cancelled.
    pub fn forget_cancelled(&self, job_id: &str) -> Result<bool> {
        let id = job_id.to_owned();
        self.db.write(Durability::Full, move |conn| {
            let removed: Option<i64> = conn
                .statement("delete from jobs where id = ?1 and state = 'cancelled' returning finished_at_ms")?
                .query_row([&id], |row| row.get(0))
                .optional()?;
            if let Some(finished_at_ms) = removed {
                // The roll-ups know of it still.
                conn.statement("update totals set kept_from_ms = max(kept_from_ms, ?1 + 1)")?
                    .execute([finished_at_ms])?;
            }
            Ok(removed.is_some())
        })
    }

    /// Ends a job that this process cannot do, as it never will: its model does not load.
    pub fn fail_job(&self, job_id: &str, code: &str, message: &str, now_ms: i64) -> Result<()> {
        let (id, code, message) = (job_id.to_owned(), code.to_owned(), message.to_owned());
        self.db.write(Durability::Full, move |conn| {
            let (pk, _) = find(conn, &id)?;
            end_job(conn, pk, &Ending { state: JobState::Failed, code: &code, message: &message }, now_ms)?;
            Ok(())
        })?;
        self.wake.notify();
        Ok(())
    }
}
