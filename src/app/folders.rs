//! The folders that the settings name: where data may be kept, and where models are looked for.

use std::os::unix::fs::DirBuilderExt;

use crate::config::{Config, Secret};
use crate::error::{Error, Result};
use crate::models::{self, Hub, ModelFile, Places};

/// Recordings and transcripts are nobody else's business, and no other machine's.
pub(super) fn create_data_dir(config: &Config) -> Result<()> {
    let path = &config.data_dir;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
        Error::Config(format!(
            "cannot create DATA_DIR={}: {error}; set DATA_DIR to a folder you can write",
            path.display()
        ))
    })?;
    // The same volume is mounted by every worker of an endpoint, at times by a file system that looks like a local one.
    let volume = &config.runpod.volume_dir;
    match (path.canonicalize(), volume.canonicalize()) {
        (Ok(data), Ok(shared)) if data.starts_with(&shared) => Err(Error::Config(format!(
            "DATA_DIR={} is on the volume {}, which other workers share: their databases would damage each other; set \
             DATA_DIR to a folder on the worker's own disk, or leave it unset",
            path.display(),
            volume.display()
        ))),
        _ => Ok(()),
    }
}

pub(super) fn model_places(config: &Config) -> Places<'_> {
    Places { model_dir: &config.model_dir, volume: &config.runpod.volume_dir }
}

/// The model of the settings, fetched if it is nowhere: for a worker that nobody is there to set up.
///
/// # Errors
/// `Config` where there is none or it cannot be had, saying what to do; `Internal` where fetching fails.
pub fn provide_model(config: &Config) -> Result<ModelFile> {
    let hub = Hub { endpoint: &config.hf_endpoint, token: config.hf_token.as_ref().map(Secret::reveal) };
    models::locate_or_pull(model_places(config), &config.model_name, hub)
}
