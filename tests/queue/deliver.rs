//! Deliveries: what an ended job sends out, in which order, how long it is tried, and that nothing of it touches the job.

use whisperq::error::Error;
use whisperq::job::{Destination, JobState};
use whisperq::queue::{Claim, DELIVER_LANE, Order, Work};

use super::support::{Bench, ME, NOW, assert_lost, fault};

/// A job of one chunk that sends files and a message.
fn submitted(bench: &Bench) -> String {
    bench.submit_as(|job| {
        job.options.output_uri = Some("s3://talks/out".to_owned());
        job.options.webhook = Some("https://example.org/hook".to_owned());
    })
}

fn completed(bench: &Bench) -> String {
    let id = submitted(bench);
    bench.prepare(1, Order::Free);
    bench.finish(&bench.claim());
    bench.assert_state(&id, JobState::Completed);
    id
}

fn claim_at(bench: &Bench, now_ms: i64) -> Option<Claim> {
    bench.queue.claim("deliver", DELIVER_LANE, ME, "deliver-0", now_ms).unwrap()
}

/// What the next delivery is, claimed.
fn next(bench: &Bench) -> (Destination, i64, Claim) {
    let claim = claim_at(bench, NOW).unwrap();
    let Work::Deliver { destination, generation } = claim.work else { panic!("{:?}", claim.work) };
    (destination, generation, claim)
}

fn states(bench: &Bench, id: &str) -> Vec<String> {
    bench.job(id).deliveries.into_iter().map(|delivery| delivery.state).collect()
}

#[test]
pub(super) fn files_go_first_and_the_message_tells_what_became_of_them() {
    let bench = Bench::new();
    let id = completed(&bench);
    assert_eq!(states(&bench, &id), ["queued", "blocked"]);
    let (destination, generation, files) = next(&bench);
    assert_eq!((destination, generation), (Destination::Output, 0));
    assert!(claim_at(&bench, NOW).is_none(), "the message waits");
    bench.queue.finish_delivery(files.task, NOW).unwrap();
    let (destination, _, message) = next(&bench);
    assert_eq!(destination, Destination::Webhook);
    bench.queue.finish_delivery(message.task, NOW).unwrap();
    assert_eq!(states(&bench, &id), ["done", "done"]);
    let shown = bench.job(&id);
    assert_eq!(shown.deliveries[0].target, "s3://talks/out");
    assert_eq!(shown.attempts, 2, "deliveries are no work on the audio");
    assert_lost(bench.queue.finish_delivery(message.task, NOW));
}

#[test]
pub(super) fn a_delivery_is_tried_twelve_times_and_the_message_goes_all_the_same() {
    let bench = Bench::new();
    let id = completed(&bench);
    let mut now = NOW;
    for attempt in 1..=12 {
        let claim = claim_at(&bench, now).unwrap();
        assert_eq!(claim.task.attempt, attempt);
        bench.queue.fail(claim.task, &fault(), 0.5, now).unwrap();
        bench.assert_state(&id, JobState::Completed);
        now += 3_600_000;
        bench.queue.promote(now).unwrap();
    }
    assert_eq!(states(&bench, &id), ["failed", "queued"]);
    assert_eq!(bench.job(&id).deliveries[0].last_error.as_deref(), Some("the engine is out of memory"));
}

#[test]
pub(super) fn a_delivery_that_can_never_arrive_is_given_up_at_once() {
    let bench = Bench::new();
    let id = completed(&bench);
    let (_, _, files) = next(&bench);
    bench.queue.fail(files.task, &Error::invalid("denied", "no"), 0.5, NOW).unwrap();
    assert_eq!(states(&bench, &id), ["failed", "queued"]);
}

#[test]
pub(super) fn a_delivery_whose_process_vanishes_ten_times_does_not_hold_the_message_back() {
    let bench = Bench::new();
    let id = completed(&bench);
    for _ in 0..10 {
        next(&bench);
        bench.queue.reap("another", NOW + 3_600_000).unwrap();
    }
    assert_eq!(states(&bench, &id), ["failed", "queued"]);
    bench.assert_state(&id, JobState::Completed);
}

