//! How busy and how full the GPUs are, from NVIDIA's management library. It is loaded when the program runs: a machine
//! without it has no figures, and nothing else changes.

use std::sync::OnceLock;

use nvml_wrapper::Nvml;
use serde::{Deserialize, Serialize};

/// One GPU at this moment. What the driver does not tell is absent: a slice of a GPU has no utilization of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuUsage {
    pub name: String,
    /// The share of the last moments in which it computed anything.
    pub utilization_percent: Option<u32>,
    pub memory_used_bytes: Option<u64>,
    pub memory_total_bytes: Option<u64>,
}

/// Every GPU that the driver shows, in its order; none without the library.
pub fn usage() -> Vec<GpuUsage> {
    static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
    let Some(nvml) = NVML.get_or_init(open) else { return Vec::new() };
    let count = nvml.device_count().unwrap_or(0);
    (0..count).filter_map(|index| read(nvml, index)).collect()
}

fn open() -> Option<Nvml> {
    let opened = Nvml::init();
    if let Err(error) = &opened {
        tracing::debug!(%error, "no GPU figures");
    }
    opened.ok()
}

/// A GPU that fell off the bus is left out.
fn read(nvml: &Nvml, index: u32) -> Option<GpuUsage> {
    let device = nvml.device_by_index(index).ok()?;
    let memory = device.memory_info().ok();
    Some(GpuUsage {
        name: device.name().ok()?,
        utilization_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        memory_used_bytes: memory.as_ref().map(|memory| memory.used),
        memory_total_bytes: memory.as_ref().map(|memory| memory.total),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_twice_gives_the_same_gpus_and_never_fails() {
        let names = || usage().into_iter().map(|gpu| gpu.name).collect::<Vec<_>>();
        assert_eq!(names(), names());
    }

    #[test]
    fn figures_that_the_driver_does_not_tell_are_null() {
        let gpu = GpuUsage {
            name: "A".to_owned(),
            utilization_percent: None,
            memory_used_bytes: Some(1),
            memory_total_bytes: Some(2),
        };
        let json = serde_json::to_string(&gpu).unwrap();
        assert_eq!(json, r#"{"name":"A","utilization_percent":null,"memory_used_bytes":1,"memory_total_bytes":2}"#);
        assert_eq!(serde_json::from_str::<GpuUsage>(&json).unwrap(), gpu);
    }
}
