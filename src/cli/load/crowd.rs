//! Clients at work side by side: each takes the next request until none is left.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::super::progress::Count;
use super::client::{Outcome, request};
use crate::error::Result;
use crate::http_client::Api;
use crate::shutdown::Shutdown;

/// How often an interruption is looked for while no request ends.
const LOOK: Duration = Duration::from_millis(200);
/// After an interruption, clients have this long to cancel their jobs; an upload that takes longer ends with the process.
const FAREWELL: Duration = Duration::from_secs(2);

/// What all clients share.
pub(super) struct Target {
    pub(super) api: Api,
    pub(super) files: Vec<PathBuf>,
    pub(super) shutdown: Shutdown,
}

/// Some clients and how their requests went.
pub(super) struct Phase {
    pub(super) clients: usize,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) wall: Duration,
}

impl Phase {
    pub(super) fn failures(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.result.is_err()).count()
    }
}

/// Sends so many requests, the files in turn, from so many clients at once.
pub(super) fn send(target: &Arc<Target>, clients: usize, requests: usize) -> Result<Phase> {
    let begun = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let (sender, outcomes) = channel();
    for n in 0..clients.min(requests) {
        let (target, next, sender) = (target.clone(), next.clone(), sender.clone());
        std::thread::Builder::new()
            .name(format!("client-{n}"))
            .spawn(move || work(&target, &next, requests, &sender))
            .context("cannot start a client: lower --clients")?;
    }
    // The clients hold the other ends: the last one to finish closes the channel.
    drop(sender);
    let outcomes = collect(&outcomes, &target.shutdown, &Count::new(requests, clients));
    Ok(Phase { clients, outcomes, wall: begun.elapsed() })
}

fn work(target: &Target, next: &AtomicUsize, requests: usize, outcomes: &Sender<Outcome>) {
    while !target.shutdown.is_triggered() {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= requests {
            return;
        }
        let file = n % target.files.len();
        let Some(outcome) = request(&target.api, &target.files[file], file, &target.shutdown) else { return };
        if outcomes.send(outcome).is_err() {
            return;
        }
    }
}

/// Every outcome until the clients are gone or, after an interruption, the time for it is over.
fn collect(outcomes: &Receiver<Outcome>, shutdown: &Shutdown, progress: &Count) -> Vec<Outcome> {
    let mut ended: Vec<Outcome> = Vec::new();
    let mut interrupted: Option<Instant> = None;
    while interrupted.is_none_or(|since| since.elapsed() < FAREWELL) {
        match outcomes.recv_timeout(LOOK) {
            Ok(outcome) => ended.push(outcome),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        progress.show(ended.len());
        if interrupted.is_none() && shutdown.is_triggered() {
            interrupted = Some(Instant::now());
        }
    }
    ended
}
