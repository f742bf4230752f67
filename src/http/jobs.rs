//! Jobs that exist: listed, shown, cancelled, tried again, and their transcripts.

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Service;
use super::blocking::blocking;
use super::error::{Refusal, Result};
use super::invocation::Hold;
use crate::job::{Job, JobState};
use crate::queue::{JobFilter, parse_rfc3339_ms, unix_now_ms};
use crate::storage::base_name;
use crate::transcript::Format;

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 500;
/// What a file's name keeps; anything else could end the header or the name.
const PLAIN: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

/// A job with the addresses of what belongs to it.
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    job: Job,
    links: Links,
}

/// Addresses on this service.
#[derive(Serialize)]
pub(super) struct Links {
    #[serde(rename = "self")]
    job: String,
    transcript: String,
    events: String,
}

impl Links {
    pub(super) fn to(id: &str) -> Self {
        Self {
            job: format!("/jobs/{id}"),
            transcript: format!("/jobs/{id}/transcript"),
            events: format!("/jobs/{id}/events"),
        }
    }
}

impl Shown {
    pub(super) fn is_over(&self) -> bool {
        self.job.status.is_terminal()
    }
}

impl From<Job> for Shown {
    fn from(job: Job) -> Self {
        Self { links: Links::to(&job.id), job }
    }
}

/// The job that a path names.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let unreadable = |_| Refusal::bad_request("invalid_path", "the id of the job is not UTF-8 text");
        Path::from_request_parts(parts, state).await.map(|Path(id)| Self(id)).map_err(unreadable)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    status: Option<String>,
    model: Option<String>,
    since: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /jobs`: newest first, `next` naming the job to go on after, or null at the end.
pub(super) async fn list(
    State(service): State<Service>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
    hold: Hold,
) -> Result<Json<Value>> {
    let Query(page) = page.map_err(|error| Refusal::bad_request("invalid_query", error.body_text()))?;
    let limit = page.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        let message = format!("limit={limit}: allowed is a whole number from 1 to {MAX_PAGE}");
        return Err(Refusal::bad_request("invalid_query", message));
    }
    let filter = JobFilter {
        status: page.status.as_deref().map(str::parse::<JobState>).transpose()?,
        model: page.model.map(|model| crate::models::canonical_name(&model)),
        since_ms: page.since.as_deref().map(parse_rfc3339_ms).transpose()?,
        limit: limit + 1,
        after: page.after,
    };
    let mut jobs = blocking(move || service.intake.queue.jobs(&filter, unix_now_ms())).await?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|job| job.id.clone());
    let jobs: Vec<Shown> = jobs.into_iter().map(Shown::from).collect();
    let mut body = json!({"jobs": jobs, "next": next});
    if let Some(scope) = hold.scope() {
        body["scope"] = scope.into();
    }
    Ok(Json(body))
}

/// `GET /jobs/{id}`.
pub(super) async fn show(State(service): State<Service>, Id(id): Id, hold: Hold) -> Result<Json<Shown>> {
    hold.give_time(&service, &id).await?;
    Ok(Json(find(&service, id).await?))
}

/// `DELETE /jobs/{id}`: the job as it is then.
pub(super) async fn cancel(State(service): State<Service>, Id(id): Id, hold: Hold) -> Result<Json<Shown>> {
    let (queue, cancelled) = (service.intake.queue.clone(), id.clone());
    blocking(move || queue.cancel(&cancelled, unix_now_ms())).await?;
    // Its webhook is told.
    hold.give_time(&service, &id).await?;
    Ok(Json(find(&service, id).await?))
}

/// `POST /jobs/{id}/retry`: finished chunks are kept.
pub(super) async fn retry(State(service): State<Service>, Id(id): Id, hold: Hold) -> Result<(StatusCode, Json<Shown>)> {
    let (queue, tried) = (service.intake.queue.clone(), id.clone());
    blocking(move || queue.retry(&tried, unix_now_ms())).await?;
    hold.see_through(&service, std::slice::from_ref(&id)).await?;
    Ok((StatusCode::ACCEPTED, Json(find(&service, id).await?)))
}

/// `POST /jobs/{id}/redeliver`: what the job sends out is sent again.
pub(super) async fn redeliver(
    State(service): State<Service>,
    Id(id): Id,
    hold: Hold,
) -> Result<(StatusCode, Json<Shown>)> {
    let (queue, told) = (service.intake.queue.clone(), id.clone());
    blocking(move || queue.redeliver(&told, unix_now_ms())).await?;
    hold.see_through(&service, std::slice::from_ref(&id)).await?;
    Ok((StatusCode::ACCEPTED, Json(find(&service, id).await?)))
}

pub(super) async fn find(service: &Service, id: String) -> Result<Shown> {
    let queue = service.intake.queue.clone();
    Ok(blocking(move || queue.job(&id, unix_now_ms())).await?.into())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rendering {
    format: Option<String>,
}

/// `GET /jobs/{id}/transcript?format=`.
pub(super) async fn transcript(
    State(service): State<Service>,
    Id(id): Id,
    rendering: Result<Query<Rendering>, axum::extract::rejection::QueryRejection>,
) -> Result<Response> {
    let Query(rendering) = rendering.map_err(|error| Refusal::bad_request("invalid_query", error.body_text()))?;
    let format = rendering.format.as_deref().unwrap_or("json").parse::<Format>();
    let format = format.map_err(|error| Refusal::bad_request("unknown_format", error.to_string()))?;
    let queue = service.intake.queue;
    let (source, text) = blocking(move || {
        let transcript = queue.transcript(&id)?;
        Ok((queue.job(&id, unix_now_ms())?.source, transcript.render(format)))
    })
    .await?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type(format))),
        (header::CONTENT_DISPOSITION, disposition(&format!("{}.{}", base_name(&source), format.extension()))),
        (header::ACCEPT_RANGES, HeaderValue::from_static("none")),
    ];
    Ok((headers, text).into_response())
}

fn content_type(format: Format) -> &'static str {
    match format {
        Format::Txt => "text/plain; charset=utf-8",
        Format::Srt => "application/x-subrip; charset=utf-8",
        Format::Vtt => "text/vtt; charset=utf-8",
        Format::Tsv => "text/tab-separated-values; charset=utf-8",
        Format::Json | Format::VerboseJson => "application/json",
    }
}

/// The name under which a browser saves the answer, in plain letters and as it is (RFC 6266).
fn disposition(name: &str) -> HeaderValue {
    let plain: String = name.bytes().map(|byte| if PLAIN.contains(&byte) { byte as char } else { '_' }).collect();
    let encoded: String = name
        .bytes()
        .map(|byte| if PLAIN.contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let value = format!("inline; filename=\"{plain}\"; filename*=UTF-8''{encoded}");
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("inline"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        assert_eq!(
            disposition("Grüße\"; x=\r\n.srt"),
            "inline; filename=\"Gr____e___x___.srt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%22%3B%20x%3D%0D%0A.srt"
        );
    }
}
