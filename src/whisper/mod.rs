//! The engine: whisper.cpp through whisper-rs. It turns at most 30 s of samples into timed text and knows nothing of jobs,
//! queues or files of audio.

mod attempts;
mod cores;
mod devices;
mod listening;
mod params;
mod probe;
mod repetition;
mod text;

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Once};

use anyhow::{Context, anyhow};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use whisper_rs::{WhisperContext, WhisperContextParameters, WhisperError, WhisperState};

use crate::audio::{SAMPLE_RATE, samples_to_ms};
use crate::error::{Error, Result};
use crate::transcript::{ChunkRequest, ChunkText, Control, Segment, Transcriber};
use attempts::Judge;
pub use cores::Cores;
pub use devices::{Demand, Device, fitting_instances, gpus};
pub use listening::Listening;
use listening::{States, Window, Windows};
use params::{Parameters, Settings};
use probe::Probe;

/// whisper.cpp reads past the end of very short input and returns nothing for less than 100 ms: every call gets at least
/// this much, filled up with silence.
const MIN_SAMPLES: usize = SAMPLE_RATE as usize + SAMPLE_RATE as usize / 10;
/// What whisper.cpp returns when the cache of a wider search did not fit; it has then freed the state already.
const OUT_OF_MEMORY: i32 = -7;
/// An aborted call, by what it was doing: encoding, reading the prompt, decoding.
const ABORTED: [i32; 3] = [-6, -8, -9];

static LOG_HOOKS: Once = Once::new();

/// How the engine computes attention. What it hears differs in the last digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// In one step: faster on a GPU and takes less of its memory.
    Flash,
    /// As products of matrices: takes 0.6 of the time on a CPU, see benches/README.md.
    Plain,
}

/// Loaded weights. Several engines can share one.
pub struct Model {
    context: WhisperContext,
    windows: Windows,
}

impl Model {
    /// Loads a model file that `models::find` has checked, onto GPU number `gpu` where there is one.
    pub fn load(path: &Path, gpu: Option<usize>) -> Result<Self> {
        Self::load_with(path, gpu, if gpu.is_some() { Attention::Flash } else { Attention::Plain })
    }

    /// The same with a choice that is not the best, for comparing the two.
    pub fn load_with(path: &Path, gpu: Option<usize>, attention: Attention) -> Result<Self> {
        LOG_HOOKS.call_once(whisper_rs::install_logging_hooks);
        let mut params = WhisperContextParameters::new();
        let flash = attention == Attention::Flash;
        params.use_gpu(gpu.is_some()).gpu_device(gpu.unwrap_or(0) as i32).flash_attn(flash);
        let context = WhisperContext::new_with_params(path, params)
            .with_context(|| format!("whisper.cpp could not load {}", path.display()))?;
        Ok(Self { context, windows: if flash { Windows::FLASH } else { Windows::PLAIN } })
    }

    /// An engine of its own for one thread, computing with `threads` threads.
    pub fn engine(&self, threads: usize) -> Result<Engine<'_>> {
        self.engine_sharing(Cores::new(threads))
    }

    /// The same, computing with its part of `cores`.
    pub fn engine_sharing(&self, cores: Arc<Cores>) -> Result<Engine<'_>> {
        let mut states = States::new(&self.context);
        // Fails here, at the start, rather than at the first chunk.
        states.reserve()?;
        let (parameters, windows, listening) = (Parameters::default(), self.windows, Listening::default());
        Ok(Engine { context: &self.context, states, cores, parameters, windows, listening })
    }
}

/// One worker's engine.
pub struct Engine<'m> {
    context: &'m WhisperContext,
    states: States<'m>,
    cores: Arc<Cores>,
    parameters: Parameters,
    windows: Windows,
    listening: Listening,
}

impl Transcriber for Engine<'_> {
    fn transcribe(&mut self, request: &ChunkRequest<'_>, control: &Control) -> Result<ChunkText> {
        let cores = self.cores.clone();
        let share = cores.share();
        self.parameters.compute_with(share.threads);
        let samples = cleaned(request.samples);
        // Language detection hears what the call before heard, so it must always be everything. Words are timed by the
        // probabilities of timestamps, which a trimmed window shifts: by 420 ms for one word in 22 of a clear recording.
        let heard = if request.language.is_none() { Some(self.detect(&samples, control)?) } else { None };
        let request = &ChunkRequest { language: request.language.or(heard.map(|(language, _)| language)), ..*request };
        let everything = heard.is_some() || request.options.word_timestamps;
        let window = if everything { Window::Full } else { self.listening.window(self.windows, samples.len()) };
        let judge = Judge::of(request, length_ms(request));
        let mut settings = Settings::of(request, window);
        let mut best = self.call(request, &settings, &samples, control)?;
        let mut verdict = judge.verdict(&best, &settings);
        while let Some(next) = verdict.next(&settings) {
            settings = next;
            let chunk = self.call(request, &settings, &samples, control)?;
            let on_chunk = judge.verdict(&chunk, &settings);
            if on_chunk.beats(&verdict) {
                (best, verdict) = (chunk, on_chunk);
            }
        }
        best.language_probability = heard.map(|(_, probability)| probability);
        Ok(best)
    }
}

