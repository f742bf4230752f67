//! whisper-rs without whisperq around it, with the parameters that whisperq chooses.

use std::path::Path;

use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperState};
use whisperq::audio::SAMPLE_RATE;

/// As whisperq chooses it on a CPU.
const MARGIN_POSITIONS: usize = 128;
const STEP_POSITIONS: usize = 16;
const LEAST_POSITIONS: usize = 512;
const FULL_POSITIONS: usize = 1500;
const SAMPLES_PER_POSITION: usize = SAMPLE_RATE as usize / 50;

pub(crate) fn load(model: &Path) -> WhisperState {
    let mut parameters = WhisperContextParameters::new();
    parameters.use_gpu(false).flash_attn(false);
    WhisperContext::new_with_params(model, parameters).unwrap().create_state().unwrap()
}

/// What whisperq asks of the engine where a job asks for nothing special.
pub(crate) fn greedy(samples: usize, threads: usize) -> FullParams<'static, 'static> {
    let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 5 });
    params.set_language(Some("en"));
    params.set_n_threads(i32::try_from(threads).unwrap());
    params.set_audio_ctx(i32::try_from(window(samples)).unwrap());
    params.set_no_context(true);
    params.set_n_max_text_ctx(0);
    params.set_suppress_blank(true);
    params.set_suppress_nst(true);
    params.set_print_progress(false);
    params.set_print_realtime(false);
    params.set_print_timestamps(false);
    params
}

fn window(samples: usize) -> usize {
    let needed = samples.div_ceil(SAMPLES_PER_POSITION) + MARGIN_POSITIONS;
    let stepped = needed.div_ceil(STEP_POSITIONS) * STEP_POSITIONS;
    if stepped >= FULL_POSITIONS { 0 } else { stepped.max(LEAST_POSITIONS) }
}
