//! From an upload to its transcript, and everything that can be done with a job on the way.

use base64::Engine;
use serde_json::{Value, json};

use super::client::Service;
use crate::support::{fixture, long_recording, word_error_rate};

#[test]
fn an_upload_becomes_a_transcript_in_every_format() {
    let service = Service::start(&[]);
    let audio = std::fs::read(fixture("sample.mp3")).unwrap();
    let parts = [("word_timestamps", None, &b"true"[..]), ("file", Some("Grüße.mp3"), &audio)];
    let answer = service.post_form("/jobs?wait=120", "", &parts);
    let job = answer.json();
    assert_eq!((answer.status, job["status"].as_str()), (200, Some("completed")), "{job}");
    assert_eq!(answer.header("location").unwrap(), job["links"]["self"]);
    assert_eq!(
        (job["progress"].as_f64(), job["language"].as_str(), &job["deliveries"]),
        (Some(1.0), Some("en"), &json!([]))
    );
    let spoken = std::fs::read_to_string(fixture("sample.txt")).unwrap();
    for (format, kind) in [
        ("txt", "text/plain; charset=utf-8"),
        ("srt", "application/x-subrip; charset=utf-8"),
        ("vtt", "text/vtt; charset=utf-8"),
        ("tsv", "text/tab-separated-values; charset=utf-8"),
        ("json", "application/json"),
        ("verbose_json", "application/json"),
    ] {
        let file = service.get(&format!("{}?format={format}", job["links"]["transcript"].as_str().unwrap()));
        assert_eq!((file.status, file.header("content-type").unwrap()), (200, kind), "{format}");
        let name = file.header("content-disposition").unwrap();
        assert!(name.contains("filename*=UTF-8''Gr%C3%BC%C3%9Fe."), "{name}");
        match format {
            "txt" => assert!(word_error_rate(&spoken, &file.text()) < 0.05, "{}", file.text()),
            "verbose_json" => assert!(file.json()["words"].as_array().unwrap().len() > 20),
            _ => assert!(!file.body.is_empty()),
        }
    }
}

#[test]
fn audio_may_come_inside_json() {
    let service = Service::start(&[]);
    let audio = base64::engine::general_purpose::STANDARD.encode(std::fs::read(fixture("sample.wav")).unwrap());
    let body = json!({"audio_base64": audio, "priority": 3, "metadata": {"mine": [1, 2]}}).to_string();
    let job = service.post_json("/jobs?wait=120", &body).json();
    assert_eq!((job["status"].as_str(), &job["metadata"]), (Some("completed"), &json!({"mine": [1, 2]})), "{job}");
    for (text, metadata) in [("{\"mine\": 2}", json!({"mine": 2})), ("ticket 7", json!("ticket 7")), (" ", json!(null))]
    {
        let parts = [("file", Some("a.wav"), b"sound".as_slice()), ("metadata", None, text.as_bytes())];
        let id = service.post_form("/jobs", "", &parts).json()["id"].as_str().unwrap().to_owned();
        assert_eq!(service.get(&format!("/jobs/{id}")).json()["metadata"], metadata);
    }
}

#[test]
fn jobs_are_listed_in_pages_and_by_what_they_are() {
    let service = Service::start(&[]);
    let ids: Vec<Value> = (0..3).map(|_| service.done()["id"].clone()).collect();
    let page = service.get("/jobs?limit=2").json();
    assert_eq!((&page["jobs"][0]["id"], &page["jobs"][1]["id"]), (&ids[2], &ids[1]));
    let rest = service.get(&format!("/jobs?limit=2&after={}", page["next"].as_str().unwrap())).json();
    assert_eq!((&rest["jobs"][0]["id"], &rest["next"]), (&ids[0], &Value::Null));
    for (query, count) in [
        ("status=completed", 3),
        ("status=failed", 0),
        ("model=tiny.en", 3),
        ("model=turbo", 0),
        ("since=2026-01-01T00:00:00Z", 3),
        ("since=2999-01-01T00:00:00Z", 0),
    ] {
        let found = service.get(&format!("/jobs?{query}")).json()["jobs"].as_array().unwrap().len();
        assert_eq!(found, count, "{query}");
    }
}

#[test]
fn a_job_is_cancelled_once_and_its_recording_is_gone() {
    let service = Service::start(&[]);
    let long = service.whisperq.path("long.wav");
    long_recording(&long, 120);
    let id = service.submit(&long);
    let early = service.get(&format!("/jobs/{id}/transcript"));
    assert_eq!((early.status, early.code().as_str()), (409, "conflict"));
    let cancelled = service.request("DELETE", &format!("/jobs/{id}"), "", b"");
    assert_eq!((cancelled.status, cancelled.json()["status"].as_str()), (200, Some("cancelled")));
    for (method, path) in [("DELETE", format!("/jobs/{id}")), ("POST", format!("/jobs/{id}/retry"))] {
        assert_eq!(service.request(method, &path, "", b"").code(), "conflict", "{method}");
    }
    // The keeper looks every second.
    while service.uploads() > 0 {
        assert_eq!(service.get("/health").status, 200);
    }
}

#[test]
fn a_repeated_submit_under_one_key_is_one_job() {
    let service = Service::start(&[]);
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    let submit = || service.post_form("/jobs", "idempotency-key: once\r\n", &[("file", Some("a.wav"), &audio)]).json();
    let (first, second) = (submit(), submit());
    assert_eq!(first["id"], second["id"]);
    assert_eq!(service.get("/jobs").json()["jobs"].as_array().unwrap().len(), 1);
}

#[test]
fn waiting_ends_with_the_time_and_the_job_goes_on() {
    let service = Service::start(&[]);
    let long = service.whisperq.path("long.wav");
    long_recording(&long, 120);
    let audio = std::fs::read(&long).unwrap();
    let answer = service.post_form("/jobs?wait=0", "", &[("file", Some("long.wav"), &audio)]);
    assert_eq!(answer.status, 202);
    assert!(["queued", "running"].contains(&answer.json()["status"].as_str().unwrap()), "{}", answer.text());
}
