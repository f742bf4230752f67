//! New jobs, and jobs that a command line left behind and takes up again.

use rusqlite::{Connection, OptionalExtension, named_params};
use uuid::Uuid;

use super::fair::start_tag;
use super::{Limits, PENDING, Queue, is_small, prepare_lane, transcribe_lane};
use crate::db::{Durability, Statements};
use crate::error::{Error, Result};
use crate::job::{NewJob, Options};

/// A job that is now in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub id: String,
    /// Whether a job that was there before was taken instead of a new one: an interrupted one, or the one of the same
    /// idempotency key.
    pub resumed: bool,
}

/// A name for a new job. Later ones sort after earlier ones.
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

impl Queue {
    /// Puts a job and its `prepare` task into the queue; both survive a loss of power once this returns.
    ///
    /// # Errors
    /// `Overloaded` when MAX_QUEUED jobs are waiting.
    pub fn submit(&self, job: NewJob, now_ms: i64) -> Result<Submitted> {
        let limits = self.limits.clone();
        let submitted = self.db.write_or_refuse(Durability::Full, move |conn| {
            if let Some(id) = earlier(conn, job.idempotency_key.as_deref(), &job.id)? {
                return Ok(Submitted { id, resumed: true });
            }
            // Whoever owns a job waits for it: its queue is its own.
            if job.owner.is_none() {
                refuse_when_full(conn, limits.max_queued)?;
            }
            insert(conn, &job, &limits, now_ms)?;
            Ok(Submitted { id: job.id, resumed: false })
        })?;
        self.wake.notify();
        Ok(submitted)
    }

    /// Whether a submit would be refused now, so that nobody sends a long recording in vain. One that came before never is.
    ///
    /// # Errors
    /// `Overloaded` when MAX_QUEUED jobs are waiting.
    pub fn check_room(&self, idempotency_key: Option<&str>) -> Result<()> {
        self.db.read(|conn| match earlier(conn, idempotency_key, "")? {
            Some(_) => Ok(()),
            None => refuse_when_full(conn, self.limits.max_queued),
        })
    }

    /// Takes up a job of the same source, model and options that nobody owns and whose transcript nobody got, else submits
    /// a new one.
    pub fn resume_or_submit(&self, job: NewJob, now_ms: i64) -> Result<Submitted> {
        let (wanted, limits) = (job.clone(), self.limits.clone());
        let resumed = self.db.write(Durability::Full, move |conn| take_up(conn, &wanted, &limits, now_ms))?;
        let Some(id) = resumed else { return self.submit(job, now_ms) };
        self.wake.notify();
        Ok(Submitted { id, resumed: true })
    }

    /// Notes that the transcript has reached its user, so that a rerun of the same command begins anew.
    pub fn hand_out(&self, job_id: &str, now_ms: i64) -> Result<()> {
        let id = job_id.to_owned();
        self.db.write(Durability::Full, move |conn| {
            conn.statement("update jobs set handed_out_at_ms = ?2 where id = ?1 and state = 'completed'")?
                .execute((id, now_ms))?;
            Ok(())
        })
    }
}

/// The job that came before under the same key, or the same id where that is not ours to choose.
pub(super) fn earlier(conn: &Connection, idempotency_key: Option<&str>, id: &str) -> Result<Option<String>> {
    let mut statement = conn.statement(
        "select id from jobs where idempotency_key = ?1 union all select id from jobs where id = ?2 limit 1",
    )?;
    Ok(statement.query_row((idempotency_key, id), |row| row.get(0)).optional()?)
}

fn refuse_when_full(conn: &Connection, max_queued: i64) -> Result<()> {
    let queued: i64 =
        conn.statement("select jobs from job_counts where state = 'queued'")?.query_row([], |row| row.get(0))?;
    if queued < max_queued {
        return Ok(());
    }
    Err(Error::Overloaded(format!("{queued} jobs are waiting, the limit (MAX_QUEUED): try again later")))
}

pub(super) fn insert(conn: &Connection, job: &NewJob, limits: &Limits, now_ms: i64) -> Result<()> {
    let options = &job.options;
    let (ttl_ms, execution_timeout_ms) = time_limits(options, limits);
    conn.statement(
        "insert into jobs (id, idempotency_key, owner, front_door, source, source_version, source_bytes, options, model,
             language, priority, warnings, created_at_ms, ttl_ms, ttl_deadline_ms, execution_timeout_ms)
         values (:id, :idempotency_key, :owner, :front_door, :source, :version, :bytes, :options, :model, :language, :priority, :warnings,
             :now, :ttl, :now + :ttl, :timeout)",
    )?
    .execute(named_params! {
        ":id": job.id,
        ":idempotency_key": job.idempotency_key,
        ":owner": job.owner,
        ":front_door": job.front_door.name(),
        ":source": job.source,
        ":version": job.source_version,
        ":bytes": job.source_bytes.map(u64::cast_signed),
        ":options": to_json(options)?,
        ":model": job.model,
        ":language": job.language,
        ":priority": options.priority.unwrap_or(0),
        ":warnings": to_json(&options.warnings())?,
        ":now": now_ms,
        ":ttl": ttl_ms,
        ":timeout": execution_timeout_ms,
    })?;
    insert_prepare(conn, conn.last_insert_rowid(), job, now_ms)
}

