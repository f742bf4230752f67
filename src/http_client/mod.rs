//! HTTP from our side: a plain [`download()`] and [`Api`], the client of a whisperq server, for addresses that the operator
//! chose; and [`Outbound`], which guards those that users name. All of them block, so they must not be called from a thread of
//! an async runtime.

mod api;
mod download;
mod fetch;
mod guard;
mod outbound;
mod poll;

pub use api::{Api, ApiError};
pub use download::{DownloadError, Progress, download};
pub use fetch::Fetched;
pub use outbound::{Answer, Outbound, OutboundError, Patience, Reach, Target, Wait, block_on};
pub use poll::Poll;
pub use reqwest::Url;

use std::sync::Once;
use std::time::Duration;

/// A machine without network should say so soon; a reachable host answers in well under a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("whisperq/", env!("CARGO_PKG_VERSION"));

/// Comes before the first client: they find the crypto provider here.
fn install_provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error only means that another part of the process has installed one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// The deepest cause says what happened ("connection refused"); the layers above repeat the address.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| (*error).source()).last().unwrap_or(error).to_string()
}
