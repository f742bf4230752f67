//! RunPod's own worker, run by Python, with a handler that answers as it is told.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::support::tools_dir;

/// Killed when dropped.
pub(crate) struct Official {
    child: Child,
    /// Of its own, because the SDK looks for credentials in it.
    _home: tempfile::TempDir,
}

impl Official {
    /// `answers`: what its handler gives back, by the names of jobs; see the script.
    pub(crate) fn start(environment: &[(&str, String)], answers: &Value, concurrency: usize, streams: bool) -> Self {
        let home = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runpod/sdk_worker.py");
        let mut command = Command::new("python3");
        // Nothing of RunPod's or a proxy's from the machine that this runs on, but where Python is.
        let kept = std::env::vars_os().filter(|(name, _)| name == "PATH");
        command.env_clear().envs(kept).env("HOME", home.path());
        command.arg(script).env("PYTHONPATH", tools_dir().join("test-runpod"));
        // Its checks ask addresses of the internet.
        command.env("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true").env("RUNPOD_SKIP_GPU_CHECK", "true");
        command.env("RUNPOD_LOG_LEVEL", "ERROR").env("CONCURRENCY", concurrency.to_string());
        command.envs(streams.then_some(("STREAM", "1")));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        // Its heartbeat is a process too, which outlives one that is killed.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut official = Self { child: command.spawn().unwrap(), _home: home };
        official.say(&answers.to_string());
        official
    }

    /// Lets a handler that holds go on.
    pub(crate) fn go_on(&mut self) {
        self.say("");
    }

    fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn end(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Official {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
