//! Process start to a transcript on standard output: `whisperq transcribe` against a bare program that loads the model,
//! decodes the file and makes one call of whisper-rs. This program is both the stop-watch and, with `bare`, that one.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures, and stops where it fails")]

#[expect(dead_code, reason = "no words are compared here")]
#[path = "support/mod.rs"]
mod support;
#[path = "support/bare.rs"]
mod bare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use support::{Recording, median};

fn main() -> ExitCode {
    let given: BTreeMap<String, String> = std::env::args()
        .filter_map(|arg| arg.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let audio = PathBuf::from(&given["audio"]);
    let model = given.get("model").map_or("tiny.en", String::as_str);
    let path = std::env::home_dir().unwrap().join(format!(".cache/whisperq/models/ggml-{model}.bin"));
    let threads = std::thread::available_parallelism().unwrap().get();
    if given.contains_key("bare") {
        println!("{}", alone(&path, &audio, threads));
        return ExitCode::SUCCESS;
    }
    let rounds: usize = given.get("rounds").map_or(15, |text| text.parse().unwrap());
    compare(Path::new(&given["program"]), &audio, model, rounds);
    ExitCode::SUCCESS
}

/// Each program in turn, so that a slow moment of the machine meets all.
fn compare(program: &Path, audio: &Path, model: &str, rounds: usize) {
    let mut bare = Command::new(std::env::current_exe().unwrap());
    bare.args([format!("audio={}", audio.display()), format!("model={model}"), "bare=1".to_owned()]);
    let kept = tempfile::tempdir().unwrap();
    let transcribe = |data: &Path| {
        let mut command = Command::new(program);
        command.arg("transcribe").arg(audio).env("DATA_DIR", data).env("MODEL_NAME", model);
        // cargo sets it, and the program restarts itself where nobody has.
        command.env_remove("GOMP_SPINCOUNT");
        command
    };
    let mut times: [Vec<f64>; 3] = Default::default();
    timed(&mut bare);
    timed(&mut transcribe(kept.path()));
    for _ in 0..rounds {
        let fresh = tempfile::tempdir().unwrap();
        times[0].push(timed(&mut bare));
        times[1].push(timed(&mut transcribe(kept.path())));
        times[2].push(timed(&mut transcribe(fresh.path())));
    }
    let reference = median(&times[0]);
    for (name, times) in ["bare", "whisperq", "whisperq, new DATA_DIR"].iter().zip(&times) {
        println!("{name}: median {:.0} ms, {:.3} times", median(times), median(times) / reference);
    }
}

/// Milliseconds from start to end of the process.
fn timed(command: &mut Command) -> f64 {
    let begun = Instant::now();
    let output = command.stderr(Stdio::null()).output().unwrap();
    assert!(output.status.success() && !output.stdout.is_empty());
    begun.elapsed().as_secs_f64() * 1000.0
}

fn alone(model: &Path, audio: &Path, threads: usize) -> String {
    let mut state = bare::load(model);
    let samples = Recording::samples(audio);
    state.full(bare::greedy(samples.len(), threads), &samples).unwrap();
    state.as_iter().map(|segment| segment.to_str().unwrap().to_owned()).collect()
}
