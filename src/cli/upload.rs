//! `whisperq upload`: a recording into the bucket that takes uploads, and the name to submit it under.

use std::path::PathBuf;

use anyhow::anyhow;
use serde::Deserialize;

use super::{Done, say, usual_key};
use crate::app;
use crate::config::Config;
use crate::error::Result;
use crate::http_client::{Api, Outbound, Patience, Reach, Target, Url};

/// Send a recording to UPLOAD_BUCKET and print its s3:// name, to submit as `audio`.
///
/// The address to send to is signed here, with this machine's own AWS credentials, or by a server.
#[derive(clap::Args)]
#[command(after_help = "Example: whisperq upload --server http://127.0.0.1:8080 talk.mp3")]
pub(super) struct Args {
    file: PathBuf,
    /// Have this whisperq sign the address, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// One of that server's keys [default: the first one in API_KEY]
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
}

/// What `POST /uploads` answers, as far as it is needed here.
#[derive(Deserialize)]
struct Place {
    url: String,
    audio: String,
}

pub(super) fn run(args: &Args, config: &Config) -> Result<Done> {
    let name = args.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let place = match &args.server {
        Some(server) => {
            let api = Api::new(server, args.api_key.as_deref().or(usual_key(config)))?;
            api.post_json(&["uploads"], &serde_json::json!({"name": name}))?
        }
        None => {
            let storage = app::open_storage(config)?;
            let upload = app::new_upload(&storage, config.upload_bucket.as_deref(), &name)?;
            Place { url: upload.url, audio: upload.audio }
        }
    };
    send(&place, &args.file)?;
    say(&format!("{}\n", place.audio))?;
    Ok(Done::Well)
}

fn send(place: &Place, file: &std::path::Path) -> Result<()> {
    let wrong = |_| anyhow!("the server gave no address to send to; check that --server names a whisperq");
    let url = Url::parse(&place.url).map_err(wrong)?;
    // Whoever types the command chose the server, and with it where it sends him.
    let target = Target { url, headers: Vec::new(), reach: Reach::Anywhere };
    let answer = Outbound::new(true, Patience::default()).put_file(&target, file);
    let answer = answer.map_err(|error| anyhow!("cannot send {} to {}: {error}", file.display(), place.audio))?;
    if answer.is_success() { Ok(()) } else { Err(app::upload_refused(&place.audio, &answer)) }
}
