//! The real engine on real speech: it can be stopped inside a graph, a chunk's text depends on nothing but the chunk, and
//! memory stays where it is.

mod windows;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use whisper_rs::{FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters};
use whisperq::audio::SAMPLE_RATE;
use whisperq::error::{Error, Result};
use whisperq::job::Options;
use whisperq::transcript::{ChunkRequest, ChunkText, Control, Transcriber};
use whisperq::whisper::{Attention, Engine, Listening, Model};

use crate::support::{fixture, model, samples, word_error_rate};

/// Tests run side by side and would only be in each other's way with more.
const THREADS: usize = 1;

fn loaded() -> Model {
    Model::load(&model().path, None).unwrap()
}

fn loaded_with(attention: Attention) -> Model {
    Model::load_with(&model().path, None, attention).unwrap()
}

fn run(engine: &mut Engine<'_>, samples: &[f32], options: &Options) -> ChunkText {
    transcribe(engine, samples, options, &Control::default()).unwrap()
}

fn transcribe(engine: &mut Engine<'_>, samples: &[f32], options: &Options, control: &Control) -> Result<ChunkText> {
    engine.transcribe(&ChunkRequest { samples, language: Some("en"), translate: false, prompt: None, options }, control)
}

fn text(chunk: &ChunkText) -> String {
    chunk.segments.iter().map(|segment| segment.text.as_str()).collect()
}

#[test]
fn speech_comes_out_as_its_words_with_times_inside_the_chunk() {
    let model = loaded();
    let speech = samples(&fixture("sample.mp3"));
    let chunk = run(&mut model.engine(THREADS).unwrap(), &speech, &Options::default());
    let spoken = std::fs::read_to_string(fixture("sample.txt")).unwrap();
    assert!(word_error_rate(&spoken, &text(&chunk)) < 0.05, "{}", text(&chunk));
    let length_ms = (speech.len() / 16) as i64;
    let mut before = 0;
    for segment in &chunk.segments {
        assert!(before <= segment.start_ms && segment.start_ms <= segment.end_ms && segment.end_ms <= length_ms);
        assert!(segment.avg_logprob < 0.0 && segment.avg_logprob > -1.0, "{segment:?}");
        assert_eq!(segment.temperature, 0.0);
        assert!(!segment.tokens.is_empty() && segment.compression_ratio > 0.5);
        before = segment.end_ms;
    }
}

#[test]
fn a_language_that_was_not_given_is_heard_once_and_with_its_probability() {
    let (model, speech) = (loaded(), samples(&fixture("sample.wav")));
    let mut engine = model.engine(THREADS).unwrap().listening(Listening::Full);
    let given = run(&mut engine, &speech, &Options::default());
    assert_eq!((given.language.as_str(), given.language_probability), ("en", None));
    let options = Options::default();
    let request = ChunkRequest { samples: &speech, language: None, translate: false, prompt: None, options: &options };
    let heard = engine.transcribe(&request, &Control::default()).unwrap();
    let probability = heard.language_probability.unwrap();
    assert!(probability > 0.0 && probability <= 1.0, "{probability}");
    // An English model has tokens for languages and no use for them: what it hears is noise, but the engine's own noise.
    assert_eq!(heard.language, heard_by_the_engine_alone(&speech));
    assert_eq!(heard.segments, given.segments);
}

fn heard_by_the_engine_alone(speech: &[f32]) -> String {
    let context = WhisperContext::new_with_params(&model().path, WhisperContextParameters::new()).unwrap();
    let mut state = context.create_state().unwrap();
    let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 5 });
    params.set_language(None);
    params.set_n_threads(1);
    state.full(params, speech).unwrap();
    whisper_rs::get_lang_str(state.full_lang_id_from_state()).unwrap().to_owned()
}

#[test]
fn words_are_whole_and_in_order_of_time() {
    let model = loaded();
    let options = Options { word_timestamps: true, ..Options::default() };
    let chunk = run(&mut model.engine(THREADS).unwrap(), &samples(&fixture("sample.wav")), &options);
    let words: Vec<_> = chunk.segments.iter().flat_map(|segment| segment.words.as_deref().unwrap()).collect();
    let said: Vec<&str> = words.iter().map(|word| word.word.as_str()).collect();
    assert_eq!(said.join(" "), text(&chunk).trim());
    assert!(words.iter().all(|word| word.start_ms <= word.end_ms && word.probability > 0.0));
    assert!(words.windows(2).all(|pair| pair[0].end_ms <= pair[1].start_ms), "{words:?}");
    assert!(words.last().unwrap().end_ms > 1_500, "the words are spread over the recording: {words:?}");
}

