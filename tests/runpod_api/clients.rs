//! RunPod's clients for Python and JavaScript as their users have them, against a real service.

use std::process::Command;

use serde_json::Value;

use crate::http::client::Service;
use crate::support::{fixture, tools_dir};

/// What a script printed, as JSON.
fn printed(mut command: Command, service: &Service) -> Value {
    let output = command.arg(service.url()).arg(fixture("sample.mp3")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn script(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runpod_api").join(name)
}

/// What each client must have got; the scripts print it under the same names.
fn check(told: &Value) {
    assert_eq!(told["health"]["workers"]["ready"], 1, "{told}");
    assert!(told["run_sync"].as_str().unwrap().contains("Please call the customer"), "{told}");
    assert_eq!(told["streamed"], told["output"], "the stream holds all of the text");
    assert_eq!(told["failed"], "FAILED", "{told}");
    assert_eq!(told["cancelled"], "CANCELLED", "{told}");
    assert_eq!(told["purged"]["status"], "completed", "{told}");
}

#[test]
fn the_client_for_python_works_in_both_its_kinds() {
    let service = Service::start(&[("API_KEY", "sesame"), ("ALLOW_PRIVATE_URLS", "true")]);
    let mut command = Command::new("python3");
    command.arg(script("client.py")).env("PYTHONPATH", tools_dir().join("test-runpod"));
    let told = printed(command, &service);
    check(&told);
    assert_eq!(told["asyncio"], told["output"], "{told}");
}

#[test]
fn the_client_for_javascript_works() {
    let service = Service::start(&[("API_KEY", "sesame"), ("ALLOW_PRIVATE_URLS", "true")]);
    let mut command = Command::new("node");
    command.arg(script("client.cjs")).env("NODE_PATH", tools_dir().join("test-node/node_modules"));
    check(&printed(command, &service));
}
