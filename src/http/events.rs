//! `GET /jobs/{id}/events`: a job's state, progress and segments as they come, as server-sent events. The id of an event
//! is the place of the last segment before it, so that a client that comes back misses none.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::Service;
use super::blocking::blocking;
use super::error::{Refusal, Result};
use super::invocation::Hold;
use super::jobs;
use super::jobs::Id;
use crate::job::JobState;
use crate::queue::{Heard, Position};

/// Proxies close a connection on which nothing moves for half a minute or more.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that reads slowly holds up its own watching only.
const AHEAD: usize = 64;
/// The id of the last event: a browser that comes back with it has everything.
const END: &str = "end";

/// What a watcher has been told.
struct Watcher {
    service: Service,
    id: String,
    to: Sender<Result<Event, Infallible>>,
    told: Option<(JobState, f64)>,
    position: Option<Position>,
    /// No later; a client comes back for the rest.
    until: Option<Instant>,
}

/// Replays from Last-Event-ID, then goes on until the job ends; 204 where everything was told before.
pub(super) async fn events(
    State(service): State<Service>,
    Id(id): Id,
    hold: Hold,
    headers: HeaderMap,
) -> Result<Response> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    if last == END {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let position = parse(last)?;
    let queue = service.intake.queue.clone();
    let asked = id.clone();
    blocking(move || queue.progress(&asked)).await?;
    let (to, events): (_, Receiver<Result<Event, Infallible>>) = channel(AHEAD);
    tokio::spawn(Watcher { service, id, to, told: None, position, until: hold.until() }.run());
    Ok(Sse::new(ReceiverStream::new(events)).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response())
}

/// The place named by an event's id; none at the start.
fn parse(id: &str) -> Result<Option<Position>> {
    if id.is_empty() || id == "start" {
        return Ok(None);
    }
    let place = id.split_once('-').and_then(|(seq, n)| Some(Position { seq: seq.parse().ok()?, n: n.parse().ok()? }));
    let message = "Last-Event-ID is not one of this stream: leave it out to get everything";
    place.map(Some).ok_or_else(|| Refusal::bad_request("invalid_event_id", message))
}

impl Watcher {
    /// Tells until the job has ended, the client has gone, the time is over or the service stops.
    async fn run(mut self) {
        let mut watch = self.service.watch.clone();
        loop {
            match self.tell().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(refusal) => return tracing::warn!(job = self.id, ?refusal, "cannot tell of a job"),
            }
            tokio::select! {
                goes_on = watch.moved() => if !goes_on { return },
                () = self.to.closed() => return,
                () = at(self.until) => return,
            }
        }
    }

    /// Tells what is new; false at the end.
    async fn tell(&mut self) -> Result<bool> {
        let (queue, id) = (self.service.intake.queue.clone(), self.id.clone());
        // The state first: whatever it says is done, the segments then hold.
        let (status, progress) = blocking(move || queue.progress(&id)).await?;
        if self.told.is_none_or(|(told, _)| told != status) && !status.is_terminal() {
            self.send("state", &json!({"status": status})).await?;
        }
        self.tell_segments().await?;
        if self.told.is_none_or(|(_, told)| told < progress) && !status.is_terminal() {
            self.send("progress", &json!({"status": status, "progress": progress})).await?;
        }
        self.told = Some((status, progress));
        if !status.is_terminal() {
            return Ok(!self.to.is_closed());
        }
        self.send("state", &json!({"status": status})).await?;
        let job = jobs::find(&self.service, self.id.clone()).await?;
        let event = Event::default().event("done").id(END).json_data(job);
        let _ = self.to.send(Ok(event.map_err(|error| crate::error::Error::Internal(error.into()))?)).await;
        Ok(false)
    }

    async fn tell_segments(&mut self) -> Result<()> {
        loop {
            let (queue, id, after) = (self.service.intake.queue.clone(), self.id.clone(), self.position);
            let heard = blocking(move || queue.heard_after(&id, after)).await?;
            if heard.is_empty() || self.to.is_closed() {
                return Ok(());
            }
            for segment in heard {
                self.position = Some(segment.position);
                self.send("segment", &shape(&segment)).await?;
            }
        }
    }

    /// A client that has gone is seen by whoever sends next.
    async fn send(&self, name: &str, data: &Value) -> Result<()> {
        let id = self.position.map_or_else(|| "start".to_owned(), |at| format!("{}-{}", at.seq, at.n));
        let event = Event::default().event(name).id(id).data(data.to_string());
        let _ = self.to.send(Ok(event)).await;
        Ok(())
    }
}

/// Never, without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn shape(segment: &Heard) -> Value {
    json!({
        "start": segment.start_ms as f64 / 1000.0,
        "end": segment.end_ms as f64 / 1000.0,
        "text": segment.text.trim(),
    })
}
