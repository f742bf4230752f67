//! The claim order: fair between jobs and decided when a task enters its lane, so that a claim is one index probe.
//!
//! Each lane has a virtual clock V, in audio milliseconds. A task that becomes claimable gets the key
//! S + the audio from its job's first waiting chunk to its own end, where S is V or, if that is more, the floor
//! `unix_ms / 20`; a claim moves V up to the key less the chunk's own length. Short recordings so pass long ones, chunk by
//! chunk, and the floor keeps a long one moving under an endless stream of short ones.
//!
//! A job's first chunk goes by its middle instead of its end: by its end it would wait for one chunk of every job under
//! way whose chunk happens to be a little shorter, and a voice note is all first chunk. (Measured with four long recordings
//! on two workers: an 11 s note then waited for up to four chunks, now for the next worker that is free.)

use rusqlite::{Connection, named_params};

use super::SAMPLES_PER_MS;
use crate::db::Statements;
use crate::error::{Error, Result};

/// The floor of the clock runs at a twentieth of real time.
const FLOOR_DIVISOR: i64 = 20;

/// By how much a chunk goes before its usual place.
pub(super) fn credit_ms(seq: i64, length_ms: i64) -> i64 {
    if seq == 0 { length_ms / 2 } else { 0 }
}

/// What ends so early in its recording goes before others that are claimed too and wait for a core, by as much: that may be
/// all of a voice note. Those others moved the clock when they were claimed, and with it the key of whatever came then.
const EARLY_MS: i64 = 30_000;

/// Who comes first of the claimed: the lower one. `end_ms`: where the chunk ends.
pub(super) fn rank(priority: i64, key: i64, end_ms: i64) -> (i64, i64) {
    (-priority, if end_ms <= EARLY_MS { key - EARLY_MS } else { key })
}

/// S: where a task that becomes claimable now starts from.
pub(super) fn start_tag(conn: &Connection, kind: &str, lane: &str, priority: i64, now_ms: i64) -> Result<i64> {
    let mut statement = conn.statement(
        "select coalesce(max(virtual_ms), 0) from lanes where kind = :kind and lane = :lane and priority = :priority",
    )?;
    let virtual_ms: i64 =
        statement.query_row(named_params! {":kind": kind, ":lane": lane, ":priority": priority}, |row| row.get(0))?;
    Ok(virtual_ms.max(now_ms / FLOOR_DIVISOR))
}

/// Moves the lane's clock up to the start of the task that was just claimed.
pub(super) fn advance(conn: &Connection, kind: &str, lane: &str, priority: i64, reached_ms: i64) -> Result<()> {
    conn.statement(
        "insert into lanes (kind, lane, priority, virtual_ms) values (:kind, :lane, :priority, :reached)
         on conflict do update set virtual_ms = max(virtual_ms, excluded.virtual_ms)",
    )?
    .execute(named_params! {":kind": kind, ":lane": lane, ":priority": priority, ":reached": reached_ms})?;
    Ok(())
}

/// Makes one task claimable again under a new key.
///
/// The caller has checked that the task is not terminal and that this attempt, or nobody, owns it.
pub(super) fn requeue(conn: &Connection, task_id: i64, now_ms: i64) -> Result<()> {
    let mut statement =
        conn.statement("select kind, lane, priority, coalesce(end_sample - start_sample, 0) from tasks where id = ?1")?;
    let (kind, lane, priority, samples): (String, String, i64, i64) =
        statement.query_row([task_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    let key = start_tag(conn, &kind, &lane, priority, now_ms)? + samples / SAMPLES_PER_MS;
    let changed = conn
        .statement(
            "update tasks set state = 'queued', key = :key, run_at_ms = null, lease_until_ms = null,
                 process_id = null, worker_id = null
             where id = :id and state in ('delayed', 'running')",
        )?
        .execute(named_params! {":id": task_id, ":key": key})?;
    if changed == 1 { Ok(()) } else { Err(Error::ClaimLost) }
}

/// Releases what waited for `task_id`: everything, or only the chunk that begins at `start_sample`.
pub(super) fn release_waiters(conn: &Connection, task_id: i64, start_sample: Option<i64>, now_ms: i64) -> Result<()> {
    let mut statement = conn.statement(
        "select kind, lane, priority, coalesce(min(start_sample), 0) from tasks
         where waits_for = ?1 and state = 'blocked' and (?2 is null or start_sample = ?2) group by kind, lane, priority",
    )?;
    let groups = statement.query_map((task_id, start_sample), |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
    })?;
    for group in groups.collect::<Result<Vec<_>, _>>()? {
        let (kind, lane, priority, first_sample) = group;
        let start = start_tag(conn, &kind, &lane, priority, now_ms)?;
        conn.statement(
            "update tasks set state = 'queued', key = :start + (coalesce(end_sample, 0) - :first) / :per_ms
                 where waits_for = :id and state = 'blocked' and kind = :kind and lane = :lane and priority = :priority
                     and (:only is null or start_sample = :only)",
        )?
        .execute(named_params! {
            ":start": start, ":first": first_sample, ":per_ms": SAMPLES_PER_MS, ":id": task_id, ":kind": kind,
            ":lane": lane, ":priority": priority, ":only": start_sample,
        })?;
    }
    Ok(())
}
