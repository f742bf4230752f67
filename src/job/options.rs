//! The options of a job: their names, what they allow, and how they come as text.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::language;
use crate::error::{Error, Result};

/// whisper.cpp has room for this many decoders side by side.
const MAX_DECODERS: u32 = 8;
/// The engine keeps at most 224 tokens of a prompt; this is far more text than that.
const MAX_PROMPT_BYTES: usize = 8 * 1024;
const MAX_METADATA_BYTES: usize = 64 * 1024;
const MAX_PRIORITY: i32 = 10;
/// Written here and not by users.
const INTERNAL: [&str; 3] = ["sealed", "audio_digest", "runpod"];
/// Options whose text is meant as it is, even where it looks like a number.
const TEXTS: [&str; 6] = ["model", "language", "prompt", "metadata", "webhook", "output_uri"];

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
    /// Told by POST when the job has ended. In the database without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Where the transcript goes: `s3://bucket/prefix`, or an address that takes one file by PUT, without its query in the
    /// database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_uri: Option<String>,
    /// What is written there beside the JSON.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "names")]
    pub output_formats: Vec<String>,
    /// The user's own JSON, returned as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// No option of anyone's: which secrets belong to the job, so that nothing is done without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<String>,
    /// Nor this: what tells the whole address of the audio from others with the same open part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_digest: Option<String>,
    /// And this: what a job needs to know that came in RunPod's shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runpod: Option<RunpodTexts>,
}

/// How RunPod's users get the texts of a job, and what of their input it could not follow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunpodTexts {
    pub transcription: TextFormat,
    pub translation: TextFormat,
    pub warnings: Vec<String>,
    /// RunPod's queue gave the job to this worker and waits for its result.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_queue: bool,
    /// The worker is to be replaced after this job.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refresh_worker: bool,
    /// Segments are sent as they come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub streaming: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextFormat {
    /// Segments with a blank between them.
    #[default]
    PlainText,
    /// A segment a line.
    FormattedText,
    Srt,
    Vtt,
}

impl Options {
    /// Reads options that come one by one under their names; numbers and truth values may be text, as forms send them.
    ///
    /// # Errors
    /// `Config` that names the option and what is wrong with it.
    pub fn from_fields(fields: Map<String, Value>) -> Result<Self> {
        let mut known = Map::new();
        for (name, value) in fields {
            if INTERNAL.contains(&name.as_str()) {
                return Err(no_such_option(&name));
            }
            let value = if TEXTS.contains(&name.as_str()) { value } else { untexted(value) };
            let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
            serde_json::from_value::<Self>(alone).map_err(|error| wrong_field(&name, &error))?;
            known.insert(name, value);
        }
        serde_json::from_value(Value::Object(known)).map_err(|error| Error::Config(error.to_string()))
    }

    /// Whether there is an option of this name.
    pub fn has(name: &str) -> bool {
        let alone = Value::Object(Map::from_iter([(name.to_owned(), Value::Null)]));
        let refused = serde_json::from_value::<Self>(alone).err().map(|error| error.to_string());
        !INTERNAL.contains(&name) && !refused.is_some_and(|error| error.starts_with("unknown field"))
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
        let mut warnings = self.runpod.as_ref().map(|texts| texts.warnings.clone()).unwrap_or_default();
        if self.beam_size.is_some() && self.best_of.is_some() {
            warnings.push("best_of has no effect beside beam_size: a passage tried again is sampled once".to_owned());
        }
        warnings
    }
}

/// A list, or text with commas in it, as forms send it.
fn names<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "allowed is a list such as [\"srt\", \"vtt\"]")]
    enum Names {
        List(Vec<String>),
        Text(String),
        None,
    }
    Ok(match Names::deserialize(value)? {
        Names::List(names) => names,
        Names::Text(text) => {
            text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
        }
        Names::None => Vec::new(),
    })
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
        return no_such_option(name);
    }
    Error::Config(format!("{name} is not understood: {text}"))
}

fn no_such_option(name: &str) -> Error {
    Error::Config(format!("there is no option {name}: leave it out or correct its name"))
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
    fn an_option_is_known_by_its_name() {
        assert!(Options::has("beam_size") && Options::has("word_timestamps") && Options::has("output_formats"));
        assert!(!Options::has("patience") && !Options::has("runpod"));
        let fields = serde_json::from_str(r#"{"runpod": {}}"#).unwrap();
        assert!(Options::from_fields(fields).expect_err("not theirs").to_string().contains("no option runpod"));
    }

    #[test]
    fn a_field_that_is_wrong_is_named() {
        for (fields, message) in [
            (r#"{"beam": "3"}"#, "there is no option beam"),
            (r#"{"sealed": []}"#, "there is no option sealed"),
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
