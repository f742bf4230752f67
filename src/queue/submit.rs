//! New jobs, and jobs that a command line left behind and takes up again.

use rusqlite::{Connection, OptionalExtension, named_params};
use uuid::Uuid;

use super::fair::start_tag;
use super::{PENDING, Queue, lane};
use crate::db::Durability;
use crate::error::{Error, Result};
use crate::job::NewJob;

/// A job that is now in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub id: String,
    /// Whether an interrupted job was taken up instead of a new one made.
    pub resumed: bool,
}

impl Queue {
    /// Puts a job and its `prepare` task into the queue; both survive a loss of power once this returns.
    ///
    /// # Errors
    /// `Overloaded` when MAX_QUEUED jobs are waiting.
    pub fn submit(&self, job: NewJob, now_ms: i64) -> Result<Submitted> {
        let max_queued = self.limits.max_queued;
        let submitted = self.db.write(Durability::Full, move |conn| {
            refuse_when_full(conn, max_queued)?;
            let id = insert(conn, &job, now_ms)?;
            Ok(Submitted { id, resumed: false })
        })?;
        self.wake.notify();
        Ok(submitted)
    }

    /// Takes up an unfinished job of the same source, model and options that nobody owns, else submits a new one.
    pub fn resume_or_submit(&self, job: NewJob, now_ms: i64) -> Result<Submitted> {
        let wanted = job.clone();
        let resumed = self.db.write(Durability::Full, move |conn| take_up(conn, &wanted, now_ms))?;
        let Some(id) = resumed else { return self.submit(job, now_ms) };
        self.wake.notify();
        Ok(Submitted { id, resumed: true })
    }
}

fn refuse_when_full(conn: &Connection, max_queued: i64) -> Result<()> {
    let queued: i64 =
        conn.prepare_cached("select jobs from job_counts where state = 'queued'")?.query_row([], |row| row.get(0))?;
    if queued < max_queued {
        return Ok(());
    }
    Err(Error::Overloaded(format!("{queued} jobs are waiting, the limit (MAX_QUEUED): try again later")))
}

fn insert(conn: &Connection, job: &NewJob, now_ms: i64) -> Result<String> {
    let id = Uuid::now_v7().to_string();
    let options = &job.options;
    let milliseconds = |seconds: Option<u64>, default: i64| seconds.map_or(default, |s| s as i64 * 1000);
    conn.prepare_cached(
        "insert into jobs (id, owner, front_door, source, source_version, options, model, language, priority, warnings,
             created_at_ms, ttl_ms, ttl_deadline_ms, execution_timeout_ms)
         values (:id, :owner, :front_door, :source, :version, :options, :model, :language, :priority, :warnings,
             :now, :ttl, :now + :ttl, :timeout)",
    )?
    .execute(named_params! {
        ":id": id,
        ":owner": job.owner,
        ":front_door": job.front_door.name(),
        ":source": job.source,
        ":version": job.source_version,
        ":options": to_json(options)?,
        ":model": job.model,
        ":language": job.language,
        ":priority": options.priority.unwrap_or(0),
        ":warnings": to_json(&options.warnings())?,
        ":now": now_ms,
        ":ttl": milliseconds(options.ttl_seconds, job.default_ttl_ms),
        ":timeout": milliseconds(options.execution_timeout_seconds, job.default_execution_timeout_ms),
    })?;
    insert_prepare(conn, conn.last_insert_rowid(), job, now_ms)?;
    Ok(id)
}

fn insert_prepare(conn: &Connection, job_pk: i64, job: &NewJob, now_ms: i64) -> Result<()> {
    let lane = lane("prepare", &job.model, job.owner.as_deref());
    let priority = job.options.priority.unwrap_or(0);
    conn.prepare_cached(
        "insert into tasks (job_pk, kind, lane, priority, key, state)
         values (:job, 'prepare', :lane, :priority, :key, 'queued')",
    )?
    .execute(named_params! {
        ":job": job_pk,
        ":lane": lane,
        ":priority": priority,
        ":key": start_tag(conn, "prepare", &lane, i64::from(priority), now_ms)?,
    })?;
    Ok(())
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string(value).map_err(anyhow::Error::from)?)
}

fn take_up(conn: &Connection, job: &NewJob, now_ms: i64) -> Result<Option<String>> {
    let found: Option<(i64, String)> = conn
        .prepare_cached(
            "select pk, id from jobs
             where source = :source and state in ('queued', 'running') and owner is null and front_door = :front_door
                 and source_version is :version and options = :options and model = :model
             order by pk limit 1",
        )?
        .query_row(
            named_params! {
                ":source": job.source, ":front_door": job.front_door.name(), ":version": job.source_version,
                ":options": to_json(&job.options)?, ":model": job.model,
            },
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((pk, id)) = found else { return Ok(None) };
    set_owner(conn, pk, job.owner.as_deref(), now_ms)?;
    Ok(Some(id))
}

/// Frees the jobs of `process_id` and forgets the clocks of its lanes.
pub(super) fn disown(conn: &Connection, process_id: &str, now_ms: i64) -> Result<()> {
    let mut statement = conn.prepare_cached("select pk from jobs where owner = ?1")?;
    let owned = statement.query_map([process_id], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    for pk in owned {
        set_owner(conn, pk, None, now_ms)?;
    }
    conn.prepare_cached("delete from lanes where substr(lane, -length(?1) - 1) = '@' || ?1")?.execute([process_id])?;
    Ok(())
}

/// Changes who may work on a job: the owner, and with it the lane of every task that is still to be claimed.
fn set_owner(conn: &Connection, pk: i64, owner: Option<&str>, now_ms: i64) -> Result<()> {
    let (model, priority): (String, i64) = conn
        .prepare_cached("update jobs set owner = ?2 where pk = ?1 returning model, priority")?
        .query_row((pk, owner), |row| Ok((row.get(0)?, row.get(1)?)))?;
    for kind in ["prepare", "transcribe"] {
        let lane = lane(kind, &model, owner);
        conn.prepare_cached(&format!(
            "update tasks set lane = ?3 where job_pk = ?1 and kind = ?2 and state in {PENDING}"
        ))?
        .execute((pk, kind, &lane))?;
        // Each lane has a clock of its own, so the keys of another one mean nothing here.
        let start = start_tag(conn, kind, &lane, priority, now_ms)?;
        conn.prepare_cached(
            "update tasks set key = ?3 + (key - (select min(key) from tasks
                                                 where job_pk = ?1 and kind = ?2 and state = 'queued'))
             where job_pk = ?1 and kind = ?2 and state = 'queued'",
        )?
        .execute((pk, kind, start))?;
    }
    Ok(())
}
