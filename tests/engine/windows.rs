//! The encoder's window, trimmed to the chunk: the words and their times stay, and no call leaves a trace in the next
//! whatever the windows of both.

use whisperq::audio::SAMPLE_RATE;
use whisperq::job::Options;
use whisperq::transcript::ChunkText;
use whisperq::whisper::{Attention, Engine, Listening, Model};

use super::{THREADS, loaded, loaded_with, run, text};
use crate::support::{fixture, samples, word_error_rate};

fn fresh<'m>(model: &'m Model, listening: Listening, seconds: usize) -> ChunkText {
    let mut engine: Engine<'m> = model.engine(THREADS).unwrap().listening(listening);
    run(&mut engine, &speech(seconds), &Options::default())
}

/// So much speech, of which every length is a chunk of its own.
fn speech(seconds: usize) -> Vec<f32> {
    let once = samples(&fixture("sample.mp3"));
    once.iter().copied().cycle().take(seconds * SAMPLE_RATE as usize).collect()
}

#[test]
fn a_chunk_gives_the_same_text_whatever_windows_came_before() {
    for attention in [Attention::Plain, Attention::Flash] {
        let model = loaded_with(attention);
        let fitted = Listening::default();
        let (short, full) = (fresh(&model, fitted, 4), fresh(&model, Listening::Full, 4));
        assert_ne!(short, full, "the windows differ, so the probabilities do");

        let options = Options::default();
        let mut engine = model.engine(THREADS).unwrap();
        run(&mut engine, &speech(4), &options);
        run(&mut engine, &speech(17), &options);
        let mut engine = engine.listening(Listening::Full);
        assert_eq!(run(&mut engine, &speech(4), &options), full, "{attention:?}, after trimmed windows");
        let mut engine = engine.listening(fitted);
        assert_eq!(run(&mut engine, &speech(4), &options), short, "{attention:?}, after a larger and the full window");
    }
}

#[test]
fn both_kinds_of_attention_hear_the_same_words() {
    let heard = |attention| text(&fresh(&loaded_with(attention), Listening::default(), 12));
    assert_eq!(heard(Attention::Flash), heard(Attention::Plain));
}

/// Positions for 5 s, with which the engine says the beginning of 12 s of speech several times over.
const TOO_FEW: u16 = 256;

#[test]
fn what_repeats_itself_in_a_trimmed_window_is_heard_again_in_the_full_one() {
    let model = loaded();
    let guarded = fresh(&model, Listening::Fixed { positions: TOO_FEW }, 12);
    assert_eq!(guarded, fresh(&model, Listening::Full, 12), "down to the last probability");
}

#[test]
fn a_trimmed_window_changes_no_word_and_keeps_times_inside_the_chunk() {
    let model = loaded();
    let recording = samples(&fixture("sample.mp3"));
    let chunk = run(&mut model.engine(THREADS).unwrap(), &recording, &Options::default());
    let spoken = std::fs::read_to_string(fixture("sample.txt")).unwrap();
    assert_eq!(word_error_rate(&spoken, &text(&chunk)), 0.0, "{}", text(&chunk));
    let length_ms = (recording.len() / 16) as i64;
    assert!(chunk.segments.iter().all(|segment| segment.start_ms <= segment.end_ms && segment.end_ms <= length_ms));
}

#[test]
fn words_are_timed_with_the_full_window() {
    let model = loaded();
    let options = Options { word_timestamps: true, ..Options::default() };
    let recording = samples(&fixture("sample.wav"));
    let heard = |listening| run(&mut model.engine(THREADS).unwrap().listening(listening), &recording, &options);
    assert_eq!(heard(Listening::default()), heard(Listening::Full));
}
