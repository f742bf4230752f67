//! One job on a developer's machine, and how it ends.

use serde_json::{Value, json};

use super::worker::sample;
use crate::support::Whisperq;

fn code(whisperq: &Whisperq, args: &[&str]) -> (Option<i32>, String) {
    let output = whisperq.command(args).env("WORKER_COUNT", "1").current_dir(whisperq.path("")).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_test_input_is_done_and_shown_as_runpod_would_get_it() {
    let whisperq = Whisperq::new();
    let file = whisperq.path("test_input.json");
    assert_eq!(code(&whisperq, &["runpod"]), (Some(1), String::new()), "there is none");
    let input = json!({"input": sample()});
    std::fs::write(file, input.to_string()).unwrap();
    let (ended, shown) = code(&whisperq, &["runpod"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(ended, Some(0));
    assert!(!shown["output"]["transcription"].as_str().unwrap().is_empty());
}

#[test]
fn a_test_input_that_is_none_or_fails_ends_with_one() {
    let whisperq = Whisperq::new();
    for input in ["{}", "nothing", r#"{"input": {}}"#, r#"{"input": null}"#] {
        assert_eq!(code(&whisperq, &["runpod", "--test-input", input]), (Some(1), String::new()), "{input}");
    }
    let noise = r#"{"input": {"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}}"#;
    let (ended, shown) = code(&whisperq, &["runpod", "--test-input", noise]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert!(ended == Some(1) && shown["error"].as_str().unwrap().contains("not_audio"), "{shown}");
}
