//! How the service is: health checks for load balancers, and /system for people. All of it from the SQL views.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Service;
use super::blocking::blocking;
use super::error::Result;
use super::invocation::Hold;
use crate::gpu::{self, GpuUsage};
use crate::system;

/// `GET /health`: 200 once a worker is ready, 503 with the same body before.
pub(super) async fn health(State(service): State<Service>) -> Result<Response> {
    let health = look(service).await?;
    let status = if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(health)).into_response())
}

/// `GET /{endpoint}/health`: the same figures, and always 200.
pub(super) async fn figures(State(service): State<Service>) -> Result<Response> {
    Ok(Json(look(service).await?).into_response())
}

/// `GET /ping`: 200 once a worker is ready, 204 while models load.
pub(super) async fn ping(State(service): State<Service>) -> Result<StatusCode> {
    Ok(if look(service).await?.is_ready() { StatusCode::OK } else { StatusCode::NO_CONTENT })
}

/// What the views know, and the GPUs, which they cannot.
#[derive(Serialize)]
pub(super) struct System {
    #[serde(flatten)]
    system: system::System,
    gpu: Vec<GpuUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// `GET /system`.
pub(super) async fn system(State(service): State<Service>, hold: Hold) -> Result<Json<System>> {
    let queue = service.intake.queue;
    let look = move || Ok(System { system: system::system(queue.db())?, gpu: gpu::usage(), scope: hold.scope() });
    Ok(Json(blocking(look).await?))
}

async fn look(service: Service) -> Result<system::Health> {
    let intake = service.intake;
    blocking(move || system::health(intake.queue.db(), &intake.process_id)).await
}
