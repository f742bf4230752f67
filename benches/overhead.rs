//! Engine time of a recording's chunks in whisperq with one worker, against a bare loop of whisper-rs over the same chunks
//! with the same parameters. The figures and the command are in benches/README.md.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures, and stops where it fails")]

#[expect(dead_code, reason = "no words are compared here")]
#[path = "support/mod.rs"]
mod support;
#[path = "support/bare.rs"]
mod bare;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use whisperq::audio::SHORT_CHUNK_SECONDS;

use support::Recording;

fn main() -> ExitCode {
    let given: BTreeMap<String, String> = std::env::args()
        .filter_map(|arg| arg.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let audio = PathBuf::from(&given["audio"]);
    let model = given.get("model").map_or("tiny.en", String::as_str);
    let rounds: usize = given.get("rounds").map_or(3, |text| text.parse().unwrap());
    let path = std::env::home_dir().unwrap().join(format!(".cache/whisperq/models/ggml-{model}.bin"));
    let chunks = Recording::read(&audio).chunks(SHORT_CHUNK_SECONDS);
    let threads = std::thread::available_parallelism().unwrap().get();
    println!("{} chunks, {threads} threads", chunks.len());
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let bare = alone(&path, &chunks, threads);
        let (ours, retried) = ours(Path::new(&given["program"]), &audio, model);
        ratios.push(ours / bare);
        println!(
            "{round}: bare {bare:.0} ms, whisperq {ours:.0} ms, {:.3} times; chunks tried again {retried}",
            ours / bare
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median {:.3}", ratios[ratios.len() / 2]);
    ExitCode::SUCCESS
}

/// Milliseconds in whisper.cpp, one call per chunk.
fn alone(model: &Path, chunks: &[Vec<f32>], threads: usize) -> f64 {
    let mut state = bare::load(model);
    let begun = Instant::now();
    for samples in chunks {
        state.full(bare::greedy(samples.len(), threads), samples).unwrap();
    }
    begun.elapsed().as_secs_f64() * 1000.0
}

/// The same by the program, from its `chunks`; and how many it heard a second time.
fn ours(program: &Path, audio: &Path, model: &str) -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&OsStr]| {
        let mut command = Command::new(program);
        command.args(arguments).env("DATA_DIR", folder.path()).env("WORKER_COUNT", "1").env("MODEL_NAME", model);
        let output = command.output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["transcribe".as_ref(), audio.as_os_str()]);
    let number = |sql: &str| -> f64 {
        let table = run(&["sql", "--format", "csv", sql].map(OsStr::new));
        table.lines().nth(1).unwrap().parse().unwrap()
    };
    let sum = "select sum(engine_ms) from chunks where kind = 'transcribe' and outcome = 'done'";
    let warm = "select count(distinct seq) from segments where temperature > 0";
    (number(sum), number(warm))
}
