//! Whether what is counted along the way equals what is there: a real count of everything, for idle times.

use super::{Table, query};
use crate::db::Db;
use crate::error::Result;

/// Each question returns what is wrong: which counter, for what, what it says and what it should.
const COUNTERS: [&str; 3] = [
    "select 'jobs by state' as counter, c.state as key, c.jobs as counted, count(j.pk) as really
     from job_counts c left join jobs j on j.state = c.state group by c.state having counted <> really",
    "with really as (
         select e.finished_at_ms - e.finished_at_ms % period_ms as start_ms, period_ms, j.model,
             sum(e.state = 'completed') as completed, sum(e.state = 'failed') as failed,
             sum(e.state = 'cancelled') as cancelled, sum(e.state = 'timed_out') as timed_out
         from job_endings e join jobs j on j.pk = e.job_pk, (select 60000 as period_ms union all select 3600000)
         group by 1, 2, 3)
     select 'jobs ended' as counter, period_ms / 1000 || ' s from ' || start_ms || ', ' || model as key,
         json_array(ifnull(r.completed, 0), ifnull(r.failed, 0), ifnull(r.cancelled, 0), ifnull(r.timed_out, 0)) as counted,
         json_array(ifnull(w.completed, 0), ifnull(w.failed, 0), ifnull(w.cancelled, 0), ifnull(w.timed_out, 0)) as really
     from rollups r full join really w using (start_ms, period_ms, model)
     where start_ms >= (select kept_from_ms from totals) and (period_ms = 3600000 or r.chunks is not null)
         and counted <> really",
    "with really as (
         select a.finished_at_ms - a.finished_at_ms % period_ms as start_ms, period_ms, j.model, count(*) as chunks,
             sum(iif(t.pass = 0, (t.end_sample - t.start_sample) / 16, 0)) as audio_ms,
             sum(coalesce(a.engine_ms, 0)) as engine_ms
         from attempts a join tasks t on t.id = a.task_id and t.kind = 'transcribe' join jobs j on j.pk = a.job_pk,
             (select 60000 as period_ms union all select 3600000)
         where a.outcome = 'done' group by 1, 2, 3)
     select 'chunks done' as counter, period_ms / 1000 || ' s from ' || start_ms || ', ' || model as key,
         json_array(ifnull(r.chunks, 0), ifnull(r.audio_ms, 0), ifnull(r.engine_ms, 0)) as counted,
         json_array(ifnull(w.chunks, 0), ifnull(w.audio_ms, 0), ifnull(w.engine_ms, 0)) as really
     from rollups r full join really w using (start_ms, period_ms, model)
     where start_ms >= (select kept_from_ms from totals) and (period_ms = 3600000 or r.chunks is not null)
         and counted <> really",
];

/// The counters that are wrong, as rows of (counter, key, counted, really); none when all is well.
pub fn drift(db: &Db) -> Result<Table> {
    let mut wrong = query(db, COUNTERS[0])?;
    for sql in &COUNTERS[1..] {
        wrong.rows.extend(query(db, sql)?.rows);
    }
    Ok(wrong)
}
