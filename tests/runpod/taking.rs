//! How jobs are asked for, and what each answer leads to.

use serde_json::json;

use super::platform::{Platform, is_result, is_take};
use super::worker::{Worker, job};

#[test]
fn one_thread_asks_for_one_job_and_says_whether_it_has_others() {
    let platform = Platform::start();
    let worker = Worker::start(&platform, &[]);
    platform.hand_out(&job("a-u1"));
    let first = platform.asked(is_take);
    assert_eq!(first.line, "GET /v2/e/job-take/pod1?gpu=NVIDIA%20A40&job_in_progress=0");
    assert_eq!(first.header("authorization"), Some("rpa_key"), "as it is, without a word before it");
    assert_eq!(first.header("content-type"), Some("application/json"));
    platform.results(1);
    platform.asked(|request| is_take(request) && request.line.ends_with("job_in_progress=1"));
    drop(worker);
}

#[test]
fn idle_threads_ask_for_a_batch_and_every_job_of_it_is_done() {
    let platform = Platform::start();
    let _worker = Worker::start(&platform, &[("WORKER_COUNT", "2"), ("MODEL_INSTANCES", "1")]);
    platform.answer_take(200, &json!([job("a-u1"), job("b-u1"), {"no": "id"}]).to_string());
    let batch = platform.asked(is_take).line;
    assert_eq!(batch, "GET /v2/e/job-take-batch/pod1?gpu=NVIDIA%20A40&batch_size=2&job_in_progress=0");
    let mut done: Vec<String> = platform.results(2).into_iter().map(|(job, _)| job).collect();
    done.sort();
    assert_eq!(done, ["a-u1", "b-u1"]);
}

#[test]
fn no_answer_of_the_queue_stops_the_taking() {
    let platform = Platform::start();
    for (status, body) in [(204, ""), (400, ""), (200, ""), (200, "[]"), (429, ""), (500, "down"), (200, "<html>")] {
        platform.answer_take(status, body);
    }
    platform.hand_out(&job("a-u1"));
    let _worker = Worker::start(&platform, &[]);
    assert!(platform.result()["output"]["transcription"].is_string());
}

#[test]
fn what_cannot_be_done_is_answered_with_an_error_of_six_keys() {
    let platform = Platform::start();
    let jobs = [
        json!({"id": "none-u1", "input": {}}),
        json!({"id": "../odd", "input": {}}),
        json!({"id": "noise-u1", "input": {"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}}),
        json!({"id": "s3-u1", "input": {"audio": "s3://a/b"}, "s3Config": {"accessId": 7}}),
    ];
    jobs.iter().for_each(|job| platform.hand_out(job));
    let _worker = Worker::start(&platform, &[]);
    let results = platform.results(jobs.len());
    let error = |id: &str| -> serde_json::Value {
        let (_, body) = results.iter().find(|(job, _)| job == id).unwrap();
        serde_json::from_str(body["error"].as_str().unwrap()).unwrap()
    };
    for (id, kind) in
        [("none-u1", "configuration"), ("../odd", "invalid_id"), ("noise-u1", "not_audio"), ("s3-u1", "configuration")]
    {
        let error = error(id);
        assert_eq!(error["error_type"], kind, "{error}");
        assert_eq!((&error["hostname"], &error["worker_id"]), (&json!("host1"), &json!("pod1")));
        assert_eq!(error.as_object().unwrap().len(), 6, "{error}");
    }
    let odd = platform.asked(|request| is_result(request) && request.line.contains("odd"));
    assert_eq!(odd.line, "POST /v2/e/job-done/pod1/..%2Fodd?gpu=NVIDIA%20A40&isStream=false");
}

#[test]
fn the_templates_of_the_hub_are_enough() {
    let platform = Platform::start();
    let environment = [
        ("RUNPOD_WEBHOOK_GET_JOB", format!("{}/v2/IDE/job-take/$RUNPOD_POD_ID", platform.url)),
        (
            "RUNPOD_WEBHOOK_POST_OUTPUT",
            format!("{}/v2/IDE/job-done/$RUNPOD_POD_ID/$ID?gpu=$RUNPOD_GPU_TYPE_ID", platform.url),
        ),
    ];
    platform.hand_out(&job("a"));
    let _worker = Worker::start_in(crate::support::Whisperq::new(), &environment, &[]);
    platform.results(1);
    let take = platform.asked(is_take);
    let (path, query) = take.line.split_once('?').unwrap();
    assert!(!path.contains('$') && path.starts_with("GET /v2/IDE/job-take/") && query == "job_in_progress=0", "{path}");
    assert_eq!(take.header("authorization"), Some(""));
    let done = platform.asked(is_result).line;
    assert!(done.ends_with("/a?gpu=&isStream=false") && !done.contains('$'), "{done}");
}
