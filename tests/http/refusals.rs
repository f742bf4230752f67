//! Whatever is sent, the answer is a status, a code and a message that fit, never a 500, and nothing stays behind.

use super::client::{Response, Service, form, form_type};
use crate::support::fixture;

#[test]
fn every_mistake_in_a_submit_has_its_status_and_code() {
    let service = Service::start(&[("MAX_AUDIO_BYTES", "100 KiB")]);
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    let audio = &audio[..];
    let file = ("file", Some("a.wav"), audio);
    let long = vec![0; 200 * 1024];
    let json = |body: &str| service.post_json("/jobs", body);
    let with = |name: &str, value: &str| service.post_form("/jobs", "", &[file, (name, None, value.as_bytes())]);
    let answers = [
        ("no file", 400, "file_missing", service.post_form("/jobs", "", &[("language", None, b"en")])),
        ("an empty form", 400, "file_missing", service.post_form("/jobs", "", &[])),
        ("an empty file", 400, "empty_file", service.post_form("/jobs", "", &[("file", Some("a.wav"), b"")])),
        ("two files", 400, "one_file_only", service.post_form("/jobs", "", &[file, file])),
        ("a file too long", 413, "too_large", service.post_form("/jobs", "", &[("file", Some("a"), &long)])),
        ("an option too many", 400, "invalid_option", with("beam_sizes", "3")),
        ("an option out of range", 400, "invalid_option", with("beam_size", "99")),
        ("an option of the wrong kind", 400, "invalid_option", with("temperature", "warm")),
        (
            "an option twice",
            400,
            "invalid_option",
            service.post_form("/jobs", "", &[file, ("vad", None, b"1"), ("vad", None, b"0")]),
        ),
        ("a model that is not served", 400, "model_not_loaded", with("model", "large-v3")),
        ("a language the model lacks", 400, "invalid_option", with("language", "de")),
        (
            "no form",
            400,
            "invalid_form",
            service.request("POST", "/jobs", "content-type: multipart/form-data\r\n", b"x"),
        ),
        ("half a form", 400, "invalid_form", service.request("POST", "/jobs", &form_type(), &form(&[file])[..500])),
        (
            "another kind",
            415,
            "unsupported_media_type",
            service.request("POST", "/jobs", "content-type: audio/wav\r\n", audio),
        ),
        ("no kind", 415, "unsupported_media_type", service.request("POST", "/jobs", "", audio)),
        ("broken JSON", 400, "invalid_json", json("{\"audio_base64\": ")),
        ("JSON that is no object", 400, "invalid_json", json("[1]")),
        ("JSON without audio", 400, "file_missing", json("{}")),
        ("audio that is no base64", 400, "invalid_base64", json("{\"audio_base64\": \"%%\"}")),
        ("audio that is no text", 400, "invalid_base64", json("{\"audio_base64\": 7}")),
        (
            "a long idempotency key",
            400,
            "invalid_idempotency_key",
            service.post_form("/jobs", &format!("idempotency-key: {}\r\n", "k".repeat(300)), &[file]),
        ),
        (
            "a file under a wrong name",
            400,
            "invalid_option",
            service.post_form("/jobs", "", &[("File", Some("a"), audio)]),
        ),
        (
            "JSON with an option too long",
            400,
            "invalid_option",
            json(&format!("{{\"audio_base64\": \"\", \"prompt\": \"{}\"}}", "x".repeat(140_000))),
        ),
        ("a wait that is no number", 400, "invalid_query", service.post_form("/jobs?wait=long", "", &[file])),
    ];
    assert_refused(answers);
    let jobs = service.get("/jobs").json()["jobs"].as_array().unwrap().len();
    assert_eq!(jobs, 0, "no mistake became a job");
}

#[test]
fn every_mistake_about_an_address_has_its_status_and_code() {
    let service = Service::start(&[]);
    let json = |body: &str| service.post_json("/jobs", body);
    assert_refused([
        ("a path as audio", 400, "address_not_allowed", json("{\"audio\": \"/etc/passwd\"}")),
        ("a file as audio", 400, "address_not_allowed", json("{\"audio\": \"file:///etc/passwd\"}")),
        ("audio on this machine", 400, "address_not_allowed", json("{\"audio\": \"http://2130706433/a.mp3\"}")),
        ("a bucket without an object", 400, "address_not_allowed", json("{\"audio\": \"s3://talks\"}")),
        ("audio that is no address", 400, "invalid_option", json("{\"audio\": 7}")),
        ("audio twice", 400, "one_file_only", json("{\"audio\": \"s3://a/b\", \"audio_base64\": \"aGk=\"}")),
        (
            "a webhook on this machine",
            400,
            "address_not_allowed",
            json("{\"audio\": \"s3://talks/a\", \"webhook\": \"http://[::1]/\"}"),
        ),
        (
            "a webhook that is no address",
            400,
            "address_not_allowed",
            json("{\"audio\": \"s3://talks/a\", \"webhook\": \"s3://a/b\"}"),
        ),
        (
            "an unknown format",
            400,
            "invalid_option",
            json("{\"audio\": \"s3://talks/a\", \"output_formats\": [\"docx\"]}"),
        ),
        ("an upload without a bucket", 501, "not_configured", service.request("POST", "/uploads", "", b"")),
        ("an event of nobody", 400, "invalid_event", service.request("POST", "/events/s3", "", b"{}")),
        ("sending again what is not there", 404, "not_found", service.request("POST", "/jobs/none/redeliver", "", b"")),
    ]);
    let jobs = service.get("/jobs").json()["jobs"].as_array().unwrap().len();
    assert_eq!(jobs, 0, "no mistake became a job");
}

