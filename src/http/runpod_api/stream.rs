//! `stream/{id}`: the segments of a job as they come; what was read is not told again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde_json::{Value, json};

use super::{JobId, Wait, wait};
use crate::http::Service;
use crate::http::blocking::blocking;
use crate::http::error::Result;
use crate::http::invocation::Hold;
use crate::job::JobState;
use crate::queue::{Heard, Position};
use crate::runpod_payload;

/// Clients give up after three seconds and ask again at once: an answer without news is held this long.
const HOLD: Duration = Duration::from_secs(2);
/// A cursor that nobody has moved for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// There are never more than this.
const MAX_CURSORS: usize = 10_000;

/// How far each job was read, for all clients together, as in the cloud.
#[derive(Clone, Default)]
pub(in crate::http) struct Cursors(Arc<Mutex<HashMap<String, (Position, Instant)>>>);

impl Cursors {
    fn get(&self, id: &str) -> Option<Position> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(|(position, _)| *position)
    }

    fn set(&self, id: &str, position: Position) {
        let mut cursors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cursors.len() >= MAX_CURSORS {
            cursors.retain(|_, (_, moved)| moved.elapsed() < FORGOTTEN);
        }
        if cursors.len() < MAX_CURSORS || cursors.contains_key(id) {
            cursors.insert(id.to_owned(), (position, Instant::now()));
        }
    }
}

/// Held until there is news, the job has ended, or the time is over. The last segments come with the end.
pub(super) async fn stream(
    State(service): State<Service>,
    JobId(id): JobId,
    query: Result<Query<Wait>, QueryRejection>,
    hold: Hold,
) -> Result<Json<Value>> {
    let time = hold.within(wait(query)?.unwrap_or(HOLD));
    let mut watch = service.watch.clone();
    let deadline = Instant::now() + time;
    loop {
        let (state, heard) = look(&service, &id).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        if !heard.is_empty() || state.is_terminal() || left.is_zero() {
            if let Some(last) = heard.last() {
                service.cursors.set(&id, last.position);
            }
            let stream: Vec<Value> = heard.iter().map(|segment| json!({"output": shape(segment)})).collect();
            return Ok(Json(json!({"status": runpod_payload::status(state), "stream": stream})));
        }
        // Time over and the end of the service are both seen at the next look.
        if !tokio::time::timeout(left, watch.moved()).await.unwrap_or(true) {
            return Ok(Json(json!({"status": runpod_payload::status(state), "stream": []})));
        }
    }
}

/// All that is new, with the state from before it: what that says is done, the segments then hold.
async fn look(service: &Service, id: &str) -> Result<(JobState, Vec<Heard>)> {
    let (queue, id, after) = (service.intake.queue.clone(), id.to_owned(), service.cursors.get(id));
    blocking(move || {
        let (state, _) = queue.progress(&id)?;
        let (mut all, mut after) = (Vec::new(), after);
        loop {
            let heard = queue.heard_after(&id, after)?;
            let Some(last) = heard.last() else { return Ok((state, all)) };
            after = Some(last.position);
            all.extend(heard);
        }
    })
    .await
}

fn shape(segment: &Heard) -> Value {
    json!({
        "start": segment.start_ms as f64 / 1000.0,
        "end": segment.end_ms as f64 / 1000.0,
        "text": segment.text.trim(),
    })
}
