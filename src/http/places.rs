//! What has to do with S3: addresses to upload to, and notifications of what was uploaded.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Service;
use super::blocking::blocking;
use super::body::read_whole;
use super::error::{Refusal, Result};
use super::invocation::Hold;
use crate::app::{Intake, new_upload};
use crate::error::Error;

const MAX_BODY_BYTES: usize = 4096;
/// A notification of AWS has one record mostly and a thousand at most.
const MAX_EVENT_BYTES: usize = 2 * 1024 * 1024;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NewUpload {
    name: Option<String>,
}

/// `POST /uploads`: an address to PUT a recording to, and the name to submit it under then.
pub(super) async fn upload(State(service): State<Service>, body: Body) -> Result<Json<Value>> {
    let body = read_whole(body, MAX_BODY_BYTES, "send {\"name\": \"talk.mp3\"} or nothing").await?;
    let wanted: NewUpload = if body.is_empty() { Ok(NewUpload::default()) } else { serde_json::from_slice(&body) }
        .map_err(|error| Refusal::bad_request("invalid_json", format!("the body is not {{\"name\": …}}: {error}")))?;
    let intake = service.intake;
    if intake.upload_bucket.is_none() {
        let message = "no bucket takes uploads here (UPLOAD_BUCKET): send the recording itself to POST /jobs";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "not_configured", message));
    }
    let name = wanted.name.unwrap_or_default();
    let upload = blocking(move || new_upload(&intake.storage, intake.upload_bucket.as_deref(), &name)).await?;
    Ok(Json(json!({"url": upload.url, "expires_at": upload.expires_at, "audio": upload.audio})))
}

/// Which objects become jobs, by their keys; each is a list between commas.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    prefix: Option<String>,
    suffix: Option<String>,
}

impl Filter {
    fn takes(&self, key: &str) -> bool {
        let one_of = |list: &Option<String>, fits: &dyn Fn(&str) -> bool| {
            let parts = || list.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|part| !part.is_empty());
            // Every key begins and ends with nothing: a comma too many must not let all of them in.
            parts().next().is_none() || parts().any(fits)
        };
        one_of(&self.prefix, &|prefix| key.starts_with(prefix))
            && one_of(&self.suffix, &|suffix| key.to_lowercase().ends_with(&suffix.to_lowercase()))
    }
}

/// `POST /events/s3?prefix=&suffix=`: every new version of an object becomes a job, once.
pub(super) async fn events(
    State(service): State<Service>,
    filter: Result<Query<Filter>, QueryRejection>,
    hold: Hold,
    body: Body,
) -> Result<(StatusCode, Json<Value>)> {
    let Query(filter) = filter.map_err(|error| Refusal::bad_request("invalid_query", error.body_text()))?;
    let body = read_whole(body, MAX_EVENT_BYTES, "send fewer records at once").await?;
    let intake: Intake = service.intake.clone();
    let taken = blocking(move || intake.take_notification(&body, |key| filter.takes(key))).await?;
    let ids: Vec<String> = taken.jobs.iter().map(|job| job.id.clone()).collect();
    hold.see_through(&service, &ids).await?;
    let jobs: Vec<Value> = taken.jobs.iter().map(|job| json!({"id": job.id, "source": job.source})).collect();
    let refused = |(source, error): &(String, Error)| json!({"source": source, "code": error.code(), "message": error.to_string()});
    let refused: Vec<Value> = taken.refused.iter().map(refused).collect();
    Ok((StatusCode::ACCEPTED, Json(json!({"jobs": jobs, "ignored": taken.ignored, "refused": refused}))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_taken_by_how_they_begin_and_end() {
        let filter = |prefix: &str, suffix: &str| Filter {
            prefix: Some(prefix.to_owned()).filter(|text| !text.is_empty()),
            suffix: Some(suffix.to_owned()).filter(|text| !text.is_empty()),
        };
        assert!(filter("", "").takes("a.txt") && filter("in/", ".mp3, .WAV").takes("in/a.wav"));
        assert!(!filter("in/", "").takes("out/a.mp3") && !filter("", ".mp3").takes("a.mp3.json"));
    }
}
