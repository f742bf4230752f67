//! Leases: kept by those who work, lost by those who vanished, and blame only for what is to blame.

use whisperq::job::JobState;
use whisperq::queue::TaskRef;

use super::support::{Bench, LEASE_MS, ME, NOW, OTHER, assert_lost, result};

#[test]
pub(super) fn a_renewed_lease_is_not_reaped_and_a_neglected_one_is() {
    let bench = Bench::new();
    bench.planned(2);
    let (kept, neglected) = (bench.claim(), bench.claim());
    assert!(bench.queue.renew(ME, &[kept.task], NOW + 20_000).unwrap().is_empty());
    assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS - 1).unwrap(), 0, "both leases run");
    assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1);
    assert_eq!(bench.queue.lost_among(&[kept.task, neglected.task]).unwrap(), [neglected.task]);
    assert_lost(bench.queue.finish_chunk(neglected.task, result("late"), NOW));
    bench.finish(&kept);
    assert_eq!(bench.claim().task, TaskRef { attempt: 2, ..neglected.task }, "it waits again, at once");
    assert_eq!(bench.number("select count(*) from attempts where outcome = 'lost'"), 1);
}

#[test]
pub(super) fn a_process_does_not_reap_itself() {
    let bench = Bench::new();
    bench.planned(1);
    let claim = bench.claim();
    assert_eq!(bench.queue.reap(ME, NOW + 10 * LEASE_MS).unwrap(), 0);
    bench.finish(&claim);
}

#[test]
pub(super) fn renewing_tells_which_tasks_are_lost_and_takes_none_from_another() {
    let bench = Bench::new();
    bench.planned(2);
    let (mine, lost) = (bench.claim(), bench.claim());
    assert_eq!(bench.queue.renew(OTHER, &[mine.task], NOW).unwrap(), [mine.task], "not that process's");
    bench.queue.renew(ME, &[mine.task], NOW + LEASE_MS).unwrap();
    bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap();
    let again = bench.claim();
    assert_eq!(again.task.id, lost.task.id);
    assert_eq!(bench.queue.renew(ME, &[mine.task, lost.task], NOW).unwrap(), [lost.task]);
}

#[test]
pub(super) fn a_chunk_that_stops_its_process_twice_is_the_culprit_and_its_neighbors_are_not() {
    let bench = Bench::new();
    let culprit_job = bench.planned(1);
    let other_job = bench.planned(1);
    let culprit = bench.claim();
    let neighbor = bench.claim();
    bench.queue.crash(culprit.task, NOW).unwrap();
    bench.assert_state(&culprit_job, JobState::Running);
    assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1, "the neighbor went down with the process");
    let again = bench.claim();
    assert_eq!(again.task, TaskRef { attempt: 2, ..culprit.task });
    bench.queue.crash(again.task, NOW).unwrap();
    bench.assert_state(&culprit_job, JobState::Failed);
    assert_eq!(bench.code(&culprit_job).as_deref(), Some("worker_crashed"));
    let neighbor_again = bench.claim();
    assert_eq!(neighbor_again.task.id, neighbor.task.id);
    assert_eq!(bench.number(&format!("select crash_count from tasks where id = {}", neighbor.task.id)), 0);
    bench.finish(&neighbor_again);
    bench.assert_state(&other_job, JobState::Completed);
}

#[test]
pub(super) fn a_chunk_whose_process_vanished_ten_times_is_given_up() {
    let bench = Bench::new();
    let id = bench.planned(1);
    for losses in 1..=10 {
        bench.assert_state(&id, if losses == 1 { JobState::Queued } else { JobState::Running });
        let claim = bench.claim();
        assert_eq!(claim.task.attempt, losses);
        assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1);
    }
    bench.assert_state(&id, JobState::Failed);
    assert_eq!(bench.code(&id).as_deref(), Some("worker_lost"));
    assert_eq!(bench.number("select sum(error_count + crash_count) from tasks"), 0);
}

#[test]
pub(super) fn two_lost_chunks_of_a_job_that_ends_by_the_first_are_both_closed() {
    let bench = Bench::new();
    let id = bench.planned(2);
    bench.sql("update tasks set lost_count = 9 where kind = 'transcribe'").unwrap();
    bench.claim();
    bench.claim();
    assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1, "the second ended with the job");
    bench.assert_state(&id, JobState::Failed);
    assert_eq!(
        bench.text("select group_concat(outcome, ' ' order by task_id) from attempts where task_id > 1"),
        "lost cancelled"
    );
}

#[test]
pub(super) fn a_prepare_task_is_leased_like_any_other() {
    let bench = Bench::new();
    bench.submit();
    bench.claim_prepare().unwrap();
    assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1);
    assert_eq!(bench.claim_prepare().unwrap().task.attempt, 2);
}