#[test]
fn every_mistake_about_what_is_there_has_its_status_and_code() {
    let service = Service::start(&[]);
    let id = service.done()["id"].as_str().unwrap().to_owned();
    let answers = [
        ("an unknown parameter", 400, "invalid_query", service.get("/jobs?color=red")),
        ("a page too long", 400, "invalid_query", service.get("/jobs?limit=501")),
        ("a page after nothing", 404, "not_found", service.get("/jobs?after=none")),
        ("an id that is no text", 400, "invalid_path", service.get("/jobs/%ff")),
        ("SQL that is no JSON", 400, "invalid_json", service.post_json("/sql", "select 1")),
        ("SQL that writes", 400, "sql_refused", service.post_json("/sql", "{\"sql\": \"delete from jobs\"}")),
        ("SQL that is none", 400, "sql_invalid", service.post_json("/sql", "{\"sql\": \"selekt\"}")),
        ("an unknown state", 400, "invalid_option", service.get("/jobs?status=lost")),
        ("a time that is none", 400, "invalid_option", service.get("/jobs?since=yesterday")),
        ("no such job", 404, "not_found", service.get("/jobs/none")),
        ("no such job to cancel", 404, "not_found", service.request("DELETE", "/jobs/none", "", b"")),
        ("no such job's transcript", 404, "not_found", service.get("/jobs/none/transcript")),
        ("no such format", 400, "unknown_format", service.get(&format!("/jobs/{id}/transcript?format=docx"))),
        ("a job that is over", 409, "conflict", service.request("DELETE", &format!("/jobs/{id}"), "", b"")),
        ("nowhere", 404, "no_such_route", service.get("/nowhere")),
        ("a method that is none here", 405, "method_not_allowed", service.request("PUT", "/jobs", "", b"")),
    ];
    assert_refused(answers);
}

/// What was wrong, and the answer to it.
type Mistake = (&'static str, u16, &'static str, Response);

#[track_caller]
fn assert_refused(answers: impl IntoIterator<Item = Mistake>) {
    for (what, status, code, answer) in answers {
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}: {}", answer.text());
    }
}

#[test]
fn a_file_that_is_no_recording_fails_its_job_and_says_why() {
    let service = Service::start(&[]);
    let page = std::fs::read(fixture("page.html.mp3")).unwrap();
    let job = service.post_form("/jobs?wait=60", "", &[("file", Some("talk.mp3"), &page)]).json();
    assert_eq!((job["status"].as_str(), job["error"]["code"].as_str()), (Some("failed"), Some("not_audio")), "{job}");
    assert_eq!(service.uploads(), 1, "it may be tried again");
}

#[test]
fn random_requests_are_refused_or_served_but_never_break_anything() {
    let service = Service::start(&[("MAX_AUDIO_BYTES", "64 KiB")]);
    let mut random = fastrand::Rng::with_seed(23);
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    let request = [
        b"POST /jobs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".as_slice(),
        form_type().as_bytes(),
        b"content-length: 5000\r\n\r\n",
        &form(&[
            ("prompt", None, b"names"),
            ("metadata", None, b"{\"a\": 1}"),
            ("file", Some("a.wav"), &audio[..4000]),
        ]),
    ]
    .concat();
    let paths = [
        "/jobs",
        "/jobs/x",
        "/jobs/x/events",
        "/jobs/x/transcript",
        "/system",
        "/health",
        "/jobs/%00",
        "/jobs/../x",
        "//",
        "/jobs?after=%ff",
    ];
    for round in 0..150 {
        let answer = if round % 3 == 0 {
            let method = ["GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS", "PATCH"][random.usize(..7)];
            service.request(method, paths[random.usize(..paths.len())], "", &vec![b'x'; random.usize(..50)])
        } else {
            let mut damaged = request.clone();
            for _ in 0..random.usize(1..6) {
                let at = random.usize(60..700);
                damaged[at] = random.u8(..);
            }
            damaged.truncate(random.usize(600..damaged.len()));
            let mut stream = service.connect();
            let _ = std::io::Write::write_all(&mut stream, &damaged);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            Response::read(stream)
        };
        assert_ne!(answer.status, 500, "round {round}: {}", answer.text());
    }
    assert_eq!(service.get("/health").status, 200);
}
