//! The loop around a worker's step: however the work ends, the queue learns of it once and the loop goes on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use whisperq::error::Error;
use whisperq::job::JobState;
use whisperq::queue::Claim;
use whisperq::worker::{Outcome, Worker};

use super::support::{Bench, LEASE_MS, NOW, OTHER, fault, result};

/// Does the claimed chunk with a result or an error.
fn perform(worker: &Worker, claim: &Claim, work: impl FnOnce() -> whisperq::error::Result<()>) {
    worker.perform(
        claim.task,
        |control| {
            assert_eq!(worker.slot.held(), Some(claim.task));
            assert!(!control.is_aborted());
            work()
        },
        |()| worker.queue.finish_chunk(claim.task, result("So"), NOW),
    );
    assert_eq!(worker.slot.held(), None);
}

fn outcome(bench: &Bench) -> String {
    bench.text("select outcome || coalesce(': ' || error, '') from attempts where task_id > 1 order by attempt desc")
}

#[test]
fn work_that_is_done_is_finished() {
    let bench = Bench::new();
    let id = bench.planned(1);
    perform(&bench.worker(), &bench.claim(), || Ok(()));
    bench.assert_state(&id, JobState::Completed);
}

#[test]
fn a_panic_in_the_work_is_a_failed_attempt_and_the_thread_lives_on() {
    let bench = Bench::new();
    let id = bench.planned(1);
    let worker = bench.worker();
    perform(&worker, &bench.claim(), || panic!("index out of bounds"));
    assert_eq!(outcome(&bench), "error: the work panicked: index out of bounds");
    bench.queue.promote(i64::MAX / 2).unwrap();
    perform(&worker, &bench.claim(), || Ok(()));
    bench.assert_state(&id, JobState::Completed);
}

#[test]
fn work_that_was_stopped_is_given_back_unharmed() {
    let bench = Bench::new();
    bench.planned(1);
    perform(&bench.worker(), &bench.claim(), || Err(Error::Aborted));
    assert_eq!(outcome(&bench), "released");
    assert_eq!(bench.claim().task.attempt, 2);
    assert_eq!(bench.number("select sum(error_count + lost_count) from tasks"), 0);
}

#[test]
fn the_result_of_a_claim_that_was_lost_is_void() {
    let bench = Bench::new();
    bench.planned(1);
    for work in [|| Ok(()), || Err(fault()), || Err(Error::Aborted)] {
        let claim = bench.claim();
        perform(&bench.worker(), &claim, || {
            assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1);
            work()
        });
        assert_eq!(outcome(&bench), "lost");
    }
    assert_eq!(bench.number("select count(*) from chunk_segments"), 0);
}

#[test]
fn a_result_that_breaks_the_rules_of_the_database_is_a_failed_attempt() {
    let bench = Bench::new();
    let id = bench.planned(1);
    let claim = bench.claim();
    let worker = bench.worker();
    let mut not_a_number = result("So");
    not_a_number.segments[0].avg_logprob = f32::NAN;
    worker.perform(
        claim.task,
        |_| Ok(not_a_number.clone()),
        |result| bench.queue.finish_chunk(claim.task, result, NOW),
    );
    assert!(outcome(&bench).contains("NOT NULL constraint failed: chunk_segments.avg_logprob"), "{}", outcome(&bench));
    bench.queue.promote(i64::MAX / 2).unwrap();
    perform(&worker, &bench.claim(), || Ok(()));
    bench.assert_state(&id, JobState::Completed);
}

#[test]
fn a_slot_is_stopped_only_while_it_is_on_the_task_meant() {
    let bench = Bench::new();
    bench.planned(2);
    let (before, now) = (bench.claim(), bench.claim());
    let worker = bench.worker();
    worker.perform(
        now.task,
        |control| {
            worker.slot.abort(before.task);
            assert!(!control.is_aborted(), "that was another task");
            worker.slot.abort(now.task);
            assert!(control.is_aborted());
            Ok(())
        },
        |()| bench.queue.finish_chunk(now.task, result("So"), NOW),
    );
    perform(&worker, &before, || Ok(()));
}

#[test]
fn the_loop_sleeps_when_idle_wakes_for_work_and_ends_on_shutdown() {
    let bench = Bench::new();
    let worker = bench.worker();
    let steps = AtomicUsize::new(0);
    let (stepped, steps_seen) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            worker.run(|| {
                steps.fetch_add(1, Ordering::Relaxed);
                let claim = bench.claim_prepare();
                stepped.send(claim.is_some()).unwrap();
                let Some(claim) = claim else { return Ok(Outcome::Idle) };
                worker.queue.release(claim.task, NOW)?;
                worker.shutdown.trigger();
                Ok(Outcome::Worked)
            });
        });
        assert!(!steps_seen.recv().unwrap(), "nothing to do yet");
        bench.submit();
        while !steps_seen.recv().unwrap() {}
    });
    let before = steps.load(Ordering::Relaxed);
    worker.run(|| unreachable!("a stopped worker takes nothing"));
    assert_eq!(steps.load(Ordering::Relaxed), before);
}

#[test]
fn a_preparing_worker_records_a_plan_the_same_way() {
    let bench = Bench::new();
    let id = bench.submit();
    let claim = bench.claim_prepare().unwrap();
    bench.worker().perform(
        claim.task,
        |_| Ok(super::support::plan(0)),
        |plan| bench.queue.finish_prepare(claim.task, Some(plan), NOW),
    );
    bench.assert_state(&id, JobState::Completed);
}
