//! `whisperq serve`: the HTTP service over the local queue, until it is told to stop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Done, interrupt, report};
use crate::app::App;
use crate::config::Config;
use crate::error::Result;
use crate::http::{Server, Settings};
use crate::shutdown::Shutdown;
use crate::supervise::{follow_parent, raise_file_limit, supervise};

/// Serve the HTTP API: submit recordings, watch them, fetch transcripts. This is also what whisperq does without a command.
#[derive(clap::Args, Default)]
#[command(after_help = "Example: whisperq serve\n\nHOST, PORT and API_KEY are settings; the README lists them.")]
pub(super) struct Args {
    /// Set for the child that does the work: the number of the process that watches over it.
    #[arg(long, hide = true)]
    child_of: Option<u32>,
}

/// The engine can take its process down, so the service runs in a child that comes back.
pub(super) fn run(args: &Args, config: &Config) -> Result<Done> {
    let Some(parent) = args.child_of else {
        return Ok(Done::WithCode(supervise(&["serve".into(), "--child-of".into()])?));
    };
    follow_parent(parent)?;
    serve(config)
}

fn serve(config: &Config) -> Result<Done> {
    let settings = Settings {
        api_keys: config.api_keys.clone(),
        cors_origins: config.cors_origins.clone(),
        max_audio_bytes: config.max_audio_bytes,
    };
    let server = Server::bind(SocketAddr::new(config.host, config.port), raise_file_limit()?)?;
    let shutdown = Shutdown::default();
    interrupt::watch(&shutdown)?;
    let app = App::start(config, "serve", false, &shutdown)?;
    report(&format!("serving {} on http://{}", app.intake().model.name, server.address()?));
    if settings.api_keys.is_empty() && !config.host.is_loopback() {
        report("warning: without API_KEY everyone who reaches this address may use it");
    }
    let served = server.run(app.intake().clone(), &settings, &shutdown, config.shutdown);
    // One grace for both: running work goes on while the last requests end.
    let spent = served.as_ref().map_or(Duration::ZERO, Instant::elapsed);
    app.shut_down(config.shutdown.saturating_sub(spent))?;
    served.map(|_| Done::Well)
}
