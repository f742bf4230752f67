//! Requests to a process that is stopped between them, as Lambda does: how long one may be held, and what it may leave
//! undone. Anywhere else a request is held as long as it asks for, and work goes on by itself.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::Service;
use super::blocking::blocking;
use super::error::{Refusal, Result};
use crate::queue::unix_now_ms;

/// A question after an unfinished job gives it so much time to go on: less than what RunPod's clients wait for a status.
const STATUS_HOLD: Duration = Duration::from_secs(8);

/// Put among the extensions of a request by a front door whose process is stopped once the answer is out.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// When the answer has to be on its way.
    pub until: Instant,
    /// Whether a submit may be answered before its job is done.
    pub may_leave_work: bool,
    /// Which of many processes this is.
    pub instance: Arc<str>,
}

/// What a request knows of that.
#[derive(Clone)]
pub(super) struct Hold(Option<Invocation>);

impl<S: Send + Sync> FromRequestParts<S> for Hold {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned()))
    }
}

impl Hold {
    /// As much of a wait as there is time for.
    pub(super) fn within(&self, wait: Duration) -> Duration {
        self.0.as_ref().map_or(wait, |invocation| wait.min(left(invocation)))
    }

    /// A wait that nobody asked for: where nothing goes on after the answer, as long as there is time.
    pub(super) fn usual(&self, wait: Duration) -> Duration {
        self.0.as_ref().map_or(wait, left)
    }

    /// When an answer that goes on as long as its job has to end all the same.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.as_ref().map(|invocation| invocation.until)
    }

    /// Whose jobs an answer about all jobs tells of; nothing where there is only one process.
    pub(super) fn scope(&self) -> Option<String> {
        let instance = &self.0.as_ref()?.instance;
        Some(format!(
            "this instance alone ({instance}): others have jobs of their own, and all end with their instance"
        ))
    }

    /// Lets an unfinished job go on for a while, where it would not otherwise.
    pub(super) async fn give_time(&self, service: &Service, id: &str) -> Result<()> {
        if self.0.is_some() {
            self.wait_for(service, id, STATUS_HOLD).await?;
        }
        Ok(())
    }

    /// Waits until jobs that were just submitted are over, where they would not go on after the answer.
    ///
    /// # Errors
    /// 503 with the id of the first that is not done when there is no time left.
    pub(super) async fn see_through(&self, service: &Service, ids: &[String]) -> Result<()> {
        let Some(invocation) = self.0.as_ref().filter(|invocation| !invocation.may_leave_work) else { return Ok(()) };
        for id in ids {
            if !self.wait_for(service, id, left(invocation)).await? {
                return Err(unfinished(id));
            }
        }
        Ok(())
    }

    /// Whether the job was over within the time, or the service stopped.
    pub(super) async fn wait_for(&self, service: &Service, id: &str, time: Duration) -> Result<bool> {
        match tokio::time::timeout(self.within(time), self.over(service, id)).await {
            Ok(over) => over.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Resolves when the job has ended or the service stops; where nothing goes on after the answer, not before its results
    /// were sent out.
    async fn over(&self, service: &Service, id: &str) -> Result<()> {
        let mut watch = service.watch.clone();
        loop {
            let (queue, asked, stops) = (service.intake.queue.clone(), id.to_owned(), self.0.is_some());
            let is_over = move || {
                let (status, _) = queue.progress(&asked)?;
                Ok(status.is_terminal() && (!stops || queue.job(&asked, unix_now_ms())?.is_settled()))
            };
            if blocking(is_over).await? || !watch.moved().await {
                return Ok(());
            }
        }
    }
}

fn left(invocation: &Invocation) -> Duration {
    invocation.until.saturating_duration_since(Instant::now())
}

fn unfinished(id: &str) -> Refusal {
    let message = format!(
        "the job {id} is not done and goes on only while requests are answered: ask GET /jobs/{id} until it has ended, \
         or set LAMBDA_ALLOW_EPHEMERAL=true to be answered at once"
    );
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unfinished", message).with_job(id)
}