#[test]
fn the_text_is_the_same_however_many_threads_compute_it() {
    let (model, speech) = (loaded(), samples(&fixture("sample.mp3")));
    let heard = [1, 2, 3].map(|threads| run(&mut model.engine(threads).unwrap(), &speech, &Options::default()));
    assert!(!text(&heard[0]).is_empty());
    assert_eq!((&heard[1], &heard[2]), (&heard[0], &heard[0]), "to the last digit");
}

#[test]
fn an_abort_takes_effect_within_a_graph_and_leaves_the_engine_fit_for_the_next_chunk() {
    let model = loaded();
    let mut engine = model.engine(THREADS).unwrap();
    let speech = samples(&fixture("sample.mp3"));
    let whole = Control::default();
    let undisturbed = transcribe(&mut engine, &speech, &Options::default(), &whole).unwrap();

    let control = Control::default();
    let finished = AtomicBool::new(false);
    let stopped = std::thread::scope(|scope| {
        scope.spawn(|| {
            // The first ticks come from the encoder's graph, which has hundreds of steps.
            while control.ticks() == 0 && !finished.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            control.abort();
        });
        let stopped = transcribe(&mut engine, &speech, &Options::default(), &control);
        finished.store(true, Ordering::Relaxed);
        stopped
    });
    assert!(matches!(stopped, Err(Error::Aborted)), "{stopped:?}");
    assert!(control.ticks() * 4 < whole.ticks(), "{} of {} steps were still done", control.ticks(), whole.ticks());
    assert_eq!(run(&mut engine, &speech, &Options::default()), undisturbed);
}

#[test]
fn a_call_that_was_told_to_stop_before_it_began_does_nothing() {
    let model = loaded();
    let control = Control::default();
    control.abort();
    let speech = samples(&fixture("sample.wav"));
    let stopped = transcribe(&mut model.engine(THREADS).unwrap(), &speech, &Options::default(), &control);
    assert!(matches!(stopped, Err(Error::Aborted)), "{stopped:?}");
}

#[test]
fn watching_the_engine_changes_nothing_of_what_it_writes() {
    let speech = samples(&fixture("sample.mp3"));
    let watching = loaded();
    let mut engine = watching.engine(THREADS).unwrap().listening(Listening::Full);
    let watched = text(&run(&mut engine, &speech, &Options::default()));

    let mut parameters = WhisperContextParameters::new();
    parameters.use_gpu(false).flash_attn(true);
    let context = WhisperContext::new_with_params(model().path, parameters).unwrap();
    let mut state = context.create_state().unwrap();
    let mut params = FullParams::new(SamplingStrategy::Greedy { best_of: 5 });
    params.set_language(Some("en"));
    params.set_n_threads(THREADS as i32);
    params.set_n_max_text_ctx(0);
    params.set_suppress_nst(true);
    params.set_print_progress(false);
    state.full(params, &speech).unwrap();
    let plain: String = state.as_iter().map(|segment| segment.to_str().unwrap().to_owned()).collect();
    assert_eq!(watched, plain);
}

#[test]
fn random_decoding_of_one_chunk_leaves_no_trace_in_the_next() {
    let model = loaded();
    let speech = samples(&fixture("sample.wav"));
    let random = Options { temperature: Some(0.4), temperature_inc: Some(0.0), best_of: Some(2), ..Options::default() };
    let first = run(&mut model.engine(THREADS).unwrap(), &speech, &random);
    assert!(first.segments.iter().all(|segment| (segment.temperature - 0.4).abs() < 1e-6));
    let mut engine = model.engine(THREADS).unwrap();
    for _ in 0..2 {
        assert_eq!(run(&mut engine, &speech, &random), first, "the same draw from a fresh state each time");
    }
    let fresh = run(&mut model.engine(THREADS).unwrap(), &speech, &Options::default());
    assert_eq!(run(&mut engine, &speech, &Options::default()), fresh);
}

#[test]
fn every_option_of_the_engine_is_taken() {
    let model = loaded();
    let mut engine = model.engine(THREADS).unwrap();
    let speech = samples(&fixture("sample.wav"));
    let spoken = std::fs::read_to_string(fixture("sample.wav.txt")).unwrap();
    for options in [
        Options { beam_size: Some(3), ..Options::default() },
        Options { best_of: Some(2), logprob_threshold: Some(-0.5), ..Options::default() },
        Options { no_speech_threshold: Some(0.9), compression_ratio_threshold: Some(5.0), ..Options::default() },
    ] {
        let chunk = run(&mut engine, &speech, &options);
        assert!(word_error_rate(&spoken, &text(&chunk)) < 0.2, "{options:?}: {}", text(&chunk));
    }
    let named = ChunkRequest {
        samples: &speech,
        language: Some("en"),
        translate: false,
        prompt: Some("A note from the Harbor Company."),
        options: &Options::default(),
    };
    let chunk = engine.transcribe(&named, &Control::default()).unwrap();
    assert!(word_error_rate(&spoken, &text(&chunk)) < 0.2, "{}", text(&chunk));
}

