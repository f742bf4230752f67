//! Submitting: the limit of the queue, and that what was accepted is there to stay.

use whisperq::error::Error;
use whisperq::job::{JobState, NewJob};
use whisperq::queue::{JobFilter, Limits};

use super::invariants;
use super::support::{Bench, NOW, limits, new_job, open};

#[test]
pub(super) fn a_full_queue_refuses_until_there_is_room() {
    let bench = Bench::with(Limits { max_queued: 2, ..limits() });
    let first = bench.planned(1);
    bench.submit();
    let refusal = bench.queue.submit(new_job(), NOW).expect_err("full");
    assert!(matches!(refusal, Error::Overloaded(_)), "{refusal}");
    assert!(refusal.to_string().contains("MAX_QUEUED"), "{refusal}");
    bench.claim();
    bench.assert_state(&first, JobState::Running);
    bench.submit();
}

#[test]
pub(super) fn a_key_or_an_id_that_came_before_is_the_same_job() {
    let bench = Bench::new();
    let submit = |id: &str, key: Option<&str>| {
        let job = NewJob { id: id.to_owned(), idempotency_key: key.map(str::to_owned), ..new_job() };
        bench.queue.submit(job, NOW).unwrap()
    };
    for (id, key, is) in [
        ("a", Some("k"), ("a", false)),
        ("b", Some("k"), ("a", true)),
        ("a", None, ("a", true)),
        ("c", None, ("c", false)),
    ] {
        let submitted = submit(id, key);
        assert_eq!((submitted.id.as_str(), submitted.resumed), is);
    }
    assert_eq!(bench.number("select count(*) from jobs"), 2);
}

#[test]
pub(super) fn an_accepted_job_is_there_after_the_database_was_closed_and_opened() {
    let folder = tempfile::tempdir().unwrap();
    let id = open(folder.path(), limits()).submit(new_job(), NOW).unwrap().id;
    let queue = open(folder.path(), limits());
    assert_eq!(queue.job(&id, NOW).unwrap().status, JobState::Queued);
    let claim = queue
        .claim("prepare", &whisperq::queue::prepare_lane(false, &new_job().model, None), "me", "w", NOW)
        .unwrap()
        .unwrap();
    assert_eq!((claim.job_id, claim.source.as_str()), (id, "/audio/a.wav"));
    invariants::check(queue.db());
}

#[test]
pub(super) fn jobs_are_listed_newest_first_by_state_and_page() {
    let bench = Bench::new();
    let ids = [(); 4].map(|()| bench.submit());
    bench.queue.cancel(&ids[1], NOW).unwrap();
    let list = |status, after: Option<&String>, limit| {
        let filter = JobFilter { status, model: None, since_ms: None, limit, after: after.cloned() };
        bench.queue.jobs(&filter, NOW).unwrap().into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 2), [&ids[3], &ids[2]].map(Clone::clone));
    assert_eq!(list(None, Some(&ids[2]), 9), [&ids[1], &ids[0]].map(Clone::clone));
    assert_eq!(list(Some(JobState::Queued), Some(&ids[2]), 9), [ids[0].clone()]);
}

#[test]
pub(super) fn the_spool_learns_which_jobs_are_over() {
    let bench = Bench::new();
    let (open, ended, unknown) = (bench.submit(), bench.submit(), "no-such-job".to_owned());
    bench.queue.cancel(&ended, NOW).unwrap();
    let over = bench.queue.ended_among(vec![open, ended.clone(), unknown.clone()]).unwrap();
    assert_eq!(over, [ended, unknown]);
}
