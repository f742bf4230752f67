//! Results: their shape on the wire, and that each arrives once, whatever happens to the two sides meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::platform::{Platform, body, is_result};
use super::worker::{Worker, job, sample};
use crate::scripted::{Answer, Server, nobody};
use crate::support::word_error_rate;

fn done_chunks(worker: &Worker) -> usize {
    worker.whisperq.sql("select 1 as one from chunks where kind = 'transcribe' and outcome = 'done'").len()
}

#[test]
fn a_result_looks_as_that_of_the_official_worker() {
    let platform = Platform::start();
    let mut job = job("a-u1");
    job["webhook"] = json!("https://example.org/told-by-runpod-itself");
    job["input"]["refresh_worker"] = json!(true);
    platform.hand_out(&job);
    let worker = Worker::start(&platform, &[]);
    let posted = platform.asked(is_result);
    assert_eq!(posted.line, "POST /v2/e/job-done/pod1/a-u1?gpu=NVIDIA%20A40&isStream=false");
    for (name, value) in [
        ("content-type", "application/x-www-form-urlencoded"),
        ("charset", "utf-8"),
        ("x-request-id", "a-u1"),
        ("authorization", "rpa_key"),
    ] {
        assert_eq!(posted.header(name), Some(value), "{name}");
    }
    let body = body(&posted);
    assert_eq!((body.as_object().unwrap().len(), &body["stopPod"]), (2, &json!(true)), "output and the wish");
    let spoken = std::fs::read_to_string(crate::support::fixture("sample.wav.txt")).unwrap();
    assert!(word_error_rate(&spoken, body["output"]["transcription"].as_str().unwrap()) < 0.3, "{body}");
    assert_eq!(body["output"]["warnings"], json!([]));
    platform.results(1);
    let rows = worker.whisperq.sql("select front_door, state from job_history where job_id = 'a-u1'");
    assert_eq!(rows[0]["front_door"], "runpod");
    assert_eq!(platform.seen().iter().filter(|request| is_result(request)).count(), 1);
}

#[test]
fn a_result_that_is_not_taken_is_posted_again() {
    let platform = Platform::start();
    platform.answer_posts(&[500, 429, 200]);
    platform.hand_out(&job("a-u1"));
    let worker = Worker::start(&platform, &[]);
    platform.results(1);
    let posts: Vec<_> = platform.seen().into_iter().filter(is_result).collect();
    assert_eq!(posts.len(), 3);
    assert!(posts.iter().all(|post| post.body == posts[0].body), "the same result each time");
    assert_eq!(done_chunks(&worker), 1);
}

#[test]
fn a_queue_that_is_out_of_reach_gets_the_result_when_it_is_back() {
    let platform = Platform::start();
    let away = nobody();
    let mut environment = platform.environment();
    environment.retain(|(name, _)| *name != "RUNPOD_WEBHOOK_POST_OUTPUT");
    environment.push(("RUNPOD_WEBHOOK_POST_OUTPUT", format!("{away}/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=x")));
    platform.hand_out(&job("a-u1"));
    let worker = Worker::start_in(crate::support::Whisperq::new(), &environment, &[]);
    // The heartbeat names the job until its result has arrived; by then it was tried.
    while worker.whisperq.sql("select 1 as one from deliveries where kind = 'runpod' and errors > 0").is_empty() {}
    let back = Platform::start_on(away.trim_start_matches("http://"));
    assert_eq!(back.results(1)[0].0, "a-u1");
}

#[test]
fn a_worker_that_is_killed_before_its_result_was_taken_posts_it_after_its_next_start() {
    let platform = Platform::start();
    platform.answer_posts(&[0]);
    platform.hand_out(&job("a-u1"));
    let worker = Worker::start(&platform, &[]);
    platform.asked(is_result);
    let folder = worker.kill();
    let worker = Worker::start_on(folder, &platform, &[]);
    assert_eq!(platform.results(1).len(), 1);
    assert_eq!(done_chunks(&worker), 1, "nothing is transcribed twice");
    let posts: Vec<_> = platform.seen().into_iter().filter(is_result).collect();
    assert_eq!((posts.len(), &posts[0].body), (2, &posts[1].body));
}

#[test]
fn a_job_that_is_handed_out_again_is_done_once_and_told_again() {
    let platform = Platform::start();
    platform.answer_posts(&[500, 200, 200]);
    platform.hand_out(&job("a-u1"));
    platform.hand_out(&job("a-u1"));
    let worker = Worker::start(&platform, &[]);
    platform.results(1);
    // Until then it counts as on its way.
    worker.until("select 1 as n from deliveries where state = 'done'");
    platform.hand_out(&job("a-u1"));
    let results = platform.results(2);
    assert_eq!(results[0], results[1]);
    assert_eq!(done_chunks(&worker), 1);
}

