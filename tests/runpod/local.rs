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

#[test]
fn a_test_input_is_read_as_one_from_runpod_is() {
    let whisperq = Whisperq::new();
    let mut input = sample();
    input["model"] = json!("large-v3");
    // Too long for an argument.
    let run = |input: &Value| {
        std::fs::write(whisperq.path("test_input.json"), input.to_string()).unwrap();
        code(&whisperq, &["runpod"])
    };
    let (ended, shown) = run(&json!({"input": input}));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(ended, Some(0));
    assert!(shown["output"]["warnings"].to_string().contains("large-v3"), "{shown}");
    assert_eq!(run(&json!({"input": sample(), "s3Config": {"accessId": 7}})), (Some(1), String::new()));
    let too_long = ["runpod", "--test-input", r#"{"input": {"audio_base64": "bm8gYXVkaW8gYXQgYWxs"}}"#];
    let output = whisperq.command(&too_long).envs([("WORKER_COUNT", "1"), ("MAX_AUDIO_BYTES", "5")]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("MAX_AUDIO_BYTES"));
}
