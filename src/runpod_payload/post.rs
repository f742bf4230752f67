//! The messages of a worker to RunPod's queue: results, failures and progress, as its own SDK writes them.

use serde_json::{Value, json};

use crate::job::{Job, JobError, RunpodTexts};

/// The code of a job that was held by a worker whose model did not load.
pub const INIT_FAILED: &str = "init_failed";

/// Why a job has no output, and on whose word.
pub struct Failure<'a> {
    /// For programs; stable.
    pub code: &'a str,
    pub message: &'a str,
    pub hostname: &'a str,
    pub worker_id: &'a str,
}

impl<'a> Failure<'a> {
    pub fn of(error: &'a JobError, hostname: &'a str, worker_id: &'a str) -> Self {
        Self { code: &error.code, message: &error.message, hostname, worker_id }
    }
}

/// `{"output": …}`, with the wish to be replaced beside it.
pub fn answer(output: Value, texts: &RunpodTexts) -> Value {
    with_wish(json!({"output": output}), texts)
}

/// `{"error": …}`: a text that holds an object with the six keys of the SDK. There is no traceback to tell.
pub fn failed(failure: &Failure<'_>, texts: &RunpodTexts) -> Value {
    let mut error = json!({
        "error_type": failure.code,
        "error_message": failure.message,
        "error_traceback": "",
        "hostname": failure.hostname,
        "worker_id": failure.worker_id,
        "runpod_version": concat!("whisperq ", env!("CARGO_PKG_VERSION")),
    });
    if failure.code == INIT_FAILED {
        error["event"] = INIT_FAILED.into();
    }
    with_wish(json!({"error": error.to_string()}), texts)
}

fn with_wish(mut body: Value, texts: &RunpodTexts) -> Value {
    if texts.refresh_worker {
        body["stopPod"] = true.into();
    }
    body
}

/// How far a running job is.
pub fn progress(job: &Job) -> Value {
    let percent = (job.progress * 1000.0).round() / 10.0;
    let done = job.audio_seconds.map(|seconds| (seconds * job.progress * 10.0).round() / 10.0);
    let output = json!({"progress": percent, "audio_seconds": job.audio_seconds, "done_seconds": done});
    json!({"status": "IN_PROGRESS", "output": output})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_text_with_the_six_keys_in_it() {
        let failure = Failure { code: "not_audio", message: "no audio: \"x\"", hostname: "h", worker_id: "w" };
        let body = failed(&failure, &RunpodTexts { refresh_worker: true, ..RunpodTexts::default() });
        assert_eq!(body["stopPod"], true);
        let error: Value = serde_json::from_str(body["error"].as_str().unwrap()).unwrap();
        let keys: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
        let mut expected =
            ["error_type", "error_message", "error_traceback", "hostname", "worker_id", "runpod_version"];
        expected.sort_unstable();
        assert_eq!((keys.as_slice(), error["error_message"].as_str()), (&expected[..], Some("no audio: \"x\"")));
    }
}
