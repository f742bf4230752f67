//! Prints the plan of recordings, for the measurements in README.md: `cargo bench --bench plan -- FILE…`. One line of
//! JSON for each file: its chunks, the probability of speech in each frame, and what both cost.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use whisperq::audio::{self, Limits, PlanSettings, Planner};

#[expect(clippy::print_stdout, reason = "its output is for a script")]
fn main() -> Result<()> {
    for file in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        println!("{}", measure(Path::new(&file))?);
    }
    Ok(())
}

fn measure(file: &Path) -> Result<serde_json::Value> {
    let mut samples = Vec::new();
    audio::decode(file, &Limits { max_audio_ms: u64::MAX }, &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    })?;
    let listening = Instant::now();
    let probabilities = audio::speech_probabilities(&samples);
    let listened = listening.elapsed();
    Ok(json!({
        "file": file,
        "seconds": samples.len() as f64 / f64::from(audio::SAMPLE_RATE),
        "probabilities": probabilities,
        "probabilities_seconds": listened.as_secs_f64(),
        "vad": plan(&samples, true)?,
        "energy": plan(&samples, false)?,
    }))
}

fn plan(samples: &[f32], vad: bool) -> Result<serde_json::Value> {
    let mut chunks = Vec::new();
    let mut sink = |planned: audio::PlannedChunk| {
        let chunk = planned.chunk;
        chunks.push(json!([chunk.start_sample, chunk.end_sample, chunk.hard_cut]));
        Ok(())
    };
    let planning = Instant::now();
    let mut planner = Planner::new(PlanSettings { max_chunk_ms: audio::SHORT_CHUNK_SECONDS * 1000, vad });
    for block in samples.chunks(4096) {
        planner.push(block, &mut sink)?;
    }
    planner.finish(&mut sink)?;
    Ok(json!({ "chunks": chunks, "seconds": planning.elapsed().as_secs_f64() }))
}
