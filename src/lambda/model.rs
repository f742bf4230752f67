//! The model of a function: from the image or a layer, or fetched once from S3; and whether the function's memory can hold it.

use std::path::PathBuf;

use anyhow::{Context, anyhow};

use crate::app::open_storage;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::models::{self, ModelFile};
use crate::storage::Wanted;
use crate::whisper::Demand;

const MIB: u64 = 1 << 20;
/// Among what is fetched for jobs.
const FETCH: &str = "model";

/// The settings with the model where it can be loaded from.
///
/// # Errors
/// `Config` where there is none, or none that fits into the memory.
pub(super) fn place(config: &Config) -> Result<Config> {
    let mut config = config.clone();
    if let Some(uri) = &config.lambda.model_uri {
        config.model_name = fetched(&config, uri)?.display().to_string();
    }
    let model = models::find(&config.model_dir, &config.model_name)?;
    if let Some(memory_mib) = config.lambda.memory_mib {
        check_memory(&model, &config, memory_mib)?;
    }
    Ok(config)
}

/// The file of the object; one that is there already, in the image or from an earlier start, is not fetched again.
fn fetched(config: &Config, uri: &str) -> Result<PathBuf> {
    let name = uri.rsplit('/').next().unwrap_or_default();
    let folder = config.data_dir.join("models");
    let places = [config.model_dir.join(name), folder.join(name)];
    if let Some(there) = places.iter().find(|path| path.is_file()) {
        return Ok(there.clone());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let wanted = Wanted { job_id: FETCH, attempt: 1, source: uri, sealed: &[], version: None, max_bytes: u64::MAX };
    let fetched = open_storage(config)?.recording(&wanted, &mut || Ok(()));
    let fetched = fetched.map_err(|error| Error::Config(format!("LAMBDA_MODEL_URI: {error}")))?;
    let [_, path] = places;
    std::fs::rename(fetched.path(), &path)
        .map_err(|error| anyhow!("cannot move the model to {}: {error}", path.display()))?;
    tracing::info!(model = uri, "fetched the model");
    Ok(path)
}

fn check_memory(model: &ModelFile, config: &Config, memory_mib: u64) -> Result<()> {
    let workers = config.worker_count;
    // Without a GPU one copy of the weights serves them all.
    let needed_mib = Demand::new(&model.header, 1, workers).host_bytes().div_ceil(MIB);
    if needed_mib <= memory_mib {
        return Ok(());
    }
    Err(Error::Config(format!(
        "the function has {memory_mib} MiB of memory, and the model {} with WORKER_COUNT={workers} \
         needs about {needed_mib} MiB ({} MiB of it the model itself): give the function \
         {needed_mib} MiB or more, lower WORKER_COUNT, or choose a smaller or quantized model",
        model.name,
        model.header.file_bytes.div_ceil(MIB),
    )))
}
