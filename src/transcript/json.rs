//! The shapes of the two JSON transcripts: our plain one, and OpenAI's `verbose_json` field for field. Times are in
//! seconds with at most three decimals; texts are trimmed.

use serde::Serialize;

use super::{Segment, Transcript, Word};
use crate::job::language;

/// Text, language code, duration and segments of id, times and text.
pub(super) fn plain(transcript: &Transcript) -> String {
    let segment = |(id, segment): (usize, &Segment)| PlainSegment {
        id,
        start: seconds(segment.start_ms),
        end: seconds(segment.end_ms),
        text: segment.text.trim().to_owned(),
    };
    file(&Plain {
        text: transcript.text(),
        language: &transcript.language,
        duration: seconds(transcript.duration_ms),
        segments: transcript.segments.iter().enumerate().map(segment).collect(),
    })
}

/// What OpenAI's clients expect of `response_format=verbose_json`.
pub(super) fn verbose(transcript: &Transcript) -> String {
    let spoken = language::name(&transcript.language).unwrap_or(&transcript.language);
    let words = transcript.segments.iter().filter_map(|segment| segment.words.as_ref());
    let words: Vec<VerboseWord> = words.flatten().map(VerboseWord::of).collect();
    file(&Verbose {
        task: if transcript.translated { "translate" } else { "transcribe" },
        // OpenAI names the language of the text, not that of the recording.
        language: if transcript.translated { "english" } else { spoken },
        duration: seconds(transcript.duration_ms),
        text: transcript.text(),
        segments: transcript.segments.iter().enumerate().map(VerboseSegment::of).collect(),
        words: transcript.segments.iter().any(|segment| segment.words.is_some()).then_some(words),
    })
}

#[derive(Serialize)]
struct Plain<'a> {
    text: String,
    language: &'a str,
    duration: f64,
    segments: Vec<PlainSegment>,
}

#[derive(Serialize)]
struct PlainSegment {
    id: usize,
    start: f64,
    end: f64,
    text: String,
}

#[derive(Serialize)]
struct Verbose<'a> {
    task: &'static str,
    language: &'a str,
    duration: f64,
    text: String,
    segments: Vec<VerboseSegment<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Vec<VerboseWord<'a>>>,
}

#[derive(Serialize)]
struct VerboseSegment<'a> {
    id: usize,
    /// In 10 ms frames, as Whisper counts.
    seek: i64,
    start: f64,
    end: f64,
    text: &'a str,
    tokens: &'a [i32],
    temperature: f32,
    avg_logprob: f32,
    compression_ratio: f32,
    no_speech_prob: f32,
}

impl<'a> VerboseSegment<'a> {
    fn of((id, segment): (usize, &'a Segment)) -> Self {
        Self {
            id,
            seek: segment.seek_ms / 10,
            start: seconds(segment.start_ms),
            end: seconds(segment.end_ms),
            text: segment.text.trim(),
            tokens: &segment.tokens,
            temperature: segment.temperature,
            avg_logprob: segment.avg_logprob,
            compression_ratio: segment.compression_ratio,
            no_speech_prob: segment.no_speech_prob,
        }
    }
}

#[derive(Serialize)]
struct VerboseWord<'a> {
    word: &'a str,
    start: f64,
    end: f64,
}

impl<'a> VerboseWord<'a> {
    fn of(word: &'a Word) -> Self {
        Self { word: word.word.trim(), start: seconds(word.start_ms), end: seconds(word.end_ms) }
    }
}

/// The nearest double to a whole number of milliseconds prints with at most three decimals.
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

fn file(shape: &impl Serialize) -> String {
    // Only maps with odd keys and serializers of one's own can fail, and the shapes here have neither.
    serde_json::to_string(shape).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(words: Option<Vec<Word>>) -> Transcript {
        let segment = Segment {
            start_ms: 28_000,
            end_ms: 29_230,
            text: " Drive \"safely\".".to_owned(),
            seek_ms: 28_000,
            tokens: vec![50_364, 9097],
            temperature: 0.2,
            avg_logprob: -0.25,
            compression_ratio: 0.9,
            no_speech_prob: 0.01,
            speech_prob: None,
            words,
        };
        Transcript {
            language: "de".to_owned(),
            language_probability: Some(0.9),
            duration_ms: 29_999,
            segments: vec![segment],
            translated: false,
        }
    }

    #[test]
    fn the_plain_file_has_text_language_duration_and_segments() {
        let file = r#"{"text":"Drive \"safely\".","language":"de","duration":29.999,"#.to_owned()
            + r#""segments":[{"id":0,"start":28.0,"end":29.23,"text":"Drive \"safely\"."}]}"#
            + "\n";
        assert_eq!(plain(&transcript(None)), file);
    }

    #[test]
    fn the_verbose_file_has_the_ten_segment_fields_of_openai() {
        let file = r#"{"task":"transcribe","language":"german","duration":29.999,"text":"Drive \"safely\".","#
            .to_owned()
            + r#""segments":[{"id":0,"seek":2800,"start":28.0,"end":29.23,"text":"Drive \"safely\".","#
            + r#""tokens":[50364,9097],"temperature":0.2,"avg_logprob":-0.25,"compression_ratio":0.9,"#
            + r#""no_speech_prob":0.01}]}"#
            + "\n";
        assert_eq!(verbose(&transcript(None)), file);
    }

    #[test]
    fn words_are_listed_beside_the_segments_when_there_are_any() {
        let word = Word { word: " Drive".to_owned(), start_ms: 28_000, end_ms: 28_310, probability: 0.9 };
        let file = verbose(&transcript(Some(vec![word])));
        assert!(file.ends_with("],\"words\":[{\"word\":\"Drive\",\"start\":28.0,\"end\":28.31}]}\n"), "{file}");
    }

    #[test]
    fn a_translation_is_english_whatever_was_spoken() {
        let file = verbose(&Transcript { translated: true, ..transcript(None) });
        assert!(file.starts_with(r#"{"task":"translate","language":"english","#), "{file}");
    }
}
