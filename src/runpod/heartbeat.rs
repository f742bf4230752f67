//! The signs of life: which jobs this worker holds, said at fixed times from a thread that does nothing else.

use std::time::{Duration, Instant};

use super::Desk;

impl Desk {
    /// Until no message of a job is left: a worker that falls silent loses its jobs.
    pub(super) fn beat(&self, interval: Duration) {
        if !self.platform.has_ping() {
            tracing::warn!("RUNPOD_WEBHOOK_PING is not set: RunPod will not hear that this worker lives");
            return;
        }
        let (mut due, mut held) = (Instant::now(), Vec::new());
        let mut heard = true;
        loop {
            // What was held is the best answer while the database gives none.
            held = self.intake.queue.held_for_runpod().unwrap_or(held);
            match self.platform.ping(&held, interval * 2) {
                Ok(answer) if answer.is_success() => heard = true,
                // Once for each time that it begins.
                answer if heard => {
                    heard = false;
                    let why = answer.map_or_else(|error| error.to_string(), |answer| answer.status.to_string());
                    tracing::warn!(why, "RunPod does not take the heartbeat");
                }
                _ => {}
            }
            due += interval;
            // What a slow answer made late is left out, not made up for.
            due = due.max(Instant::now());
            if self.over.wait(due.saturating_duration_since(Instant::now())) {
                return;
            }
        }
    }
}
