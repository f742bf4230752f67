//! The channel on which RunPod says which jobs are wanted no more: their work ends at once, and nothing is said of them.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Desk, was_stopped};
use crate::error::Error;
use crate::http_client::Answer;
use crate::queue::unix_now_ms;

const PAUSE: Duration = Duration::from_secs(1);
const TOO_OFTEN_PAUSE: Duration = Duration::from_secs(5);
/// An answer without news that comes sooner is followed by a pause: the server does not hold it back.
const HASTY: Duration = Duration::from_millis(500);

impl Desk {
    /// Listens until no job is left.
    pub(super) fn listen(&self) {
        if !self.platform.has_stop() {
            tracing::warn!("RUNPOD_WEBHOOK_GET_JOB has no /job-take/ in it: jobs cannot be stopped");
            return;
        }
        let over = self.over.clone();
        while !self.over.is_triggered() {
            let since = Instant::now();
            let mut wait = || if over.is_triggered() { Err(Error::Aborted) } else { Ok(()) };
            let answer = self.platform.stop(&mut wait);
            if was_stopped(&answer) {
                return;
            }
            let stopped = match &answer {
                Ok(Answer { status: 200, body, .. }) => self.stop_all(body),
                _ => 0,
            };
            let too_often = matches!(&answer, Ok(Answer { status: 429, .. }));
            if too_often {
                self.over.wait(TOO_OFTEN_PAUSE);
            } else if stopped == 0 && since.elapsed() < HASTY {
                self.over.wait(PAUSE);
            }
        }
    }

    /// Cancels what an answer names; returns how many names there were.
    fn stop_all(&self, body: &str) -> usize {
        let named: Value = serde_json::from_str(body).unwrap_or_default();
        let ids: Vec<&str> = named["jobsToStop"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let held = self.intake.queue.held_for_runpod().unwrap_or_default();
        for id in ids.iter().filter(|id| held.iter().any(|held| held == *id)) {
            match self.intake.queue.cancel(id, unix_now_ms()) {
                Ok(()) => tracing::info!(job = id, "stopped by RunPod"),
                // It has ended, and its result is on its way.
                Err(Error::Conflict(_)) => {}
                Err(error) => tracing::error!(job = id, %error, "cannot stop the job"),
            }
        }
        ids.len()
    }
}
