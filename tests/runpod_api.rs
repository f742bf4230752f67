//! RunPod's REST API: answered in the shapes that its clients demand, and driven by those clients themselves.

mod clients;

use serde_json::{Value, json};

use crate::http::client::{Response, Service};
use crate::scripted::{Answer, Server};
use crate::support::fixture;

fn audio() -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(std::fs::read(fixture("sample.mp3")).unwrap())
}

fn post(service: &Service, path: &str, body: &Value) -> Response {
    service.post_json(path, &body.to_string())
}

/// The id of a job that is now queued.
fn run(service: &Service, body: &Value) -> String {
    let answer = post(service, "/v2/whisper/run", body);
    let told = answer.json();
    assert_eq!((answer.status, told["status"].as_str()), (200, Some("IN_QUEUE")), "{told}");
    told["id"].as_str().unwrap().to_owned()
}

fn status_sync(service: &Service, id: &str) -> Value {
    service.get(&format!("/v2/whisper/status-sync/{id}?wait=120000")).json()
}

#[test]
fn a_job_is_run_and_told_in_the_shape_of_the_cloud() {
    let service = Service::start(&[]);
    let input = json!({"audio_base64": audio(), "model": "base", "transcription": "srt", "word_timestamps": true});
    let done = post(&service, "/runsync?wait=120000", &json!({"input": input})).json();
    assert_eq!(done["status"], "COMPLETED", "{done}");
    assert!(done["delayTime"].is_i64() && done["executionTime"].is_i64() && done["workerId"].is_string());
    let output = &done["output"];
    assert!(output["transcription"].as_str().unwrap().contains(" --> "));
    assert!(output["segments"][0]["words"][0]["probability"].is_f64());
    assert!(output["word_timestamps"][0]["word"].is_string());
    let rest = ["detected_language", "translation", "device", "model", "duration"].map(|name| output[name].clone());
    assert_eq!(rest[..4], [json!("en"), Value::Null, json!("cpu"), json!("tiny.en")]);
    assert!(output["warnings"][0].as_str().unwrap().contains("base"), "another model is no error");
    let id = done["id"].as_str().unwrap();
    for path in [format!("/status/{id}"), format!("/any/status/{id}"), format!("/v2/any/status-sync/{id}")] {
        assert_eq!(service.get(&path).json()["output"], *output);
        assert_eq!(service.request("POST", &path, "", b"").json()["status"], "COMPLETED");
    }
    assert_eq!(service.get(&format!("/jobs/{id}")).json()["status"], "completed", "it is a job like any other");
}

#[test]
fn a_stream_tells_each_segment_once_and_the_last_with_the_end() {
    let service = Service::start(&[]);
    let id = run(&service, &json!({"input": {"audio_base64": audio()}}));
    let (mut texts, mut told) = (Vec::new(), Value::Null);
    while told["status"] != "COMPLETED" {
        told = service.get(&format!("/whisper/stream/{id}")).json();
        let segments = told["stream"].as_array().unwrap();
        texts.extend(segments.iter().map(|segment| segment["output"]["text"].as_str().unwrap().to_owned()));
    }
    assert_eq!(texts.join(" "), status_sync(&service, &id)["output"]["transcription"].as_str().unwrap());
    assert_eq!(service.get(&format!("/stream/{id}")).json(), json!({"status": "COMPLETED", "stream": []}));
}

#[test]
fn a_failed_job_is_told_as_text_and_can_be_tried_again() {
    let service = Service::start(&[]);
    let input = json!({"input": {"audio_base64": "aGVsbG8gaGVsbG8="}});
    let id = run(&service, &input);
    let told = status_sync(&service, &id);
    assert_eq!(told["status"], "FAILED");
    assert!(told["error"].as_str().unwrap().starts_with("not_audio: "), "{told}");
    let again = service.request("POST", &format!("/v2/whisper/retry/{id}"), "", b"");
    assert_eq!((again.status, again.json()), (200, json!({"id": id, "status": "IN_QUEUE"})));
    assert_eq!(status_sync(&service, &id)["status"], "FAILED");
    let cancelled = service.request("POST", &format!("/v2/whisper/cancel/{id}"), "", b"");
    assert_eq!((cancelled.status, cancelled.json()["status"].as_str()), (200, Some("FAILED")), "it has ended");
}

