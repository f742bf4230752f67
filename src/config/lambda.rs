//! What AWS Lambda sets in the environment of a function, and the settings that matter only there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::values::{refused, truth, whole};
use crate::error::Result;

/// The one place that can be written there.
const WRITABLE: &str = "/tmp";
/// Where layers are unpacked.
const LAYERS: &str = "/opt/models";

/// The surroundings of a function.
#[derive(Clone, Debug)]
pub struct Lambda {
    /// Host and port, perhaps with a path, of where invocations are taken; present on Lambda, absent elsewhere.
    pub runtime_api: Option<String>,
    pub memory_mib: Option<u64>,
    /// Of this very instance.
    pub instance: String,
    /// Whether a submit may be answered before its job is done, although the instance may then stop for good.
    pub allow_ephemeral: bool,
    /// An answer leaves so long before the invocation's deadline.
    pub margin: Duration,
    /// The model as an object in S3, fetched where it is not found on disk.
    pub model_uri: Option<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct Environment {
    aws_lambda_runtime_api: Option<String>,
    aws_lambda_function_memory_size: Option<String>,
    aws_lambda_log_stream_name: Option<String>,
    lambda_allow_ephemeral: Option<String>,
    lambda_margin_ms: Option<String>,
    lambda_model_uri: Option<String>,
}

impl Lambda {
    pub(super) fn read(env: Environment) -> Result<Self> {
        let memory = env.aws_lambda_function_memory_size.as_deref();
        Ok(Self {
            runtime_api: env.aws_lambda_runtime_api,
            memory_mib: Some(whole("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory, 0..=1_000_000, 0)?)
                .filter(|mib| *mib > 0),
            instance: env.aws_lambda_log_stream_name.unwrap_or_else(|| "unnamed".to_owned()),
            allow_ephemeral: truth("LAMBDA_ALLOW_EPHEMERAL", env.lambda_allow_ephemeral.as_deref())?,
            margin: Duration::from_millis(whole(
                "LAMBDA_MARGIN_MS",
                env.lambda_margin_ms.as_deref(),
                100..=60_000,
                1_000,
            )?),
            model_uri: model_uri(env.lambda_model_uri)?,
        })
    }

    /// Where data lies that no setting names.
    pub(super) fn data_dir(&self) -> Option<PathBuf> {
        self.runtime_api.as_ref().map(|_| Path::new(WRITABLE).join("whisperq"))
    }

    /// The same for models: those of a layer, where there are any.
    pub(super) fn model_dir(&self) -> Option<PathBuf> {
        let layers = Path::new(LAYERS);
        self.runtime_api
            .as_ref()
            .map(|_| if layers.is_dir() { layers.to_owned() } else { Path::new(WRITABLE).join("models") })
    }

    /// As many as there are cores, which follow the memory there.
    pub(super) fn worker_count(&self) -> Option<u64> {
        self.runtime_api.as_ref().map(|_| std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64))
    }
}

fn model_uri(value: Option<String>) -> Result<Option<String>> {
    let name =
        |uri: &str| uri.strip_prefix("s3://").is_some_and(|object| object.contains('/') && object.ends_with(".bin"));
    match value {
        Some(uri) if !name(&uri) => {
            // The query of an address may be a signature.
            let shown = uri.split(['?', '@']).next().unwrap_or_default();
            Err(refused("LAMBDA_MODEL_URI", shown, "an object such as s3://bucket/ggml-tiny.en.bin"))
        }
        uri => Ok(uri),
    }
}
