//! `run` and `runsync`: a job in RunPod's shape.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answers::told_when_ended;
use super::{DEFAULT_WAIT, Wait, wait};
use crate::app::Source;
use crate::http::Service;
use crate::http::blocking::blocking;
use crate::http::error::{Refusal, Result};
use crate::http::invocation::Hold;
use crate::http::object::decode_text;
use crate::http::submit::{Received, accept, json_body};
use crate::http::upload::Sink;
use crate::job::{FrontDoor, JobState, Options};
use crate::queue::new_id;
use crate::runpod_payload::{self, Audio, Input};
use crate::storage::{Incoming, S3Config, upload_source};

/// Below everyone else, but not out of the queue.
const LOW_PRIORITY: i32 = -5;

/// The whole request; the cloud has more keys, which mean nothing here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    input: Value,
    webhook: Option<String>,
    #[serde(default)]
    policy: Policy,
    /// Read by itself: what the parser says of a value repeats it.
    s3_config: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Policy {
    /// Milliseconds, as the next.
    execution_timeout: Option<u64>,
    ttl: Option<u64>,
    low_priority: bool,
}

impl Policy {
    fn apply(&self, options: &mut Options) {
        let seconds = |ms: Option<u64>| ms.map(|ms| ms.div_ceil(1000).max(1));
        options.execution_timeout_seconds = seconds(self.execution_timeout).or(options.execution_timeout_seconds);
        options.ttl_seconds = seconds(self.ttl).or(options.ttl_seconds);
        if self.low_priority && options.priority.is_none() {
            options.priority = Some(LOW_PRIORITY);
        }
    }
}

/// `run`: the id of a job that was queued.
pub(super) async fn run(State(service): State<Service>, hold: Hold, body: Body) -> Result<Json<Value>> {
    let id = submit(&service, body).await?;
    hold.see_through(&service, std::slice::from_ref(&id)).await?;
    Ok(Json(json!({"id": id, "status": runpod_payload::status(JobState::Queued)})))
}

/// `runsync`: held until it has ended or the time is over.
pub(super) async fn run_sync(
    State(service): State<Service>,
    query: Result<Query<Wait>, QueryRejection>,
    hold: Hold,
    body: Body,
) -> Result<Json<Value>> {
    let time: Duration = wait(query)?.unwrap_or_else(|| hold.usual(DEFAULT_WAIT));
    let id = submit(&service, body).await?;
    Ok(Json(told_when_ended(&service, id, time, &hold).await?))
}

async fn submit(service: &Service, body: Body) -> Result<String> {
    let queue = service.intake.queue.clone();
    blocking(move || queue.check_room(None)).await?;
    let id = new_id();
    let incoming = service.intake.storage.uploads().receive(&id);
    let (body, _turn) = json_body(service, body).await?;
    let served = service.intake.clone();
    let (audio, options, keys) = blocking(move || understand(&body, |model| served.serves(model))).await?;
    let source = match audio {
        Audio::Address(address) => Source::address(&address)?,
        Audio::Base64(text) => store(service, text, &incoming).await?,
    };
    let received = Received { source, options, keys };
    accept(service, id, FrontDoor::Runpod, received, None, incoming).await
}

fn understand(body: &[u8], serves: impl Fn(&str) -> bool) -> crate::error::Result<(Audio, Options, Option<S3Config>)> {
    let request: Request = serde_json::from_slice(body)
        .map_err(|error| crate::error::Error::Config(format!("the body is no job, {{\"input\": {{…}}}}: {error}")))?;
    let Input { audio, mut options, model } = Input::parse(request.input)?;
    request.policy.apply(&mut options);
    options.webhook = request.webhook.or(options.webhook);
    if let (Some(model), Some(texts)) = (model.filter(|model| !serves(model)), &mut options.runpod) {
        texts.warnings.push(format!("the model {model} is not loaded here: the served one was used"));
    }
    Ok((audio, options.validate()?, request.s3_config.map(keys).transpose()?))
}

fn keys(keys: Value) -> crate::error::Result<S3Config> {
    let message =
        "s3Config is not understood: allowed are accessId, accessSecret, bucketName and endpointUrl, all text";
    serde_json::from_value(keys).map_err(|_| crate::error::Error::Config(message.to_owned()))
}

async fn store(service: &Service, base64: String, incoming: &Incoming) -> Result<Source> {
    let audio = blocking(move || Ok(decode_text(&base64))).await??;
    if audio.is_empty() {
        return Err(Refusal::bad_request("empty_file", "the audio is empty"));
    }
    let mut file = Sink::create(incoming, service.max_audio_bytes).await?;
    file.write(audio).await?;
    Ok(Source { name: upload_source("audio"), version: None, bytes: Some(file.finish().await?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> crate::error::Result<Options> {
        understand(json.as_bytes(), |model| model == "tiny.en").map(|(_, options, _)| options)
    }

    #[test]
    fn a_policy_is_in_milliseconds_and_ours_in_seconds() {
        let policy = r#""policy": {"executionTimeout": 5500, "ttl": 10000, "lowPriority": true}"#;
        let options = parse(&format!(r#"{{"input": {{"audio": "s3://a/b"}}, {policy}}}"#)).unwrap();
        assert_eq!((options.execution_timeout_seconds, options.ttl_seconds), (Some(6), Some(10)));
        assert_eq!(options.priority, Some(LOW_PRIORITY));
    }

    #[test]
    fn another_model_is_a_warning() {
        let warnings = |model: &str| {
            let options = parse(&format!(r#"{{"input": {{"audio": "s3://a/b", "model": "{model}"}}}}"#)).unwrap();
            options.runpod.unwrap().warnings.len()
        };
        assert_eq!((warnings("tiny.en"), warnings("large-v3")), (0, 1));
    }

    #[test]
    fn a_body_that_is_no_job_is_refused() {
        for body in ["", "[]", "{}", r#"{"input": "a"}"#] {
            assert!(parse(body).is_err(), "{body}");
        }
    }
}
