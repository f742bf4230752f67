//! The client of a server: what it sends, and how it reads the answers.

use std::time::Duration;

use serde_json::{Value, json};
use whisperq::error::Error;
use whisperq::http_client::{Api, ApiError};

use crate::scripted::{Answer, Server, nobody};

/// Longer than what sockets and pipes hold on the way.
const LARGE_BYTES: usize = 24 * 1024 * 1024;

fn get(server: &Server) -> Result<Value, ApiError> {
    Api::new(&server.url, Some("sesame")).unwrap().get(&["jobs", "1"], &[])
}

fn refusal(answer: impl Fn() -> Answer + Send + 'static) -> ApiError {
    get(&Server::start(move |_| answer())).unwrap_err()
}

#[test]
fn a_file_arrives_whole_and_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talk.mp3");
    let content: Vec<u8> = (0..LARGE_BYTES).map(|n| (n * 7 / 3) as u8).collect();
    std::fs::write(&path, &content).unwrap();
    let server = Server::start(|_| Answer::new(202, r#"{"id": "1"}"#));
    let answer: Value = Api::new(&server.url, Some("sesame")).unwrap().upload(&["jobs"], &path).unwrap();
    assert_eq!(answer, json!({"id": "1"}));
    let request = &server.asked()[0];
    assert_eq!((request.line.as_str(), request.header("authorization")), ("POST /jobs", Some("Bearer sesame")));
    assert!(request.header("content-type").unwrap().starts_with("multipart/form-data; boundary="));
    let begin = request.body.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&request.body[..begin]);
    assert!(head.contains(r#"name="file"; filename="talk.mp3""#), "{head}");
    assert!(request.body[begin + 4..].starts_with(&content), "the file is not what arrived");
}

#[test]
fn a_refusal_that_comes_before_the_file_was_sent_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talk.mp3");
    std::fs::write(&path, vec![0; LARGE_BYTES]).unwrap();
    let server = Server::start(|_| Answer::error(429, "overloaded", "full").with("retry-after: 3").early());
    let error = Api::new(&server.url, None).unwrap().upload::<Value>(&["jobs"], &path).unwrap_err();
    assert!(matches!(&error, ApiError::Refused { retry_after: Some(_), .. }), "{error:?}");
}

#[test]
fn every_method_goes_where_it_should() {
    let server = Server::start(|_| Answer::new(200, ""));
    let api = Api::new(&format!("{}/", server.url), None).unwrap();
    let _: Value = api.get(&["jobs"], &[("status", "failed"), ("limit", "2")]).unwrap();
    let _: Value = api.delete(&["jobs", "1"]).unwrap();
    let _: Value = api.post(&["jobs", "1", "retry"]).unwrap();
    assert_eq!(server.lines(), ["GET /jobs?status=failed&limit=2", "DELETE /jobs/1", "POST /jobs/1/retry"]);
    assert_eq!(server.asked()[0].header("authorization"), None);
}

#[test]
fn a_refusal_keeps_the_servers_words_and_adds_the_next_step() {
    for (status, says) in [(401, "--api-key"), (404, "no such thing"), (409, "no such thing"), (500, "no such thing")] {
        let error = refusal(move || Answer::error(status, "its_code", "no such thing"));
        assert_eq!((error.code(), error.status()), ("its_code", Some(status)));
        let error = Error::from(error);
        assert!(error.to_string().starts_with("no such thing") && error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("sesame"), "{error}");
        let kind = match status {
            401 => matches!(error, Error::Config(_)),
            404 => matches!(error, Error::NotFound(_)),
            409 => matches!(error, Error::Conflict(_)),
            _ => matches!(error, Error::Internal(_)),
        };
        assert!(kind, "{status}: {error:?}");
    }
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let error = refusal(|| Answer::error(429, "overloaded", "the queue is full").with("retry-after: 7"));
    assert!(error.is_passing());
    assert!(matches!(&error, ApiError::Refused { retry_after: Some(wait), .. } if *wait == Duration::from_secs(7)));
    let error = Error::from(error);
    assert!(matches!(&error, Error::Overloaded(text) if text == "the queue is full; try again in 7 s"), "{error:?}");
    let error = refusal(|| Answer::error(429, "overloaded", "full").with("retry-after: soon"));
    assert!(matches!(error, ApiError::Refused { retry_after: None, .. }), "{error:?}");
}

#[test]
fn what_no_whisperq_answers_is_told_from_what_one_does() {
    let error = refusal(|| Answer::new(502, "<html>bad gateway</html>"));
    assert_eq!((error.code(), error.is_passing()), ("http_502", true));
    assert!(error.to_string().contains("502 Bad Gateway; check that --server"), "{error}");
    let elsewhere = refusal(|| Answer::new(308, "").with("location: http://127.0.0.1:1/"));
    assert_eq!(elsewhere.status(), Some(308), "a redirect is not followed: {elsewhere}");
    let error = refusal(|| Answer::new(200, "<html>welcome</html>"));
    assert!(matches!(error, ApiError::NotUnderstood { .. }) && !error.is_passing(), "{error:?}");
}

#[test]
fn a_server_out_of_reach_is_named_and_its_key_is_not() {
    let url = nobody();
    let error = Api::new(&url, Some("sesame")).unwrap().get::<Value>(&["jobs"], &[("after", "secret")]).unwrap_err();
    assert!(error.is_passing());
    let text = Error::from(error).to_string();
    assert!(text.starts_with(&format!("cannot reach {url}: ")) && text.contains("whisperq serve"), "{text}");
    assert!(!text.contains("sesame") && !text.contains("secret"), "{text}");
}

#[test]
fn a_file_that_is_not_there_is_no_fault_of_the_server() {
    let api = Api::new(&nobody(), None).unwrap();
    let error = api.upload::<Value>(&["jobs"], "nowhere.mp3".as_ref()).unwrap_err();
    assert_eq!((error.code(), error.status()), ("unreadable_file", None));
    assert!(error.to_string().contains("nowhere.mp3"), "{error}");
}
