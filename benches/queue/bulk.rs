//! Jobs by the million, written as rows in the state that the queue would have left them in.

use rusqlite::{Connection, named_params};
use whisperq::db::Durability;
use whisperq::error::Result;
use whisperq::job::Options;
use whisperq::queue::unix_now_ms;

use crate::ground::{Ground, MODEL, WORKER};

/// So many jobs in one transaction, lest the write-ahead log grows without end.
const BATCH: i64 = 50_000;
/// A month of work, so that the last minute is as busy as any other.
const HISTORY_MS: i64 = 30 * 24 * 3_600_000;

/// Jobs with one chunk, prepared; `state` is that of the chunk.
pub(crate) fn waiting(ground: &Ground, count: u64, state: &'static str) {
    in_batches(ground, count.cast_signed(), move |conn, first, last| {
        let now = unix_now_ms();
        insert_jobs(
            conn,
            first,
            last,
            "queued",
            &format!("select v as pk, {now} as created, null as started, null as finished"),
        )?;
        conn.execute(
            "insert into tasks (job_pk, kind, lane, priority, key, state, run_at_ms, start_sample, end_sample, hard_cut)
             select pk, 'transcribe', model, 0, :now / 20, :state, iif(:state = 'delayed', :now + 600000, null),
                 0, 16000, 0
             from jobs where pk between :first and :last",
            named_params! {":first": first, ":last": last, ":now": now, ":state": state},
        )?;
        Ok(())
    });
}

/// Completed jobs with one chunk, evenly over the last month up to now.
pub(crate) fn finished(ground: &Ground, count: u64) {
    let step_ms = HISTORY_MS / count.cast_signed();
    let process = ground.hand.process.id().to_owned();
    let start = unix_now_ms() - HISTORY_MS;
    let offset = last_job(ground);
    in_batches(ground, count.cast_signed(), move |conn, first, last| {
        let created = format!("{start} + (v - {offset}) * {step_ms}");
        let times =
            format!("select v as pk, {created} - 1200 as created, {created} - 1000 as started, {created} as finished");
        insert_jobs(conn, first, last, "completed", &times)?;
        insert_history(conn, first, last, &process)
    });
}

fn in_batches(
    ground: &Ground,
    count: i64,
    insert: impl Fn(&Connection, i64, i64) -> Result<()> + Send + Clone + 'static,
) {
    let first = last_job(ground) + 1;
    for begin in (first..first + count).step_by(BATCH as usize) {
        let (insert, end) = (insert.clone(), (begin + BATCH).min(first + count) - 1);
        ground.hand.queue.db().write(Durability::Normal, move |conn| insert(conn, begin, end)).unwrap();
    }
}

fn last_job(ground: &Ground) -> i64 {
    let last = "select coalesce(max(pk), 0) from jobs";
    ground.hand.queue.db().read(|conn| Ok(conn.query_row(last, [], |row| row.get(0))?)).unwrap()
}

/// The jobs from `first` to `last`; the trigger counts them. `times` says for each number v when what happened.
fn insert_jobs(conn: &Connection, first: i64, last: i64, state: &str, times: &str) -> Result<()> {
    let options = serde_json::to_string(&Options::default()).map_err(anyhow::Error::from)?;
    let sql = format!(
        "with recursive numbers (v) as (select :first union all select v + 1 from numbers where v < :last)
         insert into jobs (pk, id, front_door, source, options, model, state, planned, audio_ms, done_ms, created_at_ms,
             started_at_ms, finished_at_ms, ttl_ms, ttl_deadline_ms, execution_timeout_ms, execution_deadline_ms)
         select pk, 'job-' || pk, 'http', '/audio/a.wav', :options, :model, :state, 1, 1000,
             iif(finished is null, 0, 1000), created, started, finished, 600000, created + 600000, 600000,
             started + 600000
         from ({times} from numbers)"
    );
    conn.execute(
        &sql,
        named_params! {":first": first, ":last": last, ":options": options, ":model": MODEL, ":state": state},
    )?;
    Ok(())
}

/// What the queue keeps of completed jobs.
fn insert_history(conn: &Connection, first: i64, last: i64, process: &str) -> Result<()> {
    let range = "from jobs where pk between ?1 and ?2";
    for sql in [
        "insert into tasks (job_pk, kind, lane, priority, key, state, attempt, start_sample, end_sample, hard_cut,
             finished_at_ms)
         select pk, 'transcribe', model, 0, created_at_ms / 20, 'done', 1, 0, 16000, 0, finished_at_ms",
        "insert into transcripts select pk, 'en', 1000, 'So'",
        "insert into job_endings
         select pk, 0, state, null, null, started_at_ms - created_at_ms, finished_at_ms - started_at_ms, finished_at_ms",
        "insert into rollups (period_ms, start_ms, model, completed)
         select 60000, finished_at_ms - finished_at_ms % 60000, model, 1",
    ] {
        let on_conflict = if sql.contains("rollups") { "on conflict do update set completed = completed + 1" } else { "" };
        conn.execute(&format!("{sql} {range} {on_conflict}"), (first, last))?;
    }
    conn.execute(
        "insert into attempts
         select t.id, 1, j.pk, ?3, ?4, j.started_at_ms, j.finished_at_ms, 'done', null, 900
         from jobs j join tasks t on t.job_pk = j.pk where j.pk between ?1 and ?2",
        (first, last, process, WORKER),
    )?;
    Ok(())
}
