//! What RunPod's clients are told of a job, and how they end it or begin it anew.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde_json::{Value, json};

use super::{DEFAULT_WAIT, JobId, Wait, wait};
use crate::app::Intake;
use crate::error::Error;
use crate::http::Service;
use crate::http::blocking::blocking;
use crate::http::error::{Refusal, Result};
use crate::http::invocation::Hold;
use crate::job::JobState;
use crate::queue::unix_now_ms;
use crate::runpod_payload;

/// `status/{id}`.
pub(super) async fn status(State(service): State<Service>, JobId(id): JobId, hold: Hold) -> Result<Json<Value>> {
    hold.give_time(&service, &id).await?;
    Ok(Json(told(&service, id).await?))
}

/// `status-sync/{id}`: held until the job has ended or the time is over.
pub(super) async fn status_sync(
    State(service): State<Service>,
    JobId(id): JobId,
    query: Result<Query<Wait>, QueryRejection>,
    hold: Hold,
) -> Result<Json<Value>> {
    let time = wait(query)?.unwrap_or_else(|| hold.usual(DEFAULT_WAIT));
    Ok(Json(told_when_ended(&service, id, time, &hold).await?))
}

/// `cancel/{id}`; a job that had ended is told as it is.
pub(super) async fn cancel(State(service): State<Service>, JobId(id): JobId, hold: Hold) -> Result<Json<Value>> {
    let (queue, cancelled) = (service.intake.queue.clone(), id.clone());
    let result = blocking(move || match queue.cancel(&cancelled, unix_now_ms()) {
        Err(Error::Conflict(_)) => Ok(()),
        result => result,
    });
    result.await?;
    // Its webhook is told.
    hold.give_time(&service, &id).await?;
    Ok(Json(told(&service, id).await?))
}

/// `retry/{id}`: of a failed or timed-out job.
pub(super) async fn retry(State(service): State<Service>, JobId(id): JobId, hold: Hold) -> Result<Json<Value>> {
    let (queue, tried) = (service.intake.queue.clone(), id.clone());
    blocking(move || queue.retry(&tried, unix_now_ms())).await.map_err(Refusal::into_bad_request)?;
    hold.see_through(&service, std::slice::from_ref(&id)).await?;
    Ok(Json(json!({"id": id, "status": runpod_payload::status(JobState::Queued)})))
}

/// `purge-queue`: what waits is cancelled, what runs goes on.
pub(super) async fn purge(State(service): State<Service>) -> Result<Json<Value>> {
    let queue = service.intake.queue;
    let removed = blocking(move || queue.purge(unix_now_ms())).await?;
    Ok(Json(json!({"removed": removed, "status": "completed"})))
}

pub(super) async fn told_when_ended(service: &Service, id: String, time: Duration, hold: &Hold) -> Result<Value> {
    // An unknown job is said at once, and time over is no error: the job goes on.
    hold.wait_for(service, &id, time).await?;
    told(service, id).await
}

async fn told(service: &Service, id: String) -> Result<Value> {
    let intake = service.intake.clone();
    blocking(move || tell(&intake, &id)).await
}

fn tell(intake: &Intake, id: &str) -> crate::error::Result<Value> {
    let job = intake.queue.job(id, unix_now_ms())?;
    let spoken = (job.status == JobState::Completed).then(|| intake.queue.spoken(id)).transpose()?;
    let mut told = runpod_payload::told(&job, spoken.as_ref(), &intake.queue.runpod_texts(id)?, intake.device)?;
    if job.status == JobState::Running {
        told["progress"] = job.progress.into();
    }
    Ok(told)
}
