//! The lines of the README that talk to the service, run as they stand.

use std::process::Command;

use super::client::Service;
use crate::support::fixture;

/// The lines after the service was started in the README's section.
fn lines() -> Vec<String> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let section = readme.lines().skip_while(|line| *line != "## Serve it");
    let lines = section.skip_while(|line| !line.starts_with("    url=")).map_while(|line| line.strip_prefix("    "));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_commands_of_the_readme_work_as_they_stand() {
    let service = Service::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("sample.mp3"), folder.path().join("talk.mp3")).unwrap();
    let script = lines().join("\n").replace("http://127.0.0.1:8080", &service.url());
    assert!(script.matches("curl").count() >= 7, "{script}");
    let script =
        format!("set -eu -o pipefail\n{}", script.replace("curl ", "curl --silent --show-error --fail-with-body "));
    let output = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).output().unwrap();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complaints}");
    for piece in ["\"active_workers\":1", "\"status\":\"completed\"", "event: done", "00:00:00,", "\"busy_ratio\""] {
        assert!(said.contains(piece), "{piece} is missing: {said}");
    }
}
