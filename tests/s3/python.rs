//! The Python scripts of these tests, run with the packages that `infra/setup.sh check` installed.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::tools_dir;

/// A script that is running, and both ends of what is said to it.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) input: ChildStdin,
    pub(super) output: ChildStdout,
}

/// The folder of the packages; their programs are in `bin` below it.
pub(super) fn packages() -> PathBuf {
    let folder = tools_dir().join("test-python");
    assert!(folder.join("requirements.txt").exists(), "there is no {}: run `make check`", folder.display());
    folder
}

/// Starts a script of this folder with nothing of the surrounding environment but the path and the home folder: no
/// keys, regions and proxies of whoever runs the tests.
pub(super) fn start(script: &str, args: &[&str], environment: &[(&str, String)]) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s3").join(script);
    let inherited = std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME");
    let mut command = Command::new("python3");
    command.env_clear().envs(inherited).env("PYTHONPATH", packages()).envs(environment.iter().cloned());
    command.arg(script).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    Running { child, input, output }
}
