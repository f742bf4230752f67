//! The load test against a server that answers from a script: what it asks, what it prints, how it ends.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use serde_json::json;

use crate::scripted::{Answer, Request, Server};
use crate::support::{Whisperq, fixture};

const GPU: &str = r#"{"gpu": [{"name": "Hopper", "utilization_percent": 80, "memory_used_bytes": 2147483648,
    "memory_total_bytes": 4294967296}]}"#;

fn job(id: &str, status: &str) -> String {
    let error = (status == "failed").then(|| json!({"code": "not_audio", "message": "this is text"}));
    json!({
        "id": id, "status": status, "progress": 1.0, "created_at": "2026-01-01T00:00:00Z", "audio_seconds": 12.5,
        "model": "tiny.en", "attempts": 1, "worker_ids": [], "error": error, "warnings": [], "links": {},
    })
    .to_string()
}

/// Answers as a whisperq with one GPU does; each job is running when it is first looked at, and then `ended` says.
fn service(ended: impl Fn(usize) -> Answer + Send + 'static) -> impl FnMut(&Request) -> Answer + Send {
    let (mut submitted, mut looks) = (0, HashMap::<String, usize>::new());
    move |request| match request.line.as_str() {
        "GET /health" => Answer::new(200, "{}"),
        "GET /system" => Answer::new(200, GPU),
        "POST /jobs" => {
            submitted += 1;
            Answer::new(202, &json!({"id": submitted.to_string(), "status": "queued"}).to_string())
        }
        line => {
            let id = line.trim_start_matches("GET /jobs/");
            let looked = looks.entry(id.to_owned()).or_default();
            *looked += 1;
            if *looked == 1 { Answer::new(200, &job(id, "running")) } else { ended(id.parse().unwrap()) }
        }
    }
}

fn completed(id: usize) -> Answer {
    Answer::new(200, &job(&id.to_string(), "completed"))
}

/// The lines with single spaces.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn assert_line(text: &str, start: &str) {
    assert!(lines(text).iter().any(|line| line.starts_with(start)), "no line starts with {start}:\n{text}");
}

#[test]
fn one_client_and_then_several_are_measured_and_compared() {
    let whisperq = Whisperq::new();
    let (wav, mp3) = (fixture("sample.wav").display().to_string(), fixture("sample.mp3").display().to_string());
    let server = Server::start(service(completed));
    let args =
        ["load", &wav, &mp3, "--server", &server.url, "--api-key", "sesame", "--clients", "3", "--requests", "5"];
    let printed = whisperq.output(&args);
    assert_line(&printed, &format!("{wav} 3 "));
    assert_line(&printed, &format!("{mp3} 2 "));
    assert_line(&printed, "all files 1 client 3 clients");
    assert_line(&printed, "requests 2 5");
    assert_line(&printed, "failures 0 0");
    assert_line(&printed, "audio seconds 25.0 62.5");
    assert_line(&printed, "speed-up over one client 1.00 ");
    assert_line(&printed, "0 Hopper 80 % 2.0 4.0");
    let asked = server.asked();
    assert_eq!(asked.iter().filter(|request| request.line == "POST /jobs").count(), 7);
    assert!(asked.iter().all(|request| request.header("authorization") == Some("Bearer sesame")));
    assert!(!printed.contains("sesame"));
}

#[test]
fn failures_are_listed_and_make_the_exit_code() {
    let sample = fixture("sample.wav").display().to_string();
    let ended = |id| if id == 1 { completed(id) } else { Answer::new(200, &job(&id.to_string(), "failed")) };
    let server = Server::start(service(ended));
    let output = Whisperq::new().run(&["load", &sample, "--server", &server.url, "--clients", "1"]);
    let (printed, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!((output.status.code(), errors.as_str()), (Some(1), "whisperq: 2 of 3 requests failed\n"));
    assert_line(&printed, "failures 0 2");
    assert_line(&printed, "2 not_audio this is text");
}

#[test]
fn a_full_queue_is_asked_again_and_a_server_that_restarts_is_waited_for() {
    let sample = fixture("sample.wav").display().to_string();
    let mut serve = service(completed);
    let (mut posts, mut looks) = (0, 0);
    let server = Server::start(move |request| {
        posts += usize::from(request.line == "POST /jobs");
        looks += usize::from(request.line.starts_with("GET /jobs/"));
        match request.line.as_str() {
            "POST /jobs" if posts == 2 => Answer::error(429, "overloaded", "full").with("retry-after: 0"),
            line if line.starts_with("GET /jobs/") && looks == 2 => Answer::error(503, "starting", "in a moment"),
            _ => serve(request),
        }
    });
    let printed = Whisperq::new().output(&["load", &sample, "--server", &server.url, "--clients", "1"]);
    assert_line(&printed, "refused with 429 and tried again 0 1");
    assert_line(&printed, "requests 1 2");
}

#[test]
fn an_interruption_cancels_the_job_and_prints_what_there_is() {
    let whisperq = Whisperq::new();
    let sample = fixture("sample.wav").display().to_string();
    let (looked, looks) = channel();
    let running = |id: &str| Answer::new(200, &job(id, "running"));
    let mut serve = service(completed);
    let server = Server::start(move |request| match request.line.as_str() {
        "GET /jobs/2" => {
            let _ = looked.send(());
            running("2")
        }
        "DELETE /jobs/2" => Answer::new(200, ""),
        _ => serve(request),
    });
    let mut command = whisperq.command(&["load", &sample, "--server", &server.url, "--clients", "1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    looks.recv().unwrap();
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let output = child.wait_with_output().unwrap();
    let (printed, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.starts_with("whisperq: interrupted: "), "{errors}");
    assert_line(&printed, "requests 1 0");
    assert!(server.lines().contains(&"DELETE /jobs/2".to_owned()), "{:?}", server.lines());
}
