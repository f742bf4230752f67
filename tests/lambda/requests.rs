//! The same requests over plain HTTP and through Lambda, one after the other, with the same answers; and what is different
//! there, with the reason.

use serde_json::{Value, json};

use super::emulator::{Function, LONG, Response, alb_event, url_event, v1_event, v2_event};
use crate::http::client::{Service, form};
use crate::support::fixture;

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=----between-the-parts");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Members of answers that hold times, names of processes or what the clock makes of a job.
const MASKED: [&str; 20] = [
    "created_at",
    "started_at",
    "finished_at",
    "delay_time_ms",
    "execution_time_ms",
    "delay_ms",
    "execution_ms",
    "delayTime",
    "executionTime",
    "process_id",
    "busy_ratio",
    "throughput",
    "oldest_wait_ms",
    "audio_seconds_per_second",
    "queue_wait_ms",
    "gpu",
    "engine_seconds",
    "device",
    "avg_logprob",
    "timings",
];
/// Who can be reached over Lambda and what has to be said of it there: see the README.
const EXCEPTIONS: [&str; 1] = ["scope"];

struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

fn ask(method: &'static str, path: &str) -> Ask {
    Ask { method, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
}

fn send(path: &str, kind: (&'static str, &'static str), body: impl Into<Vec<u8>>) -> Ask {
    Ask { method: "POST", path: path.to_owned(), headers: vec![kind], body: body.into() }
}

/// Everything that can be asked before there is a job.
fn first() -> Vec<Ask> {
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    vec![
        ask("GET", "/ping"),
        ask("GET", "/health"),
        ask("GET", "/v2/any/health"),
        ask("GET", "/jobs"),
        ask("GET", "/system"),
        ask("GET", "/jobs/nothing"),
        ask("GET", "/jobs?limit=0"),
        ask("GET", "/nowhere"),
        ask("PUT", "/jobs"),
        ask("OPTIONS", "/jobs"),
        ask("GET", "/status/nothing"),
        send("/jobs", JSON, "{"),
        send("/jobs", ("content-type", "text/plain"), "hello"),
        send("/jobs", JSON, r#"{"audio": "/etc/passwd"}"#),
        send("/jobs", JSON, r#"{"audio_base64": "aGk=", "beam_size": "many"}"#),
        send("/sql", JSON, r#"{"sql": "delete from jobs"}"#),
        send("/uploads", JSON, ""),
        send("/events/s3", JSON, "{}"),
        send("/runsync", JSON, r#"{"input": {}}"#),
        send(
            "/jobs?wait=600",
            FORM,
            form(&[("file", Some("talk.wav"), &audio), ("metadata", None, b"{\"a\": [1, \"\xc3\xb6\"]}")]),
        ),
    ]
}

/// And what can be asked of one that is done.
fn then(id: &str) -> Vec<Ask> {
    let mut asks: Vec<Ask> = ["txt", "srt", "vtt", "tsv", "json", "verbose_json", "doc"]
        .map(|format| ask("GET", &format!("/jobs/{id}/transcript?format={format}")))
        .into();
    asks.extend([
        ask("GET", &format!("/jobs/{id}")),
        ask("GET", &format!("/jobs/{id}/events")),
        ask("GET", &format!("/status/{id}")),
        ask("POST", &format!("/v2/any/status-sync/{id}?wait=1000")),
        ask("POST", &format!("/v2/any/stream/{id}")),
        ask("DELETE", &format!("/jobs/{id}")),
        ask("POST", &format!("/jobs/{id}/retry")),
        ask("POST", &format!("/cancel/{id}")),
        ask("GET", "/jobs?status=completed&limit=1"),
        send("/sql", JSON, r#"{"sql": "select state, front_door, audio_seconds from job_history"}"#),
        ask("POST", "/purge-queue"),
    ]);
    asks
}

fn plain(service: &Service, asked: &Ask) -> (u64, Value) {
    let headers: String = asked.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let answer = service.request(asked.method, &asked.path, &headers, &asked.body);
    (answer.status.into(), shown(&answer.body))
}

fn through(answer: Response) -> (u64, Value) {
    (answer.status, shown(&answer.body))
}

/// A body as JSON, or line by line, with JSON behind `data:`.
fn shown(body: &[u8]) -> Value {
    let mut shown = serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body).into_owned();
        let line = |line: &str| {
            let data = line.strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok());
            data.unwrap_or_else(|| Value::from(line))
        };
        // The client of plain HTTP leaves the lengths of chunks in the body.
        let is_framing = |line: &&str| line.len() <= 4 && line.bytes().all(|c| c.is_ascii_hexdigit());
        text.lines().filter(|line| !is_framing(line)).map(line).collect()
    });
    mask(&mut shown);
    shown
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            EXCEPTIONS.iter().for_each(|name| drop(members.remove(*name)));
            for (name, value) in members {
                if MASKED.contains(&name.as_str()) { *value = "masked".into() } else { mask(value) }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::String(text) => *text = without_ids(text),
        _ => {}
    }
}

/// Ids are 36 characters with hyphens at known places.
fn without_ids(text: &str) -> String {
    let is_id = |part: &str| part.len() == 36 && part.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-');
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    parts.filter(|part| is_id(part)).fold(text.to_owned(), |text, id| text.replace(id, "ID"))
}

#[test]
fn every_request_has_the_answer_that_it_has_over_plain_http() {
    let (service, function) = (Service::start(&[]), Function::start(&[]));
    let mut ids = [String::new(), String::new()];
    let compare = |asked: &Ask, same: &Ask| {
        let event = url_event(same.method, &same.path, &same.headers, &same.body);
        let answers = (plain(&service, asked), through(function.request(event, LONG)));
        assert_eq!(answers.0, answers.1, "{} {}", asked.method, asked.path);
        answers
    };
    for asked in first() {
        compare(&asked, &asked);
    }
    for (id, jobs) in ids.iter_mut().zip([service.get("/jobs").json(), function.get("/jobs").json()]) {
        *id = jobs["jobs"][0]["id"].as_str().unwrap().to_owned();
    }
    for (asked, same) in then(&ids[0]).iter().zip(&then(&ids[1])) {
        compare(asked, same);
    }
}

#[test]
fn every_sender_of_requests_gets_its_answer_in_its_own_shape() {
    let function = Function::start(&[]);
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    let body = form(&[("file", Some("talk.wav"), &audio)]);
    let gateway = "id.execute-api.us-east-1.amazonaws.com";
    let events = [
        url_event("POST", "/jobs?wait=600", &[FORM], &body),
        v2_event("prod", gateway, "POST", "/prod/jobs?wait=600", &[FORM], &body),
        v1_event("POST", "/jobs?wait=600", &[FORM], &body),
        alb_event("POST", "/jobs?wait=600", &[FORM], &body),
    ];
    for event in events {
        let answer = function.request(event, LONG);
        let job = answer.json();
        assert_eq!((answer.status, job["status"].as_str()), (200, Some("completed")), "{job}");
        assert_eq!(
            answer.headers["location"],
            format!("/jobs/{}", job["id"].as_str().unwrap()),
            "{:?}",
            answer.headers
        );
    }
    // Text as text, and what is compressed in base64.
    let id = function.get("/jobs").json()["jobs"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/prod/jobs/{id}/transcript?format=txt");
    let event = v2_event("prod", gateway, "GET", &path, &[("accept-encoding", "gzip")], b"");
    let answer = function.invoke(event, LONG).result.unwrap();
    assert_eq!(
        (answer["isBase64Encoded"].as_bool(), answer["headers"]["content-encoding"].as_str()),
        (Some(true), Some("gzip"))
    );
    let answer = function.invoke(v1_event("GET", &path.replace("/prod", ""), &[], b""), LONG).result.unwrap();
    assert_eq!(answer["isBase64Encoded"], false);
    assert!(answer["body"].as_str().unwrap().contains("The ship is late"), "{answer}");
}

#[test]
fn keys_are_asked_for_as_over_plain_http() {
    let function = Function::start(&[("API_KEY", "secret-key")]);
    assert_eq!(function.get("/jobs").status, 401);
    assert_eq!(function.get("/ping").status, 200);
    let event = url_event("GET", "/jobs", &[("authorization", "Bearer secret-key")], b"");
    assert_eq!(function.request(event, LONG).status, 200);
}

#[test]
fn what_is_of_one_instance_alone_says_so_and_another_does_not_know_it() {
    let (one, other) = (Function::start(&[]), Function::start(&[("AWS_LAMBDA_LOG_STREAM_NAME", "stream-2")]));
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    let submit = url_event("POST", "/jobs", &[FORM], &form(&[("file", Some("talk.wav"), &audio)]));
    let submitted = one.request(submit, LONG);
    let job = submitted.json();
    assert_eq!((submitted.status, job["status"].as_str()), (202, Some("completed")), "held until it is done: {job}");
    let path = format!("/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!((one.get(&path).status, other.get(&path).status), (200, 404));
    let question = url_event("POST", "/sql", &[JSON], br#"{"sql": "select count(*) from job_history"}"#);
    for (function, name, jobs) in [(&one, "stream-1", 1), (&other, "stream-2", 0)] {
        let list = function.get("/jobs").json();
        let answer = function.request(question.clone(), LONG).json();
        assert_eq!((list["jobs"].as_array().unwrap().len(), &answer["rows"]), (jobs, &json!([[jobs]])));
        for body in [list, answer, function.get("/system").json()] {
            assert!(body["scope"].as_str().unwrap().contains(name), "{body}");
        }
    }
}
