//! What is removed of old history, a little at a time.

use rusqlite::Connection;

use super::{PENDING, Queue};
use crate::db::{Durability, Statements};
use crate::error::Result;

/// One pass looks at so many jobs and removes those whose tasks together are no more than that, so that it never holds the
/// writer for long.
const JOBS_AT_ONCE: i64 = 200;
const TASKS_AT_ONCE: i64 = 1_000;
/// Minutes are for the last days; hours tell the rest.
const MINUTES_KEPT_MS: i64 = 2 * 24 * 3_600_000;

impl Queue {
    /// Removes jobs that ended before `before_ms`, oldest first, with all that belongs to them, and roll-ups of minutes that
    /// are long gone; returns how many jobs. Jobs with anything left to do stay.
    pub fn remove_old(&self, before_ms: i64, now_ms: i64) -> Result<usize> {
        self.db.write(Durability::Normal, move |conn| {
            conn.statement("delete from rollups where period_ms = 60000 and start_ms < ?1")?
                .execute([now_ms - MINUTES_KEPT_MS])?;
            conn.statement("delete from processes where ended_at_ms < ?1")?.execute([before_ms])?;
            let old = old_jobs(conn, before_ms)?;
            for (pk, finished_at_ms) in &old {
                conn.statement("update totals set kept_from_ms = max(kept_from_ms, ?1 + 1)")?
                    .execute([finished_at_ms])?;
                conn.statement("delete from jobs where pk = ?1 and finished_at_ms = ?2")?
                    .execute((pk, finished_at_ms))?;
            }
            Ok(old.len())
        })
    }
}

/// The oldest ones, as many as one pass may remove.
fn old_jobs(conn: &Connection, before_ms: i64) -> Result<Vec<(i64, i64)>> {
    let mut statement = conn.statement(&format!(
        "select pk, finished_at_ms, (select count(*) from tasks where job_pk = pk) from jobs
         where finished_at_ms < ?1
             and not exists (select 1 from tasks where job_pk = pk and kind = 'deliver' and state in {PENDING})
         order by finished_at_ms, pk limit ?2"
    ))?;
    let mut rows = statement.query((before_ms, JOBS_AT_ONCE))?;
    let (mut jobs, mut tasks) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        tasks += row.get::<_, i64>(2)?;
        if tasks > TASKS_AT_ONCE && !jobs.is_empty() {
            break;
        }
        jobs.push((row.get(0)?, row.get(1)?));
    }
    Ok(jobs)
}
