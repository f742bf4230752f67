//! `whisperq serve`: the HTTP service over the local queue, until it is told to stop.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Done, interrupt, report};
use crate::app::App;
use crate::config::Config;
use crate::error::Result;
use crate::http::{Server, Settings};
use crate::shutdown::Shutdown;

/// Serve the HTTP API: submit recordings, watch them, fetch transcripts.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq serve\n\nHOST, PORT and API_KEY are settings; the README lists them.")]
pub(super) struct Args {}

pub(super) fn run(config: &Config) -> Result<Done> {
    let settings = Settings {
        address: SocketAddr::new(config.host, config.port),
        api_keys: config.api_keys.clone(),
        cors_origins: config.cors_origins.clone(),
        max_audio_bytes: config.max_audio_bytes,
    };
    let server = Server::bind(&settings)?;
    let shutdown = Shutdown::default();
    interrupt::watch(&shutdown)?;
    let app = App::start(config, "serve", false, &shutdown)?;
    report(&format!("serving {} on http://{}", app.intake().model.name, server.address()?));
    if settings.api_keys.is_empty() && !config.host.is_loopback() {
        report("warning: without API_KEY everyone who reaches this address may use it");
    }
    let served = server.run(app.intake().clone(), &settings, &shutdown, config.shutdown);
    let stopping = Instant::now();
    app.shut_down(config.shutdown.saturating_sub(stopping.elapsed()))?;
    served.map(|()| Done::Well)
}
