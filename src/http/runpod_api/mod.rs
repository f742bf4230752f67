//! RunPod's REST API, so that its own clients work against this service as they do against the cloud: at the root, below
//! `/{endpoint}` and below `/v2/{endpoint}`.

mod answers;
mod run;
mod stream;

use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, extract::rejection::QueryRejection};
use serde::Deserialize;
use serde_json::json;

use super::error::{Message, Refusal, Result, with_id};
use super::{Service, status};
pub(super) use stream::Cursors;

/// What `wait` may be, in milliseconds.
const WAIT_MS: std::ops::RangeInclusive<u64> = 1_000..=300_000;
const DEFAULT_WAIT: Duration = Duration::from_secs(90);

/// The routes; some clients of RunPod's ask with POST what others ask with GET.
pub(super) fn routes() -> Router<Service> {
    let mut router = Router::new();
    for base in ["", "/{endpoint}", "/v2/{endpoint}"] {
        let at = |operation: &str| format!("{base}/{operation}");
        router = router
            .route(&at("run"), post(run::run))
            .route(&at("runsync"), post(run::run_sync))
            .route(&at("status/{job}"), get(answers::status).post(answers::status))
            .route(&at("status-sync/{job}"), get(answers::status_sync).post(answers::status_sync))
            .route(&at("stream/{job}"), get(stream::stream).post(stream::stream))
            .route(&at("cancel/{job}"), post(answers::cancel))
            .route(&at("retry/{job}"), post(answers::retry))
            .route(&at("purge-queue"), post(answers::purge));
    }
    router
}

/// The health of one endpoint, which is asked for its figures: it is always an answer.
pub(super) fn health() -> Router<Service> {
    Router::new().route("/{endpoint}/health", get(status::figures)).route("/v2/{endpoint}/health", get(status::figures))
}

/// An error is a text on these routes.
pub(super) async fn plain_errors(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(Message { text, job }) = response.extensions_mut().remove() else { return response };
    let body = with_id(json!({"error": text}), job.as_deref());
    let mut plain = (response.status(), Json(body)).into_response();
    for (name, value) in response.headers() {
        plain.headers_mut().entry(name).or_insert(value.clone());
    }
    plain
}

pub(super) fn with_plain_errors(router: Router<Service>) -> Router<Service> {
    router.layer(middleware::from_fn(plain_errors))
}

/// How long an answer may be held back; other parameters are the cloud's business.
#[derive(Deserialize)]
struct Wait {
    wait: Option<u64>,
}

fn wait(query: Result<Query<Wait>, QueryRejection>) -> Result<Option<Duration>> {
    let Query(Wait { wait }) = query.map_err(|error| Refusal::bad_request("invalid_query", error.body_text()))?;
    Ok(wait.map(|wait| Duration::from_millis(wait.clamp(*WAIT_MS.start(), *WAIT_MS.end()))))
}

/// The last part of the path, whatever stands before it.
struct JobId(String);

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for JobId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self> {
        use std::collections::HashMap;
        let unreadable = |_| Refusal::bad_request("invalid_path", "the id of the job is not UTF-8 text");
        let path = axum::extract::Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let mut path = path.map_err(unreadable)?.0;
        Ok(Self(path.remove("job").unwrap_or_default()))
    }
}
