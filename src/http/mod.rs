//! The native HTTP API: routes, limits and conventions of one axum router, and the server that speaks it. What a job is and
//! what becomes of it is the queue's business; answers about the service come from the SQL views.

mod auth;
mod blocking;
mod body;
mod error;
mod events;
mod invocation;
mod jobs;
mod object;
mod places;
mod routes;
mod runpod_api;
mod serve;
mod sql;
mod status;
mod submit;
mod upload;
mod watch;

use std::time::Duration;

use crate::app::Intake;
use crate::config::Secret;
pub use invocation::Invocation;
pub use serve::{Api, Server, api};

/// What the service lets its callers do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One of these is asked for, unless there are none.
    pub api_keys: Vec<Secret>,
    pub cors_origins: Vec<String>,
    pub max_audio_bytes: u64,
}

/// What every handler works with.
#[derive(Clone)]
struct Service {
    intake: Intake,
    watch: watch::Watch,
    user_sql: std::sync::Arc<crate::system::UserSql>,
    /// Questions wait on threads that others need too: only so many at a time.
    questions: std::sync::Arc<tokio::sync::Semaphore>,
    max_audio_bytes: u64,
    cursors: runpod_api::Cursors,
    /// Bodies of JSON are in memory: only so many at a time.
    json_bodies: std::sync::Arc<tokio::sync::Semaphore>,
}

/// A client that says nothing for so long has gone, or means no good.
const IDLE: Duration = Duration::from_secs(30);
/// Requests that are not uploads, and waiting for nothing, are answered in well under this.
const ANSWER: Duration = Duration::from_secs(30);
