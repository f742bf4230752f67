//! The way from a handler to the database and back: SQLite blocks, so its work never runs on a thread of the runtime.

use anyhow::Context;

use super::error::Result;
use crate::error::Error;

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> crate::error::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await.context("a request's work panicked");
    Ok(done.map_err(Error::Internal)??)
}
