//! Errors: tried again after a pause, but only so often, and not at all where it is no use.

use whisperq::error::Error;
use whisperq::job::JobState;

use super::support::{Bench, LEASE_MS, NOW, OTHER, fault};

#[test]
pub(super) fn a_failed_attempt_waits_between_half_and_one_and_a_half_of_its_pause() {
    for (jitter, pause) in [(0.0, 500), (0.5, 1_000), (1.0, 1_500)] {
        let bench = Bench::new();
        let id = bench.planned(1);
        let claim = bench.claim();
        bench.queue.fail(claim.task, &fault(), jitter, NOW).unwrap();
        bench.assert_state(&id, JobState::Running);
        assert_eq!(bench.queue.promote(NOW + pause - 1).unwrap(), 0);
        assert!(bench.try_claim().is_none(), "not before its time");
        assert_eq!(bench.queue.promote(NOW + pause).unwrap(), 1);
        assert_eq!(bench.claim().task.attempt, claim.task.attempt + 1);
        assert_eq!(
            bench.text("select outcome || ': ' || error from attempts where task_id = 2 and attempt = 1"),
            "error: the engine is out of memory"
        );
    }
}

#[test]
pub(super) fn the_last_error_allowed_fails_the_job_and_takes_its_chunks_out_of_the_queue() {
    let bench = Bench::new();
    let id = bench.planned(3);
    let neighbor = bench.claim();
    for attempt in 1..=3 {
        let claim = bench.claim();
        assert_eq!(claim.task.attempt, attempt);
        bench.queue.fail(claim.task, &fault(), 0.0, NOW).unwrap();
        if attempt < 3 {
            bench.assert_state(&id, JobState::Running);
            // The chunk that waits beside it goes out of the way, to be given back afterwards.
            let other = bench.try_claim();
            assert_eq!(bench.queue.promote(NOW + 60_000).unwrap(), 1);
            assert!(other.is_some() == (attempt == 1), "one other chunk waits");
        }
    }
    let error = bench.job(&id).error.unwrap();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("internal", "the engine is out of memory"));
    bench.assert_state(&id, JobState::Failed);
    assert!(bench.try_claim().is_none());
    assert_eq!(bench.queue.lost_among(&[neighbor.task]).unwrap(), [neighbor.task]);
    assert_eq!(
        bench.text("select group_concat(state, ' ' order by seq) from tasks where kind = 'transcribe'"),
        "cancelled failed cancelled"
    );
}

#[test]
pub(super) fn an_input_that_can_never_work_fails_at_once_under_its_own_code() {
    let bench = Bench::new();
    let id = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.fail(prepare.task, &Error::invalid("not_audio", "this is a web page"), 0.5, NOW).unwrap();
    bench.assert_state(&id, JobState::Failed);
    assert_eq!(bench.code(&id).as_deref(), Some("not_audio"));
    assert_eq!(bench.queue.promote(NOW + 60_000).unwrap(), 0);
}

#[test]
pub(super) fn lost_and_released_attempts_are_no_errors() {
    let bench = Bench::new();
    let id = bench.planned(1);
    for _ in 0..4 {
        bench.claim();
        assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1);
        bench.queue.release(bench.claim().task, NOW).unwrap();
    }
    for _ in 0..2 {
        bench.queue.fail(bench.claim().task, &fault(), 0.0, NOW).unwrap();
        bench.queue.promote(NOW + 60_000).unwrap();
    }
    bench.finish(&bench.claim());
    bench.assert_state(&id, JobState::Completed);
    assert_eq!(bench.number("select error_count from tasks where kind = 'transcribe'"), 2);
    assert_eq!(bench.number("select lost_count from tasks where kind = 'transcribe'"), 4);
}

#[test]
pub(super) fn a_job_that_this_version_cannot_read_fails_and_does_not_block_its_lane() {
    let bench = Bench::new();
    let unreadable = bench.submit();
    bench.sql(r#"update jobs set options = '{"from_the_future": 1}'"#).unwrap();
    let readable = bench.submit();
    assert_eq!(bench.claim_prepare().unwrap().job_id, readable);
    bench.assert_state(&unreadable, JobState::Failed);
    assert_eq!(bench.code(&unreadable).as_deref(), Some("options_unknown"));
}
