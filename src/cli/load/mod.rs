//! `whisperq load`: the same recordings by one client and then by several at once, against a running server, and what that
//! says about it.

mod client;
mod crowd;
mod figures;
mod gpus;
mod tables;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde::de::IgnoredAny;

use super::{Done, interrupt, report, say, usual_key};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http_client::Api;
use crate::shutdown::Shutdown;
use crate::supervise::raise_file_limit;
use crowd::{Phase, Target};
use gpus::{Gpu, Sampler};

/// Enough that every client comes to wait for the others.
const REQUESTS_PER_CLIENT: u64 = 2;
/// Each client is a thread here and a connection there.
const MAX_CLIENTS: u64 = 1000;
/// The largest model, from a slow disk, is loaded by then.
const READY_TIMEOUT: Duration = Duration::from_secs(600);
const READY_PAUSE: Duration = Duration::from_millis(500);
const UNAVAILABLE: u16 = 503;

/// Measure a server: recordings by one client, then by several at once.
///
/// Every request uploads a recording and waits for its transcript. Start the server with whisperq serve.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq load --clients 4 talk.mp3 interview.wav memo.m4a lecture.flac")]
pub(super) struct Args {
    /// Recordings, taken in turn
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Clients at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS))]
    clients: u64,
    /// Address of the server [default: the one on this machine at PORT]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// One of the server's keys [default: the first one in API_KEY]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Requests of all clients together, at least one per recording [default: two per client]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
}

impl Args {
    fn requests(&self) -> usize {
        let wanted = self.requests.unwrap_or(self.clients * REQUESTS_PER_CLIENT);
        (wanted as usize).max(self.files.len())
    }
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Done> {
    for file in &args.files {
        check(file)?;
    }
    raise_file_limit()?;
    let local = format!("http://127.0.0.1:{}", config.port);
    let api = Api::new(args.server.as_deref().unwrap_or(&local), args.api_key.as_deref().or(usual_key(config)))?;
    let shutdown = Shutdown::default();
    interrupt::watch(&shutdown)?;
    let target = Arc::new(Target { api, files: args.files.clone(), shutdown });
    wait_until_ready(&target)?;
    let (phases, gpus) = measure(&target, args)?;
    say(&tables::render(&target.files, &phases, &gpus)?)?;
    Ok(verdict(&phases, target.shutdown.is_triggered()))
}

/// A typing error is found before anything is measured.
fn check(file: &PathBuf) -> Result<()> {
    let name = file.display();
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Error::invalid("not_a_file", format!("{name} is not a file: name a recording"))),
        Err(error) => Err(Error::invalid("unreadable_file", format!("cannot read {name}: {error}; check the path"))),
    }
}

/// The first requests would otherwise measure how long a model takes to load.
fn wait_until_ready(target: &Target) -> Result<()> {
    let begun = Instant::now();
    while let Err(error) = target.api.get::<IgnoredAny>(&["health"], &[]) {
        if error.status() != Some(UNAVAILABLE) {
            return Err(error.into());
        }
        if begun.elapsed() > READY_TIMEOUT {
            return Err(anyhow!("no worker of the server became ready: see its log, or GET /system").into());
        }
        if target.shutdown.wait(READY_PAUSE) {
            return Err(anyhow!("interrupted before a worker of the server was ready").into());
        }
    }
    Ok(())
}

/// One client alone and then all of them, with an eye on the GPUs.
fn measure(target: &Arc<Target>, args: &Args) -> Result<(Vec<Phase>, Vec<Gpu>)> {
    // Shows before any upload whether the key is right.
    let has_gpus = !gpus::usage(&target.api)?.is_empty();
    let mut phases = vec![crowd::send(target, 1, target.files.len())?];
    if target.shutdown.is_triggered() {
        return Ok((phases, Vec::new()));
    }
    let sampler = has_gpus.then(|| Sampler::start(&target.api)).transpose()?;
    phases.push(crowd::send(target, args.clients as usize, args.requests())?);
    Ok((phases, sampler.map(Sampler::finish).unwrap_or_default()))
}

fn verdict(phases: &[Phase], interrupted: bool) -> Done {
    let failures: usize = phases.iter().map(Phase::failures).sum();
    let requests: usize = phases.iter().map(|phase| phase.outcomes.len()).sum();
    if failures > 0 {
        report(&format!("{failures} of {requests} requests failed"));
    }
    if interrupted {
        report("interrupted: the figures are of what had ended by then");
    }
    if failures > 0 || interrupted { Done::WithFailures } else { Done::Well }
}
