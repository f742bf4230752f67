//! `POST /jobs`: a form with a file, or JSON with the audio in it, becomes a job.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::SemaphorePermit;

use super::Service;
use super::blocking::blocking;
use super::body::read_whole;
use super::error::{Refusal, Result};
use super::invocation::Hold;
use super::jobs::{self, Links};
use super::object::{self, Audio};
use super::upload::{self, Form, Sink, Unclaimed};
use crate::app::Source;
use crate::job::{FrontDoor, Options};
use crate::queue::new_id;
use crate::storage::{Incoming, S3Config, upload_source};

/// Audio in JSON is held in memory, so this is far less than a file may have. RunPod takes no more either.
const MAX_JSON_BYTES: usize = 20 * 1024 * 1024;
const MAX_KEY_CHARS: usize = 255;
/// A form around a file is no longer than this.
const FORM_BYTES: u64 = 1024 * 1024;
/// How long a body of JSON may wait for its turn, and how long it may then take: the turns are few.
const JSON_TURN: Duration = Duration::from_secs(60);
/// Longer waits are for events: proxies cut them off.
const MAX_WAIT_SECONDS: u64 = 3600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    wait: Option<u64>,
}

/// 202 with the id of the new job, or with `?wait=SECONDS` the job as it is when it ends or the time is over.
pub(super) async fn submit(
    State(service): State<Service>,
    wait: Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
    hold: Hold,
    request: Request,
) -> Result<Response> {
    let Query(wait) = wait.map_err(|error| Refusal::bad_request("invalid_query", error.body_text()))?;
    let wait = wait.wait.map(|seconds| Duration::from_secs(seconds.min(MAX_WAIT_SECONDS)));
    let idempotency_key = idempotency_key(request.headers())?;
    check_length(request.headers(), service.max_audio_bytes)?;
    let (queue, key) = (service.intake.queue.clone(), idempotency_key.clone());
    blocking(move || queue.check_room(key.as_deref())).await?;
    let id = new_id();
    let incoming = service.intake.storage.uploads().receive(&id);
    let received = receive(&service, request, &incoming).await?;
    let id = accept(&service, id, FrontDoor::Http, received, idempotency_key, incoming).await?;
    answer(&service, id, wait, &hold).await
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let text = key.to_str().ok().map(str::trim).filter(|key| !key.is_empty() && key.len() <= MAX_KEY_CHARS);
    let message = format!("Idempotency-Key: allowed is plain text of at most {MAX_KEY_CHARS} characters");
    text.map(|key| Some(key.to_owned())).ok_or_else(|| Refusal::bad_request("invalid_idempotency_key", message))
}

/// A length said beforehand that is too much is refused before anything is sent.
fn check_length(headers: &HeaderMap, max_audio_bytes: u64) -> Result<()> {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|said| said > max_audio_bytes.saturating_add(FORM_BYTES)) {
        return Err(upload::too_large(max_audio_bytes));
    }
    Ok(())
}

/// What a request holds, the recording itself being in its file already.
pub(super) struct Received {
    pub(super) source: Source,
    pub(super) options: Options,
    pub(super) keys: Option<S3Config>,
}

impl Received {
    fn form(form: Form) -> Result<Self> {
        if form.bytes == 0 {
            return Err(Refusal::bad_request("empty_file", "the file is empty"));
        }
        let source = Source { name: upload_source(&form.file_name), version: None, bytes: Some(form.bytes) };
        Ok(Self { source, options: options(form.options)?, keys: None })
    }
}

fn options(fields: Map<String, Value>) -> Result<Options> {
    Ok(Options::from_fields(fields)?.validate()?)
}

async fn receive(service: &Service, request: Request, incoming: &Incoming) -> Result<Received> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "multipart/form-data" => {
            let unclaimed = Unclaimed::default();
            let form = Multipart::from_request(request.map(|body| unclaimed.watch(body)), &()).await;
            let form = form.map_err(|error| Refusal::bad_request("invalid_form", error.body_text()))?;
            Received::form(upload::read_form(form, &unclaimed, incoming, service.max_audio_bytes).await?)
        }
        "application/json" => receive_json(service, request.into_body(), incoming).await,
        _ => {
            let message =
                "send multipart/form-data with a part named file, or application/json with audio or audio_base64";
            Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
        }
    }
}

/// A body of JSON with audio in it, perhaps, and the right to hold such in memory.
pub(super) async fn json_body(service: &Service, body: Body) -> Result<(Vec<u8>, SemaphorePermit<'_>)> {
    let busy = "too many recordings are on their way in JSON: try again, or send yours as a file in a form";
    let busy = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", busy);
    let turn = tokio::time::timeout(JSON_TURN, service.json_bodies.acquire()).await;
    let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
    let slow = "the body took too long: send the recording as a file in a form";
    let body = read_whole(body, MAX_JSON_BYTES, "send the recording as a file in a form");
    let body = tokio::time::timeout(JSON_TURN, body).await;
    let body = body.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_incomplete", slow))??;
    Ok((body, turn))
}

async fn receive_json(service: &Service, body: Body, incoming: &Incoming) -> Result<Received> {
    let (body, _turn) = json_body(service, body).await?;
    let object::Request { audio, options: fields, keys } = blocking(move || Ok(object::parse(&body))).await??;
    match audio {
        Audio::Address(address) => Ok(Received { source: Source::address(&address)?, options: options(fields)?, keys }),
        Audio::Bytes(audio) => {
            let mut file = Sink::create(incoming, service.max_audio_bytes).await?;
            file.write(audio).await?;
            let form = Form { file_name: "audio".to_owned(), bytes: file.finish().await?, options: fields };
            Ok(Received { keys, ..Received::form(form)? })
        }
    }
}

/// Stores the recording and queues the job; the id is that of an earlier job where the idempotency key has one.
pub(super) async fn accept(
    service: &Service,
    id: String,
    front_door: FrontDoor,
    received: Received,
    idempotency_key: Option<String>,
    mut incoming: Incoming,
) -> Result<String> {
    let intake = service.intake.clone();
    blocking(move || {
        let is_here = received.source.bytes.is_some();
        let mut draft = intake.new_job(id, front_door, received.source, received.options, received.keys)?;
        draft.job.idempotency_key = idempotency_key;
        if is_here {
            incoming.complete()?;
        }
        let submitted = intake.submit(draft)?;
        if is_here && !submitted.resumed {
            incoming.keep();
        }
        tracing::info!(job = submitted.id, repeated = submitted.resumed, "submitted");
        Ok(submitted.id)
    })
    .await
}

async fn answer(service: &Service, id: String, wait: Option<Duration>, hold: &Hold) -> Result<Response> {
    let location = [(header::LOCATION, format!("/jobs/{id}"))];
    if let Some(wait) = wait {
        // Time over is no error: the job goes on.
        hold.wait_for(service, &id, wait).await?;
        let job = jobs::find(service, id).await?;
        let status = if job.is_over() { StatusCode::OK } else { StatusCode::ACCEPTED };
        return Ok((status, location, Json(job)).into_response());
    }
    hold.see_through(service, std::slice::from_ref(&id)).await?;
    let queue = service.intake.queue.clone();
    let asked = id.clone();
    let (status, _) = blocking(move || queue.progress(&asked)).await?;
    let body = json!({"id": id, "status": status, "links": Links::to(&id)});
    Ok((StatusCode::ACCEPTED, location, Json(body)).into_response())
}
