//! A process that is stopped between invocations: nothing is lost, nothing is done twice, and every answer leaves in time.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::emulator::{Function, LONG, url_event};
use crate::http::client::form;
use crate::support::{Whisperq, fixture, long_recording};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=----between-the-parts");
/// How long a process is stopped: longer than a lease, and than work may stand still. A busy machine needs most of the latter
/// between two signs of life of the engine.
const FREEZE: Duration = Duration::from_secs(32);
const STILL: (&str, &str) = ("CHUNK_TIMEOUT_SECONDS", "30");
/// For an invocation that ends before the recording does; a busy machine has half of it for the answer.
pub(super) const SHORT: Duration = Duration::from_secs(4);
/// Seconds of a recording that takes several times as long as that on two idle cores.
pub(super) const LONGER: usize = 400;

/// Two chunks are in work when the function is frozen.
const SETTINGS: [(&str, &str); 3] = [("LEASE_SECONDS", "3"), ("LAMBDA_MARGIN_MS", "2000"), ("WORKER_COUNT", "2")];

fn recording(seconds: usize) -> Vec<u8> {
    let whisperq = Whisperq::new();
    let path = whisperq.path("long.wav");
    long_recording(&path, seconds);
    std::fs::read(path).unwrap()
}

/// Every claim of a chunk, as (seq, outcome).
fn claims(function: &Function) -> Vec<(u64, String)> {
    let rows = function.sql("select seq, outcome from chunks where kind = 'transcribe' order by started_at_ms, seq");
    let row = |row: &Value| (row[0].as_u64().unwrap(), row[1].as_str().unwrap_or("running").to_owned());
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn a_recording_too_long_for_one_invocation_is_finished_by_later_ones() {
    let function = Function::start(&[SETTINGS.as_slice(), &[STILL]].concat());
    let body = form(&[("file", Some("long.wav"), &recording(LONGER))]);
    let first = function.request(url_event("POST", "/jobs?wait=600", &[FORM], &body), SHORT);
    assert!(first.left > Duration::ZERO, "late: {first:?}");
    let mut job = first.json();
    assert!(first.status == 202 && ["queued", "running"].contains(&job["status"].as_str().unwrap()), "{job}");
    let id = job["id"].as_str().unwrap().to_owned();
    // The time that Lambda lets pass, in which nothing happens that could be waited for instead.
    std::thread::sleep(FREEZE);
    let (mut told, mut invocations) = (vec![job["progress"].as_f64().unwrap()], 1);
    while job["status"] != "completed" {
        let event = url_event("GET", &format!("/v2/any/status/{id}"), &[], b"");
        let answer = function.request(event, SHORT);
        assert!(answer.left > Duration::ZERO && answer.status == 200, "{answer:?}");
        let status = answer.json();
        assert!(["IN_PROGRESS", "COMPLETED"].contains(&status["status"].as_str().unwrap()), "{status}");
        told.extend(status["progress"].as_f64());
        invocations += 1;
        job = function.get(&format!("/jobs/{id}")).json();
    }
    assert!(invocations > 1 && told.is_sorted(), "{told:?}");
    assert!(told.iter().any(|progress| (0.01..0.999).contains(progress)), "{told:?}");
    let claims = claims(&function);
    let chunks: BTreeSet<u64> = claims.iter().map(|(seq, _)| *seq).collect();
    assert!(chunks.len() >= 5 && claims.len() == chunks.len(), "each chunk is claimed once: {claims:?}");
    assert!(claims.iter().all(|(_, outcome)| outcome == "done"), "{claims:?}");
}

#[test]
fn runsync_answers_what_it_has_reached_before_the_deadline() {
    let function = Function::start(&SETTINGS);
    let audio = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, recording(LONGER));
    let body = json!({"input": {"audio_base64": audio}}).to_string();
    let event = url_event("POST", "/v2/any/runsync", &[("content-type", "application/json")], body.as_bytes());
    let answer = function.request(event, SHORT);
    let told = answer.json();
    assert!(answer.status == 200 && answer.left > Duration::ZERO, "{answer:?}");
    assert!(["IN_QUEUE", "IN_PROGRESS"].contains(&told["status"].as_str().unwrap()), "{told}");
    let id = told["id"].as_str().unwrap();
    let event = url_event("GET", &format!("/status-sync/{id}?wait=300000"), &[], b"");
    let done = function.request(event, LONG).json();
    assert!(done["output"]["transcription"].as_str().unwrap().contains("customer"), "{done}");
}

