//! Taking jobs: as many as there will be threads for, and without a pause between as long as the queue answers as it should.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Desk, was_stopped};
use crate::error::{Error, Result};
use crate::http_client::{Answer, OutboundError};
use crate::job::RunpodTexts;
use crate::runpod_payload::{self, Failure, INIT_FAILED};
use crate::runpod_platform::{Place, Platform};

/// How soon it is looked whether there is room for a job, without a wake-up.
const LOOK: Duration = Duration::from_millis(500);
/// Pauses after an error, doubling from the one to the other.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After RunPod has said that it is asked too often.
const TOO_OFTEN_PAUSE: Duration = Duration::from_secs(5);
/// A poll without news is held back by the server; one that is not is followed by a pause, growing with every such one.
const HASTY: Duration = Duration::from_millis(500);
const IDLE_PAUSE: Duration = Duration::from_millis(50);
/// For the one job that a worker takes only to say that it cannot work.
const LAST_POLL: Duration = Duration::from_secs(10);

/// What a poll has brought.
enum Brought {
    Jobs(Vec<Value>),
    /// No news, as is usual; also while the worker is being frozen or thawed.
    Nothing,
    TooOften,
    Trouble(String),
}

impl Desk {
    /// Takes jobs until the request to stop.
    pub(super) fn take(&self) {
        let (mut errors, mut hasty) = (0, 0);
        while !self.asked.is_triggered() {
            let seen = self.intake.queue.wake().seen();
            let wanted = match self.room() {
                Ok(0) => {
                    self.intake.queue.wake().wait(seen, LOOK);
                    continue;
                }
                Ok(wanted) => wanted,
                Err(error) => {
                    tracing::error!(%error, "cannot see how much room there is; trying again");
                    self.asked.wait(FIRST_PAUSE);
                    continue;
                }
            };
            let since = Instant::now();
            let brought = self.poll(wanted);
            let is_hasty = since.elapsed() < HASTY;
            if !matches!(brought, Brought::Trouble(_)) {
                errors = 0;
            }
            match brought {
                Brought::Jobs(jobs) => {
                    hasty = 0;
                    jobs.into_iter().for_each(|job| self.accept(job));
                }
                Brought::Nothing if is_hasty => {
                    hasty += 1;
                    self.asked.wait(pause(IDLE_PAUSE, hasty, FIRST_PAUSE));
                }
                Brought::Nothing => hasty = 0,
                Brought::TooOften => drop(self.asked.wait(TOO_OFTEN_PAUSE.mul_f64(0.9 + fastrand::f64() * 0.2))),
                Brought::Trouble(why) => {
                    errors += 1;
                    tracing::warn!(why, "no jobs can be taken; trying again");
                    self.asked.wait(pause(FIRST_PAUSE, errors, LONGEST_PAUSE));
                }
            }
        }
    }

    /// How many jobs to ask for: one for each idle thread, and while all are busy one at a time until as much lies ready.
    /// More would keep jobs from workers that are idle.
    fn room(&self) -> Result<usize> {
        let most = 2 * self.workers;
        let ahead = self.intake.queue.ahead(&self.intake.model.name, most)?;
        Ok(if ahead >= most { 0 } else { self.workers.saturating_sub(ahead).max(1) })
    }

    fn poll(&self, wanted: usize) -> Brought {
        let busy = self.intake.queue.held_for_runpod().is_ok_and(|held| !held.is_empty());
        let asked = self.asked.clone();
        let mut wait = || if asked.is_triggered() { Err(Error::Aborted) } else { Ok(()) };
        understood(self.platform.take(wanted, busy, &mut wait))
    }

    /// Ends the jobs that are held with `reason`; where there is none, one is taken for that.
    pub(super) fn fail_held(&self, reason: &str) {
        let held = || self.intake.queue.held_for_runpod().unwrap_or_default();
        if held().is_empty() {
            let taken = self.platform.take_within(1, false, LAST_POLL, &mut || Ok(()));
            if let Brought::Jobs(jobs) = understood(taken) {
                jobs.into_iter().for_each(|job| self.accept(job));
            }
        }
        for job_id in held() {
            self.fail(&job_id, reason);
        }
    }
}

/// Takes one job only to say that this worker, and those like it, cannot do it: otherwise nobody would learn why nothing
/// is done.
pub(super) fn fail_one(platform: &Platform, reason: &str) {
    let taken = understood(platform.take_within(1, false, LAST_POLL, &mut || Ok(())));
    let Brought::Jobs(jobs) = taken else { return };
    let Platform { hostname, worker_id, .. } = platform;
    let failure = Failure { code: INIT_FAILED, message: reason, hostname, worker_id };
    let body = runpod_payload::failed(&failure, &RunpodTexts::default()).to_string();
    for id in jobs.iter().filter_map(|job| job["id"].as_str()) {
        if let Err(error) = platform.post(Place::Output, id, false, body.clone().into_bytes(), &mut || Ok(())) {
            tracing::error!(job = id, %error, "RunPod could not be told why the job is not done");
        }
    }
}

fn understood(answer: Result<Answer, OutboundError>) -> Brought {
    if was_stopped(&answer) {
        return Brought::Nothing;
    }
    match answer {
        // Nothing came within the time of a poll: as good as a 204.
        Err(OutboundError::BrokenOff(why)) if why.starts_with("nothing came") => Brought::Nothing,
        Err(error) => Brought::Trouble(error.to_string()),
        Ok(Answer { status: 204 | 400, .. }) => Brought::Nothing,
        Ok(Answer { status: 429, .. }) => Brought::TooOften,
        Ok(Answer { status: 200, body, .. }) => match serde_json::from_str(&body) {
            Ok(Value::Array(jobs)) if jobs.is_empty() => Brought::Nothing,
            Ok(Value::Array(jobs)) => Brought::Jobs(jobs),
            Ok(job @ Value::Object(_)) => Brought::Jobs(vec![job]),
            _ if body.trim().is_empty() => Brought::Nothing,
            _ => Brought::Trouble("RunPod answered something that is no job".to_owned()),
        },
        Ok(answer) => Brought::Trouble(format!("RunPod answered {}", answer.status)),
    }
}

/// Doubling, and somewhere between half and one and a half of that.
fn pause(first: Duration, times: u32, longest: Duration) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(times.saturating_sub(1).min(16)));
    doubled.min(longest).mul_f64(0.5 + fastrand::f64())
}