/// How long the job may wait and run, in milliseconds.
pub(super) fn time_limits(options: &Options, limits: &Limits) -> (i64, i64) {
    let milliseconds = |seconds: Option<u64>, default: i64| seconds.map_or(default, |s| s as i64 * 1000);
    (
        milliseconds(options.ttl_seconds, limits.job_ttl_ms),
        milliseconds(options.execution_timeout_seconds, limits.execution_timeout_ms),
    )
}

fn insert_prepare(conn: &Connection, job_pk: i64, job: &NewJob, now_ms: i64) -> Result<()> {
    let lane = prepare_lane(is_small(job.source_bytes.map(u64::cast_signed)), &job.model, job.owner.as_deref());
    let priority = job.options.priority.unwrap_or(0);
    conn.statement(
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

fn take_up(conn: &Connection, job: &NewJob, limits: &Limits, now_ms: i64) -> Result<Option<String>> {
    let found: Option<(i64, String, bool)> = conn
        .statement(
            "select pk, id, state = 'completed' from jobs
             where source = :source and front_door = 'cli' and handed_out_at_ms is null
                 and state in ('queued', 'running', 'completed') and owner is null
                 and (source_version is :version
                     -- That of an address is known only once it was fetched; `audio_digest` in the options tells it apart.
                     or :version is null and (source like 's3://%' or source like 'http%://%'))
                 and options = :options and model = :model
             order by pk limit 1",
        )?
        .query_row(
            named_params! {
                ":source": job.source, ":version": job.source_version, ":options": to_json(&job.options)?,
                ":model": job.model,
            },
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .optional()?;
    let Some((pk, id, completed)) = found else { return Ok(None) };
    if !completed {
        let (ttl_ms, execution_timeout_ms) = time_limits(&job.options, limits);
        conn.statement("update jobs set ttl_ms = ?2, execution_timeout_ms = ?3 where pk = ?1")?.execute((
            pk,
            ttl_ms,
            execution_timeout_ms,
        ))?;
        set_owner(conn, pk, job.owner.as_deref(), now_ms)?;
    }
    Ok(Some(id))
}

/// Frees the jobs of `process_id` and forgets the clocks of its lanes.
pub(super) fn disown(conn: &Connection, process_id: &str, now_ms: i64) -> Result<()> {
    let mut statement = conn.statement("select pk from jobs where owner = ?1")?;
    let owned = statement.query_map([process_id], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    for pk in owned {
        set_owner(conn, pk, None, now_ms)?;
    }
    conn.statement("delete from lanes where substr(lane, -length(?1) - 1) = '@' || ?1")?.execute([process_id])?;
    Ok(())
}

/// Changes who may work on a job: the owner, and with it the lane of every task that is still to be claimed. Its time
/// limits begin anew: nobody may have worked on it for long.
fn set_owner(conn: &Connection, pk: i64, owner: Option<&str>, now_ms: i64) -> Result<()> {
    let (model, priority, bytes): (String, i64, Option<i64>) = conn
        .statement(
            "update jobs set owner = ?2, ttl_deadline_ms = ?3 + ttl_ms,
                 execution_deadline_ms = iif(started_at_ms is null, null, ?3 + ttl_ms + execution_timeout_ms)
             where pk = ?1 returning model, priority, source_bytes",
        )?
        .query_row((pk, owner, now_ms), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let lanes =
        [("prepare", prepare_lane(is_small(bytes), &model, owner)), ("transcribe", transcribe_lane(&model, owner))];
    for (kind, lane) in lanes {
        conn.statement(&format!("update tasks set lane = ?3 where job_pk = ?1 and kind = ?2 and state in {PENDING}"))?
            .execute((pk, kind, &lane))?;
        // Each lane has a clock of its own, so the keys of another one mean nothing here.
        let start = start_tag(conn, kind, &lane, priority, now_ms)?;
        conn.statement(
            "update tasks set key = ?3 + (key - (select min(key) from tasks
                                                 where job_pk = ?1 and kind = ?2 and state = 'queued'))
             where job_pk = ?1 and kind = ?2 and state = 'queued'",
        )?
        .execute((pk, kind, start))?;
    }
    Ok(())
}
