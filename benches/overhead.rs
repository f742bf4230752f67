//! Engine time of a recording's chunks in whisperq with one worker, against a bare loop of whisper-rs over the same chunks
//! with the same parameters. The figures and the command are in benches/README.md.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures, and stops where it fails")]

#[expect(dead_code, reason = "no words are compared here")]
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters};
use whisperq::audio::{SAMPLE_RATE, SHORT_CHUNK_SECONDS};

use support::Recording;

/// As whisperq chooses it on a CPU.
const MARGIN_POSITIONS: usize = 128;
const STEP_POSITIONS: usize = 16;
const LEAST_POSITIONS: usize = 512;
const FULL_POSITIONS: usize = 1500;
const SAMPLES_PER_POSITION: usize = SAMPLE_RATE as usize / 50;

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
        let bare = bare(&path, &chunks, threads);
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
fn bare(model: &Path, chunks: &[Vec<f32>], threads: usize) -> f64 {
    let mut context = WhisperContextParameters::new();
    context.use_gpu(false).flash_attn(false);
    let context = WhisperContext::new_with_params(model, context).unwrap();
    let mut state = context.create_state().unwrap();
    let begun = Instant::now();
    for samples in chunks {
        state.full(params(samples.len(), threads), samples).unwrap();
    }
    begun.elapsed().as_secs_f64() * 1000.0
}

fn params(samples: usize, threads: usize) -> FullParams<'static, 'static> {
    let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 5 });
    params.set_language(Some("en"));
    params.set_n_threads(i32::try_from(threads).unwrap());
    params.set_audio_ctx(i32::try_from(window(samples)).unwrap());
    params.set_no_context(true);
    params.set_n_max_text_ctx(0);
    params.set_suppress_blank(true);
    params.set_suppress_nst(true);
    params.set_print_progress(false);
    params.set_print_realtime(false);
    params.set_print_timestamps(false);
    params
}

fn window(samples: usize) -> usize {
    let needed = samples.div_ceil(SAMPLES_PER_POSITION) + MARGIN_POSITIONS;
    let stepped = needed.div_ceil(STEP_POSITIONS) * STEP_POSITIONS;
    if stepped >= FULL_POSITIONS { 0 } else { stepped.max(LEAST_POSITIONS) }
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
