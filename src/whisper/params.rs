//! A job's options as whisper.cpp's parameters.
//!
//! whisper-rs leaks the C string of every language it is given, so each combination of language and search is built once
//! and copied for every call; prompts go in as tokens, which are borrowed.

use std::collections::HashMap;

use whisper_rs::{FullParams, SamplingStrategy};

use super::listening::Window;
use crate::transcript::ChunkRequest;

/// Candidates at temperatures above 0 where the user names no number; OpenAI's value.
const BEST_OF: i32 = 5;
const TEMPERATURE_INC: f32 = 0.2;
const MAX_TEMPERATURE: f32 = 1.0;
const NO_SPEECH_THRESHOLD: f32 = 0.6;
const LOGPROB_THRESHOLD: f32 = -1.0;
/// The engine's own limit on text before a chunk; it keeps half of the model's text window at most.
const MAX_PROMPT_TOKENS: i32 = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Search {
    Greedy { best_of: i32 },
    Beam { size: i32 },
}

/// What one call to the engine is to do.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    window: Window,
    prompted: bool,
    language: Option<String>,
    search: Search,
    translate: bool,
    word_timestamps: bool,
    temperature: f32,
    temperature_inc: f32,
    /// Whether this is a step of our own ladder of temperatures: the engine's would multiply it.
    is_step: bool,
    no_speech_threshold: f32,
    logprob_threshold: f32,
}

impl Settings {
    pub(super) fn of(request: &ChunkRequest<'_>, window: Window) -> Self {
        let options = request.options;
        let search = match options.beam_size {
            Some(size) => Search::Beam { size: size.cast_signed() },
            None => Search::Greedy { best_of: options.best_of.map_or(BEST_OF, u32::cast_signed) },
        };
        Self {
            window,
            prompted: request.prompt.is_some(),
            language: request.language.map(str::to_owned),
            search,
            translate: request.translate,
            word_timestamps: options.word_timestamps,
            temperature: options.temperature.unwrap_or(0.0),
            temperature_inc: options.temperature_inc.unwrap_or(TEMPERATURE_INC),
            is_step: false,
            no_speech_threshold: options.no_speech_threshold.unwrap_or(NO_SPEECH_THRESHOLD),
            logprob_threshold: options.logprob_threshold.unwrap_or(LOGPROB_THRESHOLD),
        }
    }

    pub(super) fn window(&self) -> Window {
        self.window
    }

    pub(super) fn prompted(&self) -> bool {
        self.prompted
    }

    pub(super) fn temperature(&self) -> f32 {
        self.temperature
    }

    /// Has the next call hear everything; false where this one did.
    pub(super) fn open_window(&mut self) -> bool {
        std::mem::replace(&mut self.window, Window::Full) != Window::Full
    }

    /// Gives the next call no text before the chunk; false where this one had none.
    pub(super) fn drop_prompt(&mut self) -> bool {
        std::mem::replace(&mut self.prompted, false)
    }

    /// Starts the next call one step warmer; false when there is no further step.
    pub(super) fn raise_temperature(&mut self) -> bool {
        let next = self.temperature + self.temperature_inc;
        let possible = self.temperature_inc > 0.0 && next <= MAX_TEMPERATURE + f32::EPSILON;
        if possible {
            self.temperature = next.min(MAX_TEMPERATURE);
            self.is_step = true;
        }
        possible
    }

    /// Whether a call draws random numbers even when all goes well.
    pub(super) fn samples_at_random(&self) -> bool {
        self.temperature > 0.0 || matches!(self.search, Search::Beam { .. })
    }

    pub(super) fn temperature_of_pass(&self, pass: u32) -> f32 {
        self.temperature + self.temperature_inc * pass as f32
    }
}

/// Builds the parameters of one engine's calls.
#[derive(Default)]
pub(super) struct Parameters {
    threads: usize,
    templates: HashMap<(Option<String>, Search), FullParams<'static, 'static>>,
}

impl Parameters {
    /// Has the next calls computed by so many threads.
    pub(super) fn compute_with(&mut self, threads: usize) {
        self.threads = threads;
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn build<'p>(&mut self, settings: &Settings, prompt: &'p [i32]) -> FullParams<'static, 'p> {
        let key = (settings.language.clone(), settings.search);
        let template =
            self.templates.entry(key).or_insert_with_key(|(language, search)| template(language.as_deref(), *search));
        let mut params: FullParams<'static, 'p> = template.clone();
        params.set_n_threads(i32::try_from(self.threads).unwrap_or(1));
        params.set_audio_ctx(settings.window.audio_ctx());
        params.set_translate(settings.translate);
        params.set_token_timestamps(settings.word_timestamps);
        params.set_temperature(settings.temperature);
        params.set_temperature_inc(if settings.is_step { 0.0 } else { settings.temperature_inc });
        params.set_no_speech_thold(settings.no_speech_threshold);
        params.set_logprob_thold(settings.logprob_threshold);
        // Text of one window must not lead the next one into a loop, so without a prompt there is no text at all.
        params.set_n_max_text_ctx(if prompt.is_empty() { 0 } else { MAX_PROMPT_TOKENS });
        if !prompt.is_empty() {
            params.set_tokens(prompt);
        }
        params
    }
}

fn template(language: Option<&str>, search: Search) -> FullParams<'static, 'static> {
    let mut params = FullParams::new(match search {
        Search::Greedy { best_of } => SamplingStrategy::Greedy { best_of },
        Search::Beam { size } => SamplingStrategy::BeamSearch { beam_size: size, patience: -1.0 },
    });
    // The string is copied at once; its lifetime in the signature is not real.
    let owned: Option<&'static str> = language.and_then(crate::job::language::parse);
    params.set_language(owned);
    params.set_no_context(true);
    params.set_suppress_blank(true);
    params.set_suppress_nst(true);
    params.set_print_special(false);
    params.set_print_progress(false);
    params.set_print_realtime(false);
    params.set_print_timestamps(false);
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Options;

    fn settings(options: &Options) -> Settings {
        let request = ChunkRequest { samples: &[], language: None, translate: false, prompt: None, options };
        Settings::of(&request, Window::Full)
    }

    #[test]
    fn the_temperature_rises_in_steps_up_to_one_and_not_at_all_without_an_increment() {
        let mut steps = settings(&Options::default());
        let raised: Vec<f32> = std::iter::from_fn(|| steps.raise_temperature().then_some(steps.temperature)).collect();
        assert_eq!(raised.len(), 5);
        assert!((raised[4] - 1.0).abs() < 1e-5);
        let mut still = settings(&Options { temperature_inc: Some(0.0), ..Options::default() });
        assert!(!still.raise_temperature());
    }

    #[test]
    fn greedy_decoding_at_temperature_zero_draws_no_random_numbers_and_the_rest_does() {
        assert!(!settings(&Options::default()).samples_at_random());
        assert!(settings(&Options { temperature: Some(0.4), ..Options::default() }).samples_at_random());
        assert!(settings(&Options { beam_size: Some(2), ..Options::default() }).samples_at_random());
    }
}
