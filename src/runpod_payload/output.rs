//! The `output` of a job: the incumbent's fields under their names, and more beside them.

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Result;
use crate::job::{Job, JobState, RunpodTexts, TextFormat};
use crate::transcript::{Format, Transcript};

/// What was heard, and what it means in English where that was asked for.
pub struct Spoken {
    pub transcript: Transcript,
    pub translation: Option<Transcript>,
    pub timings: Timings,
}

/// Where the time of a job went, in milliseconds. The engine works while the rest is prepared, and in several threads, so
/// the parts can be more than the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Timings {
    /// From the submit to the first piece of work.
    pub queue_ms: i64,
    /// Fetching, decoding, finding speech.
    pub prepare_ms: i64,
    /// In the engine, over all chunks.
    pub engine_ms: i64,
    /// From the submit to the end.
    pub total_ms: i64,
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
    let Spoken { transcript, translation, timings } = spoken;
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
        "language_probability": transcript.language_probability.map(rounded),
        "transcription": text(transcript, texts.transcription),
        "translation": translation.as_ref().map(|translation| text(translation, texts.translation)),
        "device": device,
        "model": job.model,
        "duration": verbose["duration"],
        "timings": timings,
        "warnings": job.warnings,
    });
    if !words.is_null() {
        output["word_timestamps"] = words;
    }
    Ok(output)
}

/// Four decimals: the shortest number that reads back as the same one of 32 bits would come out as 17 digits of 64.
fn rounded(probability: f32) -> f64 {
    (f64::from(probability) * 10_000.0).round() / 10_000.0
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcript::{Segment, Word};

    fn job() -> Job {
        Job {
            id: "a".to_owned(),
            status: JobState::Completed,
            progress: 1.0,
            source: "talk.mp3".to_owned(),
            created_at: String::new(),
            started_at: None,
            finished_at: None,
            delay_time_ms: Some(50),
            execution_time_ms: Some(450),
            audio_seconds: Some(3.1),
            language: Some("de".to_owned()),
            model: "large-v3-turbo".to_owned(),
            attempts: 2,
            worker_ids: Vec::new(),
            error: None,
            warnings: vec!["patience is not supported here and was ignored".to_owned()],
            deliveries: Vec::new(),
            metadata: None,
        }
    }

    fn spoken(language_probability: Option<f32>, words: Option<Vec<Word>>) -> Spoken {
        let segment = Segment {
            start_ms: 0,
            end_ms: 1_200,
            text: " Ja.".to_owned(),
            seek_ms: 0,
            tokens: vec![7],
            temperature: 0.0,
            avg_logprob: -0.5,
            compression_ratio: 0.5,
            no_speech_prob: 0.25,
            speech_prob: Some(0.75),
            words,
        };
        let (language, segments) = ("de".to_owned(), vec![segment]);
        let transcript = Transcript { language, language_probability, duration_ms: 3_100, segments, translated: false };
        let timings = Timings { queue_ms: 40, prepare_ms: 60, engine_ms: 14, total_ms: 500 };
        Spoken { transcript, translation: None, timings }
    }

    #[test]
    fn the_output_has_the_incumbents_fields_and_durations_probability_and_timings() {
        let word = Word { word: " Ja.".to_owned(), start_ms: 0, end_ms: 900, probability: 0.5 };
        let told = output(&job(), &spoken(Some(0.987_654), Some(vec![word])), &RunpodTexts::default(), "cuda").unwrap();
        let segment = json!({
            "id": 0, "seek": 0, "start": 0.0, "end": 1.2, "text": "Ja.", "tokens": [7], "temperature": 0.0,
            "avg_logprob": -0.5, "compression_ratio": 0.5, "no_speech_prob": 0.25,
            "words": [{"word": "Ja.", "start": 0.0, "end": 0.9, "probability": 0.5}],
        });
        let expected = json!({
            "segments": [segment], "detected_language": "de", "language_probability": 0.9877, "transcription": "Ja.",
            "translation": null, "device": "cuda", "model": "large-v3-turbo", "duration": 3.1,
            "timings": {"queue_ms": 40, "prepare_ms": 60, "engine_ms": 14, "total_ms": 500},
            "warnings": ["patience is not supported here and was ignored"],
            "word_timestamps": [{"word": "Ja.", "start": 0.0, "end": 0.9}],
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn a_language_that_was_given_has_no_probability_and_words_that_were_not_asked_for_are_absent() {
        let told = output(&job(), &spoken(None, None), &RunpodTexts::default(), "cpu").unwrap();
        assert_eq!(told["language_probability"], Value::Null);
        assert!(told.get("word_timestamps").is_none() && told["segments"][0].get("words").is_none(), "{told}");
    }
}
