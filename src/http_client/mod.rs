//! HTTP from our side: a plain [`download()`], and [`Api`], the client of a whisperq server. Both go to addresses that the
//! operator chose and do not guard against private ones; both block, so they must not be called from a thread of an async
//! runtime.

mod api;
mod download;

pub use api::{Api, ApiError};
pub use download::{DownloadError, Progress, download};

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
