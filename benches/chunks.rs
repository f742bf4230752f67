//! Word errors and engine time for lengths of chunks and choices of the encoder's window, on recordings with a known
//! text. The figures and the command are in benches/README.md.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its table, and stops where it fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use whisperq::audio::{self, Limits, PlanSettings, Planner};
use whisperq::job::Options;
use whisperq::models;
use whisperq::transcript::{ChunkRequest, Control, Transcriber};
use whisperq::whisper::{Engine, Listening, Model};

struct Recording {
    name: String,
    samples: Vec<f32>,
    spoken: Vec<String>,
}

/// One way to do it.
#[derive(Clone, Copy)]
struct Way {
    max_seconds: u64,
    listening: Listening,
}

impl Way {
    fn name(self) -> String {
        match self.listening {
            Listening::Full => format!("{:2} s full", self.max_seconds),
            Listening::Fixed { positions } => format!("{:2} s fixed {positions}", self.max_seconds),
            Listening::Fitted { margin } => format!("{:2} s margin {margin}", self.max_seconds),
        }
    }
}

/// What a way did with one recording.
struct Run {
    errors: usize,
    cpu_ms: f64,
    chunks: usize,
    text: String,
}

fn main() {
    let given: BTreeMap<String, String> = std::env::args()
        .filter_map(|arg| arg.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let list = |key: &str, otherwise: &str| -> Vec<String> {
        given.get(key).map_or(otherwise, String::as_str).split(',').map(str::to_owned).collect()
    };
    let folder = std::env::home_dir().unwrap().join(".cache/whisperq/models");
    let model = Model::load(&models::find(&folder, &list("model", "tiny.en")[0]).unwrap().path, None).unwrap();
    let recordings: Vec<Recording> = list("audio", "").iter().map(|path| recording(Path::new(path))).collect();
    let ways: Vec<Way> = list("seconds", "14,28")
        .iter()
        .flat_map(|seconds| list("windows", "full,64").into_iter().map(move |window| way(seconds, &window)))
        .collect();
    let repeats: usize = list("repeats", "1")[0].parse().unwrap();
    let mut times: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for round in 0..repeats {
        for (r, recording) in recordings.iter().enumerate() {
            for (w, &way) in ways.iter().enumerate() {
                let run = run(&mut model.engine(1).unwrap().listening(way.listening), recording, way);
                times.entry((r, w)).or_default().push(run.cpu_ms);
                let wer = 100.0 * run.errors as f64 / recording.spoken.len() as f64;
                println!("{round}\t{}\t{}\t{}\t{wer:.2}\t{:.0}", recording.name, way.name(), run.chunks, run.cpu_ms);
                if let Some(folder) = given.get("texts") {
                    let file = format!("{}-{}.txt", recording.name, way.name().trim().replace(' ', "-"));
                    std::fs::write(Path::new(folder).join(file), run.text).unwrap();
                }
            }
        }
    }
    for (r, recording) in recordings.iter().enumerate() {
        let base = median(&times[&(r, 0)]);
        for (w, way) in ways.iter().enumerate() {
            println!("{}\t{}\t{:.2}", recording.name, way.name(), median(&times[&(r, w)]) / base);
        }
    }
}

fn way(seconds: &str, window: &str) -> Way {
    let listening = match window {
        "full" => Listening::Full,
        margin => Listening::Fitted { margin: margin.parse().unwrap() },
    };
    Way { max_seconds: seconds.parse().unwrap(), listening }
}

fn recording(path: &Path) -> Recording {
    let mut samples = Vec::new();
    let mut sink = |block: &[f32]| {
        samples.extend_from_slice(block);
        Ok(())
    };
    audio::decode(path, &Limits { max_audio_ms: u64::MAX }, &mut sink).unwrap();
    let text: PathBuf = path.with_extension("txt");
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    Recording { name, samples, spoken: words(&std::fs::read_to_string(text).unwrap()) }
}

fn run(engine: &mut Engine<'_>, recording: &Recording, way: Way) -> Run {
    let mut chunks: Vec<Vec<f32>> = Vec::new();
    let mut planner = Planner::new(PlanSettings { max_chunk_ms: way.max_seconds * 1000, vad: true });
    let mut sink = |planned: audio::PlannedChunk| {
        chunks.push(planned.samples);
        Ok(())
    };
    planner.push(&recording.samples, &mut sink).unwrap();
    planner.finish(&mut sink).unwrap();
    let mut text = String::new();
    let begun = cpu_ms();
    for samples in &chunks {
        let options = &Options::default();
        let request = ChunkRequest { samples, language: Some("en"), translate: false, prompt: None, options };
        let heard = engine.transcribe(&request, &Control::default()).unwrap();
        for segment in heard.segments {
            text.push_str(&segment.text);
        }
        text.push('\n');
    }
    let cpu_ms = cpu_ms() - begun;
    Run { errors: errors(&recording.spoken, &words(&text)), cpu_ms, chunks: chunks.len(), text }
}

/// What this thread has computed so far: with one thread the engine computes in its caller, and other work on the
/// machine disturbs this less than time on the clock.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e6
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn words(text: &str) -> Vec<String> {
    let kept = |c: char| if c == '-' { Some(' ') } else { (c.is_alphanumeric() || c.is_whitespace()).then_some(c) };
    let plain: String = text.to_lowercase().chars().filter_map(kept).collect();
    plain.split_whitespace().map(str::to_owned).collect()
}

/// Wrong, missing and surplus words.
fn errors(spoken: &[String], heard: &[String]) -> usize {
    let mut distances: Vec<usize> = (0..=heard.len()).collect();
    for (row, word) in spoken.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut distances[0], row + 1);
        for (column, other) in heard.iter().enumerate() {
            let substituted = diagonal + usize::from(word != other);
            diagonal = distances[column + 1];
            distances[column + 1] = substituted.min(diagonal + 1).min(distances[column] + 1);
        }
    }
    distances[heard.len()]
}
