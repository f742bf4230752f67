//! Work done over: an operator's retry, which keeps what is finished, and a recording that must be decoded once more.

use whisperq::error::Error;
use whisperq::job::JobState;
use whisperq::queue::{Limits, Order, Stored, Work};

use super::support::{Bench, NOW, assert_lost, fault, limits, open, result};

/// Fails the job at the next chunk to be claimed.
fn fail_next(bench: &Bench) {
    bench.queue.fail(bench.claim().task, &Error::invalid("broken", "this piece is broken"), 0.5, NOW).unwrap();
}

/// Retries the job and decodes its recording again.
fn retry(bench: &Bench, id: &str) {
    bench.queue.retry(id, NOW + 1_000).unwrap();
    assert!(bench.try_claim().is_none(), "the chunks wait for the audio");
    let prepare = bench.claim_prepare().unwrap();
    assert!(matches!(&prepare.work, Work::Prepare(stored) if stored.planned), "{prepare:?}");
    bench.queue.finish_prepare(prepare.task, None, NOW).unwrap();
}

fn seqs_left(bench: &Bench) -> Vec<i64> {
    let next = || {
        let claim = bench.try_claim()?;
        bench.finish(&claim);
        let Work::Transcribe { seq, .. } = claim.work else { panic!("{claim:?}") };
        Some(seq)
    };
    std::iter::from_fn(next).collect()
}

#[test]
pub(super) fn a_retry_keeps_the_finished_chunks_and_does_the_others() {
    let bench = Bench::new();
    let id = bench.planned(4);
    bench.finish(&bench.claim());
    let running = bench.claim();
    fail_next(&bench);
    retry(&bench, &id);
    assert_lost(bench.queue.finish_chunk(running.task, result("late"), NOW));
    let job = bench.job(&id);
    assert_eq!((job.status, job.progress, job.error), (JobState::Queued, 0.25, None));
    assert_eq!(bench.number("select generation from jobs"), 1);
    assert_eq!(seqs_left(&bench), [1, 2, 3]);
    bench.assert_state(&id, JobState::Completed);
    assert_eq!(bench.queue.transcript(&id).unwrap().segments.len(), 4);
}

#[test]
pub(super) fn a_retry_has_all_its_attempts_and_its_whole_time_again() {
    let bench = Bench::new();
    let id = bench.planned(1);
    for _ in 0..3 {
        bench.queue.fail(bench.claim().task, &fault(), 0.0, NOW).unwrap();
        bench.queue.promote(NOW + 60_000).unwrap();
    }
    bench.assert_state(&id, JobState::Failed);
    retry(&bench, &id);
    assert_eq!(bench.queue.expire(NOW + 60_999).unwrap(), 0, "its ttl counts from the retry");
    for _ in 0..2 {
        bench.queue.fail(bench.claim().task, &fault(), 0.0, NOW).unwrap();
        bench.queue.promote(NOW + 60_000).unwrap();
    }
    assert_eq!(seqs_left(&bench), [0]);
    bench.assert_state(&id, JobState::Completed);
}

#[test]
pub(super) fn a_job_that_failed_before_it_had_a_plan_is_planned_by_its_retry() {
    let bench = Bench::new();
    let id = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.fail(prepare.task, &Error::invalid("not_audio", "no"), 0.5, NOW).unwrap();
    bench.queue.retry(&id, NOW).unwrap();
    let prepare = bench.claim_prepare().unwrap();
    assert_eq!((prepare.task.attempt, prepare.work), (2, Work::Prepare(Stored::default())));
    bench.queue.release(prepare.task, NOW).unwrap();
    bench.prepare(2, Order::Free);
    assert_eq!(seqs_left(&bench), [0, 1]);
    bench.assert_state(&id, JobState::Completed);
}

