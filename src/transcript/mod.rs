//! What the engine makes and what users read: words, segments, a whole transcript, and the `Transcriber` seam at the
//! GPU. Pure data: where transcripts are kept is `queue`, how they are written is `format`.

mod format;
mod json;
mod transcriber;

pub use format::{Format, UnknownFormat};
pub use transcriber::{ChunkRequest, ChunkText, Control, Transcriber};

use serde::{Deserialize, Serialize};

/// One spoken word; times in milliseconds from the start of the recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    pub word: String,
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0 to 1.
    pub probability: f32,
}

/// A stretch of speech with its text; times in milliseconds from the start of the recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    pub start_ms: i64,
    pub end_ms: i64,
    pub text: String,
    /// Where the chunk that it came from starts, in milliseconds.
    pub seek_ms: i64,
    /// Whisper's text token ids, special tokens left out.
    pub tokens: Vec<i32>,
    /// The sampling temperature that the accepted text was decoded at.
    pub temperature: f32,
    /// Mean natural-log probability of the tokens.
    pub avg_logprob: f32,
    /// Length of the text over its zlib-compressed length: above about 2.4 it repeats itself.
    pub compression_ratio: f32,
    /// 0 to 1.
    pub no_speech_prob: f32,
    /// 0 to 1, by the voice activity detector; absent where it was not asked.
    pub speech_prob: Option<f32>,
    /// Present where word timestamps were asked for.
    pub words: Option<Vec<Word>>,
}

/// A finished recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// ISO 639-1 code, such as `en`.
    pub language: String,
    /// How sure the engine was of it, 0 to 1; absent where the language was given.
    pub language_probability: Option<f32>,
    pub duration_ms: i64,
    /// In order of time.
    pub segments: Vec<Segment>,
    /// Whether the text was translated into English.
    pub translated: bool,
}

impl Transcript {
    /// The whole text on one line. Segments bring their own spaces where their script has any; between those that came
    /// from different calls of the engine one may be missing.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for segment in &self.segments {
            if let (Some(left), Some(right)) = (text.chars().last(), segment.text.chars().next())
                && [left, right].iter().all(|end| end.is_ascii() && !end.is_whitespace())
            {
                text.push(' ');
            }
            text.push_str(&segment.text);
        }
        text.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(segments: &[&str]) -> String {
        let segment = |text: &&str| Segment {
            start_ms: 0,
            end_ms: 0,
            text: (*text).to_owned(),
            seek_ms: 0,
            tokens: Vec::new(),
            temperature: 0.0,
            avg_logprob: 0.0,
            compression_ratio: 0.0,
            no_speech_prob: 0.0,
            speech_prob: None,
            words: None,
        };
        let segments = segments.iter().map(segment).collect();
        let language = "en".to_owned();
        Transcript { language, language_probability: None, duration_ms: 0, segments, translated: false }.text()
    }

    #[test]
    fn segments_join_with_one_space_where_the_script_has_spaces() {
        assert_eq!(text(&[" And so,", " my fellow"]), "And so, my fellow");
        assert_eq!(text(&[" One.", "Two."]), "One. Two.");
        assert_eq!(text(&["日本", "語"]), "日本語");
        assert_eq!(text(&[]), "");
    }
}
