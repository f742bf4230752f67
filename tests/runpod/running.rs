//! While jobs run: signs of life, progress, segments, and the end of those that are wanted no more.

use serde_json::json;

use super::platform::{Platform, body, is_ping, is_progress, is_result, is_stream};
use super::worker::{Worker, job, long_job};
use crate::scripted::Request;

#[test]
fn the_heartbeat_names_the_jobs_that_are_held_and_goes_on_while_the_worker_is_busy() {
    let platform = Platform::start();
    let _worker = Worker::start(&platform, &[("RUNPOD_PING_INTERVAL", "20")]);
    let idle = platform.asked(is_ping);
    assert!(idle.line.starts_with("GET /v2/e/ping/pod1?gpu=NVIDIA%20A40&runpod_version="), "{}", idle.line);
    assert_eq!(idle.header("authorization"), Some("rpa_key"));
    platform.hand_out(&long_job("a-u1", 35));
    platform.hand_out(&long_job("b-u1", 35));
    let of_both = |request: &Request| request.line.contains("&job_id=a-u1%2Cb-u1&");
    platform.asked_nth(4, |request| is_ping(request) && of_both(request));
    assert!(!platform.seen().iter().any(is_result), "it was busy all the while");
    platform.results(2);
    let pings = platform.seen().iter().filter(|request| is_ping(request)).count();
    platform.asked_nth(pings + 1, is_ping);
    let last = platform.asked_nth(pings + 1, is_ping);
    assert!(!last.line.contains("job_id"), "{}", last.line);
}

#[test]
fn progress_comes_in_order_and_never_after_the_result() {
    let platform = Platform::start();
    platform.hand_out(&long_job("a-u1", 70));
    let _worker = Worker::start(&platform, &[]);
    platform.results(1);
    let posts: Vec<Request> =
        platform.seen().into_iter().filter(|request| request.line.contains("/job-done/")).collect();
    let (last, earlier) = posts.split_last().unwrap();
    assert!(is_result(last) && !earlier.is_empty() && earlier.iter().all(is_progress), "{}", posts.len());
    let told: Vec<f64> = earlier.iter().map(|post| body(post)["output"]["progress"].as_f64().unwrap()).collect();
    assert!(told.is_sorted() && told[0] > 0.0 && told.iter().all(|percent| *percent < 100.0), "{told:?}");
    assert!(earlier.iter().all(|post| post.line.ends_with("&isStream=false")));
}

#[test]
fn segments_are_sent_as_they_come_and_the_result_holds_them_all() {
    let platform = Platform::start();
    let mut job = long_job("a-u1", 40);
    job["input"]["streaming"] = json!(true);
    platform.hand_out(&job);
    let _worker = Worker::start(&platform, &[]);
    let result = platform.result();
    let seen = platform.seen();
    let sent: Vec<_> = seen.iter().filter(|request| is_stream(request)).map(body).collect();
    let texts: Vec<_> = sent.iter().map(|sent| sent["output"]["text"].as_str().unwrap()).collect();
    let whole = result["output"]["segments"].as_array().unwrap();
    let expected: Vec<_> = whole.iter().map(|segment| segment["text"].as_str().unwrap().trim()).collect();
    assert_eq!(texts, expected);
    let first = seen.iter().find(|request| is_stream(request)).unwrap();
    assert_eq!(first.line, "POST /v2/e/job-stream/pod1/a-u1?gpu=NVIDIA%20A40&isStream=false");
    let last = seen.iter().position(is_result).unwrap();
    assert!(seen[last].line.ends_with("&isStream=true"));
    assert!(seen.iter().rposition(is_stream).unwrap() < last, "nothing is sent after the result");
}

#[test]
fn a_job_that_is_stopped_ends_at_once_and_nothing_is_said_of_it() {
    let platform = Platform::start();
    platform.hand_out(&long_job("a-u1", 200));
    let worker = Worker::start(&platform, &[]);
    platform.asked(is_progress);
    platform.hand_out(&job("b-u1"));
    platform.asked(|request| is_ping(request) && request.line.contains("b-u1"));
    platform.stop("a-u1");
    assert_eq!(platform.results(1)[0].0, "b-u1");
    let ended = worker.whisperq.sql("select state from job_history where job_id = 'a-u1'");
    assert_eq!(ended[0]["state"], "cancelled");
    let pings = platform.seen().iter().filter(|request| is_ping(request)).count();
    platform.asked_nth(pings + 1, is_ping);
    assert!(!platform.seen().iter().any(|request| is_result(request) && request.line.contains("a-u1")));
}

#[test]
fn segments_that_were_taken_are_not_sent_again_after_a_start() {
    let platform = Platform::start();
    let mut job = long_job("a-u1", 40);
    job["input"]["streaming"] = json!(true);
    platform.answer_posts(&[0]);
    platform.hand_out(&job);
    let worker = Worker::start(&platform, &[]);
    platform.asked(is_result);
    let sent = |platform: &Platform| platform.seen().iter().filter(|request| is_stream(request)).count();
    let before = sent(&platform);
    let folder = worker.kill();
    let _worker = Worker::start_on(folder, &platform, &[]);
    platform.results(1);
    assert!(before > 0 && sent(&platform) == before, "{before} and then {}", sent(&platform));
}

#[test]
fn a_stopped_job_that_is_handed_out_again_is_done() {
    let platform = Platform::start();
    platform.hand_out(&long_job("a-u1", 200));
    let worker = Worker::start(&platform, &[]);
    platform.asked(is_progress);
    platform.stop("a-u1");
    worker.until("select 1 as n from job_history where state = 'cancelled'");
    platform.hand_out(&job("a-u1"));
    let results = platform.results(1);
    assert!(results[0].0 == "a-u1" && results[0].1["output"].is_object(), "{results:?}");
}
