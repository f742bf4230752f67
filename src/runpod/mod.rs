//! A worker of RunPod's: takes jobs from its queue, tells which it holds and how far they are, stops those it is told to.
//! Results leave as deliveries, and a job that was taken is a row here before anything else happens to it.

mod accept;
mod check;
mod heartbeat;
mod local;
mod report;
mod stop;
mod take;

use std::sync::Arc;
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::app::{App, Intake, open_platform};
use crate::config::Config;
use crate::deliver::Outlet;
use crate::error::{Error, Result};
use crate::http_client::OutboundError;
use crate::runpod_platform::{Platform, Unhealthy};
use crate::shutdown::Shutdown;
pub use local::{Tested, test};

/// How often it is looked whether the worker is to end.
const LOOK: Duration = Duration::from_millis(100);
/// For the one message that it cannot work.
const UNHEALTHY_TIME: Duration = Duration::from_secs(2);
const MAX_REASON_CHARS: usize = 256;
/// How long a worker whose model did not load tries to say so to those who wait for its jobs.
const LAST_WORDS: Duration = Duration::from_secs(60);

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it was asked to.
    Asked,
    /// It cannot work on this machine, has said so, and is not to be started again.
    Unfit,
}

/// What the threads of a worker share.
struct Desk {
    platform: Platform,
    intake: Intake,
    outlet: Arc<Outlet>,
    workers: usize,
    max_audio_bytes: u64,
    /// The request to stop: nothing is taken any more.
    asked: Shutdown,
    /// No message of a job is left to send.
    over: Shutdown,
}

/// Works until `asked`, then ends what it has taken, within SHUTDOWN_SECONDS.
///
/// # Errors
/// `Config` without RUNPOD_WEBHOOK_GET_JOB.
pub fn run(config: &Config, asked: &Shutdown) -> Result<Ending> {
    let missing = || Error::Config("RUNPOD_WEBHOOK_GET_JOB is not set: RunPod sets it for its workers".to_owned());
    let platform = open_platform(config).ok_or_else(missing)?;
    let running = Shutdown::default();
    let started = check::start(config).and_then(|()| {
        App::start_worker(config, platform.clone(), &running).map_err(|error| ("start", error.to_string()))
    });
    let (app, outlet) = match started {
        Ok(started) => started,
        Err((check, reason)) => {
            tracing::error!(check, reason, "this worker cannot work");
            say_unhealthy(&platform, check, &reason);
            // The other workers of the endpoint have no better model; a better disk they may have.
            if check == check::MODEL {
                take::fail_one(&platform, &reason);
            }
            return Ok(Ending::Unfit);
        }
    };
    let desk = Desk {
        platform,
        intake: app.intake().clone(),
        outlet,
        workers: config.worker_count,
        max_audio_bytes: config.max_audio_bytes,
        asked: asked.clone(),
        over: Shutdown::default(),
    };
    tracing::info!(worker = desk.platform.worker_id, model = app.intake().model.name, "taking jobs from RunPod");
    let ended = std::thread::scope(|scope| {
        let ended = desk.work(scope, &app, config);
        // The threads wait for these, also where one of them could not be started.
        desk.asked.trigger();
        desk.over.trigger();
        ended
    });
    let left = ended.as_ref().map_or(Duration::ZERO, |(_, left)| *left);
    // Webhooks that are under way have the rest of the time.
    app.shut_down(left)?;
    ended.map(|(ending, _)| ending)
}

impl Desk {
    fn work<'a>(&'a self, scope: &'a Scope<'a, '_>, app: &App, config: &'a Config) -> Result<(Ending, Duration)> {
        let start = |name: &str, run: Box<dyn FnOnce() + Send + 'a>| {
            Builder::new().name(name.to_owned()).spawn_scoped(scope, run).context("cannot start a thread")
        };
        start("runpod-ping", Box::new(|| self.beat(config.runpod.ping_interval)))?;
        start("runpod-report", Box::new(|| self.report()))?;
        start("runpod-stop", Box::new(|| self.listen()))?;
        let taking = start("runpod-take", Box::new(|| self.take()))?;
        while !self.asked.wait(LOOK) && !app.is_dead() {}
        let ending = if app.is_dead() { Ending::Unfit } else { Ending::Asked };
        self.asked.trigger();
        // What was in the answer to the last poll is a job by then. A panic there was printed.
        let _ = taking.join();
        if ending == Ending::Unfit {
            self.report_dead();
        }
        let left = self.drain(if ending == Ending::Unfit { LAST_WORDS } else { config.shutdown });
        Ok((ending, left))
    }

    /// Waits until RunPod has the result of every job that was taken, or for so long; returns what is left of that.
    fn drain(&self, most: Duration) -> Duration {
        let end = Instant::now() + most;
        loop {
            let seen = self.intake.queue.wake().seen();
            let held = self.intake.queue.held_for_runpod();
            let left = end.saturating_duration_since(Instant::now());
            match held {
                Ok(held) if held.is_empty() => return left,
                Ok(held) if left.is_zero() => {
                    tracing::warn!("ending with {} jobs undone: the next start with this DATA_DIR goes on", held.len());
                    return left;
                }
                _ if left.is_zero() => return left,
                _ => self.intake.queue.wake().wait(seen, LOOK.min(left)),
            }
        }
    }

    /// The model did not load: whoever waits for a job here learns it now, and not when the job has run out of time.
    fn report_dead(&self) {
        const REASON: &str = "the model could not be loaded: see the worker's log";
        tracing::error!("no worker could load the model: ending");
        say_unhealthy(&self.platform, "model", REASON);
        self.fail_held(REASON);
    }
}

fn say_unhealthy(platform: &Platform, check: &str, reason: &str) {
    let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
    match platform.unhealthy(&Unhealthy { check, reason: &reason }, UNHEALTHY_TIME) {
        Err(error) if platform.has_ping() => tracing::warn!(%error, "RunPod was not told"),
        _ => {}
    }
}

/// Whether a request was given up because the worker ends.
fn was_stopped<T>(result: &Result<T, OutboundError>) -> bool {
    matches!(result, Err(OutboundError::Stopped(_)))
}