#[test]
fn a_submit_that_waits_for_nothing_is_held_or_refused_with_its_id() {
    let function = Function::start(&SETTINGS);
    let body = form(&[("file", Some("long.wav"), &recording(LONGER))]);
    let answer = function.request(url_event("POST", "/jobs", &[FORM], &body), SHORT);
    let refusal = answer.json();
    assert_eq!((answer.status, refusal["error"]["code"].as_str()), (503, Some("unfinished")), "{refusal}");
    assert!(answer.headers["retry-after"].is_string() && answer.left > Duration::ZERO, "{answer:?}");
    let path = format!("/jobs/{}", refusal["id"].as_str().unwrap());
    let events = function.get(&format!("{path}/events"));
    assert!(events.text().contains("event: done"), "the id leads on: {}", events.text());
    let audio = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, recording(LONGER));
    let run = json!({"input": {"audio_base64": audio}}).to_string();
    let event = url_event("POST", "/run", &[("content-type", "application/json")], run.as_bytes());
    let answer = function.request(event, SHORT);
    let refusal = answer.json();
    assert!(answer.status == 503 && refusal["error"].is_string() && refusal["id"].is_string(), "{refusal}");
}

#[test]
fn a_submit_is_answered_at_once_where_losing_it_is_allowed() {
    let function = Function::start(&[SETTINGS.as_slice(), &[("LAMBDA_ALLOW_EPHEMERAL", "true")]].concat());
    let body = form(&[("file", Some("long.wav"), &recording(LONGER))]);
    let answer = function.request(url_event("POST", "/jobs", &[FORM], &body), LONG);
    let job = answer.json();
    assert_eq!(answer.status, 202, "{job}");
    assert!(["queued", "running"].contains(&job["status"].as_str().unwrap()), "{job}");
}

#[test]
fn server_sent_events_end_in_time_and_go_on_where_they_ended() {
    let function = Function::start(&[SETTINGS.as_slice(), &[("LAMBDA_ALLOW_EPHEMERAL", "true")]].concat());
    let body = form(&[("file", Some("long.wav"), &recording(LONGER))]);
    let job = function.request(url_event("POST", "/jobs", &[FORM], &body), LONG).json();
    let path = format!("/jobs/{}/events", job["id"].as_str().unwrap());
    let (mut last, mut segments, mut streams) = (String::new(), Vec::new(), 0);
    while last != "end" {
        let answer = function.request(url_event("GET", &path, &[("last-event-id", &last)], b""), SHORT);
        assert!(answer.status == 200 && answer.left > Duration::ZERO, "{answer:?}");
        let text = answer.text();
        let mut ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
        last = ids.next_back().map_or(last, str::to_owned);
        let data = text.split("\n\n").filter(|event| event.contains("event: segment"));
        segments.extend(data.map(|event| event.split("data: ").nth(1).unwrap().to_owned()));
        streams += 1;
    }
    let unique: BTreeSet<&String> = segments.iter().collect();
    assert!(streams > 1 && unique.len() == segments.len() && segments.len() > 5, "{streams} streams, {segments:?}");
}

#[test]
fn what_is_sent_out_is_sent_before_the_answer() {
    let hook = crate::scripted::Server::start(|_| crate::scripted::Answer::new(204, ""));
    let function = Function::start(&[("ALLOW_PRIVATE_URLS", "true")]);
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    let webhook = format!("{}/hook", hook.url);
    let body = form(&[("file", Some("a.wav"), &audio), ("webhook", None, webhook.as_bytes())]);
    let answer = function.request(url_event("POST", "/jobs?wait=600", &[FORM], &body), LONG);
    let job = answer.json();
    assert_eq!((hook.asked().len(), job["deliveries"][0]["state"].as_str()), (1, Some("done")), "{job}");
    let path = format!("/jobs/{}/redeliver", job["id"].as_str().unwrap());
    let again = function.request(url_event("POST", &path, &[], b""), LONG).json();
    assert_eq!((hook.asked().len(), again["deliveries"][0]["state"].as_str()), (2, Some("done")), "{again}");
}

#[test]
fn whoever_is_told_of_the_end_is_told_of_a_cancelled_job_before_the_answer() {
    let hook = crate::scripted::Server::start(|_| crate::scripted::Answer::new(204, ""));
    let settings = [("ALLOW_PRIVATE_URLS", "true"), ("LAMBDA_ALLOW_EPHEMERAL", "true")];
    let function = Function::start(&[SETTINGS.as_slice(), &settings].concat());
    let webhook = format!("{}/hook", hook.url);
    let body = form(&[("file", Some("long.wav"), &recording(LONGER)), ("webhook", None, webhook.as_bytes())]);
    for (told, (method, path)) in [("DELETE", "/jobs/"), ("POST", "/cancel/")].into_iter().enumerate() {
        let job = function.request(url_event("POST", "/jobs", &[FORM], &body), LONG).json();
        let path = format!("{path}{}", job["id"].as_str().unwrap());
        let cancelled = function.request(url_event(method, &path, &[], b""), LONG);
        assert_eq!((cancelled.status, hook.asked().len()), (200, told + 1), "{}", cancelled.text());
    }
}
