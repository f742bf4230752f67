//! The fence: whatever an attempt writes after its task was taken from it is refused, and nothing of it is stored.

use whisperq::error::Error;
use whisperq::job::JobState;
use whisperq::queue::{Claim, Order, TaskRef};

use super::support::{Bench, LEASE_MS, NOW, OTHER, assert_lost, fault, finish_plan, plan, result, seconds};

/// Everything that a worker can try to record, on a task that is not its own.
#[track_caller]
fn assert_refused(bench: &Bench, task: TaskRef) {
    let state = || {
        bench.text(
            "select json_group_array(json_array(id, state, attempt, error_count, crash_count, lost_count, generation))
             from tasks",
        ) + &bench.text("select json_group_array(json_array(state, done_ms, planned)) from jobs")
            + &bench.text("select json_group_array(json_array(task_id, attempt, outcome)) from attempts")
            + &bench.text("select json_group_array(text) from chunk_segments")
    };
    let before = state();
    let queue = &bench.queue;
    assert_lost(queue.finish_chunk(task, result("late"), NOW));
    assert_lost(queue.add_chunks(task, seconds(0..2), Order::Free, NOW));
    assert_lost(queue.finish_prepare(task, Some(plan(2)), NOW));
    assert_lost(queue.finish_prepare(task, None, NOW));
    assert_lost(queue.fail(task, &fault(), 0.5, NOW));
    assert_lost(queue.fail(task, &Error::invalid("not_audio", "no"), 0.5, NOW));
    assert_lost(queue.release(task, NOW));
    assert_lost(queue.crash(task, NOW));
    assert_lost(queue.prepare_again(task, NOW));
    assert_eq!(queue.renew(super::support::ME, &[task], NOW).unwrap(), [task]);
    assert_eq!(queue.lost_among(&[task]).unwrap(), [task]);
    assert_eq!(state(), before);
}

/// Takes the task back, as a neighbor does after its lease.
fn reap(bench: &Bench) {
    assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1);
}

fn chunk(bench: &Bench) -> Claim {
    bench.planned(2);
    bench.claim()
}

#[test]
pub(super) fn an_attempt_whose_task_waits_again_is_refused() {
    let bench = Bench::new();
    let old = chunk(&bench);
    reap(&bench);
    assert_refused(&bench, old.task);
}

#[test]
pub(super) fn an_attempt_whose_task_another_attempt_owns_is_refused_and_does_not_disturb_it() {
    let bench = Bench::new();
    let old = chunk(&bench);
    reap(&bench);
    bench.claim();
    let new = bench.claim();
    assert_eq!(new.task, TaskRef { id: old.task.id, attempt: 2 });
    assert_refused(&bench, old.task);
    bench.finish(&new);
    assert_refused(&bench, old.task);
    assert_refused(&bench, new.task);
    assert_eq!(bench.number("select count(*) from chunk_segments"), 1);
}

#[test]
pub(super) fn a_prepare_attempt_that_lost_its_task_stores_no_plan() {
    let bench = Bench::new();
    bench.submit();
    let old = bench.claim_prepare().unwrap();
    reap(&bench);
    assert_refused(&bench, old.task);
    let new = bench.claim_prepare().unwrap();
    assert_refused(&bench, old.task);
    finish_plan(&bench.queue, new.task, 1, Order::Free, NOW);
    assert_refused(&bench, new.task);
}

#[test]
pub(super) fn an_attempt_that_failed_or_was_given_back_is_over() {
    let bench = Bench::new();
    let failed = chunk(&bench);
    bench.queue.fail(failed.task, &fault(), 0.5, NOW).unwrap();
    assert_refused(&bench, failed.task);
    let released = bench.claim();
    bench.queue.release(released.task, NOW).unwrap();
    assert_refused(&bench, released.task);
    let sent_back = bench.claim();
    bench.queue.prepare_again(sent_back.task, NOW).unwrap();
    assert_refused(&bench, sent_back.task);
}

#[test]
pub(super) fn the_end_of_a_job_ends_every_attempt_at_it() {
    type End = fn(&Bench, &str);
    let endings: [(JobState, End); 3] = [
        (JobState::Cancelled, |bench, id| bench.queue.cancel(id, NOW).unwrap()),
        (JobState::TimedOut, |bench, _| assert_eq!(bench.queue.expire(NOW + 600_000).unwrap(), 1)),
        (JobState::Failed, |bench, _| {
            bench.queue.fail(bench.claim().task, &Error::invalid("not_audio", "no"), 0.5, NOW).unwrap();
        }),
    ];
    for (state, end) in endings {
        let bench = Bench::new();
        let id = bench.planned(3);
        let claims = [bench.claim(), bench.claim()];
        end(&bench, &id);
        bench.assert_state(&id, state);
        for claim in &claims {
            assert_refused(&bench, claim.task);
        }
        assert!(bench.try_claim().is_none(), "{state}: its waiting chunks left the queue");
        assert!(bench.number("select count(*) from attempts where outcome = 'cancelled'") >= 2, "{state}");
    }
}