#[test]
pub(super) fn a_failed_job_sends_both_and_a_cancelled_one_only_its_message() {
    let bench = Bench::new();
    let failed = submitted(&bench);
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.fail(prepare.task, &Error::invalid("not_audio", "no"), 0.5, NOW).unwrap();
    assert_eq!(states(&bench, &failed), ["queued", "blocked"]);
    let cancelled = submitted(&bench);
    bench.queue.cancel(&cancelled, NOW).unwrap();
    let deliveries = bench.job(&cancelled).deliveries;
    assert_eq!((deliveries.len(), deliveries[0].kind), (1, Destination::Webhook));
    let late = submitted(&bench);
    bench.queue.expire(NOW + 86_400_000).unwrap();
    assert_eq!(states(&bench, &late), ["queued", "blocked"]);
}

#[test]
pub(super) fn a_job_that_is_tried_again_takes_its_deliveries_back_and_sends_them_at_its_next_end() {
    let bench = Bench::new();
    let id = submitted(&bench);
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.fail(prepare.task, &Error::invalid("not_audio", "no"), 0.5, NOW).unwrap();
    let (_, _, files) = next(&bench);
    bench.queue.retry(&id, NOW).unwrap();
    assert_lost(bench.queue.finish_delivery(files.task, NOW));
    assert_eq!(states(&bench, &id), ["cancelled", "cancelled"]);
    bench.prepare(1, Order::Free);
    bench.finish(&bench.claim());
    let (destination, generation, _) = next(&bench);
    assert_eq!((destination, generation), (Destination::Output, 1));
}

#[test]
pub(super) fn results_can_be_sent_again_whatever_became_of_them() {
    let bench = Bench::new();
    let id = completed(&bench);
    let (_, _, files) = next(&bench);
    bench.queue.fail(files.task, &fault(), 0.5, NOW).unwrap();
    assert_eq!(states(&bench, &id), ["delayed", "blocked"]);
    bench.queue.redeliver(&id, NOW).unwrap();
    assert_eq!(states(&bench, &id), ["queued", "blocked"], "its time has come");
    for _ in 0..2 {
        bench.queue.finish_delivery(next(&bench).2.task, NOW).unwrap();
    }
    bench.queue.redeliver(&id, NOW).unwrap();
    assert_eq!(states(&bench, &id), ["queued", "blocked"]);
    assert_eq!(next(&bench).2.task.attempt, 3, "the fence goes on");
    let refused = bench.queue.redeliver(&id, NOW);
    assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
}

#[test]
pub(super) fn only_an_ended_job_that_names_a_place_can_send_again() {
    let bench = Bench::new();
    let open = submitted(&bench);
    let silent = bench.submit();
    bench.queue.cancel(&silent, NOW).unwrap();
    for id in [&open, &silent] {
        assert!(matches!(bench.queue.redeliver(id, NOW), Err(Error::Conflict(_))), "{id}");
    }
    assert!(matches!(bench.queue.redeliver("none", NOW), Err(Error::NotFound(_))));
}

#[test]
pub(super) fn secrets_are_needed_until_nothing_can_be_tried_again() {
    let bench = Bench::new();
    let id = completed(&bench);
    let needed = |id: &str| bench.queue.need_secrets(&[(id.to_owned(), false)]).unwrap()[0];
    assert_eq!(needed(&id), Some(true), "they are needed to deliver");
    for _ in 0..2 {
        bench.queue.finish_delivery(next(&bench).2.task, NOW).unwrap();
    }
    assert_eq!((needed(&id), needed("none")), (Some(false), None));
    let failed = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.fail(prepare.task, &Error::invalid("expired", "no"), 0.5, NOW).unwrap();
    assert_eq!(needed(&failed), Some(true), "it may be tried again");
}

#[test]
pub(super) fn the_version_that_was_fetched_first_is_the_one_that_counts() {
    let bench = Bench::new();
    bench.submit_as(|job| job.source_version = None);
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.note_source(prepare.task, Some("one".to_owned()), 7).unwrap();
    bench.queue.note_source(prepare.task, Some("two".to_owned()), 8).unwrap();
    assert_eq!(bench.text("select source_version || ' ' || source_bytes from jobs"), "one 8");
    bench.queue.release(prepare.task, NOW).unwrap();
    assert_lost(bench.queue.note_source(prepare.task, None, 9));
}
