//! The last line of defense: what the schema itself refuses, whatever the code above it believes.

use super::support::{Bench, NOW, fault};
use whisperq::error::Error;
use whisperq::queue::Order;

#[track_caller]
fn assert_refused(bench: &Bench, sql: &str, words: &str) {
    let refusal = bench.sql(sql).unwrap_err().to_string();
    assert!(refusal.contains(words), "{sql}: {refusal}");
}

fn completed(bench: &Bench) {
    bench.planned(1);
    bench.finish(&bench.claim());
}

fn ended_jobs(bench: &Bench) {
    completed(bench);
    let failed = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.fail(prepare.task, &Error::invalid("not_audio", "no"), 0.5, NOW).unwrap();
    assert!(bench.code(&failed).is_some());
    bench.queue.cancel(&bench.submit(), NOW).unwrap();
    bench.submit();
    bench.queue.expire(NOW + 60_000).unwrap();
}

#[test]
pub(super) fn no_statement_leads_out_of_a_terminal_state() {
    let bench = Bench::new();
    ended_jobs(&bench);
    for state in ["completed", "failed", "cancelled", "timed_out"] {
        let reopen = format!("update jobs set state = 'queued', finished_at_ms = null where state = '{state}'");
        assert_refused(&bench, &reopen, "a finished job cannot change its state");
    }
    for state in ["done", "failed", "cancelled"] {
        assert!(bench.number(&format!("select count(*) from tasks where state = '{state}'")) > 0);
        let reopen = format!("update tasks set state = 'queued', finished_at_ms = null where state = '{state}'");
        assert_refused(&bench, &reopen, "a finished task cannot change its state");
    }
}

#[test]
pub(super) fn completed_and_cancelled_jobs_get_no_new_generation() {
    let bench = Bench::new();
    ended_jobs(&bench);
    bench.submit();
    for state in ["completed", "cancelled", "queued"] {
        let raise = format!("update jobs set generation = generation + 1 where state = '{state}'");
        assert_refused(&bench, &raise, "only a failed or timed-out job can be tried again");
    }
}

#[test]
pub(super) fn the_attempt_of_a_task_never_falls() {
    let bench = Bench::new();
    bench.planned(1);
    bench.claim();
    assert_refused(&bench, "update tasks set attempt = attempt - 1", "the attempt of a task cannot fall");
}

#[test]
pub(super) fn no_job_completes_without_its_transcript() {
    let bench = Bench::new();
    bench.planned(1);
    let complete =
        "update jobs set state = 'completed', finished_at_ms = 1, started_at_ms = 1, execution_deadline_ms = 1";
    assert_refused(&bench, complete, "a job completes with its transcript");
}

#[test]
pub(super) fn a_job_or_task_in_half_a_state_is_refused() {
    let bench = Bench::new();
    bench.planned(2);
    bench.submit();
    bench.queue.fail(bench.claim().task, &fault(), 0.5, NOW).unwrap();
    for change in [
        "tasks set state = 'running', process_id = 'p', worker_id = 'w' where state = 'queued'",
        "tasks set state = 'running', lease_until_ms = 1, worker_id = 'w' where state = 'queued'",
        "tasks set state = 'running', lease_until_ms = 1, process_id = 'p' where state = 'queued'",
        "tasks set lease_until_ms = 1 where state = 'queued'",
        "tasks set state = 'queued' where state = 'delayed'",
        "tasks set state = 'delayed' where state = 'queued'",
        "tasks set state = 'blocked' where state = 'queued'",
        "tasks set state = 'done' where state = 'queued'",
        "tasks set finished_at_ms = 1 where state = 'queued'",
        "tasks set state = 'paused' where state = 'queued'",
        "tasks set priority = 11",
        "tasks set end_sample = start_sample where kind = 'transcribe'",
        "tasks set end_sample = null where kind = 'transcribe'",
        "tasks set error_count = -1",
        "jobs set state = 'running', started_at_ms = null, execution_deadline_ms = null",
        "jobs set execution_deadline_ms = null where started_at_ms is not null",
        "jobs set state = 'failed', finished_at_ms = 1",
        "jobs set state = 'cancelled'",
        "jobs set finished_at_ms = 1",
        "jobs set planned = 2",
        "attempts set outcome = 'done' where outcome is null",
        "attempts set outcome = 'lost', finished_at_ms = null",
        "attempts set attempt = 0",
    ] {
        bench.claim_prepare();
        assert_refused(&bench, &format!("update {change}"), "CHECK constraint failed");
    }
    assert_refused(&bench, "update jobs set options = 'none'", "malformed JSON");
    assert_refused(&bench, "insert into job_counts values ('x', -1)", "CHECK constraint failed");
}

#[test]
pub(super) fn a_job_has_one_prepare_task_and_each_chunk_once() {
    let bench = Bench::new();
    bench.submit();
    bench.prepare(2, Order::Free);
    assert_refused(&bench, "update tasks set seq = 0", "UNIQUE constraint failed");
}
