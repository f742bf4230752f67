//! What a user asks for and what becomes of it: options, states, a job as every front door shows it. Pure data and
//! rules; how a job is stored is `queue`'s business.

pub mod language;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// whisper.cpp has room for this many decoders side by side.
const MAX_DECODERS: u32 = 8;
/// The engine keeps at most 224 tokens of a prompt; this is far more text than that.
const MAX_PROMPT_BYTES: usize = 8 * 1024;
const MAX_METADATA_BYTES: usize = 64 * 1024;
const MAX_PRIORITY: i32 = 10;
/// Options whose text is meant as it is, even where it looks like a number.
const TEXTS: [&str; 4] = ["model", "language", "prompt", "metadata"];

/// The options of a job, under the same names at every front door. What is not given keeps the engine's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A code such as `en`; absent: detected from the first speech.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Write English, whatever is spoken: a second pass over every chunk; what was spoken is kept beside it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub translate: bool,
    /// Names and style to expect, given to the model before every chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// 0 to 1; the first temperature tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// 0 to 1; added at each retry of a doubtful passage, 0 for no retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_inc: Option<f32>,
    /// 1 to 8; absent: greedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beam_size: Option<u32>,
    /// 1 to 8 candidates at temperatures above 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_of: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub word_timestamps: bool,
    /// Leave out what holds no speech; absent: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vad: Option<bool>,
    /// Transcribe one chunk after the other, each with the text before it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub condition_on_previous_text: bool,
    /// 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_speech_threshold: Option<f32>,
    /// Mean log probability of a token below which a passage is tried again; at most 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprob_threshold: Option<f32>,
    /// Above it a passage repeats itself and is tried again; more than 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression_ratio_threshold: Option<f32>,
    /// -10 to 10, higher first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How long the job may wait for its first worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// How long it may run from its first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_timeout_seconds: Option<u64>,
    /// The user's own JSON, returned as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
}

impl Options {
    /// Reads options that come one by one under their names; numbers and truth values may be text, as forms send them.
    ///
    /// # Errors
    /// `Config` that names the option and what is wrong with it.
    pub fn from_fields(fields: Map<String, Value>) -> Result<Self> {
        let mut known = Map::new();
        for (name, value) in fields {
            let value = if TEXTS.contains(&name.as_str()) { value } else { untexted(value) };
            let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
            serde_json::from_value::<Self>(alone).map_err(|error| wrong_field(&name, &error))?;
            known.insert(name, value);
        }
        serde_json::from_value(Value::Object(known)).map_err(|error| Error::Config(error.to_string()))
    }

    /// Checks every value and brings the language to its code.
    ///
    /// # Errors
    /// `Config` that names the option, its value and what is allowed.
    pub fn validate(mut self) -> Result<Self> {
        let unit = |v: f32| (0.0..=1.0).contains(&v);
        check("temperature", self.temperature, unit, "a number from 0 to 1")?;
        check("temperature_inc", self.temperature_inc, unit, "a number from 0 to 1")?;
        check("no_speech_threshold", self.no_speech_threshold, unit, "a number from 0 to 1")?;
        check("logprob_threshold", self.logprob_threshold, |v| v <= 0.0, "a number of at most 0")?;
        check("compression_ratio_threshold", self.compression_ratio_threshold, |v| v > 1.0, "a number above 1")?;
        let decoders = |v: u32| (1..=MAX_DECODERS).contains(&v);
        check("beam_size", self.beam_size, decoders, "a whole number from 1 to 8")?;
        check("best_of", self.best_of, decoders, "a whole number from 1 to 8")?;
        check("priority", self.priority, |v| v.abs() <= MAX_PRIORITY, "a whole number from -10 to 10")?;
        check("ttl_seconds", self.ttl_seconds, seconds, "1 to 31536000")?;
        check("execution_timeout_seconds", self.execution_timeout_seconds, seconds, "1 to 31536000")?;
        if let Some(language) = &self.language {
            self.language = parse_language(language)?;
        }
        if self.prompt.as_ref().is_some_and(|prompt| prompt.len() > MAX_PROMPT_BYTES || prompt.contains('\0')) {
            return Err(Error::Config(format!("prompt: allowed is text of at most {MAX_PROMPT_BYTES} bytes")));
        }
        if self.metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > MAX_METADATA_BYTES) {
            return Err(Error::Config(format!("metadata: allowed is JSON of at most {MAX_METADATA_BYTES} bytes")));
        }
        Ok(self)
    }

    /// Whether stretches without speech are left out.
    pub fn skips_silence(&self) -> bool {
        self.vad.unwrap_or(true)
    }

    /// What was asked for that the engine cannot do as asked, in words for the user.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.beam_size.is_some() && self.best_of.is_some() {
            warnings.push("best_of has no effect beside beam_size: a passage tried again is sampled once".to_owned());
        }
        warnings
    }
}

/// What a form's text stands for, where it stands for anything else. An empty one is no value.
fn untexted(value: Value) -> Value {
    match value {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    }
}

fn wrong_field(name: &str, error: &serde_json::Error) -> Error {
    let text = error.to_string();
    if text.starts_with("unknown field") {
        return Error::Config(format!("there is no option {name}: leave it out or correct its name"));
    }
    Error::Config(format!("{name} is not understood: {text}"))
}

/// A year: longer waits are typing errors.
fn seconds(value: u64) -> bool {
    (1..=31_536_000).contains(&value)
}

