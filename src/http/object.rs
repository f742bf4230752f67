//! A job in JSON: the audio and its options, read without building anything of what will be refused.

use std::collections::BTreeMap;
use std::fmt;

use axum::body::Bytes;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::error::{Refusal, Result};
use super::upload::{MAX_FIELD_BYTES, MAX_FIELDS};
use crate::storage::S3Config;

/// The members of an object as they stand in the body.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

/// What a job in JSON says.
pub(super) struct Request {
    pub(super) audio: Audio,
    pub(super) options: Map<String, Value>,
    /// Of the user's own bucket.
    pub(super) keys: Option<S3Config>,
}

#[derive(Debug, PartialEq)]
pub(super) enum Audio {
    Bytes(Bytes),
    /// Where to fetch it.
    Address(String),
}

/// Takes the object apart.
pub(super) fn parse(body: &[u8]) -> Result<Request> {
    let members: Result<Members<'_>, _> = serde_json::from_slice(body);
    let not_json = |error| Refusal::bad_request("invalid_json", format!("the body is not a JSON object: {error}"));
    let Members(mut members) = members.map_err(not_json)?;
    let (address, audio) = (members.remove("audio"), members.remove("audio_base64"));
    let keys = members.remove("s3Config").map(|keys| serde_json::from_str(keys.get())).transpose();
    let keys = keys.map_err(|_| {
        let message =
            "s3Config is not understood: allowed are accessId, accessSecret, bucketName and endpointUrl, all text";
        Refusal::bad_request("invalid_option", message)
    })?;
    let options = members.into_iter().map(|(name, value)| {
        if value.get().len() > MAX_FIELD_BYTES {
            let message = format!("{name} is longer than {MAX_FIELD_BYTES} bytes");
            return Err(Refusal::bad_request("invalid_option", message));
        }
        Ok((name, serde_json::from_str(value.get()).map_err(not_json)?))
    });
    let options = options.collect::<Result<_>>()?;
    let audio = match (address, audio) {
        (Some(address), None) => audio_at(address.get())?,
        (None, Some(audio)) => Audio::Bytes(decode(audio.get())?),
        (Some(_), Some(_)) => {
            return Err(Refusal::bad_request("one_file_only", "the object has both audio and audio_base64: send one"));
        }
        (None, None) => {
            let message = "the object has neither audio (an s3:// or https:// address) nor audio_base64";
            return Err(Refusal::bad_request("file_missing", message));
        }
    };
    Ok(Request { audio, options, keys })
}

/// An address, or the recording itself as an address with data in it.
fn audio_at(audio: &str) -> Result<Audio> {
    let text: Option<String> = serde_json::from_str(audio).ok();
    match text.filter(|text| !text.trim().is_empty()) {
        Some(text) if text.trim_start().starts_with("data:") => Ok(Audio::Bytes(decode(audio)?)),
        Some(text) => Ok(Audio::Address(text)),
        None => {
            let message =
                "audio is no address: allowed is text such as s3://bucket/talk.mp3 or https://example.org/talk.mp3";
            Err(Refusal::bad_request("invalid_option", message))
        }
    }
}

/// `audio` is a value of JSON.
fn decode(audio: &str) -> Result<Bytes> {
    let text: String = serde_json::from_str(audio).map_err(|_| wrong())?;
    decode_text(&text)
}

/// The same of the text itself.
pub(super) fn decode_text(text: &str) -> Result<Bytes> {
    let text = text.split_once(";base64,").map_or(text, |(_, data)| data);
    Ok(STANDARD.decode(text.trim()).map_err(|_| wrong())?.into())
}

fn wrong() -> Refusal {
    Refusal::bad_request("invalid_base64", "audio_base64 is not base64 text (RFC 4648, with padding)")
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(object: D) -> Result<Self, D::Error> {
        object.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = object.next_entry::<String, &RawValue>()? {
            if members.len() == MAX_FIELDS {
                return Err(Error::custom(format!("it has more than {MAX_FIELDS} members")));
            }
            if members.contains_key(&name) {
                return Err(Error::custom(format!("{name} is given twice")));
            }
            members.insert(name, value);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        format!("{:?}", parse(body.as_bytes()).err().expect(body))
    }

    #[test]
    fn the_audio_and_the_options_come_apart() {
        for member in ["audio_base64", "audio"] {
            let body = format!(r#"{{"beam_size": 5, "{member}": "data:audio/wav;base64,aGk="}}"#);
            let request = parse(body.as_bytes()).ok().unwrap();
            assert_eq!((request.audio, request.options["beam_size"].as_i64()), (Audio::Bytes("hi".into()), Some(5)));
        }
        let request = parse(br#"{"audio": "s3://talks/a.mp3"}"#).ok().unwrap();
        assert_eq!((request.audio, request.keys.is_none()), (Audio::Address("s3://talks/a.mp3".to_owned()), true));
    }

    #[test]
    fn the_keys_to_a_bucket_are_no_option() {
        let keys = r#"{"accessId": "a", "accessSecret": "b", "bucketName": "c", "endpointUrl": "https://s3.example"}"#;
        let request = parse(format!(r#"{{"audio": "s3://c/d", "s3Config": {keys}}}"#).as_bytes()).ok().unwrap();
        assert!(request.options.is_empty() && request.keys.unwrap().endpoint_url == "https://s3.example");
        let error = refusal(r#"{"audio": "s3://c/d", "s3Config": {"accessSecret": "hidden"}}"#);
        assert!(error.contains("accessId") && !error.contains("hidden"), "{error}");
    }

    #[test]
    fn an_object_with_more_than_a_job_needs_is_refused_before_it_is_built() {
        let many: Vec<String> = (0..=MAX_FIELDS).map(|n| format!("\"o{n}\": 0")).collect();
        assert!(refusal(&format!("{{{}}}", many.join(","))).contains("more than 64 members"));
        assert!(refusal(r#"{"audio_base64": "aGk=", "audio_base64": "aGk="}"#).contains("given twice"));
        let long = format!(r#"{{"audio_base64": "aGk=", "metadata": [{}0]}}"#, "0,".repeat(MAX_FIELD_BYTES));
        assert!(refusal(&long).contains("metadata is longer than 131072 bytes"));
    }
}
