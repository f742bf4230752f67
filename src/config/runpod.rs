//! What RunPod sets in the environment of its workers, and where it mounts its volume.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Secret;
use super::values::{refused, whole};
use crate::error::Result;

const DEFAULT_VOLUME: &str = "/runpod-volume";

/// A worker's way to its queue.
#[derive(Clone, Debug)]
pub struct Runpod {
    /// Where jobs are taken; present on RunPod, absent elsewhere.
    pub get_job: Option<String>,
    pub post_output: Option<String>,
    pub post_stream: Option<String>,
    pub ping: Option<String>,
    pub ping_interval: Duration,
    /// The name of this worker.
    pub pod_id: Option<String>,
    pub pod_hostname: String,
    pub gpu_type_id: Option<String>,
    /// GPUs that the worker was given.
    pub gpu_count: u64,
    pub ai_api_key: Option<Secret>,
    /// Present on RunPod.
    pub endpoint_id: Option<String>,
    /// The mount of the network volume, shared by the workers of an endpoint, and of the platform's cache of models.
    pub volume_dir: PathBuf,
}

#[derive(Default, Deserialize)]
pub(super) struct Environment {
    runpod_webhook_get_job: Option<String>,
    runpod_webhook_post_output: Option<String>,
    runpod_webhook_post_stream: Option<String>,
    runpod_webhook_ping: Option<String>,
    runpod_ping_interval: Option<String>,
    runpod_pod_id: Option<String>,
    runpod_pod_hostname: Option<String>,
    runpod_gpu_type_id: Option<String>,
    runpod_gpu_count: Option<String>,
    runpod_ai_api_key: Option<String>,
    runpod_endpoint_id: Option<String>,
    runpod_volume_dir: Option<String>,
}

impl Runpod {
    pub(super) fn read(env: Environment) -> Result<Self> {
        let interval = env.runpod_ping_interval.as_deref();
        Ok(Self {
            get_job: address("RUNPOD_WEBHOOK_GET_JOB", env.runpod_webhook_get_job)?,
            post_output: address("RUNPOD_WEBHOOK_POST_OUTPUT", env.runpod_webhook_post_output)?,
            post_stream: address("RUNPOD_WEBHOOK_POST_STREAM", env.runpod_webhook_post_stream)?,
            ping: address("RUNPOD_WEBHOOK_PING", env.runpod_webhook_ping)?,
            ping_interval: Duration::from_millis(whole("RUNPOD_PING_INTERVAL", interval, 10..=600_000, 10_000)?),
            pod_id: env.runpod_pod_id,
            pod_hostname: env.runpod_pod_hostname.unwrap_or_else(|| "unknown".to_owned()),
            gpu_type_id: env.runpod_gpu_type_id,
            gpu_count: whole("RUNPOD_GPU_COUNT", env.runpod_gpu_count.as_deref(), 0..=64, 0)?,
            ai_api_key: env.runpod_ai_api_key.map(Secret::new),
            endpoint_id: env.runpod_endpoint_id,
            volume_dir: env.runpod_volume_dir.unwrap_or_else(|| DEFAULT_VOLUME.to_owned()).into(),
        })
    }
}

fn address(name: &str, value: Option<String>) -> Result<Option<String>> {
    match value {
        Some(value) if !value.starts_with("http://") && !value.starts_with("https://") => {
            Err(refused(name, &value, "an http:// or https:// address"))
        }
        value => Ok(value),
    }
}
