//! Engine time of a recording's chunks in whisperq with one worker, against a bare loop of whisper-rs over the same chunks
//! with the same parameters; and against whisperq's engine alone, to tell what the difference is made of. The figures and
//! the command are in benches/README.md.
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

use support::{Recording, median};
use whisperq::audio::SHORT_CHUNK_SECONDS;
use whisperq::job::Options;
use whisperq::transcript::{ChunkRequest, Control, Transcriber};
use whisperq::whisper::Model;

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
        let engine = engine(&path, &chunks, threads);
        let ours = ours(Path::new(&given["program"]), &audio, model);
        assert_eq!(ours.len(), chunks.len());
        let settled = || engine.iter().zip(&ours).filter(|(_, chunk)| chunk.settled);
        let ours_settled: f64 = settled().map(|(_, chunk)| chunk.ms).sum();
        let engine_settled: f64 = settled().map(|(ms, _)| ms).sum();
        assert!(engine_settled > 0.0, "too short: every chunk was begun before the recording was decoded");
        let (bare, engine) = (bare.iter().sum::<f64>(), engine.iter().sum::<f64>());
        let ours: f64 = ours.iter().map(|chunk| chunk.ms).sum();
        ratios.push([ours / bare, engine / bare, ours_settled / engine_settled]);
        println!("{round}: bare {bare:.0} ms, the engine with its second tries {engine:.0} ms, whisperq {ours:.0} ms");
    }
    let middle = |n: usize| median(&ratios.iter().map(|row| row[n]).collect::<Vec<_>>());
    println!("whisperq to bare: median {:.3}", middle(0));
    println!("the engine to bare: median {:.3}", middle(1));
    println!("whisperq to the engine, once the recording is decoded: median {:.3}", middle(2));
    ExitCode::SUCCESS
}

/// Milliseconds in whisper.cpp, one call per chunk.
fn alone(model: &Path, chunks: &[Vec<f32>], threads: usize) -> Vec<f64> {
    let mut state = bare::load(model);
    timed(chunks, |samples| state.full(bare::greedy(samples.len(), threads), samples).unwrap())
}

/// The same by whisperq's engine without anything around it: it hears a doubtful chunk a second time.
fn engine(model: &Path, chunks: &[Vec<f32>], threads: usize) -> Vec<f64> {
    let model = Model::load(model, None).unwrap();
    let mut engine = model.engine(threads).unwrap();
    let (options, control) = (Options::default(), Control::default());
    timed(chunks, |samples| {
        let request = ChunkRequest { samples, language: Some("en"), translate: false, prompt: None, options: &options };
        engine.transcribe(&request, &control).unwrap();
    })
}

/// Milliseconds that `call` takes for each chunk.
fn timed(chunks: &[Vec<f32>], mut call: impl FnMut(&[f32])) -> Vec<f64> {
    let time = |samples: &Vec<f32>| {
        let begun = Instant::now();
        call(samples);
        begun.elapsed().as_secs_f64() * 1000.0
    };
    chunks.iter().map(time).collect()
}

/// A chunk of the program's.
struct Chunk {
    ms: f64,
    /// Begun when the recording was decoded, so that the cores were the engine's.
    settled: bool,
}

/// The same by the program, from its `chunks`.
fn ours(program: &Path, audio: &Path, model: &str) -> Vec<Chunk> {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&OsStr]| {
        let mut command = Command::new(program);
        command.args(arguments).env("DATA_DIR", folder.path()).env("WORKER_COUNT", "1").env("MODEL_NAME", model);
        let output = command.output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["transcribe".as_ref(), audio.as_os_str()]);
    let sql = "select engine_ms, started_at_ms > (select finished_at_ms from chunks where kind = 'prepare')
               from chunks where kind = 'transcribe' and outcome = 'done' order by seq";
    let table = run(&["sql", "--format", "csv", sql].map(OsStr::new));
    let chunk = |row: &str| {
        let (ms, settled) = row.split_once(',').unwrap();
        Chunk { ms: ms.parse().unwrap(), settled: settled == "1" }
    };
    table.lines().skip(1).map(chunk).collect()
}