impl Engine<'_> {
    /// The same engine with another choice of windows, for measuring one against the other.
    #[must_use]
    pub fn listening(mut self, listening: Listening) -> Self {
        self.listening = listening;
        self
    }

    /// The language that is spoken, and how probable it is. The engine would find it out by itself, in the same time, but
    /// would not tell how sure it is, and would do so again at every attempt.
    fn detect(&mut self, samples: &[f32], control: &Control) -> Result<(&'static str, f32)> {
        if control.is_aborted() {
            return Err(Error::Aborted);
        }
        let mut state = self.states.take(Window::Full)?;
        let threads = self.parameters.threads();
        state.pcm_to_mel(samples, threads).context("whisper.cpp cannot read this chunk")?;
        let (id, probabilities) = state.lang_detect(0, threads).context("whisper.cpp cannot tell the language")?;
        self.states.put_back(Window::Full, state);
        control.tick();
        let probability = usize::try_from(id).ok().and_then(|id| probabilities.get(id)).copied();
        let found = whisper_rs::get_lang_str(id).zip(probability);
        Ok(found.context("whisper.cpp found a language that it has no name for")?)
    }

    fn call(
        &mut self,
        request: &ChunkRequest<'_>,
        settings: &Settings,
        samples: &[f32],
        control: &Control,
    ) -> Result<ChunkText> {
        let window = settings.window();
        let mut state = self.states.take(window)?;
        let prompt = request.prompt.filter(|_| settings.prompted());
        let prompt = prompt.map(|prompt| self.tokens(prompt)).transpose()?.unwrap_or_default();
        let params = self.parameters.build(settings, &prompt);
        let probe = Probe::new(control);
        match probe.run(&mut state, params, samples) {
            Ok(()) => {}
            Err(WhisperError::GenericError(OUT_OF_MEMORY)) => {
                // The memory behind it is gone: dropping it would free it a second time.
                std::mem::forget(state);
                return Err(anyhow!(
                    "the engine ran out of memory: lower WORKER_COUNT, beam_size or, on a GPU, MODEL_INSTANCES"
                )
                .into());
            }
            Err(WhisperError::GenericError(code)) if ABORTED.contains(&code) && control.is_aborted() => {
                self.states.put_back(window, state);
                return Err(Error::Aborted);
            }
            Err(error) => return Err(anyhow!(error).context("whisper.cpp failed on this chunk").into()),
        }
        if control.is_aborted() {
            self.states.put_back(window, state);
            return Err(Error::Aborted);
        }
        let chunk = self.read(request, settings, &state, &probe);
        // Random numbers were drawn from the state: a fresh one keeps each chunk's text independent of the one before.
        if !settings.samples_at_random() && !probe.fell_back() {
            self.states.put_back(window, state);
        }
        Ok(chunk)
    }

    fn tokens(&self, prompt: &str) -> Result<Vec<i32>> {
        // Room for one token per byte: whisper-rs misreads the answer where there is too little.
        Ok(self.context.tokenize(prompt, prompt.len() + 1).context("the prompt cannot be tokenized")?)
    }

    fn read(
        &self,
        request: &ChunkRequest<'_>,
        settings: &Settings,
        state: &WhisperState,
        probe: &Probe<'_>,
    ) -> ChunkText {
        let reader = text::Reader {
            first_special_token: self.context.token_eot(),
            length_ms: length_ms(request),
            words: request.options.word_timestamps,
        };
        let mut segments: Vec<Segment> = Vec::new();
        for (n, segment) in state.as_iter().enumerate() {
            segments.extend(reader.segment(&segment, settings.temperature_of_pass(probe.pass_of(n))));
        }
        let ratio = compression_ratio(&text_of(&segments));
        for segment in &mut segments {
            segment.compression_ratio = ratio;
        }
        // Whoever gave none was told the one that was heard.
        let language = request.language.unwrap_or("en").to_owned();
        ChunkText { language, language_probability: None, segments }
    }
}

fn length_ms(request: &ChunkRequest<'_>) -> i64 {
    samples_to_ms(request.samples.len() as u64).cast_signed()
}

/// Samples that the engine can take: finite, within -1 to 1, long enough.
fn cleaned(samples: &[f32]) -> Vec<f32> {
    let finite = |&sample: &f32| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
    let mut cleaned: Vec<f32> = samples.iter().map(finite).collect();
    cleaned.resize(samples.len().max(MIN_SAMPLES), 0.0);
    cleaned
}

fn text_of(segments: &[Segment]) -> String {
    segments.iter().map(|segment| segment.text.as_str()).collect()
}

/// Plain length over zlib-compressed length; 0 for no text.
fn compression_ratio(text: &str) -> f32 {
    if text.is_empty() {
        return 0.0;
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail; a ratio of 0 would only skip a check.
    let compressed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    compressed.map_or(0.0, |compressed| text.len() as f32 / compressed.len() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_made_finite_bounded_and_long_enough() {
        let samples = cleaned(&[f32::NAN, f32::INFINITY, -3.0, 0.25]);
        assert_eq!(samples[..4], [0.0, 0.0, -1.0, 0.25]);
        assert_eq!(samples.len(), MIN_SAMPLES);
        assert_eq!(cleaned(&vec![0.1; 20_000]).len(), 20_000);
    }

    #[test]
    fn repetition_shows_in_the_compression_ratio() {
        assert!(compression_ratio("the quick brown fox jumps over the lazy dog") < 1.5);
        assert!(compression_ratio(&"thank you ".repeat(40)) > 2.4);
        assert_eq!(compression_ratio(""), 0.0);
    }
}
