//! The callbacks that whisper.cpp makes during a call: they stop it on request, show that it moves, and note what its
//! results do not tell, the temperature at which each segment was accepted.
//!
//! whisper-rs's own safe abort callback reads its closure through the wrong type, so these are plain C functions on a
//! structure that lives on the caller's stack for as long as the call.
#![expect(unsafe_code, reason = "C callbacks receive their context as a raw pointer")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use whisper_rs::whisper_rs_sys::{whisper_context, whisper_state, whisper_token_data};
use whisper_rs::{FullParams, WhisperError, WhisperState};

use crate::transcript::Control;

/// What one call to the engine is watched by.
pub(super) struct Probe<'a> {
    control: &'a Control,
    /// Passes begun in the current 30 s window, the first at the lowest temperature.
    passes: AtomicU32,
    /// Whether any window needed a second pass.
    fell_back: AtomicU32,
    /// For each segment, in which pass it was accepted, counted from 0.
    accepted: Mutex<Vec<u32>>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(control: &'a Control) -> Self {
        Self { control, passes: AtomicU32::new(0), fell_back: AtomicU32::new(0), accepted: Mutex::default() }
    }

    /// Runs the engine under this probe.
    pub(super) fn run(
        &self,
        state: &mut WhisperState,
        mut params: FullParams<'_, '_>,
        samples: &[f32],
    ) -> Result<(), WhisperError> {
        let context = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the functions below match the C signatures, only read through `context` as the `Probe` it is, and
        // whisper.cpp calls none of them after `full` has returned, while `self` is borrowed until then.
        unsafe {
            params.set_abort_callback(Some(on_abort_check));
            params.set_abort_callback_user_data(context);
            params.set_start_encoder_callback(Some(on_window));
            params.set_start_encoder_callback_user_data(context);
            params.set_filter_logits_callback(Some(on_token));
            params.set_filter_logits_callback_user_data(context);
            params.set_new_segment_callback(Some(on_segments));
            params.set_new_segment_callback_user_data(context);
        }
        state.full(params, samples)
    }

    /// Whether the state's random numbers were used, so that its next call would depend on this one.
    pub(super) fn fell_back(&self) -> bool {
        self.fell_back.load(Ordering::Relaxed) > 0
    }

    /// In which pass segment `n` was accepted.
    pub(super) fn pass_of(&self, n: usize) -> u32 {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).get(n).copied().unwrap_or(0)
    }

    /// The probe behind a callback's pointer.
    ///
    /// # Safety
    /// `context` must be what `run` gave, during that call.
    unsafe fn from_context<'p>(context: *mut c_void) -> &'p Self {
        // SAFETY: see above; the probe is only ever shared, never written through this reference.
        unsafe { &*context.cast::<Self>() }
    }
}

/// Asked between the steps of every graph on the CPU, after every graph on a GPU.
unsafe extern "C" fn on_abort_check(context: *mut c_void) -> bool {
    // SAFETY: `run` registered this function with its own probe.
    let probe = unsafe { Probe::from_context(context) };
    probe.control.tick();
    probe.control.is_aborted()
}

/// Called before a window is encoded.
unsafe extern "C" fn on_window(_: *mut whisper_context, _: *mut whisper_state, context: *mut c_void) -> bool {
    // SAFETY: `run` registered this function with its own probe.
    let probe = unsafe { Probe::from_context(context) };
    probe.passes.store(0, Ordering::Relaxed);
    !probe.control.is_aborted()
}

/// Called for every token, by several threads at once when several candidates are decoded. Only the first one of a pass
/// comes without tokens before it.
unsafe extern "C" fn on_token(
    _: *mut whisper_context,
    _: *mut whisper_state,
    _: *const whisper_token_data,
    tokens_before: c_int,
    _: *mut f32,
    context: *mut c_void,
) {
    if tokens_before > 0 {
        return;
    }
    // SAFETY: `run` registered this function with its own probe.
    let probe = unsafe { Probe::from_context(context) };
    if probe.passes.fetch_add(1, Ordering::Relaxed) > 0 {
        probe.fell_back.fetch_add(1, Ordering::Relaxed);
    }
}

/// Called when segments of the current window were accepted.
unsafe extern "C" fn on_segments(_: *mut whisper_context, _: *mut whisper_state, new: c_int, context: *mut c_void) {
    // SAFETY: `run` registered this function with its own probe.
    let probe = unsafe { Probe::from_context(context) };
    let pass = probe.passes.load(Ordering::Relaxed).saturating_sub(1);
    let mut accepted = probe.accepted.lock().unwrap_or_else(PoisonError::into_inner);
    accepted.extend(std::iter::repeat_n(pass, usize::try_from(new).unwrap_or(0)));
}
