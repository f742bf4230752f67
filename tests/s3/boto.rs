//! A user with boto3, the S3 library of most: buckets, objects and presigned addresses. One Python for all tests,
//! because importing boto3 takes longer than what is then done with it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use super::python::{self, Running};
use super::weed::Weed;

/// boto3 at an endpoint.
pub(crate) struct Boto {
    endpoint: String,
}

struct Conversation {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Conversation {
    fn start() -> Mutex<Self> {
        let mut environment = Weed::shared().environment();
        // Not what whoever runs the tests has set up.
        let files = ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
        environment.extend(files.map(|name| (name, "/dev/null".to_owned())));
        let Running { input, output, .. } = python::start("boto.py", &[], &environment);
        Mutex::new(Self { input, output: BufReader::new(output) })
    }

    fn ask(&mut self, question: &Value) -> Value {
        let mut answer = String::new();
        writeln!(self.input, "{question}").unwrap();
        self.output.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

impl Boto {
    /// At the SeaweedFS of the tests.
    pub(crate) fn shared() -> Self {
        Self::at(Weed::shared().endpoint())
    }

    /// At this address, such as a proxy's before that SeaweedFS: what it signs is good there only.
    pub(crate) fn at(endpoint: String) -> Self {
        Self { endpoint }
    }

    #[track_caller]
    pub(crate) fn create(&self, bucket: &str) {
        self.ask(json!({"do": "create", "bucket": bucket}));
    }

    /// Uploads a file; from 8 MiB on in several parts, as boto3 does of itself.
    #[track_caller]
    pub(crate) fn put(&self, bucket: &str, key: &str, path: &Path) {
        self.ask(json!({"do": "put", "bucket": bucket, "key": key, "path": path}));
    }

    #[track_caller]
    pub(crate) fn get(&self, bucket: &str, key: &str) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        self.ask(json!({"do": "get", "bucket": bucket, "key": key, "path": file.path()}));
        // boto3 puts a new file in its place.
        std::fs::read(file.path()).unwrap()
    }

    #[track_caller]
    pub(crate) fn delete(&self, bucket: &str, key: &str) {
        self.ask(json!({"do": "delete", "bucket": bucket, "key": key}));
    }

    /// The keys that begin so, in order.
    #[track_caller]
    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let keys = self.ask(json!({"do": "keys", "bucket": bucket, "prefix": prefix}));
        serde_json::from_value(keys).unwrap()
    }

    #[track_caller]
    pub(crate) fn presign_get(&self, bucket: &str, key: &str, seconds: u32) -> String {
        self.presign("get_object", bucket, key, seconds)
    }

    #[track_caller]
    pub(crate) fn presign_put(&self, bucket: &str, key: &str, seconds: u32) -> String {
        self.presign("put_object", bucket, key, seconds)
    }

    #[track_caller]
    fn presign(&self, method: &str, bucket: &str, key: &str, seconds: u32) -> String {
        let url =
            self.ask(json!({"do": "presign", "bucket": bucket, "key": key, "method": method, "seconds": seconds}));
        url.as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn ask(&self, mut question: Value) -> Value {
        static CONVERSATION: OnceLock<Mutex<Conversation>> = OnceLock::new();
        question["endpoint"] = self.endpoint.as_str().into();
        let mut answer = CONVERSATION.get_or_init(Conversation::start).lock().unwrap().ask(&question);
        assert!(answer.get("error").is_none(), "{question}: {answer}");
        answer["done"].take()
    }
}
