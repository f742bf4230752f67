//! What whisper.cpp's own choices cost and change: a bare loop of whisper-rs over the chunks of a recording, with and
//! without flash attention, with windows in several steps, on one or more threads. The figures are in benches/README.md.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its table, and stops where it fails")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use support::{Recording, cpu_ms, errors, median, words};
use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters};
use whisperq::audio::SAMPLE_RATE;

const SAMPLES_PER_POSITION: usize = SAMPLE_RATE as usize / 50;
const FULL_POSITIONS: usize = 1500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    flash: bool,
    /// Windows are multiples of this many positions; 1500 is always all.
    step: usize,
    least: usize,
    margin: usize,
    seconds: u64,
}

fn main() {
    let given: BTreeMap<String, String> = std::env::args()
        .filter_map(|arg| arg.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let text = |key: &str, otherwise: &str| given.get(key).map_or(otherwise, String::as_str).to_owned();
    let numbers = |key: &str, otherwise: &str| -> Vec<usize> {
        text(key, otherwise).split(',').map(|n| n.parse().unwrap()).collect()
    };
    let recordings: Vec<Recording> =
        text("audio", "").split(',').map(|path| Recording::read(Path::new(path))).collect();
    let ways = ways(&numbers);
    let (threads, rounds) = (numbers("threads", "1")[0], numbers("rounds", "1")[0]);
    let spoken: usize = recordings.iter().map(|recording| recording.spoken.len()).sum();
    let mut times: BTreeMap<Way, Vec<f64>> = BTreeMap::new();
    let mut errors: BTreeMap<Way, usize> = BTreeMap::new();
    for _ in 0..rounds {
        for &way in &ways {
            let (ms, wrong) = run(Path::new(&given["model"]), &recordings, way, threads);
            times.entry(way).or_default().push(ms);
            errors.insert(way, wrong);
        }
    }
    let base = median(&times[&ways[0]]);
    for way in &ways {
        let (ms, wer) = (median(&times[way]), 100.0 * errors[way] as f64 / spoken as f64);
        println!("{way:?}\t{wer:.2} %\t{ms:.0} ms\t{:.2}", ms / base);
    }
}

/// All combinations, the first of which the others are compared with.
fn ways(numbers: &dyn Fn(&str, &str) -> Vec<usize>) -> Vec<Way> {
    let mut ways = Vec::new();
    for &seconds in &numbers("seconds", "14") {
        for &flash in &numbers("flash", "1,0") {
            for &step in &numbers("step", "256") {
                for &least in &numbers("least", "768") {
                    for &margin in &numbers("margin", "64") {
                        ways.push(Way { flash: flash == 1, step, least, margin, seconds: seconds as u64 });
                    }
                }
            }
        }
    }
    ways
}

/// Milliseconds that the engine computed for all recordings, and how many words are wrong.
fn run(model: &Path, recordings: &[Recording], way: Way, threads: usize) -> (f64, usize) {
    let mut context = WhisperContextParameters::new();
    context.use_gpu(false).flash_attn(way.flash);
    let context = WhisperContext::new_with_params(model, context).unwrap();
    let mut state = context.create_state().unwrap();
    let (mut ms, mut wrong) = (0.0, 0);
    for recording in recordings {
        let mut text = String::new();
        for samples in recording.chunks(way.seconds) {
            let begun = if threads == 1 { cpu_ms() } else { wall_ms() };
            state.full(params(window(samples.len(), way), threads), &samples).unwrap();
            ms += if threads == 1 { cpu_ms() } else { wall_ms() } - begun;
            text.extend(state.as_iter().map(|segment| segment.to_str_lossy().unwrap().into_owned()));
            text.push('\n');
        }
        wrong += errors(&recording.spoken, &words(&text));
    }
    (ms, wrong)
}

/// For several threads, whose computing cannot be told from others'.
fn wall_ms() -> f64 {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed().as_secs_f64() * 1000.0
}

fn window(samples: usize, way: Way) -> usize {
    let needed = samples.div_ceil(SAMPLES_PER_POSITION) + way.margin;
    let stepped = needed.div_ceil(way.step) * way.step;
    if stepped >= FULL_POSITIONS { 0 } else { stepped.max(way.least) }
}

fn params(positions: usize, threads: usize) -> FullParams<'static, 'static> {
    let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 5 });
    params.set_language(Some("en"));
    params.set_n_threads(i32::try_from(threads).unwrap());
    params.set_audio_ctx(i32::try_from(positions).unwrap());
    params.set_no_context(true);
    params.set_n_max_text_ctx(0);
    params.set_suppress_blank(true);
    params.set_suppress_nst(true);
    params.set_print_progress(false);
    params.set_print_realtime(false);
    params.set_print_timestamps(false);
    params
}