#[test]
fn a_webhook_gets_what_the_cloud_would_post_of_a_failed_job_too() {
    let hook = Server::start(|_| Answer::new(200, ""));
    let service = Service::start(&[("ALLOW_PRIVATE_URLS", "true")]);
    let webhook = format!("{}/hook?token=1", hook.url);
    for (audio, status) in [(audio(), "COMPLETED"), ("aGVsbG8gaGVsbG8=".to_owned(), "FAILED")] {
        let id = run(&service, &json!({"input": {"audio_base64": audio}, "webhook": webhook}));
        let requests = hook.asked_when(if status == "COMPLETED" { 1 } else { 2 });
        let told: Value = serde_json::from_slice(&requests.last().unwrap().body).unwrap();
        assert_eq!((told["id"].as_str(), told["status"].as_str()), (Some(id.as_str()), Some(status)), "{told}");
        assert!(told["input"].is_object() && told["webhook"] == webhook.split('?').next().unwrap());
        assert_eq!(
            (told["output"].is_object(), told["error"].is_string()),
            (status == "COMPLETED", status == "FAILED")
        );
    }
}

#[test]
fn what_waits_can_be_cancelled_and_purged() {
    // Nobody can reach what these are to fetch, so they wait for their next try.
    let service = Service::start(&[("ALLOW_PRIVATE_URLS", "true"), ("MAX_ATTEMPTS", "9")]);
    let nobody = json!({"input": {"audio": "http://127.0.0.1:9/a.mp3"}, "policy": {"lowPriority": true, "ttl": 60000}});
    let ids: Vec<String> = (0..3).map(|_| run(&service, &nobody)).collect();
    let cancelled = service.request("POST", &format!("/cancel/{}", ids[0]), "", b"{}").json();
    assert_eq!((cancelled["id"].as_str(), cancelled["status"].as_str()), (Some(ids[0].as_str()), Some("CANCELLED")));
    let purged = service.request("POST", "/v2/whisper/purge-queue", "", b"");
    assert_eq!((purged.status, purged.json()), (200, json!({"removed": 2, "status": "completed"})));
    assert_eq!(status_sync(&service, &ids[2])["status"], "CANCELLED");
}

#[test]
fn what_is_wrong_is_one_text() {
    let service = Service::start(&[("API_KEY", "sesame")]);
    let key = "authorization: sesame\r\ncontent-type: application/json\r\n";
    for (method, path, headers, body, status, says) in [
        ("POST", "/v2/a/run", key, "{", 400, "no job"),
        ("POST", "/v2/a/run", key, "{}", 400, "input"),
        ("POST", "/run", key, r#"{"input": {}}"#, 400, "neither audio"),
        ("POST", "/a/runsync", key, r#"{"input": {"audio": "/etc/passwd"}}"#, 400, "https://"),
        ("GET", "/v2/a/status/none", key, "", 404, "no job none"),
        ("GET", "/v2/a/stream/none", key, "", 404, "no job none"),
        ("POST", "/v2/a/cancel/none", key, "", 404, "no job none"),
        ("POST", "/v2/a/retry/none", key, "", 404, "no job none"),
        ("GET", "/v2/a/status/none", "authorization: Bearer wrong\r\n", "", 401, "key"),
        ("GET", "/v2/a/status/none", "", "", 401, "key"),
    ] {
        let answer = service.request(method, path, headers, body.as_bytes());
        let error = answer.json()["error"].clone();
        assert_eq!(answer.status, status, "{path} {body}: {error}");
        assert!(error.as_str().is_some_and(|error| error.contains(says)), "{path} {body}: {error}");
    }
    for path in ["/whisper/health", "/v2/whisper/health"] {
        let health = service.get(path);
        assert!(health.status == 200 && health.json()["jobs"]["inQueue"].is_i64(), "no key is needed");
    }
}
