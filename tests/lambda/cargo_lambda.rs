//! Under cargo lambda, the emulator that developers have: its runtime API, its `invoke` and its function URL. That it builds
//! and starts the function itself is left out, since a build within a test would wait for the lock of the tests' own.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::Builder;

use serde_json::{Value, json};

use super::emulator::{Response, alb_event, url_event, v1_event, v2_event};
use crate::s3::boto::Boto;
use crate::s3::weed::Weed;
use crate::support::{Whisperq, fixture, tools_dir};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=----between-the-parts");

/// cargo lambda and a function that asks it for invocations.
struct Watched {
    whisperq: Whisperq,
    port: u16,
    processes: [Child; 2],
}

fn cargo_lambda() -> Command {
    let program: PathBuf = tools_dir().join("cargo-lambda/bin/cargo-lambda");
    assert!(program.exists(), "there is no {}: run `make check`", program.display());
    let mut command = Command::new(program);
    command.arg("lambda");
    command
}

impl Watched {
    fn start(settings: &[(&str, &str)]) -> Self {
        let whisperq = Whisperq::new();
        // It takes no port 0, so one that is free now has to do.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut watch = cargo_lambda();
        watch.args([
            "watch",
            "--only-lambda-apis",
            "--invoke-address",
            "127.0.0.1",
            "--invoke-port",
            &port.to_string(),
        ]);
        let mut watch = watch.current_dir(env!("CARGO_MANIFEST_DIR")).stdout(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(watch.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("starting Runtime server") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "cargo lambda has ended");
        }
        let drain = move || std::io::copy(&mut log, &mut std::io::sink());
        Builder::new().name("cargo-lambda-log".into()).spawn(drain).unwrap();
        let mut function = whisperq.command(&[]);
        function
            .env("AWS_LAMBDA_RUNTIME_API", format!("http://127.0.0.1:{port}/.rt"))
            .env("AWS_LAMBDA_FUNCTION_NAME", "_")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "4096")
            .env("WORKER_COUNT", "1")
            .env("RUST_LOG", "off")
            .envs(settings.iter().copied());
        let function = function.spawn().unwrap();
        Self { whisperq, port, processes: [function, watch] }
    }

    fn invoke(&self, event: &Value) -> Output {
        let file = self.whisperq.path("event.json");
        std::fs::write(&file, event.to_string()).unwrap();
        let mut command = cargo_lambda();
        command.args(["invoke", "--invoke-address", "127.0.0.1", "--invoke-port", &self.port.to_string()]);
        command.args(["--output-format", "json", "--data-file"]).arg(file).output().unwrap()
    }

    fn answer(&self, event: &Value) -> Value {
        let output = self.invoke(event);
        let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{complaints}"))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn cargo_lambda_brings_requests_of_every_kind() {
    let watched = Watched::start(&[]);
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    let body = crate::http::client::form(&[("file", Some("talk.wav"), &audio)]);
    let gateway = "id.execute-api.us-east-1.amazonaws.com";
    for event in [
        url_event("POST", "/jobs?wait=600", &[FORM], &body),
        v2_event("prod", gateway, "POST", "/prod/jobs?wait=600", &[FORM], &body),
        v1_event("POST", "/jobs?wait=600", &[FORM], &body),
        alb_event("POST", "/jobs?wait=600", &[FORM], &body),
    ] {
        let answer = Response::of(&watched.answer(&event), std::time::Duration::ZERO);
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("completed")), "{}", answer.text());
    }
    let url = format!("http://127.0.0.1:{}/lambda-url/_/jobs?limit=2", watched.port);
    let output = Command::new("curl").args(["--silent", "--show-error", "--fail-with-body", &url]).output().unwrap();
    let jobs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 2, "{jobs}");
}

#[test]
fn cargo_lambda_brings_events_of_s3_and_sqs() {
    let bucket = "cargo-lambda";
    Boto::shared().create(bucket);
    Boto::shared().put(bucket, "in/talk.wav", &fixture("sample.wav"));
    let environment = Weed::shared().environment();
    let mut settings: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    settings.extend([("S3_FORCE_PATH_STYLE", "true"), ("OUTPUT_URI", "s3://cargo-lambda/out")]);
    let watched = Watched::start(&settings);
    let stored = json!({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": "in/talk.wav", "sequencer": "1"}}}]});
    let first = watched.answer(&stored);
    assert_eq!(first["jobs"].as_array().unwrap().len(), 1, "{first}");
    let message = |id: &str, body: Value| json!({"messageId": id, "body": body.to_string(), "eventSource": "aws:sqs"});
    let job = json!({"audio": "s3://cargo-lambda/in/talk.wav"});
    let batch = json!({"Records": [message("a", job), message("b", stored.clone()), message("c", json!({}))]});
    assert_eq!(watched.answer(&batch), json!({"batchItemFailures": [{"itemIdentifier": "c"}]}));
    assert_eq!(Boto::shared().keys(bucket, "out/").len(), 2, "one for each job");
}
