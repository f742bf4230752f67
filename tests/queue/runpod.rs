//! Jobs from RunPod's queue: when their results go, how long that is tried, and what the worker learns of what it holds.

use whisperq::error::Error;
use whisperq::job::{Destination, JobState, RunpodTexts};
use whisperq::queue::{Claim, DELIVER_LANE, Order, RUNPOD_LANE, Work};

use super::support::{Bench, LEASE_MS, ME, MODEL, NOW, fault, new_job};

fn from_queue() -> Option<RunpodTexts> {
    Some(RunpodTexts { from_queue: true, ..RunpodTexts::default() })
}

fn submitted(bench: &Bench) -> String {
    bench.submit_as(|job| job.options.runpod = from_queue())
}

fn claim_result(bench: &Bench, now_ms: i64) -> Option<Claim> {
    bench.queue.claim("deliver", RUNPOD_LANE, ME, "runpod-0", now_ms).unwrap()
}

fn states(bench: &Bench, id: &str) -> Vec<String> {
    bench.job(id).deliveries.into_iter().map(|delivery| delivery.state).collect()
}

#[test]
fn a_result_waits_for_the_files_and_for_no_webhook() {
    let bench = Bench::new();
    let id = bench.submit_as(|job| {
        job.options.output_uri = Some("s3://talks/out".to_owned());
        job.options.webhook = Some("https://example.org/hook".to_owned());
        job.options.runpod = from_queue();
    });
    bench.prepare(1, Order::Free);
    bench.finish(&bench.claim());
    assert_eq!(states(&bench, &id), ["queued", "blocked", "blocked"]);
    assert!(claim_result(&bench, NOW).is_none());
    let files = bench.queue.claim("deliver", DELIVER_LANE, ME, "deliver-0", NOW).unwrap().unwrap();
    bench.queue.finish_delivery(files.task, NOW).unwrap();
    assert_eq!(states(&bench, &id), ["done", "queued", "queued"]);
    let result = claim_result(&bench, NOW).unwrap();
    assert_eq!(result.work, Work::Deliver { destination: Destination::Runpod, generation: 0 });
    let shown = &bench.job(&id).deliveries[2];
    assert_eq!((shown.kind, shown.target.as_str()), (Destination::Runpod, "RUNPOD_WEBHOOK_POST_OUTPUT"));
}

#[test]
fn a_job_of_the_rest_api_and_a_cancelled_one_post_nothing() {
    let bench = Bench::new();
    let rest = bench.submit_as(|job| job.options.runpod = Some(RunpodTexts::default()));
    bench.prepare(1, Order::Free);
    bench.finish(&bench.claim());
    let stopped = submitted(&bench);
    bench.queue.cancel(&stopped, NOW).unwrap();
    assert!(states(&bench, &rest).is_empty() && states(&bench, &stopped).is_empty());
}

#[test]
fn a_result_is_tried_for_an_hour_with_short_pauses() {
    let bench = Bench::new();
    let id = submitted(&bench);
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.fail(prepare.task, &Error::invalid("not_audio", "no"), 0.5, NOW).unwrap();
    let mut now = NOW;
    for _ in 1..120 {
        let claim = claim_result(&bench, now).unwrap();
        bench.queue.fail(claim.task, &fault(), 0.5, now).unwrap();
        assert_eq!(states(&bench, &id), ["delayed"]);
        now = bench.number("select run_at_ms from tasks where kind = 'deliver'");
        bench.queue.promote(now).unwrap();
    }
    assert!((3_000_000..4_000_000).contains(&(now - NOW)), "{}", now - NOW);
    bench.queue.fail(claim_result(&bench, now).unwrap().task, &fault(), 0.5, now).unwrap();
    assert_eq!(states(&bench, &id), ["failed"]);
}

#[test]
fn a_job_is_held_until_its_result_has_arrived() {
    let bench = Bench::new();
    bench.submit();
    let held = || bench.queue.held_for_runpod().unwrap();
    assert!(held().is_empty(), "of others nothing is said");
    bench.queue.purge(NOW).unwrap();
    let id = submitted(&bench);
    assert_eq!(held().join(","), id);
    bench.prepare(1, Order::Free);
    let chunk = bench.claim();
    assert_eq!(held().join(","), id);
    bench.finish(&chunk);
    bench.assert_state(&id, JobState::Completed);
    assert_eq!(held(), [id]);
    bench.queue.finish_delivery(claim_result(&bench, NOW).unwrap().task, NOW).unwrap();
    assert!(held().is_empty());
}

#[test]
fn what_is_ahead_is_what_a_thread_could_do_and_what_is_on_its_way_to_that() {
    let bench = Bench::new();
    let ahead = || bench.queue.ahead(MODEL, 10).unwrap();
    assert_eq!(ahead(), 0);
    submitted(&bench);
    assert_eq!(ahead(), 1, "to be prepared");
    bench.prepare(4, Order::Free);
    assert_eq!(ahead(), 4, "its chunks");
    let chunk = bench.claim();
    assert_eq!(ahead(), 4, "one of them in work");
    bench.queue.fail(chunk.task, &fault(), 0.5, NOW).unwrap();
    assert_eq!(ahead(), 4, "it comes back");
    for _ in 0..3 {
        bench.finish(&bench.claim());
    }
    bench.queue.promote(NOW + LEASE_MS).unwrap();
    bench.finish(&bench.claim());
    assert_eq!(ahead(), 0);
}

#[test]
fn a_job_that_is_none_has_ended_at_once_and_is_told_like_any_other() {
    let bench = Bench::new();
    let mut job = new_job();
    (job.id, job.options.runpod) = ("a-u1".to_owned(), from_queue());
    bench.queue.submit_failed(job.clone(), "configuration", "no audio", NOW).unwrap();
    bench.queue.submit_failed(job, "other", "again", NOW).unwrap();
    bench.assert_state("a-u1", JobState::Failed);
    assert_eq!(bench.code("a-u1").as_deref(), Some("configuration"));
    assert!(bench.claim_prepare().is_none());
    assert_eq!(claim_result(&bench, NOW).unwrap().job_id, "a-u1");
    let id = submitted(&bench);
    bench.queue.fail_job(&id, "init_failed", "no model", NOW).unwrap();
    assert_eq!(bench.code(&id).as_deref(), Some("init_failed"));
}
