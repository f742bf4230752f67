//! What is told of jobs while they run: how far they are, and their segments to those who want them as they come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Desk;
use crate::error::{Error, Result};
use crate::job::{JobState, RunpodTexts};

/// How soon a change is seen without a wake-up, and how far apart the messages of one job are.
const LOOK: Duration = Duration::from_millis(500);
const BETWEEN: Duration = Duration::from_secs(1);

/// What was told of a job.
struct Told {
    texts: RunpodTexts,
    progress: f64,
    at: Option<Instant>,
}

impl Desk {
    /// Until no job is left.
    pub(super) fn report(&self) {
        let mut told = HashMap::new();
        while !self.over.is_triggered() {
            let seen = self.intake.queue.wake().seen();
            if let Err(error) = self.report_all(&mut told) {
                tracing::debug!(%error, "some progress was not told");
            }
            self.intake.queue.wake().wait(seen, LOOK);
        }
    }

    fn report_all(&self, told: &mut HashMap<String, Told>) -> Result<()> {
        let held = self.intake.queue.held_for_runpod()?;
        self.outlet.keep_only(&held);
        told.retain(|job_id, _| held.contains(job_id));
        for job_id in held {
            match self.report_one(&job_id, told) {
                // Removed meanwhile.
                Err(Error::NotFound(_)) => {}
                reported => reported?,
            }
        }
        Ok(())
    }

    fn report_one(&self, job_id: &str, told: &mut HashMap<String, Told>) -> Result<()> {
        let queue = &self.intake.queue;
        let (state, progress) = queue.progress(job_id)?;
        if state != JobState::Running {
            return Ok(());
        }
        if !told.contains_key(job_id) {
            let texts = queue.runpod_texts(job_id)?;
            told.insert(job_id.to_owned(), Told { texts, progress: 0.0, at: None });
        }
        let Some(last) = told.get_mut(job_id) else { return Ok(()) };
        let moved = progress > last.progress;
        if !moved || last.at.is_some_and(|at| at.elapsed() < BETWEEN) {
            return Ok(());
        }
        // Progress that was not heard is no loss: the next follows.
        (last.progress, last.at) = (progress, Some(Instant::now()));
        self.outlet.report(job_id, &last.texts, moved)
    }
}
