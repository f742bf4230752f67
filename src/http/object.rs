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

/// The members of an object as they stand in the body.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

/// The audio, and what else the object holds.
pub(super) fn parse(body: &[u8]) -> Result<(Bytes, Map<String, Value>)> {
    let members: Result<Members<'_>, _> = serde_json::from_slice(body);
    let not_json = |error| Refusal::bad_request("invalid_json", format!("the body is not a JSON object: {error}"));
    let Members(mut members) = members.map_err(not_json)?;
    if members.contains_key("audio") {
        let message = "audio by address is not taken yet: send the recording as a file in a form, or as audio_base64";
        return Err(Refusal::bad_request("unsupported_source", message));
    }
    let Some(audio) = members.remove("audio_base64") else {
        return Err(Refusal::bad_request("file_missing", "the object has no audio_base64: put the recording there"));
    };
    let options = members.into_iter().map(|(name, value)| {
        if value.get().len() > MAX_FIELD_BYTES {
            let message = format!("{name} is longer than {MAX_FIELD_BYTES} bytes");
            return Err(Refusal::bad_request("invalid_option", message));
        }
        Ok((name, serde_json::from_str(value.get()).map_err(not_json)?))
    });
    let options = options.collect::<Result<_>>()?;
    Ok((decode(audio.get())?, options))
}

/// `audio` is a value of JSON.
fn decode(audio: &str) -> Result<Bytes> {
    let wrong = || Refusal::bad_request("invalid_base64", "audio_base64 is not base64 text (RFC 4648, with padding)");
    let text: String = serde_json::from_str(audio).map_err(|_| wrong())?;
    let text = text.split_once(";base64,").map_or(text.as_str(), |(_, data)| data);
    Ok(STANDARD.decode(text.trim()).map_err(|_| wrong())?.into())
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
        format!("{:?}", parse(body.as_bytes()).expect_err(body))
    }

    #[test]
    fn the_audio_and_the_options_come_apart() {
        let (audio, options) = parse(br#"{"beam_size": 5, "audio_base64": "data:audio/wav;base64,aGk="}"#).unwrap();
        assert_eq!((&audio[..], options["beam_size"].as_i64()), (&b"hi"[..], Some(5)));
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
