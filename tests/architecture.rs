//! The rules of the code that a compiler does not know: which module may use which, who owns which outside crate, what is
//! not written at all. The code map in `src/lib.rs` tells the same to people.

mod readme;
mod source;

use std::collections::BTreeSet;

use source::{File, Line, crate_uses, names_path, names_word, supers};

/// Longer files hide a second thing that wants a file of its own.
const MAX_FILE_LINES: usize = 400;

/// Every module in reading order, with the modules that it uses: all of them above it, so there are no circles, and none
/// that it does not use, so that a new arrow is a decision.
const ARROWS: [(&str, &[&str]); 31] = [
    ("error", &[]),
    ("config", &["error"]),
    ("job", &["error"]),
    ("transcript", &["error", "job"]),
    ("runpod_payload", &["error", "job", "transcript"]),
    ("shutdown", &[]),
    ("audio", &["error", "config"]),
    ("spool", &["error", "audio"]),
    ("http_client", &["error"]),
    ("storage", &["error", "http_client"]),
    ("runpod_platform", &["error", "http_client"]),
    ("crash", &["error"]),
    ("db", &["error"]),
    ("models", &["error", "http_client"]),
    ("gpu", &[]),
    ("whisper", &["error", "job", "transcript", "audio", "models"]),
    ("queue", &["error", "job", "transcript", "runpod_payload", "audio", "crash", "db"]),
    ("system", &["error", "db"]),
    ("worker", &["error", "transcript", "shutdown", "crash", "db", "queue"]),
    ("keeper", &["error", "shutdown", "spool", "storage", "queue", "worker"]),
    ("turns", &["error"]),
    ("prepare", &["error", "transcript", "audio", "spool", "storage", "queue", "worker", "turns"]),
    ("transcribe", &["error", "transcript", "audio", "spool", "queue", "worker", "turns"]),
    (
        "deliver",
        &[
            "error",
            "job",
            "transcript",
            "runpod_payload",
            "http_client",
            "storage",
            "runpod_platform",
            "queue",
            "worker",
        ],
    ),
    (
        "app",
        &[
            "error",
            "config",
            "job",
            "transcript",
            "shutdown",
            "audio",
            "spool",
            "http_client",
            "storage",
            "runpod_platform",
            "crash",
            "db",
            "models",
            "whisper",
            "queue",
            "worker",
            "keeper",
            "turns",
            "prepare",
            "transcribe",
            "deliver",
        ],
    ),
    ("supervise", &["error"]),
    (
        "http",
        &[
            "error",
            "config",
            "job",
            "transcript",
            "runpod_payload",
            "shutdown",
            "storage",
            "models",
            "gpu",
            "queue",
            "system",
            "app",
        ],
    ),
    (
        "runpod",
        &[
            "error",
            "config",
            "job",
            "runpod_payload",
            "shutdown",
            "http_client",
            "storage",
            "runpod_platform",
            "db",
            "whisper",
            "queue",
            "deliver",
            "app",
        ],
    ),
    (
        "lambda",
        &[
            "error",
            "config",
            "job",
            "shutdown",
            "http_client",
            "storage",
            "db",
            "models",
            "whisper",
            "queue",
            "system",
            "app",
            "http",
        ],
    ),
    (
        "cli",
        &[
            "error",
            "config",
            "job",
            "transcript",
            "shutdown",
            "audio",
            "http_client",
            "crash",
            "models",
            "gpu",
            "queue",
            "system",
            "prepare",
            "app",
            "supervise",
            "http",
            "runpod",
            "lambda",
        ],
    ),
    ("main", &["cli"]),
];

/// Crates that any module may name: they shape errors, data and logs.
const COMMON: [&str; 5] = ["anyhow", "serde", "serde_json", "thiserror", "tracing"];

