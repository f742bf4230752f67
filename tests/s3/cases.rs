//! A job that must fail, submitted to a real service, and what is asked of how it does: its code, words of its message, and
//! none of its secrets.

use serde_json::{Value, json};

use super::weed::{SECRET_KEY, Weed};
use crate::http::client::Service;

pub(super) const AGAIN: &str = "trying again may help";
pub(super) const NOT_AGAIN: &str = "trying again as it is does not help";
/// What nobody is shown.
const SECRETS: [&str; 3] = ["Signature=", "hidden", SECRET_KEY];

/// A job, the code that it fails under, and words of the message.
pub(super) struct Case {
    what: &'static str,
    job: Value,
    code: &'static str,
    says: Vec<String>,
}

pub(super) fn case(what: &'static str, audio: impl Into<String>, code: &'static str, says: &[impl AsRef<str>]) -> Case {
    let says = says.iter().map(|words| words.as_ref().to_owned()).collect();
    Case { what, job: json!({"audio": audio.into()}), code, says }
}

impl Case {
    pub(super) fn with(mut self, option: &str, value: Value) -> Self {
        self.job[option] = value;
        self
    }
}

pub(super) fn service(settings: &[(&str, &str)]) -> Service {
    let environment = Weed::shared().environment();
    let mut all: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend([("S3_FORCE_PATH_STYLE", "true"), ("MAX_ATTEMPTS", "1"), ("MAX_AUDIO_BYTES", "1 MiB")]);
    all.extend(settings);
    Service::start(&all)
}

/// Submits all before it looks at any, because some are tried several times.
pub(super) fn check(service: &Service, cases: Vec<Case>) {
    let submit = |case: &Case| service.post_json("/jobs", &case.job.to_string()).json();
    let jobs: Vec<_> = cases.iter().map(submit).collect();
    for (case, submitted) in cases.iter().zip(jobs) {
        let ended = match submitted["id"].as_str() {
            Some(id) => service.ended(id),
            None => submitted,
        };
        let error = &ended["error"];
        let (code, message) =
            (error["code"].as_str().unwrap_or_default(), error["message"].as_str().unwrap_or_default());
        assert_eq!(code, case.code, "{}: {message}", case.what);
        for words in &case.says {
            assert!(message.contains(words), "{} lacks \"{words}\": {message}", case.what);
        }
        assert!(!message.contains('?'), "{} shows a query: {message}", case.what);
        assert_discreet(&ended);
    }
}

/// Nothing of what is answered about a job is a secret.
#[track_caller]
pub(super) fn assert_discreet(job: &Value) {
    let found = SECRETS.iter().find(|secret| job.to_string().contains(**secret));
    assert_eq!(found, None, "{job}");
}
