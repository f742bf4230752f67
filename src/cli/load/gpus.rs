//! The server's GPUs while it is under load: looked at once a second, summed up at the end.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use crate::error::Result;
use crate::gpu::GpuUsage;
use crate::http_client::{Api, ApiError};
use crate::shutdown::Shutdown;

const PERIOD: Duration = Duration::from_secs(1);

/// One GPU over the whole phase.
#[derive(Debug, PartialEq)]
pub(super) struct Gpu {
    pub(super) name: String,
    /// The mean of what the driver told, if it did.
    pub(super) utilization_percent: Option<f64>,
    pub(super) memory_peak_bytes: Option<u64>,
    pub(super) memory_total_bytes: Option<u64>,
}

/// The part of GET /system that matters here.
#[derive(Deserialize)]
struct System {
    #[serde(default)]
    gpu: Vec<GpuUsage>,
}

pub(super) fn usage(api: &Api) -> Result<Vec<GpuUsage>, ApiError> {
    Ok(api.get::<System>(&["system"], &[])?.gpu)
}

/// A thread that looks until it is told to stop.
pub(super) struct Sampler {
    stop: Shutdown,
    thread: JoinHandle<Vec<Vec<GpuUsage>>>,
}

impl Sampler {
    pub(super) fn start(api: &Api) -> Result<Self> {
        let (api, stop) = (api.clone(), Shutdown::default());
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("gpu-sampler".to_owned())
            .spawn(move || sample(&api, &stopped))
            .context("cannot start the thread that watches the GPUs")?;
        Ok(Self { stop, thread })
    }

    pub(super) fn finish(self) -> Vec<Gpu> {
        self.stop.trigger();
        // A thread that panicked has told so itself; its figures are missing, and that is all.
        summary(&self.thread.join().unwrap_or_default())
    }
}

/// A look that fails is one sample less.
fn sample(api: &Api, stop: &Shutdown) -> Vec<Vec<GpuUsage>> {
    let mut samples = Vec::new();
    loop {
        samples.extend(usage(api));
        if stop.wait(PERIOD) {
            return samples;
        }
    }
}

/// One line per GPU, which is told by its place in the list.
fn summary(samples: &[Vec<GpuUsage>]) -> Vec<Gpu> {
    let gpus = samples.iter().map(Vec::len).max().unwrap_or(0);
    (0..gpus)
        .filter_map(|n| {
            let seen: Vec<&GpuUsage> = samples.iter().filter_map(|sample| sample.get(n)).collect();
            let first = seen.first()?;
            Some(Gpu {
                name: first.name.clone(),
                utilization_percent: mean(seen.iter().filter_map(|gpu| gpu.utilization_percent)),
                memory_peak_bytes: seen.iter().filter_map(|gpu| gpu.memory_used_bytes).max(),
                memory_total_bytes: first.memory_total_bytes,
            })
        })
        .collect()
}

fn mean(values: impl Iterator<Item = u32>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + f64::from(value), count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(utilization_percent: Option<u32>, memory_used_bytes: u64) -> GpuUsage {
        let (used, total) = (Some(memory_used_bytes), Some(100));
        GpuUsage { name: "A".to_owned(), utilization_percent, memory_used_bytes: used, memory_total_bytes: total }
    }

    #[test]
    fn utilization_is_a_mean_and_memory_a_peak() {
        let samples = [vec![look(Some(10), 7), look(None, 1)], vec![look(Some(25), 9)], vec![look(None, 3)]];
        let gpus = summary(&samples);
        assert_eq!(gpus.len(), 2);
        assert_eq!((gpus[0].utilization_percent, gpus[0].memory_peak_bytes), (Some(17.5), Some(9)));
        assert_eq!((gpus[1].utilization_percent, gpus[1].memory_peak_bytes), (None, Some(1)));
        assert_eq!(summary(&[]), []);
    }
}
