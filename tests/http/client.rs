//! A running service, and an HTTP client of a few lines that sends exactly what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

use serde_json::Value;

use crate::support::{Whisperq, fixture};

const BOUNDARY: &str = "----between-the-parts";

/// A `whisperq serve` that is ready for work; killed when dropped.
pub(crate) struct Service {
    pub(crate) whisperq: Whisperq,
    pub(crate) child: Child,
    address: String,
    _log: BufReader<ChildStderr>,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

/// A part of a form: its name, its file name where it is a file, its content.
pub(crate) type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

impl Service {
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_on(Whisperq::new(), settings)
    }

    pub(crate) fn start_on(whisperq: Whisperq, settings: &[(&str, &str)]) -> Self {
        let mut command = whisperq.command(&["serve"]);
        command.env("PORT", "0").env("WORKER_COUNT", "1").env("RUST_LOG", "off").envs(settings.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").unwrap_or_else(|| panic!("{line}")).1.to_owned();
        let service = Self { whisperq, child, address, _log: log };
        while service.get("/health").status != 200 {
            std::thread::yield_now();
        }
        service
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, "", b"")
    }

    /// One request; `headers` are whole lines.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Response {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        self.exchange(&[head.as_bytes(), body].concat())
    }

    /// Sends these bytes and reads all that comes back. A service that answers early may close before all is sent.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Response {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        Response::read(stream)
    }

    pub(crate) fn post_form(&self, path: &str, headers: &str, parts: &[Part<'_>]) -> Response {
        let kind = format!("content-type: multipart/form-data; boundary={BOUNDARY}\r\n{headers}");
        self.request("POST", path, &kind, &form(parts))
    }

    pub(crate) fn post_json(&self, path: &str, json: &str) -> Response {
        self.request("POST", path, "content-type: application/json\r\n", json.as_bytes())
    }

    /// Submits a recording and returns the id of its job.
    pub(crate) fn submit(&self, recording: &Path) -> String {
        let audio = std::fs::read(recording).unwrap();
        let answer = self.post_form("/jobs", "", &[("file", Some("talk.mp3"), &audio)]);
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Submits the short sample and waits for its end.
    pub(crate) fn done(&self) -> Value {
        let audio = std::fs::read(fixture("sample.wav")).unwrap();
        self.post_form("/jobs?wait=120", "", &[("file", Some("talk.wav"), &audio)]).json()
    }

    /// Waits for the end of a job, without asking again and again.
    pub(crate) fn ended(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}/events"));
        self.get(&format!("/jobs/{id}")).json()
    }

    /// Waits for the first words of a job.
    pub(crate) fn heard(&self, id: &str) {
        let mut stream = self.connect();
        stream.write_all(format!("GET /jobs/{id}/events HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
        let mut lines = BufReader::new(stream).lines();
        assert!(lines.any(|line| line.unwrap() == "event: segment"));
    }

    /// What lies in the folder of uploads.
    pub(crate) fn uploads(&self) -> usize {
        std::fs::read_dir(self.whisperq.path("data/uploads")).unwrap().count()
    }

    /// Waits until the service is there again after its process died.
    pub(crate) fn back(&self) {
        let ready = || {
            let mut stream = TcpStream::connect(&self.address).ok()?;
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
            Some(Response::read(stream).status == 200)
        };
        while ready() != Some(true) {
            std::thread::yield_now();
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The process that does the work, below the one that watches over it.
    pub(crate) fn working_process(&self) -> rustix::process::Pid {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).unwrap();
        rustix::process::Pid::from_raw(children.trim().parse().unwrap()).unwrap()
    }

    /// The folder, for a service that starts where this one ended.
    pub(crate) fn end(mut self) -> (Option<i32>, Whisperq) {
        let code = self.child.wait().unwrap().code();
        (code, std::mem::replace(&mut self.whisperq, Whisperq::new()))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Response {
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = bytes.get(split + 4..).unwrap_or_default().to_vec();
        Self { status, head, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.head, self.text()))
    }

    /// The code of a refusal, whose shape is checked with it.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        let error = json["error"].as_object().unwrap_or_else(|| panic!("{json}"));
        assert!(error.len() == 2 && !error["message"].as_str().unwrap().is_empty(), "{json}");
        error["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file_name, content) in parts {
        let file_name = file_name.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
        body.extend(
            format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"{name}\"{file_name}\r\n\r\n").bytes(),
        );
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

pub(crate) fn form_type() -> String {
    format!("content-type: multipart/form-data; boundary={BOUNDARY}\r\n")
}
