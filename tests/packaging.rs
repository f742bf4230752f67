//! What RunPod is given: the image and the files of the Hub, held against the fields that are documented and against the
//! program that they start. No image is built here.

mod hub;
mod image;

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::{Whisperq, fixture, word_error_rate};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_test_input_of_the_image_is_done_without_a_network() {
    let whisperq = Whisperq::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("runpod");
    let output = whisperq.command(&["runpod"]).env("WORKER_COUNT", "1").current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    let spoken = fs::read_to_string(fixture("sample.wav.txt")).unwrap();
    let heard = body["output"]["transcription"].as_str().unwrap();
    assert!(word_error_rate(&spoken, heard) < 0.2, "{heard}");
    let audio = json("runpod/test_input.json")["input"]["audio_base64"].as_str().unwrap().to_owned();
    let audio = STANDARD.decode(audio.strip_prefix("data:audio/ogg;base64,").unwrap()).unwrap();
    assert!(audio == fs::read(fixture("formats/opus.ogg")).unwrap(), "the recording is one of the fixtures");
    assert!(!body["output"]["segments"][0]["words"].as_array().unwrap().is_empty(), "{body}");
}
