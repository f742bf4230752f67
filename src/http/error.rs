//! Errors as clients see them: a status, a stable code and a message that says what to do; never internal text.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::error::Error;

/// When to come back after a refusal for lack of room, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

pub(super) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// An answer other than the one asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// The job that this is about, where it was submitted all the same.
    job: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), job: None }
    }

    /// The same, with the id of a job beside it.
    pub(super) fn with_job(self, id: &str) -> Self {
        Self { job: Some(id.to_owned()), ..self }
    }

    /// The same, where clients know no other refusal than 400.
    pub(super) fn into_bad_request(self) -> Self {
        let status = if self.status == StatusCode::CONFLICT { StatusCode::BAD_REQUEST } else { self.status };
        Self { status, ..self }
    }

    /// Something about the request itself.
    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Config(_) => Self::bad_request("invalid_option", message),
            Error::InvalidInput { code, .. } => Self::bad_request(code, message),
            Error::Transient { code, .. } => Self::new(StatusCode::BAD_GATEWAY, code, message),
            Error::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            Error::Conflict(_) => Self::new(StatusCode::CONFLICT, "conflict", message),
            Error::Overloaded(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", message),
            Error::ClaimLost | Error::Aborted | Error::Internal(_) => {
                tracing::error!(%error, "a request failed");
                let message = "something went wrong here; the log has it under the x-request-id of this answer";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

/// The message of a refusal, for those who give it another shape.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) job: Option<String>,
}

/// An error's body, and the job that it is about.
pub(super) fn with_id(mut body: Value, job: Option<&str>) -> Value {
    if let Some(id) = job {
        body["id"] = id.into();
    }
    body
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = with_id(json!({"error": {"code": self.code, "message": self.message}}), self.job.as_deref());
        let mut response = (self.status, Json(body)).into_response();
        response.extensions_mut().insert(Message { text: self.message, job: self.job });
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
