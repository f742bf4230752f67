//! A running `whisperq runpod`, and jobs for it.

use std::process::{Child, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::platform::Platform;
use crate::support::{Whisperq, fixture, long_recording};

/// Where nobody listens.
const NOBODY: &str = "127.0.0.1:1";

/// Killed when dropped.
pub(crate) struct Worker {
    pub(crate) whisperq: Whisperq,
    child: Child,
}

impl Worker {
    /// With one engine thread, unless the settings say otherwise.
    pub(crate) fn start(platform: &Platform, settings: &[(&str, &str)]) -> Self {
        Self::start_on(Whisperq::new(), platform, settings)
    }

    pub(crate) fn start_on(whisperq: Whisperq, platform: &Platform, settings: &[(&str, &str)]) -> Self {
        Self::start_in(whisperq, &platform.environment(), settings)
    }

    pub(crate) fn start_in(whisperq: Whisperq, environment: &[(&str, String)], settings: &[(&str, &str)]) -> Self {
        // Without a command, as the image does it.
        let mut command = whisperq.command(&[]);
        command.env("WORKER_COUNT", "1").env("RUST_LOG", "whisperq=warn").stdout(Stdio::null());
        // No test asks the real hub for a model that it has hidden.
        command.env("HF_ENDPOINT", format!("http://{NOBODY}"));
        command.envs(environment.iter().map(|(name, value)| (name, value))).envs(settings.iter().copied());
        let child = command.spawn().unwrap();
        Self { whisperq, child }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Until its database has rows for a question.
    pub(crate) fn until(&self, sql: &str) {
        while self.whisperq.sql(sql).is_empty() {}
    }

    pub(crate) fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    /// How it ends, and the folder for one that goes on.
    pub(crate) fn end(mut self) -> (Option<i32>, Whisperq) {
        let code = self.child.wait().unwrap().code();
        (code, std::mem::replace(&mut self.whisperq, Whisperq::new()))
    }

    /// Kills it with the process that watches over it.
    pub(crate) fn kill(self) -> Whisperq {
        self.signal(Signal::KILL);
        self.end().1
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sample recording in an input.
pub(crate) fn sample() -> Value {
    json!({"audio_base64": STANDARD.encode(std::fs::read(fixture("sample.wav")).unwrap())})
}

pub(crate) fn job(id: &str) -> Value {
    json!({"id": id, "input": sample()})
}

/// A job that takes a while: so many seconds of speech.
pub(crate) fn long_job(id: &str, seconds: usize) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.wav");
    long_recording(&path, seconds);
    json!({"id": id, "input": {"audio_base64": STANDARD.encode(std::fs::read(path).unwrap())}})
}