#[test]
pub(super) fn a_retry_keeps_the_order_of_the_chunks() {
    let bench = Bench::new();
    let first_then_rest = bench.submit();
    bench.prepare(3, Order::FirstThenRest);
    fail_next(&bench);
    retry(&bench, &first_then_rest);
    let first = bench.claim();
    assert!(bench.try_claim().is_none(), "the others still wait for the first");
    bench.finish(&first);
    assert_eq!(seqs_left(&bench), [1, 2]);

    let chain = bench.submit();
    bench.prepare(4, Order::Chain);
    bench.finish(&bench.claim());
    fail_next(&bench);
    retry(&bench, &chain);
    for _ in 1..4 {
        let claim = bench.claim();
        assert!(bench.try_claim().is_none(), "one at a time");
        bench.finish(&claim);
    }
    bench.assert_state(&chain, JobState::Completed);
}

#[test]
pub(super) fn a_timed_out_job_can_be_retried_any_number_of_times() {
    let bench = Bench::new();
    let id = bench.planned(2);
    for generation in 1..=3 {
        bench.queue.expire(NOW + 1_000_000).unwrap();
        bench.assert_state(&id, JobState::TimedOut);
        retry(&bench, &id);
        assert_eq!(bench.number("select generation from jobs"), generation);
        bench.claim();
    }
}

#[test]
pub(super) fn only_failed_and_timed_out_jobs_can_be_retried() {
    let bench = Bench::new();
    let completed = bench.planned(0);
    let cancelled = bench.submit();
    bench.queue.cancel(&cancelled, NOW).unwrap();
    let running = bench.planned(1);
    bench.claim();
    let queued = bench.submit();
    for (id, state) in [(completed, "completed"), (cancelled, "cancelled"), (running, "running"), (queued, "queued")] {
        let refusal = bench.queue.retry(&id, NOW).expect_err(state);
        assert!(matches!(refusal, Error::Conflict(_)), "{refusal}");
        assert!(refusal.to_string().contains(state), "{refusal}");
        assert_eq!(bench.job(&id).status.name(), state);
    }
    assert!(matches!(bench.queue.retry("no-such-job", NOW), Err(Error::NotFound(_))));
}

#[test]
pub(super) fn chunks_whose_audio_is_gone_wait_for_one_new_decoding() {
    let bench = Bench::new();
    let id = bench.planned(3);
    let [first, second] = [bench.claim(), bench.claim()];
    bench.queue.prepare_again(first.task, NOW).unwrap();
    bench.queue.prepare_again(second.task, NOW).unwrap();
    bench.assert_state(&id, JobState::Running);
    let third = bench.claim();
    assert!(bench.try_claim().is_none());
    let prepare = bench.claim_prepare().unwrap();
    assert!(matches!(&prepare.work, Work::Prepare(stored) if stored.planned), "{prepare:?}");
    assert!(bench.claim_prepare().is_none(), "asked for once");
    bench.finish(&third);
    bench.queue.finish_prepare(prepare.task, None, NOW).unwrap();
    assert_eq!(seqs_left(&bench), [0, 1]);
    bench.assert_state(&id, JobState::Completed);
    assert_eq!(bench.number("select sum(error_count + crash_count + lost_count) from tasks"), 0);
}

#[test]
pub(super) fn a_chain_goes_on_after_its_audio_was_decoded_again() {
    let bench = Bench::new();
    let id = bench.submit();
    bench.prepare(3, Order::Chain);
    bench.finish(&bench.claim());
    bench.queue.prepare_again(bench.claim().task, NOW).unwrap();
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.finish_prepare(prepare.task, None, NOW).unwrap();
    assert_eq!(seqs_left(&bench), [1, 2]);
    bench.assert_state(&id, JobState::Completed);
}

#[test]
pub(super) fn a_job_that_ran_out_of_time_is_retried_with_the_time_limits_of_now() {
    let bench = Bench::new();
    let id = bench.planned(1);
    bench.claim();
    assert_eq!(bench.queue.expire(NOW + limits().execution_timeout_ms).unwrap(), 1);
    let raised = open(bench.folder(), Limits { execution_timeout_ms: 1_234_000, ..limits() });
    raised.retry(&id, NOW).unwrap();
    assert_eq!(bench.number("select execution_timeout_ms from jobs"), 1_234_000);
}