#[test]
fn a_result_that_is_too_long_becomes_an_error_where_there_is_no_place_for_it() {
    let platform = Platform::start();
    platform.answer_posts(&[413, 200]);
    platform.hand_out(&job("a-u1"));
    let _worker = Worker::start(&platform, &[]);
    let error = platform.result()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("output_refused") && error.contains("413") && error.contains("OUTPUT_URI"), "{error}");
}

#[test]
fn a_result_that_is_too_long_goes_to_the_users_bucket_and_its_address_to_runpod() {
    let platform = Platform::start();
    let bucket = Server::start(|_| Answer::new(200, ""));
    platform.answer_posts(&[400, 200]);
    let keys = json!({"accessId": "a", "accessSecret": "b", "bucketName": "talks", "endpointUrl": bucket.url});
    platform.hand_out(&json!({"id": "a-u1", "input": sample(), "s3Config": keys}));
    let _worker = Worker::start(&platform, &[("ALLOW_PRIVATE_URLS", "true")]);
    let result = platform.result();
    let url = result["output"]["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("{}/talks/a-u1.output.json?", bucket.url)), "{url}");
    assert!(url.contains("X-Amz-Expires=604800"), "{url}");
    let stored = &bucket.asked()[0];
    assert!(stored.line.starts_with("PUT /talks/a-u1.output.json?"), "{}", stored.line);
    let stored: serde_json::Value = serde_json::from_slice(&stored.body).unwrap();
    let refused = body(&platform.asked(is_result));
    assert_eq!(stored, refused["output"]);
}

#[test]
fn an_error_in_place_of_a_result_stands_though_its_answer_was_lost_and_a_place_was_found_since() {
    let platform = Platform::start();
    // The error is heard, and its answer never comes.
    platform.answer_posts(&[413, 0]);
    let is_open = Arc::new(AtomicBool::new(false));
    let opened = is_open.clone();
    let bucket = Server::start(move |_| match opened.load(Ordering::SeqCst) {
        true => Answer::new(200, ""),
        false => Answer::new(403, "<Error><Code>ExpiredToken</Code></Error>"),
    });
    let keys = json!({"accessId": "a", "accessSecret": "b", "bucketName": "talks", "endpointUrl": bucket.url});
    platform.hand_out(&json!({"id": "a-u1", "input": sample(), "s3Config": keys}));
    let worker = Worker::start(&platform, &[("ALLOW_PRIVATE_URLS", "true")]);
    let first = platform.asked_nth(1, is_result);
    is_open.store(true, Ordering::SeqCst);
    let folder = worker.kill();
    let _worker = Worker::start_on(folder, &platform, &[("ALLOW_PRIVATE_URLS", "true")]);
    assert!(platform.result()["error"].as_str().unwrap().contains("output_refused"));
    let posts: Vec<_> = platform.seen().into_iter().filter(is_result).collect();
    assert_eq!(
        (posts.len(), &first.body),
        (3, &posts[2].body),
        "the output is not sent again, and the error is the same"
    );
}

#[test]
fn a_short_result_that_is_refused_after_it_may_have_been_heard_is_not_contradicted() {
    let platform = Platform::start();
    platform.answer_posts(&[500, 400]);
    platform.hand_out(&job("a-u1"));
    let worker = Worker::start(&platform, &[]);
    worker.until("select 1 as n from deliveries where kind = 'runpod' and state = 'failed'");
    let posts: Vec<_> = platform.seen().into_iter().filter(is_result).collect();
    assert_eq!((posts.len(), &posts[0].body), (2, &posts[1].body));
}

#[test]
fn a_place_that_stays_out_of_reach_becomes_an_error_in_the_end() {
    let platform = Platform::start();
    platform.answer_posts(&[413]);
    let bucket = Server::start(|_| Answer::new(403, ""));
    let keys = json!({"accessId": "a", "accessSecret": "b", "bucketName": "talks", "endpointUrl": bucket.url});
    platform.hand_out(&json!({"id": "a-u1", "input": sample(), "s3Config": keys}));
    let worker = Worker::start(&platform, &[("ALLOW_PRIVATE_URLS", "true")]);
    platform.asked(is_result);
    while platform.accepted().is_empty() {
        // Instead of waiting for the next try.
        worker.whisperq.run(&["jobs", "redeliver", "a-u1"]);
    }
    assert!(platform.result()["error"].as_str().unwrap().contains("may not be accessed"));
    assert!(bucket.asked().len() > 15, "it was tried for a while");
    assert_eq!(platform.seen().iter().filter(|request| is_result(request)).count(), 2, "the output is sent once");
}
