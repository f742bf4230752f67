//! What a claim costs, counted in steps of SQLite's virtual machine, which no load on this machine can change.

use rusqlite::{StatementStatus, named_params};
use whisperq::db::Durability;
use whisperq::queue::CLAIM;

use super::support::{Bench, MODEL, NOW};

/// Ahead of the waiting chunk in every order there is, so that only the index can keep them out of the way.
const ROWS: i64 = 20_000;

/// The steps of one claim, which is then undone.
fn steps(bench: &Bench) -> i32 {
    let claim = |conn: &rusqlite::Connection| {
        conn.execute_batch("savepoint probe")?;
        let mut statement = conn.prepare(CLAIM)?;
        let params = named_params! {
            ":process": "p", ":worker": "w", ":lease": NOW, ":kind": "transcribe", ":lane": MODEL,
        };
        let seq: i64 = statement.query_row(params, |row| row.get("seq"))?;
        assert_eq!(seq, 0, "the waiting chunk");
        assert_eq!(statement.get_status(StatementStatus::Sort), 0);
        assert_eq!(statement.get_status(StatementStatus::FullscanStep), 0);
        let steps = statement.get_status(StatementStatus::VmStep);
        conn.execute_batch("rollback to probe; release probe")?;
        Ok(steps)
    };
    bench.queue.db().write(Durability::Normal, claim).unwrap()
}

/// Adds chunks to the one job, numbered from `first`.
fn add_chunks(bench: &Bench, first: i64, state: &str, run_at: &str, finished_at: &str, attempt: i64) {
    let sql = format!(
        "insert into tasks (job_pk, kind, seq, lane, priority, key, state, run_at_ms, finished_at_ms, attempt,
             start_sample, end_sample, hard_cut)
         select 1, 'transcribe', value, '{MODEL}', 10, 0, '{state}', {run_at}, {finished_at}, {attempt}, 0, 16, 0
         from generate_numbers;"
    );
    let numbers = format!(
        "with recursive generate_numbers(value) as
             (select {first} union all select value + 1 from generate_numbers where value < {first} + {ROWS} - 1) "
    );
    bench.sql(&(numbers + &sql)).unwrap();
}

#[test]
fn a_claim_costs_the_same_whatever_has_finished_or_waits_for_later() {
    let bench = Bench::new();
    bench.planned(1);
    let alone = steps(&bench);
    add_chunks(&bench, 1, "done", "null", "1", 1);
    bench
        .sql(
            "insert into attempts select id, 1, 1, 'p', 'w', 0, 1, 'done', null, null from tasks where seq > 0;
             insert into rollups (period_ms, start_ms, model, chunks, audio_ms)
                 select period_ms, 0, 'tiny', n, n from (select 60000 as period_ms union all select 3600000),
                     (select count(*) as n from tasks where seq > 0);
             update jobs set done_ms = (select count(*) from tasks where seq > 0)",
        )
        .unwrap();
    let finished = steps(&bench);
    add_chunks(&bench, ROWS + 1, "delayed", "1", "null", 0);
    let delayed = steps(&bench);
    for (steps, rows) in [(finished, "finished"), (delayed, "delayed")] {
        assert!(steps.abs_diff(alone) * 10 <= alone.unsigned_abs(), "{alone} steps, {steps} beside {rows} rows");
    }
}

#[test]
fn a_claim_is_one_probe_of_the_index_of_waiting_tasks() {
    let bench = Bench::new();
    let plan: Vec<String> = bench
        .queue
        .db()
        .read(|conn| {
            let mut statement = conn.prepare(&format!("explain query plan {CLAIM}"))?;
            let params = named_params! {":process": "", ":worker": "", ":lease": 0, ":kind": "", ":lane": ""};
            Ok(statement.query_map(params, |row| row.get("detail"))?.collect::<Result<_, _>>()?)
        })
        .unwrap();
    let probes: Vec<&String> = plan.iter().filter(|line| line.contains("tasks_queued")).collect();
    assert_eq!(probes.len(), 1, "{plan:?}");
    assert!(probes[0].contains("COVERING INDEX tasks_queued (kind=? AND lane=?)"), "{plan:?}");
    assert!(!plan.iter().any(|line| line.contains("SCAN") || line.contains("TEMP B-TREE")), "{plan:?}");
}

#[test]
fn a_claim_is_compiled_once_whatever_it_asks_for() {
    let bench = Bench::new();
    let claims = |conn: &rusqlite::Connection| {
        let mut statement = conn.prepare(CLAIM)?;
        for kind in ["prepare", "transcribe", "deliver", "prepare"] {
            let params = named_params! {":process": "", ":worker": "", ":lease": 0, ":kind": kind, ":lane": ""};
            assert!(!statement.exists(params)?, "nothing waits in that lane");
        }
        Ok(statement.get_status(StatementStatus::RePrepare))
    };
    assert_eq!(bench.queue.db().write(Durability::Normal, claims).unwrap(), 0);
}

#[test]
fn what_system_shows_costs_the_same_however_many_jobs_there_have_been() {
    let bench = Bench::new();
    bench.planned(1);
    let views = ["system", "workers", "queue", "throughput"];
    let before = views.map(|view| steps_of(&bench, view));
    bench
        .sql(&format!(
            "insert into jobs (id, front_door, source, options, model, state, planned, created_at_ms, started_at_ms,
                 finished_at_ms, ttl_ms, ttl_deadline_ms, execution_timeout_ms, execution_deadline_ms)
             with recursive n(i) as (select 1 union all select i + 1 from n limit {ROWS})
             select 'old' || i, 'http', 'a', '{{}}', 'tiny', 'completed', 1, 1, 1, 1, 1, 1, 1, 1 from n"
        ))
        .unwrap();
    let after = views.map(|view| steps_of(&bench, view));
    bench.sql("delete from jobs where id glob 'old*'").unwrap();
    for ((view, before), after) in views.iter().zip(before).zip(after) {
        assert!(before.abs_diff(after) * 10 <= before.unsigned_abs(), "{view}: {before} steps, then {after}");
    }
}

fn steps_of(bench: &Bench, view: &str) -> i32 {
    let steps = |conn: &rusqlite::Connection| {
        let mut statement = conn.prepare(&format!("select * from {view}"))?;
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        drop(rows);
        Ok(statement.get_status(StatementStatus::VmStep))
    };
    bench.queue.db().read(steps).unwrap()
}

#[test]
fn removing_a_job_costs_as_much_as_the_job_and_not_as_all_the_others() {
    let bench = Bench::new();
    bench.planned(1);
    add_chunks(&bench, 1, "delayed", "1", "null", 0);
    bench.planned(1);
    let steps = bench.queue.db().write(Durability::Full, |conn| {
        conn.execute_batch("savepoint probe")?;
        let mut statement = conn.prepare("delete from jobs where pk = 2")?;
        statement.execute([])?;
        let steps = statement.get_status(StatementStatus::VmStep);
        conn.execute_batch("rollback to probe; release probe")?;
        Ok(steps)
    });
    assert!(i64::from(steps.unwrap()) < ROWS / 10, "the foreign key of waits_for looks at every task");
}
