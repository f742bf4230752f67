//! The `output` of a job: the incumbent's fields under their names, and more beside them.

use anyhow::Context;
use serde_json::{Value, json};

use crate::error::Result;
use crate::job::{Job, JobState, RunpodTexts, TextFormat};
use crate::transcript::{Format, Transcript};

/// What was heard, and what it means in English where that was asked for.
pub struct Spoken {
    pub transcript: Transcript,
    pub translation: Option<Transcript>,
}

/// RunPod's name of a state.
pub fn status(state: JobState) -> &'static str {
    match state {
        JobState::Queued => "IN_QUEUE",
        JobState::Running => "IN_PROGRESS",
        JobState::Completed => "COMPLETED",
        JobState::Failed => "FAILED",
        JobState::Cancelled => "CANCELLED",
        JobState::TimedOut => "TIMED_OUT",
    }
}

/// A job as its status is told; `spoken` where it is completed. Times are in milliseconds.
pub fn told(job: &Job, spoken: Option<&Spoken>, texts: &RunpodTexts, device: &str) -> Result<Value> {
    let mut told = json!({"id": job.id, "status": status(job.status)});
    if let Some(delay) = job.delay_time_ms {
        told["delayTime"] = delay.into();
    }
    if let Some(execution) = job.execution_time_ms {
        told["executionTime"] = execution.into();
    }
    if let Some(worker) = job.worker_ids.first() {
        told["workerId"] = worker.as_str().into();
    }
    if let Some(error) = &job.error {
        told["error"] = format!("{}: {}", error.code, error.message).into();
    }
    if let Some(spoken) = spoken {
        told["output"] = output(job, spoken, texts, device)?;
    }
    Ok(told)
}

/// The `output` of a completed job; `device` is cpu or cuda.
pub fn output(job: &Job, spoken: &Spoken, texts: &RunpodTexts, device: &str) -> Result<Value> {
    let Spoken { transcript, translation } = spoken;
    let verbose = transcript.render(Format::VerboseJson);
    let mut verbose: Value = serde_json::from_str(&verbose).context("the transcript is no JSON")?;
    let mut segments = verbose["segments"].take();
    let words = verbose["words"].take();
    for (segment, heard) in segments.as_array_mut().into_iter().flatten().zip(&transcript.segments) {
        if let Some(words) = &heard.words {
            let seconds = |ms: i64| ms as f64 / 1000.0;
            let word = |word: &crate::transcript::Word| {
                let (start, end) = (seconds(word.start_ms), seconds(word.end_ms));
                json!({"word": word.word.trim(), "start": start, "end": end, "probability": word.probability})
            };
            segment["words"] = words.iter().map(word).collect();
        }
    }
    let mut output = json!({
        "segments": segments,
        "detected_language": transcript.language,
        "transcription": text(transcript, texts.transcription),
        "translation": translation.as_ref().map(|translation| text(translation, texts.translation)),
        "device": device,
        "model": job.model,
        "duration": verbose["duration"],
        "timings": {"delay_ms": job.delay_time_ms, "execution_ms": job.execution_time_ms},
        "warnings": job.warnings,
    });
    if !words.is_null() {
        output["word_timestamps"] = words;
    }
    Ok(output)
}

fn text(transcript: &Transcript, format: TextFormat) -> String {
    let joined = |between: &str| {
        let texts = transcript.segments.iter().map(|segment| segment.text.trim()).filter(|text| !text.is_empty());
        texts.collect::<Vec<_>>().join(between)
    };
    match format {
        TextFormat::PlainText => joined(" "),
        TextFormat::FormattedText => joined("\n"),
        TextFormat::Srt => transcript.render(Format::Srt),
        TextFormat::Vtt => transcript.render(Format::Vtt),
    }
}