/// Who may name all the others.
const OWNERS: [(&str, &[&str]); 46] = [
    ("aws_config", &["storage"]),
    ("aws_sdk_s3", &["storage"]),
    ("aws_smithy_checksums", &["storage"]),
    ("aws_smithy_http_client", &["storage"]),
    ("axum", &["http"]),
    ("base64", &["storage", "deliver", "http", "runpod"]),
    ("clap", &["cli"]),
    ("comfy_table", &["cli"]),
    ("csv", &["cli"]),
    ("envy", &["config"]),
    ("fastrand", &["models", "db", "worker", "runpod"]),
    ("flate2", &["whisper"]),
    ("half", &["models", "audio"]),
    ("hmac", &["deliver"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    ("indicatif", &["cli"]),
    ("jiff", &["queue"]),
    ("lambda_http", &["lambda"]),
    ("libc", &["crash"]),
    ("md5", &["storage"]),
    ("nvml_wrapper", &["gpu"]),
    ("r2d2", &["db"]),
    ("r2d2_sqlite", &["db"]),
    ("realfft", &["audio"]),
    ("reqwest", &["http_client"]),
    ("rubato", &["audio"]),
    ("rusqlite", &["db", "queue", "system"]),
    ("rustix", &["audio", "db", "supervise"]),
    ("rustls", &["http_client"]),
    ("sha1", &["models"]),
    ("sha2", &["deliver", "app"]),
    ("signal_hook", &["supervise", "cli"]),
    ("std::env", &["config"]),
    ("subtle", &["http"]),
    ("symphonia", &["audio"]),
    ("symphonia_adapter_libopus", &["audio"]),
    ("tempfile", &["spool"]),
    ("tokio", &["http_client", "http", "lambda"]),
    ("tokio_stream", &["http"]),
    ("tower", &["http"]),
    ("tower_http", &["http"]),
    ("tracing_subscriber", &["cli"]),
    ("uuid", &["queue"]),
    ("whisper_rs", &["whisper"]),
    ("zip", &["models"]),
];

/// What no line outside the tests contains, and what to do instead.
const NEVER: [(&str, &str); 7] = [
    ("todo!", "finish it or leave it out"),
    ("unimplemented!", "finish it or leave it out"),
    (".unwrap()", "return an error"),
    ("#[allow(", "fix it, or expect it with a reason"),
    ("#![allow(", "fix it, or expect it with a reason"),
    ("set_abort_callback_safe(", "undefined behavior in whisper-rs 0.16: use the callbacks of `whisper`"),
    ("std::{", "name one module of std per line, so that owners can be checked"),
];

/// Runs `rule` on every line of code in `src` and fails with all the complaints, each with its place.
fn check(rule: impl Fn(&File, &Line) -> Vec<String>) {
    let files = source::files("src");
    let complaints = files.iter().flat_map(|file| {
        let rule = &rule;
        file.code().flat_map(move |line| rule(file, line).into_iter().map(|why| format!("{}: {why}", file.at(line))))
    });
    fail_with(complaints.collect());
}

fn fail_with(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn allowed(module: &str) -> &'static [&'static str] {
    ARROWS.iter().find(|(name, _)| *name == module).map_or(&[], |(_, uses)| *uses)
}

#[test]
fn modules_use_only_what_the_table_allows() {
    check(|file, line| {
        let uses = crate_uses(&line.text).into_iter();
        let wrong = uses.filter(|used| *used != file.module && !allowed(&file.module).contains(used));
        wrong.map(|used| format!("`{}` must not use `{used}`", file.module)).collect()
    });
}

#[test]
fn modules_name_each_other_from_the_root_so_that_arrows_can_be_seen() {
    check(|file, line| {
        let leaves = supers(&line.text) >= file.depth();
        let grouped = line.text.contains("crate::{") || line.text.contains("crate::*");
        (leaves || grouped).then(|| "write crate::MODULE, one module per line".to_owned()).into_iter().collect()
    });
}

#[test]
fn the_table_of_arrows_points_up_and_has_no_arrow_too_many() {
    let files = source::files("src");
    let mut complaints = Vec::new();
    for (position, (module, uses)) in ARROWS.iter().enumerate() {
        let above: Vec<&str> = ARROWS[..position].iter().map(|(name, _)| *name).collect();
        let lines = files.iter().filter(|file| file.module == *module).flat_map(File::code);
        let used: BTreeSet<&str> = lines.flat_map(|line| crate_uses(&line.text)).collect();
        for name in *uses {
            if !above.contains(name) {
                complaints.push(format!("tests/architecture.rs: `{module}` uses `{name}`, which is not above it"));
            }
            if !used.contains(name) {
                complaints.push(format!("tests/architecture.rs: `{module}` does not use `{name}`: remove the arrow"));
            }
        }
    }
    fail_with(complaints);
}

#[test]
fn the_crate_declares_and_maps_its_modules_in_reading_order() {
    let files = source::files("src");
    let lib = files.iter().find(|file| file.path.ends_with("lib.rs")).unwrap();
    let modules: Vec<&str> = ARROWS.iter().map(|(name, _)| *name).filter(|name| *name != "main").collect();
    let declared: Vec<&str> =
        lib.code().filter_map(|line| line.text.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, modules, "the modules of src/lib.rs, as declared and as in tests/architecture.rs");
    let map = lib.lines.iter().skip_while(|line| line.text != "//! # Code map").map(|line| line.text.as_str());
    let map = map.take_while(|text| *text != "//! # Invariants").filter_map(|text| text.strip_prefix("//! - "));
    let mapped: Vec<&str> = map
        .flat_map(|entry| {
            let names = entry.split_once(": ").map_or(entry, |(names, _)| names);
            names.split(", ").map(|name| name.trim_matches(['[', '`', ']']))
        })
        .collect();
    assert_eq!(mapped, modules, "the code map of src/lib.rs and the modules");
}

#[test]
fn outside_crates_are_named_by_their_owners_only() {
    check(|file, line| {
        let named = OWNERS.iter().filter(|(name, owners)| {
            // Where our own program lies and what was typed are no settings.
            let text = line.text.replace("std::env::current_exe", "").replace("std::env::args_os", "");
            names_path(&text, name) && !owners.contains(&file.module.as_str())
        });
        named.map(|(name, owners)| format!("`{name}` belongs to {}", owners.join(", "))).collect()
    });
}

#[test]
fn every_dependency_has_an_owner() {
    let manifest = source::read("Cargo.toml");
    let section = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let entries = section.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
    let dependencies: BTreeSet<String> = entries.map(|(name, _)| name.replace('-', "_")).collect();
    let owned = OWNERS.iter().map(|(name, _)| *name).filter(|name| !name.starts_with("std::"));
    let known: BTreeSet<String> = owned.chain(COMMON).map(str::to_owned).collect();
    assert_eq!(dependencies, known, "the dependencies of Cargo.toml and the crates in tests/architecture.rs");
}

#[test]
fn unsafe_code_is_written_only_where_c_calls_back() {
    check(|file, line| {
        let found = !["whisper", "crash"].contains(&file.module.as_str()) && names_word(&line.text, "unsafe");
        found.then(|| "`unsafe` belongs to whisper and crash".to_owned()).into_iter().collect()
    });
}

#[test]
fn some_things_are_never_written() {
    check(|_, line| {
        let found = NEVER.iter().filter(|(text, _)| line.text.contains(text));
        found.map(|(text, instead)| format!("no `{text}`: {instead}")).collect()
    });
}

#[test]
fn no_test_is_ignored_or_silenced() {
    let files = [source::files("src"), source::files("tests")].concat();
    let silenced = |line: &&Line| {
        let text = line.text.trim_start();
        text.starts_with("#[ignore") || text.starts_with("#[allow(") || text.starts_with("#![allow(")
    };
    let complaints = files.iter().flat_map(|file| {
        file.lines.iter().filter(silenced).map(|line| format!("{}: a test that is off tests nothing", file.at(line)))
    });
    fail_with(complaints.collect());
}

#[test]
fn every_file_says_first_what_it_is() {
    let files = [source::files("src"), source::files("tests")].concat();
    let silent = files.iter().filter(|file| !file.lines.first().is_some_and(|line| line.text.starts_with("//! ")));
    fail_with(silent.map(|file| format!("{}:1: open the file with a //! paragraph", file.path)).collect());
}

#[test]
fn no_file_is_long() {
    let files = [source::files("src"), source::files("tests")].concat();
    let long = files.iter().filter(|file| file.lines.len() > MAX_FILE_LINES);
    fail_with(long.map(|file| format!("{}:{}: over {MAX_FILE_LINES} lines", file.path, file.lines.len())).collect());
}

#[test]
fn unit_tests_are_the_last_thing_in_a_file() {
    // What lets the tests of the queue be built into the crate and take guards out of it.
    let weakening = ["weaken", "extern crate self", "#[path = "];
    let files = source::files("src");
    let misplaced = files.iter().filter_map(|file| {
        let next = |line: &Line| file.lines.get(line.number).map_or("", |next| next.text.as_str());
        let marks = file.lines.iter().filter(|line| line.text.contains("cfg(test)"));
        let tests = marks.clone().find(|line| !weakening.iter().any(|words| next(line).contains(words)))?;
        let closed = file.lines.iter().skip(tests.number).position(|line| line.text == "}");
        let last = closed.is_some_and(|after| tests.number + after + 1 == file.lines.len());
        (tests.text != "#[cfg(test)]" || !next(tests).ends_with("mod tests {") || !last)
            .then(|| format!("{}: tests are one `mod tests` at the end of the file", file.at(tests)))
    });
    fail_with(misplaced.collect());
}