#[test]
fn a_text_that_repeats_itself_is_tried_again_at_a_higher_temperature() {
    let model = loaded();
    let speech = samples(&fixture("sample.wav"));
    let steps = |threshold: f32| {
        let options = Options {
            compression_ratio_threshold: Some(threshold),
            temperature_inc: Some(0.5),
            best_of: Some(1),
            ..Options::default()
        };
        let control = Control::default();
        transcribe(&mut model.engine(THREADS).unwrap(), &speech, &options, &control).unwrap();
        control.ticks()
    };
    // Any text is more compressible than the first asks for, and none is as the second.
    let (every_temperature, only_the_first) = (steps(f32::MIN_POSITIVE), steps(100.0));
    assert!(every_temperature > only_the_first * 2, "{every_temperature} and {only_the_first} steps");
}

#[test]
fn samples_that_are_no_numbers_too_loud_or_too_few_are_survived() {
    let model = loaded();
    let mut engine = model.engine(THREADS).unwrap();
    let mut speech = samples(&fixture("sample.wav"));
    let undamaged = text(&run(&mut engine, &speech, &Options::default()));
    for (n, sample) in speech.iter_mut().enumerate().filter(|(n, _)| n % 8_000 == 0) {
        *sample = if n % 16_000 == 0 { f32::NAN } else { f32::INFINITY };
    }
    let damaged = text(&run(&mut engine, &speech, &Options::default()));
    assert!(word_error_rate(&undamaged, &damaged) < 0.2, "{damaged}");
    run(&mut engine, &[0.0; 10], &Options::default());
    run(&mut engine, &[], &Options::default());
}

/// Set in the process that makes the calls, so that nothing else moves its memory.
const SOAK_CHILD: &str = "WHISPERQ_SOAK_CHILD";
const SOAK_CALLS: usize = 300;
/// Of every this many calls one draws random numbers, after which the engine makes itself a fresh state, and one times
/// words, which takes the state of the full window.
const ROUND: usize = 10;
const MAX_GROWTH_KIB: u64 = 4 * 1024;

#[test]
fn soak_hundreds_of_calls_do_not_grow_memory() {
    let variables: std::collections::HashMap<String, String> = std::env::vars().collect();
    if variables.contains_key(SOAK_CHILD) {
        let calls = variables.get("SOAK_CALLS").map_or(SOAK_CALLS, |calls| calls.parse().unwrap());
        return soak(calls);
    }
    let name = "engine::soak_hundreds_of_calls_do_not_grow_memory";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(SOAK_CHILD, "1")
        // With a limit that stays, glibc maps and unmaps each state. Otherwise it moves them into its heap, which grows in
        // steps of 20 MiB now and then and hides what this test is about.
        .env("MALLOC_MMAP_THRESHOLD_", "1048576")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    eprintln!("{said}");
    assert!(child.status.success(), "{said}");
}

#[expect(clippy::print_stderr, reason = "`make soak` is run for the figure")]
fn soak(calls: usize) {
    let model = loaded();
    let mut engine = model.engine(THREADS).unwrap();
    let speech = samples(&fixture("sample.wav"));
    let clip = &speech[..SAMPLE_RATE as usize];
    let mut peak_of = |calls: usize| {
        let mut peak_kib = 0;
        for n in 0..calls {
            let options = Options {
                temperature: (n % ROUND == 0).then_some(0.4),
                temperature_inc: Some(0.0),
                word_timestamps: n % ROUND == 5,
                ..Options::default()
            };
            let request = ChunkRequest {
                samples: clip,
                language: Some("en"),
                translate: false,
                prompt: Some("boxes"),
                options: &options,
            };
            engine.transcribe(&request, &Control::default()).unwrap();
            peak_kib = peak_kib.max(resident_kib());
        }
        peak_kib
    };
    // Peaks and not moments: whether both states are there just now depends on the call. A leak raises every peak.
    let (before, after) = (peak_of(calls / 2), peak_of(calls / 2));
    eprintln!(
        "{calls} calls: the peak of resident memory was {before} KiB in the first half and {after} in the second"
    );
    assert!(after.saturating_sub(before) < MAX_GROWTH_KIB, "{before} to {after} KiB in {calls} calls");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
