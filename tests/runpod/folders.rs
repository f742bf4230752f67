//! The folders of a worker: its model from the platform's cache or from the hub, its data on a disk of its own.

use std::fs;
use std::os::unix::fs::symlink;

use super::platform::{Platform, is_ping};
use super::worker::{Worker, job};
use crate::support::{Whisperq, model};

const CACHED: &str = "volume/huggingface-cache/hub/models--ggerganov--whisper.cpp/snapshots/5359861c";

#[test]
fn a_worker_takes_its_model_from_the_platforms_cache() {
    let (platform, whisperq) = (Platform::start(), Whisperq::new());
    let cached = whisperq.path(CACHED);
    fs::create_dir_all(&cached).unwrap();
    symlink(fs::canonicalize(model().path).unwrap(), cached.join("ggml-tiny.en.bin")).unwrap();
    let (volume, nowhere) = (whisperq.path("volume"), whisperq.path("nowhere"));
    let folders = [("RUNPOD_VOLUME_DIR", volume.to_str().unwrap()), ("MODEL_DIR", nowhere.to_str().unwrap())];
    platform.hand_out(&job("a-u1"));
    let worker = Worker::start_on(whisperq, &platform, &folders);
    assert_eq!(platform.result()["output"]["model"], "tiny.en");
    assert!(!worker.whisperq.path("nowhere").exists(), "nothing was fetched");
}

#[test]
fn data_on_the_shared_volume_or_behind_a_link_to_it_is_refused() {
    for linked in [false, true] {
        let (platform, whisperq) = (Platform::start(), Whisperq::new());
        let (volume, link) = (whisperq.path("volume"), whisperq.path("link"));
        fs::create_dir(&volume).unwrap();
        symlink(&volume, &link).unwrap();
        let data = if linked { link } else { volume.clone() }.join("data");
        let folders = [("RUNPOD_VOLUME_DIR", volume.to_str().unwrap()), ("DATA_DIR", data.to_str().unwrap())];
        let worker = Worker::start_on(whisperq, &platform, &folders);
        let (code, whisperq) = worker.end();
        assert_eq!(code, Some(1));
        let told = platform.seen().into_iter().find(is_ping).unwrap().line;
        assert!(told.contains("status=unhealthy") && told.contains("DATA_DIR"), "{told}");
        assert!(!data.join("whisperq.db").exists());
        let output = whisperq.command(&["system"]).envs(folders).output().unwrap();
        let refusal = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(refusal.contains("set DATA_DIR to a folder on the worker's own disk"), "{refusal}");
    }
}
