//! The GPUs that the engine sees, and how many copies of a model fit on them. Asked of ggml itself and not of the driver,
//! so that numbers and visibility are the engine's own on every kind of GPU.
#![expect(unsafe_code, reason = "ggml's device list has no safe wrapper")]

use std::ffi::{CStr, c_char};

use whisper_rs::whisper_rs_sys as sys;

use crate::models::Header;

const MIB: u64 = 1 << 20;
/// What a process takes on a GPU before any model: context, libraries, kernels.
const PROCESS_BYTES: u64 = 512 * MIB;
/// What a process on the CPU takes before any model, with recordings that are being decoded.
const HOST_BYTES: u64 = 64 * MIB;
/// Work buffers of one engine state on a large model, scaled down with the width of smaller ones.
const LARGE_BUFFER_BYTES: u64 = 220 * MIB;
const LARGE_STATE: u64 = 1280;
/// Positions of the two attention caches, as the engine rounds them up.
const TEXT_POSITIONS: u64 = 512;
const AUDIO_POSITIONS: u64 = 1536;
/// The text cache of five candidates, which a doubtful passage makes it grow to.
const CANDIDATE_FACTOR: u64 = 7;
/// Keys and values, two bytes each.
const CACHE_BYTES_PER_ENTRY: u64 = 4;

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// Every GPU this build can use, in the order of their numbers.
pub fn gpus() -> Vec<Device> {
    // SAFETY: the functions take no pointers of ours; the device handles are static and come from ggml itself.
    unsafe {
        (0..sys::ggml_backend_dev_count())
            .map(|index| sys::ggml_backend_dev_get(index))
            .filter(|&device| {
                sys::ggml_backend_dev_type(device) == sys::ggml_backend_dev_type_GGML_BACKEND_DEVICE_TYPE_GPU
            })
            .map(|device| {
                let (mut free, mut total) = (0, 0);
                sys::ggml_backend_dev_memory(device, &raw mut free, &raw mut total);
                let name = text(sys::ggml_backend_dev_description(device));
                Device { name, free_bytes: free as u64, total_bytes: total as u64 }
            })
            .collect()
    }
}

/// # Safety
/// `pointer` must be null or a C string that lives for this call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return "GPU".to_owned();
    }
    // SAFETY: not null, and a C string by the contract above.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}

/// What the workers of this process want to put on the GPUs.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    pub instances: usize,
    pub workers: usize,
    pub weight_bytes: u64,
    pub engine_bytes: u64,
}

impl Demand {
    pub fn new(header: &Header, instances: usize, workers: usize) -> Self {
        let layers = u64::from(header.n_text_layer) * u64::from(header.n_text_state) * CACHE_BYTES_PER_ENTRY;
        let buffers = LARGE_BUFFER_BYTES * u64::from(header.n_audio_state) / LARGE_STATE;
        let engine_bytes = layers * (TEXT_POSITIONS * CANDIDATE_FACTOR + AUDIO_POSITIONS) + buffers;
        Self { instances, workers, weight_bytes: header.file_bytes, engine_bytes }
    }

    /// What all of it takes of a machine without a GPU.
    pub fn host_bytes(&self) -> u64 {
        self.instances as u64 * self.weight_bytes + self.workers as u64 * self.engine_bytes + HOST_BYTES
    }

    /// What `instances` copies take of GPU number `gpu` of `gpus`, by the rule that copy k sits on GPU k mod G and worker
    /// i uses copy i mod `instances`.
    fn bytes_on(&self, gpu: usize, gpus: usize, instances: usize) -> u64 {
        let copies = (0..instances).filter(|copy| copy % gpus == gpu).count() as u64;
        let engines = (0..self.workers).filter(|worker| worker % instances % gpus == gpu).count() as u64;
        copies * self.weight_bytes + engines * self.engine_bytes + PROCESS_BYTES
    }
}

/// The largest number of copies, up to the demand, that fits into the free memory of every GPU, and at least 1; with a
/// warning in words where that is less than asked for or may still be too much.
pub fn fitting_instances(demand: &Demand, gpus: &[Device]) -> (usize, Option<String>) {
    let fits = |instances: usize| {
        gpus.iter().enumerate().all(|(n, gpu)| demand.bytes_on(n, gpus.len(), instances) <= gpu.free_bytes)
    };
    let wanted = demand.instances;
    match (1..=wanted).rev().find(|&instances| fits(instances)) {
        Some(instances) if instances == wanted => (wanted, None),
        Some(instances) => {
            let free_mib: Vec<String> = gpus.iter().map(|gpu| (gpu.free_bytes / MIB).to_string()).collect();
            let warning = format!(
                "{wanted} copies of the model do not fit into the free GPU memory ({} MiB): using {instances}; \
                 set MODEL_INSTANCES={instances} to silence this",
                free_mib.join(", ")
            );
            (instances, Some(warning))
        }
        None => {
            let needed_mib = demand.bytes_on(0, gpus.len(), 1) / MIB;
            let warning = format!(
                "even one copy of the model needs about {needed_mib} MiB of GPU memory, more than is free: lower \
                 WORKER_COUNT, choose a smaller or quantized model, or free the GPU"
            );
            (1, Some(warning))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const TURBO: Demand = Demand { instances: 4, workers: 4, weight_bytes: 1_620_000_000, engine_bytes: 330_000_000 };

    fn gpu(free_bytes: u64) -> Device {
        Device { name: "test".to_owned(), free_bytes, total_bytes: free_bytes }
    }

    #[test]
    fn four_copies_of_turbo_fit_a_24_gib_card_without_a_word() {
        assert_eq!(fitting_instances(&TURBO, &[gpu(23 * GIB)]), (4, None));
    }

    #[test]
    fn a_small_card_gets_fewer_copies_and_a_warning_that_names_the_number() {
        let (instances, warning) = fitting_instances(&TURBO, &[gpu(6 * GIB)]);
        assert_eq!(instances, 2);
        assert!(warning.unwrap().contains("MODEL_INSTANCES=2"));
    }

    #[test]
    fn a_card_too_small_for_one_copy_is_told_so() {
        let (instances, warning) = fitting_instances(&TURBO, &[gpu(GIB)]);
        assert_eq!(instances, 1);
        assert!(warning.unwrap().contains("WORKER_COUNT"));
    }

    #[test]
    fn copies_are_spread_over_the_cards() {
        let (instances, warning) = fitting_instances(&TURBO, &[gpu(5 * GIB), gpu(5 * GIB)]);
        assert_eq!((instances, warning), (4, None));
    }
}
