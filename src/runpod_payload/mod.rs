//! What RunPod's users send and get: the `input` of a job, with every key that worker-faster_whisper takes, and its `output`,
//! with every field that it gives. How they travel is the front doors' business.

mod output;
mod post;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::job::{Options, RunpodTexts, TextFormat};
pub use output::{Spoken, Timings, output, status, told};
pub use post::{Failure, INIT_FAILED, answer, failed, progress};

/// The names that the incumbent has for options of ours.
const NAMES: [(&str, &str); 3] =
    [("initial_prompt", "prompt"), ("temperature_increment_on_fallback", "temperature_inc"), ("enable_vad", "vad")];
/// The most decoders that the engine runs side by side; the incumbent takes any number.
const MAX_DECODERS: i64 = 8;
const TEXTS: [&str; 2] = ["transcription", "translation"];

/// Where the audio of a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audio {
    Address(String),
    /// With or without `data:` before it.
    Base64(String),
}

/// An `input`, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub audio: Audio,
    pub options: Options,
    /// The model that was asked for; another than the served one is no error here.
    pub model: Option<String>,
}

impl Input {
    /// Reads an `input`. What cannot be followed becomes a warning of the job, never a refusal: users bring what worked
    /// elsewhere.
    ///
    /// # Errors
    /// `Config` without audio, or with a value that is no value of its key.
    pub fn parse(input: Value) -> Result<Self> {
        let Value::Object(input) = input else {
            return Err(Error::Config("input is no object: send {\"input\": {\"audio\": \"https://…\"}}".to_owned()));
        };
        let mut fields: Map<String, Value> = input.into_iter().filter(|(_, value)| !value.is_null()).collect();
        let audio = audio(fields.remove("audio"), fields.remove("audio_base64"))?;
        let model = fields.remove("model").and_then(|model| model.as_str().map(str::to_owned));
        let mut texts = RunpodTexts::default();
        for (name, format) in TEXTS.into_iter().zip([&mut texts.transcription, &mut texts.translation]) {
            if let Some(wanted) = fields.remove(name) {
                *format = text_format(name, &wanted, &mut texts.warnings);
            }
        }
        texts.refresh_worker = fields.remove("refresh_worker").is_some_and(|wanted| wanted == true);
        texts.streaming = fields.remove("streaming").is_some_and(|wanted| wanted == true);
        let options = Options::from_fields(renamed(fields, &mut texts.warnings))?.validate()?;
        Ok(Self { audio, options: Options { runpod: Some(texts), ..options }, model })
    }
}

fn audio(address: Option<Value>, base64: Option<Value>) -> Result<Audio> {
    let text = |name: &str, value: Value| match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text),
        _ => Err(Error::Config(format!("{name} is no text"))),
    };
    match (address, base64) {
        (Some(address), None) => {
            let address = text("audio", address)?;
            let is_data = address.trim_start().starts_with("data:");
            Ok(if is_data { Audio::Base64(address) } else { Audio::Address(address) })
        }
        (None, Some(base64)) => Ok(Audio::Base64(text("audio_base64", base64)?)),
        (Some(_), Some(_)) => Err(Error::Config("input has both audio and audio_base64: send one of them".to_owned())),
        (None, None) => {
            Err(Error::Config("input has neither audio (an address) nor audio_base64: send one of them".to_owned()))
        }
    }
}

/// The incumbent takes any other text for plain text, and its own examples have such.
fn text_format(name: &str, wanted: &Value, warnings: &mut Vec<String>) -> TextFormat {
    serde_json::from_value(wanted.clone()).unwrap_or_else(|_| {
        warnings.push(format!("{name}={wanted} is not known: plain_text, formatted_text, srt and vtt are"));
        TextFormat::PlainText
    })
}

/// The options under our names; what we have no option for is left out.
fn renamed(fields: Map<String, Value>, warnings: &mut Vec<String>) -> Map<String, Value> {
    let mut options = Map::new();
    for (name, value) in fields {
        let ours = NAMES.iter().find(|(theirs, _)| *theirs == name).map_or(name.as_str(), |(_, ours)| ours);
        if !Options::has(ours) {
            warnings.push(format!("{name} is not supported here and was ignored"));
            continue;
        }
        let value = match value.as_i64() {
            Some(number) if ["beam_size", "best_of"].contains(&ours) && number > MAX_DECODERS => {
                warnings.push(format!("{name}={number} is more than the engine can do: {MAX_DECODERS} was used"));
                MAX_DECODERS.into()
            }
            _ => value,
        };
        options.insert(ours.to_owned(), value);
    }
    options
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_key_of_the_incumbent_is_taken_and_what_cannot_be_followed_is_a_warning() {
        let input = Input::parse(json!({
            "audio": "https://example.org/a.wav", "audio_base64": null, "model": "base", "transcription": "srt",
            "translate": true, "translation": "plain text", "language": "en", "temperature": 0, "best_of": 5, "beam_size": 10,
            "patience": 1.0, "length_penalty": 0, "suppress_tokens": "-1", "initial_prompt": "Grete",
            "condition_on_previous_text": true, "temperature_increment_on_fallback": 0.2, "compression_ratio_threshold": 2.4,
            "logprob_threshold": -1.0, "no_speech_threshold": 0.6, "enable_vad": false, "word_timestamps": true,
        }))
        .unwrap();
        assert_eq!(input.audio, Audio::Address("https://example.org/a.wav".to_owned()));
        assert_eq!(input.model.as_deref(), Some("base"));
        let options = &input.options;
        assert_eq!(
            (options.prompt.as_deref(), options.temperature_inc, options.vad),
            (Some("Grete"), Some(0.2), Some(false))
        );
        assert_eq!((options.beam_size, options.best_of), (Some(8), Some(5)));
        let texts = options.runpod.as_ref().unwrap();
        assert_eq!((texts.transcription, texts.translation), (TextFormat::Srt, TextFormat::PlainText));
        for name in ["patience", "length_penalty", "suppress_tokens", "translation", "beam_size"] {
            assert!(texts.warnings.iter().any(|warning| warning.starts_with(name)), "{name}: {:?}", texts.warnings);
        }
        assert_eq!(texts.warnings.len(), 5);
    }

    #[test]
    fn absent_keys_are_at_our_defaults_and_our_own_options_are_taken() {
        let input = Input::parse(json!({"audio_base64": "aGk=", "priority": 3, "metadata": {"a": 1}})).unwrap();
        let expected = Options {
            priority: Some(3),
            metadata: Some(json!({"a": 1})),
            runpod: Some(RunpodTexts::default()),
            ..Options::default()
        };
        assert_eq!((input.audio, input.options), (Audio::Base64("aGk=".to_owned()), expected));
    }

    #[test]
    fn what_makes_no_job_is_refused_with_what_to_send() {
        for (input, says) in [
            (json!("audio"), "no object"),
            (json!({}), "neither audio"),
            (json!({"audio": "a", "audio_base64": "b"}), "both audio"),
            (json!({"audio": 7}), "audio is no text"),
            (json!({"audio": "s3://a/b", "beam_size": "many"}), "beam_size"),
            (json!({"audio": "s3://a/b", "language": "klingon"}), "klingon"),
        ] {
            let error = Input::parse(input).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
