//! `whisperq jobs --server`: the same commands and the same output, over HTTP.

use serde_json::{Value, json};

use crate::scripted::{Answer, Server};
use crate::support::{Whisperq, fixture};

/// A real job of the local queue, as a server would show it.
fn real_job(whisperq: &Whisperq) -> Value {
    whisperq.output(&["transcribe", &fixture("sample.wav").display().to_string()]);
    let listed: Value = serde_json::from_str(&whisperq.output(&["jobs", "list", "--format", "json"])).unwrap();
    let mut job: Value =
        serde_json::from_str(&whisperq.output(&["jobs", "show", listed[0]["id"].as_str().unwrap()])).unwrap();
    job["links"] = json!({"self": "/jobs/1"});
    job
}

#[test]
fn jobs_look_the_same_from_near_and_far() {
    let whisperq = Whisperq::new();
    let job = real_job(&whisperq);
    let id = job["id"].as_str().unwrap().to_owned();
    let server = Server::start(move |request| match request.line.starts_with("GET /jobs?") {
        true => Answer::new(200, &json!({"jobs": [job], "next": null}).to_string()),
        false => Answer::new(200, &job.to_string()),
    });
    let far = |args: &[&str]| whisperq.output(&[args, &["--server", &server.url]].concat());
    for args in [&["jobs", "list"][..], &["jobs", "list", "--format", "csv"], &["jobs", "show", &id]] {
        assert_eq!(far(args), whisperq.output(args), "{args:?}");
    }
    assert_eq!(far(&["jobs", "cancel", &id]), format!("job {id} is cancelled\n"));
    assert_eq!(far(&["jobs", "retry", &id]), format!("job {id} is queued again\n"));
    let asked = server.lines();
    assert_eq!(asked[3..], [format!("DELETE /jobs/{id}"), format!("POST /jobs/{id}/retry")]);
}

#[test]
fn a_long_list_is_read_page_by_page() {
    let whisperq = Whisperq::new();
    let job = real_job(&whisperq);
    let server = Server::start(move |request| {
        let next = if request.line.contains("after=") { Value::Null } else { job["id"].clone() };
        Answer::new(200, &json!({"jobs": [job, job], "next": next}).to_string())
    });
    let args = ["jobs", "--server", &server.url, "list", "--status", "completed", "--limit", "3", "--format", "json"];
    let listed: Value = serde_json::from_str(&whisperq.output(&args)).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let asked = server.lines();
    assert_eq!(asked[0], "GET /jobs?limit=3&status=completed");
    assert!(asked[1].starts_with("GET /jobs?limit=1&status=completed&after="), "{asked:?}");
}

#[test]
fn a_server_says_itself_why_it_refuses() {
    let server = Server::start(|_| Answer::error(409, "conflict", "job 1 is completed: it cannot be cancelled"));
    let output = Whisperq::new().run(&["jobs", "cancel", "1", "--server", &server.url]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), errors.as_str()),
        (Some(1), "whisperq: job 1 is completed: it cannot be cancelled\n")
    );
}
