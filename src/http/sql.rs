//! `POST /sql`: a question on the published views.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use serde::Deserialize;

use super::Service;
use super::blocking::blocking;
use super::body::read_whole;
use super::error::{Refusal, Result};
use crate::system::Table;

/// Room for the longest statement that the database takes, and its escapes.
const MAX_BODY_BYTES: usize = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
}

/// Set when the client has gone, so that nobody works on its question.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `{columns, rows, truncated}`.
pub(super) async fn ask(State(service): State<Service>, body: Body) -> Result<Json<Table>> {
    let body = read_whole(body, MAX_BODY_BYTES, "ask a shorter question").await?;
    let question: Question = serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad_request("invalid_json", format!("the body is not {{\"sql\": \"select …\"}}: {error}"))
    })?;
    let gone = Gone(Arc::default());
    let seen = gone.0.clone();
    Ok(Json(blocking(move || service.user_sql.ask(&question.sql, &seen)).await?))
}
