//! Word errors and engine time for lengths of chunks and choices of the encoder's window, on recordings with a known
//! text. The figures and the command are in benches/README.md.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its table, and stops where it fails")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use whisperq::job::Options;
use whisperq::models;
use whisperq::transcript::{ChunkRequest, Control, Transcriber};
use whisperq::whisper::{Engine, Listening, Model};

use support::{Recording, cpu_ms, errors, median, words};

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
            Listening::Fitted => format!("{:2} s fitted", self.max_seconds),
            Listening::WithMargin { margin } => format!("{:2} s margin {margin}", self.max_seconds),
        }
    }
}

/// What a way did with one recording.
struct Run {
    errors: usize,
    cpu_ms: f64,
    chunks: usize,
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
    let paths = list("audio", "");
    let recordings: Vec<Recording> = paths.iter().map(|path| Recording::read(Path::new(path))).collect();
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
                println!("{round}\t{}\t{}\t{}\t{wer:.2}\t{:.0}", paths[r], way.name(), run.chunks, run.cpu_ms);
            }
        }
    }
    for (r, path) in paths.iter().enumerate() {
        let base = median(&times[&(r, 0)]);
        for (w, way) in ways.iter().enumerate() {
            println!("{path}\t{}\t{:.2}", way.name(), median(&times[&(r, w)]) / base);
        }
    }
}

fn way(seconds: &str, window: &str) -> Way {
    let listening = match window {
        "full" => Listening::Full,
        "fitted" => Listening::Fitted,
        margin => Listening::WithMargin { margin: margin.parse().unwrap() },
    };
    Way { max_seconds: seconds.parse().unwrap(), listening }
}

fn run(engine: &mut Engine<'_>, recording: &Recording, way: Way) -> Run {
    let chunks = recording.chunks(way.max_seconds);
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
    Run { errors: errors(&recording.spoken, &words(&text)), cpu_ms, chunks: chunks.len() }
}
