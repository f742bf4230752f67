//! What must be there before a worker takes its first job. What these checks find, no job could be done with.

use crate::app;
use crate::config::Config;
use crate::db;
use crate::whisper;

/// The name of a check, and what it found.
pub(super) type Unfit = (&'static str, String);

pub(super) const MODEL: &str = "model";
/// Room for the decoded audio of a few recordings and what SQLite writes.
const MIN_DISK_BYTES: u64 = 512 * 1024 * 1024;

pub(super) fn start(config: &Config) -> Result<(), Unfit> {
    let model = app::provide_model(config).map_err(|error| (MODEL, error.to_string()))?;
    std::fs::File::open(&model.path).map_err(|error| (MODEL, format!("{}: {error}", model.path.display())))?;
    if cfg!(feature = "cuda") && config.runpod.gpu_count > 0 && whisper::gpus().is_empty() {
        let reason = format!("RUNPOD_GPU_COUNT={}, but no GPU can be used", config.runpod.gpu_count);
        return Err(("gpu", reason));
    }
    std::fs::create_dir_all(&config.data_dir)
        .map_err(|error| ("disk", format!("{}: {error}", config.data_dir.display())))?;
    let free = db::free_bytes(&config.data_dir).map_err(|error| ("disk", error.to_string()))?;
    if free < MIN_DISK_BYTES {
        return Err(("disk", format!("{} has {free} bytes left of {MIN_DISK_BYTES}", config.data_dir.display())));
    }
    Ok(())
}