fn check<T: Copy + std::fmt::Display>(
    name: &str,
    value: Option<T>,
    allowed: impl Fn(T) -> bool,
    text: &str,
) -> Result<()> {
    match value {
        Some(value) if !allowed(value) => {
            Err(Error::Config(format!("{name}={value} is not understood: allowed is {text}")))
        }
        _ => Ok(()),
    }
}

/// `auto` is the same as no language.
fn parse_language(text: &str) -> Result<Option<String>> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    language::parse(text).map(|code| Some(code.to_owned())).ok_or_else(|| {
        Error::Config(format!(
            "language={text} is not understood: allowed is auto, a code such as en, or a name such as english"
        ))
    })
}

/// Where a job stands. The last four are terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

impl JobState {
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Cancelled, Self::TimedOut];

    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }

    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

impl std::str::FromStr for JobState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
            Error::Config(format!(
                "status={text} is not understood: allowed is {}",
                Self::ALL.map(Self::name).join(", ")
            ))
        })
    }
}

impl std::fmt::Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Which way a job came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontDoor {
    Cli,
    Http,
}

impl FrontDoor {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Http => "http",
        }
    }
}

/// A job about to be queued.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// From `queue::new_id`.
    pub id: String,
    /// The submitter's own name for it: a second submit under the same one gives the first job.
    pub idempotency_key: Option<String>,
    pub front_door: FrontDoor,
    /// What may be shown of where the audio is.
    pub source: String,
    /// Changes when the audio behind `source` does.
    pub source_version: Option<String>,
    /// Absent where only fetching it will tell.
    pub source_bytes: Option<u64>,
    /// The canonical name of the model that is to run it.
    pub model: String,
    /// Known beforehand, by the user or because the model speaks only one.
    pub language: Option<String>,
    pub options: Options,
    /// The process that keeps the job to itself.
    pub owner: Option<String>,
}

/// Why a job did not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// For programs; stable.
    pub code: String,
    /// For people; says what to do where something can be done.
    pub message: String,
}

/// A job as every front door shows it, and as a client of one reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    pub status: JobState,
    /// 0 to 1.
    pub progress: f64,
    #[serde(default)]
    pub source: String,
    /// RFC 3339, UTC, as the other times.
    pub created_at: String,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    /// From submit to the first chunk.
    pub delay_time_ms: Option<i64>,
    /// From the first chunk to the end, or so far.
    pub execution_time_ms: Option<i64>,
    pub audio_seconds: Option<f64>,
    pub language: Option<String>,
    pub model: String,
    /// How often work on it was begun.
    pub attempts: i64,
    pub worker_ids: Vec<String>,
    pub error: Option<JobError>,
    pub warnings: Vec<String>,
    pub metadata: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Options> {
        let options: Options = serde_json::from_str(json).map_err(|error| Error::Config(error.to_string()))?;
        options.validate()
    }

    #[test]
    fn an_unknown_option_is_refused_by_name() {
        assert!(parse(r#"{"langauge": "en"}"#).expect_err("typo").to_string().contains("langauge"));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_what_is_allowed() {
        for (json, allowed) in [
            (r#"{"temperature": 1.5}"#, "temperature=1.5 is not understood: allowed is a number from 0 to 1"),
            (r#"{"beam_size": 9}"#, "from 1 to 8"),
            (r#"{"best_of": 0}"#, "from 1 to 8"),
            (r#"{"priority": -11}"#, "from -10 to 10"),
            (r#"{"language": "klingon"}"#, "allowed is auto"),
            (r#"{"logprob_threshold": 0.5}"#, "at most 0"),
            (r#"{"compression_ratio_threshold": 1}"#, "above 1"),
            (r#"{"ttl_seconds": 0}"#, "1 to"),
            (r#"{"no_speech_threshold": -0.1}"#, "from 0 to 1"),
        ] {
            let refusal = parse(json).expect_err(json).to_string();
            assert!(refusal.contains(allowed), "{json}: {refusal}");
        }
    }

    #[test]
    fn languages_come_by_code_or_name_and_auto_means_none() {
        assert_eq!(parse(r#"{"language": "English"}"#).unwrap().language.as_deref(), Some("en"));
        assert_eq!(parse(r#"{"language": "auto"}"#).unwrap().language, None);
    }

    #[test]
    fn a_form_sends_numbers_and_truth_values_as_text() {
        let fields = r#"{"beam_size": "3", "vad": "false", "prompt": "42", "metadata": "{\"a\": 1}", "best_of": "",
            "temperature": 0.5, "translate": "true"}"#;
        let options = Options::from_fields(serde_json::from_str(fields).unwrap()).unwrap();
        assert_eq!((options.beam_size, options.vad, options.best_of), (Some(3), Some(false), None));
        assert_eq!((options.temperature, options.prompt.as_deref()), (Some(0.5), Some("42")));
        assert!(options.translate && options.metadata.unwrap() == "{\"a\": 1}", "metadata stays as it came");
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        for (fields, message) in [
            (r#"{"beam": "3"}"#, "there is no option beam"),
            (r#"{"beam_size": "many"}"#, "beam_size is not understood: invalid type: string"),
            (r#"{"vad": [1]}"#, "vad is not understood"),
        ] {
            let error = Options::from_fields(serde_json::from_str(fields).unwrap()).expect_err(fields).to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn options_survive_the_way_through_the_database() {
        let options = parse(r#"{"beam_size": 3, "word_timestamps": true, "metadata": {"a": [1]}}"#).unwrap();
        let text = serde_json::to_string(&options).unwrap();
        assert_eq!(text, r#"{"beam_size":3,"word_timestamps":true,"metadata":{"a":[1]}}"#);
        assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options);
    }
}
