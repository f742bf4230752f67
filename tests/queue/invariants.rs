//! What must hold in any database of the queue at any time, each as a query for the rows that break it.

use whisperq::db::Db;
use whisperq::system::drift;

const BROKEN: [(&str, &str); 15] = [
    (
        "nothing ends before it begins, whatever the clocks did",
        "select pk from jobs
      where finished_at_ms < coalesce(started_at_ms, created_at_ms) or started_at_ms < created_at_ms",
    ),
    (
        "the counts of jobs are exact",
        "select state from job_counts c
      where jobs <> (select count(*) from jobs where state = c.state)",
    ),
    (
        "an attempt has an outcome exactly when it has an end",
        "select task_id from attempts
      where (outcome is null) <> (finished_at_ms is null) or finished_at_ms < started_at_ms",
    ),
    (
        "a task has one attempt per claim",
        "select id from tasks t
      where attempt <> (select count(*) from attempts where task_id = t.id)",
    ),
    (
        "the open attempt is that of the running task",
        "select task_id from attempts a where outcome is null
      and not exists (select 1 from tasks where id = a.task_id and attempt = a.attempt and state = 'running')",
    ),
    (
        "a running task has its open attempt, by the same worker",
        "select id from tasks t where state = 'running'
      and not exists (select 1 from attempts where task_id = t.id and attempt = t.attempt and outcome is null
          and process_id = t.process_id and worker_id = t.worker_id)",
    ),
    (
        "a job that has ended has no pending task but to deliver, and one that has not delivers nothing",
        "select t.id from tasks t join jobs j on j.pk = t.job_pk
      where t.kind = 'deliver' and j.state in ('queued', 'running') and t.state in ('blocked', 'delayed', 'queued', 'running')
      union all select t.id from tasks t join jobs j on j.pk = t.job_pk
      where t.kind <> 'deliver' and j.state in ('completed', 'failed', 'cancelled', 'timed_out')
          and t.state in ('blocked', 'delayed', 'queued', 'running')",
    ),
    (
        "a job that goes on has a task that does",
        "select pk from jobs j where state in ('queued', 'running')
      and not exists (select 1 from tasks where job_pk = j.pk and state in ('delayed', 'queued', 'running'))",
    ),
    (
        "a job is completed exactly when it has a transcript",
        "select pk from jobs j
      where (state = 'completed') <> exists (select 1 from transcripts where job_pk = j.pk)",
    ),
    (
        "all tasks of a completed job are done",
        "select t.id from tasks t join jobs j on j.pk = t.job_pk
      where j.state = 'completed' and t.state <> 'done' and t.kind <> 'deliver'",
    ),
    (
        "what is done of a job is the sum of its done chunks, and once it is planned what lies between them",
        "select pk from jobs j where done_ms <>
      (select coalesce(sum(ms * (state = 'done')), 0) + iif(j.planned, max(0, j.audio_ms - coalesce(sum(ms), 0)), 0)
       from (select state, (end_sample - start_sample) / 16 as ms from tasks where job_pk = j.pk
             and kind = 'transcribe' and pass = coalesce(j.options ->> '$.translate', 0)))",
    ),
    (
        "a chunk is done exactly by one attempt",
        "select id from tasks t where kind = 'transcribe'
      and (state = 'done') <> (select count(*) from attempts where task_id = t.id and outcome = 'done')",
    ),
    (
        "no attempt of a chunk begins after the one that did it",
        "select a.task_id from attempts a
      join attempts d on d.task_id = a.task_id and d.outcome = 'done' and d.attempt < a.attempt
      join tasks t on t.id = a.task_id where t.kind = 'transcribe'",
    ),
    (
        "only done chunks have segments",
        "select 1 from chunk_segments s where not exists
      (select 1 from tasks where job_pk = s.job_pk and pass = s.pass and seq = s.seq and kind = 'transcribe'
          and state = 'done')",
    ),
    ("every reference leads somewhere", "select * from pragma_foreign_key_check"),
];

/// The rules that are broken now, the counters among them, with the number of rows that break them.
pub(super) fn broken(db: &Db) -> Vec<String> {
    let rows = |sql: &str| -> i64 {
        let count = format!("select count(*) from ({sql})");
        db.read(|conn| Ok(conn.query_row(&count, [], |row| row.get(0))?)).unwrap()
    };
    let mut broken: Vec<String> = Vec::new();
    for (rule, sql) in BROKEN {
        let breaking = rows(sql);
        if breaking > 0 {
            broken.push(format!("{breaking} rows against \"{rule}\""));
        }
    }
    let counters = drift(db).unwrap().rows.len();
    if counters > 0 {
        broken.push(format!("{counters} counters are wrong"));
    }
    if rows("select 1 from pragma_integrity_check where integrity_check <> 'ok'") > 0 {
        broken.push("the file is damaged".to_owned());
    }
    broken
}

#[track_caller]
pub(super) fn check(db: &Db) {
    let broken = broken(db);
    assert!(broken.is_empty(), "broken: {}", broken.join("; "));
}
