//! `POST /sql`: a question on the published views.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Service;
use super::blocking::blocking;
use super::body::read_whole;
use super::error::{Refusal, Result};
use super::invocation::Hold;
use crate::system::Table;

/// Room for the longest statement that the database takes, and its escapes.
const MAX_BODY_BYTES: usize = 256 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
}

#[derive(Serialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    table: Table,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Set when the client has gone, so that nobody works on its question.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `{columns, rows, truncated}`.
pub(super) async fn ask(State(service): State<Service>, hold: Hold, body: Body) -> Result<Json<Answer>> {
    let body = read_whole(body, MAX_BODY_BYTES, "ask a shorter question").await?;
    let question: Question = serde_json::from_slice(&body).map_err(|error| {
        Refusal::bad_request("invalid_json", format!("the body is not {{\"sql\": \"select …\"}}: {error}"))
    })?;
    let busy = "others are asking: try again";
    let turn = service.questions.clone().try_acquire_owned();
    let turn = turn.map_err(|_| Refusal::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", busy))?;
    let gone = Gone(Arc::default());
    let seen = gone.0.clone();
    let answer = move || {
        // Held until the thread is free again, whether or not the client is still there.
        let _turn = turn;
        service.user_sql.ask(&question.sql, &seen)
    };
    Ok(Json(Answer { table: blocking(answer).await?, scope: hold.scope() }))
}
