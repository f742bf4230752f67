//! What a webhook says and how it is signed, as Standard Webhooks (standardwebhooks.com) has it.

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::error::{Error, Result};
use crate::job::Job;
use crate::transcript::{Format, Transcript};

const PREFIX: &str = "whsec_";
/// What the specification allows.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// A longer transcript is fetched by its receiver: many refuse long messages.
const MAX_TRANSCRIPT_BYTES: usize = 1024 * 1024;

/// The key that webhooks are signed with.
#[derive(Clone)]
pub struct Signer {
    key: Vec<u8>,
}

impl Signer {
    /// Reads `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    /// `Config`, without the value.
    pub fn new(secret: &str) -> Result<Self> {
        let key = secret.trim().strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        let key = key.filter(|key| KEY_BYTES.contains(&key.len()));
        key.map(|key| Self { key }).ok_or_else(|| {
            Error::Config(
                "WEBHOOK_SECRET is not understood: allowed is whsec_ followed by 24 to 64 bytes in base64, as from \
                 echo whsec_$(openssl rand -base64 32)"
                    .to_owned(),
            )
        })
    }

    fn sign(&self, id: &str, timestamp: i64, body: &str) -> Result<String> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).map_err(|_| anyhow!("the key of webhooks is no key"))?;
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// The headers of one try. The id is the same in each, so that a receiver can tell a repetition.
pub(super) fn headers(
    signer: Option<&Signer>,
    job_id: &str,
    generation: i64,
    timestamp: i64,
    body: &str,
) -> Result<Vec<(String, String)>> {
    let id = format!("{job_id}.{generation}");
    let mut headers = vec![
        ("content-type".to_owned(), "application/json".to_owned()),
        ("webhook-timestamp".to_owned(), timestamp.to_string()),
    ];
    if let Some(signer) = signer {
        headers.push(("webhook-signature".to_owned(), signer.sign(&id, timestamp, body)?));
    }
    headers.push(("webhook-id".to_owned(), id));
    Ok(headers)
}

/// `{type, timestamp, data}`: what happened, when, and the job with its transcript.
pub(super) fn body(job: &Job, transcript: Option<&Transcript>) -> Result<String> {
    let text = transcript.map(|transcript| transcript.render(Format::Json));
    let text = text.filter(|text| text.len() <= MAX_TRANSCRIPT_BYTES);
    let transcript: Option<Value> = text.map(|text| serde_json::from_str(&text)).transpose().context("no JSON")?;
    let mut data = json!(job);
    data["transcript"] = json!(transcript);
    let event = json!({"type": format!("job.{}", job.status), "timestamp": job.finished_at, "data": data});
    Ok(event.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the specification's own libraries.
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#).unwrap();
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_is_refused_without_being_shown() {
        for secret in ["", "secret", "whsec_c2VjcmV0", "whsec_%%", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            let refusal = Signer::new(secret).err().unwrap().to_string();
            assert!(refusal.contains("WEBHOOK_SECRET") && !refusal.contains("c2Vj") && !refusal.contains("MfKQ"));
        }
    }

    #[test]
    fn without_a_key_a_message_has_its_name_and_time_all_the_same() {
        let headers = headers(None, "job", 2, 7, "{}").unwrap();
        assert!(headers.contains(&("webhook-id".to_owned(), "job.2".to_owned())));
        assert!(!headers.iter().any(|(name, _)| name == "webhook-signature"));
    }
}
