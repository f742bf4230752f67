//! Pulling from a hub, played by a socket on loopback that answers one request.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use tempfile::TempDir;
use whisperq::error::{Error, Result};
use whisperq::models::{self, Hub, Verdict};

use super::{assert_config, file_names, folder_with};

const HUB_NAME: &str = "owner/repo/ggml-small.bin";

pub(super) struct FakeHub {
    pub(super) endpoint: String,
    thread: JoinHandle<Vec<String>>,
}

impl FakeHub {
    /// Announces `announced_bytes` and sends `body`.
    fn start(status: &str, announced_bytes: usize, body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {announced_bytes}\r\nconnection: close\r\n\r\n");
        let answer = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.map(Result::unwrap).take_while(|line: &String| !line.is_empty()).collect();
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).unwrap();
            request
        };
        Self { endpoint, thread: Builder::new().name("fake-hub".into()).spawn(answer).unwrap() }
    }

    pub(super) fn with_file(body: Vec<u8>) -> Self {
        Self::start("200 OK", body.len(), body)
    }

    /// The request's lines.
    fn request(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

/// An address where nobody listens.
fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

fn model_bytes() -> Vec<u8> {
    fs::read(folder_with("tiny.en").1).unwrap()
}

fn pull(folder: &Path, name: &str, endpoint: &str) -> Result<PathBuf> {
    models::pull(folder, name, Hub { endpoint, token: None }, &mut |_, _| {})
}

#[track_caller]
fn assert_internal<T: std::fmt::Debug>(result: Result<T>, words: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Internal(_)), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_pulled_model_is_whole_and_its_sum_is_noted() {
    let (folder, bytes) = (TempDir::new().unwrap(), model_bytes());
    let hub = FakeHub::with_file(bytes.clone());
    let path = pull(folder.path(), HUB_NAME, &hub.endpoint).unwrap();
    assert!(fs::read(&path).unwrap() == bytes);
    assert_eq!(hub.request()[0], "GET /owner/repo/resolve/main/ggml-small.bin HTTP/1.1");
    assert_eq!(file_names(folder.path()), ["owner--repo--ggml-small.bin", "owner--repo--ggml-small.bin.sha1"]);
    assert_eq!(models::find(folder.path(), HUB_NAME).unwrap().name, HUB_NAME);
    assert_eq!(models::list(folder.path()).unwrap()[0].name, HUB_NAME);
    assert_eq!(models::verify(folder.path(), Some(HUB_NAME)).unwrap()[0].verdict, Verdict::Matches);
}

#[test]
fn the_token_is_sent_and_progress_ends_at_the_whole() {
    let (folder, bytes) = (TempDir::new().unwrap(), model_bytes());
    let hub = FakeHub::with_file(bytes.clone());
    let mut seen = Vec::new();
    let source = Hub { endpoint: &format!("{}/", hub.endpoint), token: Some("hf_secret") };
    models::pull(folder.path(), "tiny-q5_1", source, &mut |done, total| seen.push((done, total))).unwrap();
    let request = hub.request();
    assert_eq!(request[0], "GET /ggerganov/whisper.cpp/resolve/main/ggml-tiny-q5_1.bin HTTP/1.1");
    assert!(request.iter().any(|line| line == "authorization: Bearer hf_secret"), "{request:?}");
    let whole = bytes.len() as u64;
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&(whole, Some(whole))));
}

#[test]
fn a_wrong_sum_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let hub = FakeHub::with_file(model_bytes());
    let result = pull(folder.path(), "tiny.en", &hub.endpoint);
    assert_internal(result, "not c78c86eb1a8faa21b369bcd33207cc90d64ae9df");
    assert_eq!(file_names(folder.path()), [""; 0]);
}

#[test]
fn a_body_that_breaks_off_leaves_nothing_behind() {
    let (folder, mut bytes) = (TempDir::new().unwrap(), model_bytes());
    let announced_bytes = bytes.len();
    bytes.truncate(announced_bytes / 2);
    let hub = FakeHub::start("200 OK", announced_bytes, bytes);
    assert_internal(pull(folder.path(), HUB_NAME, &hub.endpoint), "broke off");
    assert_eq!(file_names(folder.path()), [""; 0]);
}

#[test]
fn an_answer_that_is_no_model_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let hub = FakeHub::with_file(b"<html>please log in</html>".to_vec());
    assert_config(pull(folder.path(), HUB_NAME, &hub.endpoint), "it is not a ggml file");
    assert_eq!(file_names(folder.path()), [""; 0]);
}

#[test]
fn a_refusal_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let answer = |status| pull(folder.path(), "base", &FakeHub::start(status, 0, Vec::new()).endpoint);
    assert_config(answer("404 Not Found"), "the server answered 404; check the name");
    assert_config(answer("401 Unauthorized"), "set HF_TOKEN");
    assert_config(answer("403 Forbidden"), "set HF_TOKEN");
    assert_internal(answer("503 Service Unavailable"), "the server answered 503; set HF_ENDPOINT");
    assert_eq!(file_names(folder.path()), [""; 0]);
}

#[test]
fn without_a_network_the_reason_names_no_address() {
    let folder = TempDir::new().unwrap();
    let endpoint = nobody();
    let error = pull(folder.path(), "base", &endpoint).unwrap_err().to_string();
    assert!(error.contains("refused") && error.contains("`whisperq models import`"), "{error}");
    assert!(!error.contains("127.0.0.1") && !error.contains('\n'), "{error}");
}

#[test]
fn a_model_that_is_there_and_whole_is_not_fetched_again() {
    let (folder, path) = folder_with("tiny.en");
    assert_eq!(pull(folder.path(), "tiny.en", &nobody()).unwrap(), path);
    assert_eq!(pull(folder.path(), path.to_str().unwrap(), &nobody()).unwrap(), path);
}

#[test]
fn a_damaged_model_is_fetched_again_and_kept_until_the_new_one_is_whole() {
    let (folder, path) = folder_with("tiny-q8_0");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert!(pull(folder.path(), "tiny-q8_0", &nobody()).is_err());
    assert!(fs::read(&path).unwrap() == damaged);

    let hub = FakeHub::with_file(whole.clone());
    pull(folder.path(), "tiny-q8_0", &hub.endpoint).unwrap();
    assert!(fs::read(&path).unwrap() == whole);
    assert_eq!(models::verify(folder.path(), None).unwrap()[0].verdict, Verdict::Matches);
}

#[test]
fn an_unknown_name_is_refused_before_anything_is_asked() {
    let folder = TempDir::new().unwrap();
    assert_config(pull(folder.path(), "tinny", "no address at all"), "use one of tiny, tiny.en, tiny-q5_1,");
    assert_config(pull(folder.path(), "/srv/ggml-x.bin", "no address at all"), "there is no model file");
}
