//! What the engine makes and what users read: words, segments, a whole transcript, and the `Transcriber` seam at the
//! GPU. Pure data: where transcripts are kept is `queue`, how they are written is `format`.

mod format;
pub mod language;

pub use format::Format;

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
    /// Present where word timestamps were asked for.
    pub words: Option<Vec<Word>>,
}

/// A finished recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// ISO 639-1 code, such as `en`.
    pub language: String,
    pub duration_ms: i64,
    /// In order of time.
    pub segments: Vec<Segment>,
    /// Whether the text was translated into English.
    pub translated: bool,
}

impl Transcript {
    /// The whole text on one line.
    pub fn text(&self) -> String {
        let texts: Vec<&str> =
            self.segments.iter().map(|segment| segment.text.trim()).filter(|text| !text.is_empty()).collect();
        texts.join(" ")
    }
}
