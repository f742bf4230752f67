//! One GET streamed into a writer.

use std::io::{self, Read, Write};
use std::time::Duration;

use reqwest::blocking::{Client, Response};

use super::{CONNECT_TIMEOUT, USER_AGENT, innermost, install_provider};

/// The longest silence within a transfer. It bounds one read and not the whole, which may take an hour.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Large enough that calls are few, small enough that progress moves on a slow line.
const BUFFER_BYTES: usize = 256 * 1024;

/// Told after each piece: bytes so far, and all of them where the server said.
pub type Progress<'a> = dyn FnMut(u64, Option<u64>) + 'a;

/// Why a download failed. No variant names the host or the address, which may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server answered, but not with the file.
    #[error("the server answered {0}")]
    Status(u16),
    /// No connection, or one that broke before the end.
    #[error("{0}")]
    Transfer(String),
    /// The bytes arrived and could not be stored.
    #[error("cannot write the file: {0}")]
    Write(#[source] io::Error),
}

/// Streams the body at `url` into `out` and returns its length in bytes. Follows up to ten redirects; the token goes to
/// the first host alone. A body shorter than announced is an error.
pub fn download(
    url: &str,
    bearer_token: Option<&str>,
    out: &mut dyn Write,
    progress: &mut Progress,
) -> Result<u64, DownloadError> {
    let mut request = client()?.get(url);
    if let Some(token) = bearer_token {
        request = request.bearer_auth(token);
    }
    let response = request.send().map_err(transfer)?;
    if !response.status().is_success() {
        return Err(DownloadError::Status(response.status().as_u16()));
    }
    copy(response, out, progress)
}

fn copy(mut body: Response, out: &mut dyn Write, progress: &mut Progress) -> Result<u64, DownloadError> {
    let total_bytes = body.content_length();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done_bytes = 0;
    loop {
        let count = body.read(&mut buffer).map_err(broken_off)?;
        if count == 0 {
            return Ok(done_bytes);
        }
        out.write_all(&buffer[..count]).map_err(DownloadError::Write)?;
        done_bytes += count as u64;
        progress(done_bytes, total_bytes);
    }
}

fn client() -> Result<Client, DownloadError> {
    install_provider();
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(READ_TIMEOUT)
        .build()
        .map_err(transfer)
}

fn transfer(error: reqwest::Error) -> DownloadError {
    DownloadError::Transfer(innermost(&error))
}

fn broken_off(error: io::Error) -> DownloadError {
    DownloadError::Transfer(format!("the transfer broke off: {}", innermost(&error)))
}
