//! Ends before the time: cancelled by a user, or too old, or running for too long.

use whisperq::error::Error;
use whisperq::job::JobState;

use super::support::{Bench, NOW};

#[test]
pub(super) fn a_queued_job_is_cancelled_for_good() {
    let bench = Bench::new();
    let id = bench.submit();
    bench.queue.cancel(&id, NOW + 5).unwrap();
    bench.assert_state(&id, JobState::Cancelled);
    assert_eq!(bench.code(&id).as_deref(), Some("cancelled"));
    assert!(bench.claim_prepare().is_none());
    let twice = bench.queue.cancel(&id, NOW).expect_err("twice");
    assert!(matches!(twice, Error::Conflict(_)), "{twice}");
    assert!(twice.to_string().contains("is cancelled"), "{twice}");
}

#[test]
pub(super) fn a_completed_or_unknown_job_cannot_be_cancelled() {
    let bench = Bench::new();
    let id = bench.planned(0);
    assert!(matches!(bench.queue.cancel(&id, NOW), Err(Error::Conflict(_))));
    bench.assert_state(&id, JobState::Completed);
    assert!(matches!(bench.queue.cancel("no-such-job", NOW), Err(Error::NotFound(_))));
    assert!(matches!(bench.queue.job("no-such-job", NOW), Err(Error::NotFound(_))));
    assert!(matches!(bench.queue.transcript("no-such-job"), Err(Error::NotFound(_))));
}

#[test]
pub(super) fn a_job_that_nobody_began_in_time_is_timed_out() {
    let bench = Bench::new();
    let id = bench.submit_as(|job| job.options.ttl_seconds = Some(10));
    let patient = bench.submit();
    assert_eq!(bench.queue.expire(NOW + 9_999).unwrap(), 0);
    assert_eq!(bench.queue.expire(NOW + 10_000).unwrap(), 1);
    bench.assert_state(&id, JobState::TimedOut);
    bench.assert_state(&patient, JobState::Queued);
    assert_eq!(bench.code(&id).as_deref(), Some("ttl_expired"));
    assert_eq!(bench.queue.expire(NOW + 10_000).unwrap(), 0, "once");
}

#[test]
pub(super) fn a_running_job_ends_by_its_time_limit_and_not_by_its_age() {
    let bench = Bench::new();
    let id = bench.submit_as(|job| job.options.execution_timeout_seconds = Some(120));
    bench.prepare(2, whisperq::queue::Order::Free);
    bench.claim();
    assert_eq!(bench.queue.expire(NOW + 119_999).unwrap(), 0, "older than its ttl, but running");
    assert_eq!(bench.queue.expire(NOW + 120_000).unwrap(), 1);
    bench.assert_state(&id, JobState::TimedOut);
    assert_eq!(bench.code(&id).as_deref(), Some("execution_timeout"));
}
