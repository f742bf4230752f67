//! Planning: what becomes a chunk, what is left out, and that nothing depends on how the samples arrive.

use std::path::Path;

use whisperq::audio::{
    Chunk, LONG_CHUNK_SECONDS, Limits, PlanSettings, PlannedChunk, Planner, SAMPLE_RATE, Sound, VAD_FRAME_SAMPLES,
    decode, speech_probabilities,
};

const SECOND: usize = SAMPLE_RATE as usize;
const MAX_MS: u64 = LONG_CHUNK_SECONDS * 1000;

/// Three seconds that are spoken nearly throughout.
fn speech() -> Vec<f32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sample.wav");
    let mut samples = Vec::new();
    decode(&path, &Limits { max_audio_ms: u64::MAX }, &mut |block| {
        samples.extend_from_slice(block);
        Ok(())
    })
    .unwrap();
    samples
}

/// The plan of a recording that arrives in blocks of the given sizes, over and over.
fn plan(recording: &[f32], max_chunk_ms: u64, vad: bool, blocks: &[usize]) -> Vec<PlannedChunk> {
    let mut chunks = Vec::new();
    let mut sink = |chunk| {
        chunks.push(chunk);
        Ok(())
    };
    let mut planner = Planner::new(PlanSettings { max_chunk_ms, vad });
    let mut rest = recording;
    for &size in blocks.iter().cycle() {
        let (block, later) = rest.split_at(size.min(rest.len()));
        planner.push(block, &mut sink).unwrap();
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    planner.finish(&mut sink).unwrap();
    chunks
}

fn chunks(recording: &[f32], vad: bool) -> Vec<Chunk> {
    plan(recording, MAX_MS, vad, &[4096]).iter().map(|planned| planned.chunk).collect()
}

fn white_noise(samples: usize, level: f32, random: &mut fastrand::Rng) -> Vec<f32> {
    (0..samples).map(|_| level * (random.f32() * 2.0 - 1.0)).collect()
}

/// Pink enough: white noise through a slope of 3 dB per octave made of three low passes.
fn pink_noise(samples: usize, level: f32, random: &mut fastrand::Rng) -> Vec<f32> {
    let mut poles = [0.0; 3];
    let mut next = |white: f32| {
        for (pole, (keep, gain)) in poles.iter_mut().zip([(0.997, 0.1), (0.963, 0.3), (0.57, 1.05)]) {
            *pole = keep * *pole + gain * white;
        }
        level * (poles.iter().sum::<f32>() + 0.18 * white)
    };
    white_noise(samples, 1.0, random).into_iter().map(&mut next).collect()
}

fn hum(samples: usize, level: f32) -> Vec<f32> {
    let at = |i: usize| std::f32::consts::TAU * (i as f64 * 50.0 / SECOND as f64).fract() as f32;
    (0..samples).map(|i| level * (at(i).sin() + 0.6 * (2.0 * at(i)).sin() + 0.3 * (3.0 * at(i)).sin())).collect()
}

#[test]
fn silence_noise_and_hum_make_no_chunk() {
    let mut random = fastrand::Rng::with_seed(1);
    for level in [0.2, 0.02, 0.002] {
        assert_eq!(chunks(&white_noise(40 * SECOND, level, &mut random), true), []);
        assert_eq!(chunks(&pink_noise(40 * SECOND, level, &mut random), true), []);
        assert_eq!(chunks(&hum(40 * SECOND, level), true), []);
    }
    assert_eq!(chunks(&vec![0.0; 40 * SECOND], true), []);
    assert_eq!(chunks(&[], true), []);
    assert_eq!(chunks(&[], false), []);
}

#[test]
fn speech_between_long_silences_is_one_chunk_at_its_place() {
    let (before, speech) = (20 * SECOND, speech());
    let recording = [vec![0.0; before], speech.clone(), vec![0.0; 60 * SECOND], speech.clone()].concat();
    let found = chunks(&recording, true);
    assert_eq!(found.len(), 2, "{found:?}");
    for (chunk, start) in found.iter().zip([before, before + speech.len() + 60 * SECOND]) {
        let margin = SECOND as u64 / 2;
        assert!(
            chunk.start_sample <= start as u64 + margin && chunk.start_sample + margin >= start as u64,
            "{chunk:?}"
        );
        let end = (start + speech.len()) as u64;
        assert!(chunk.end_sample <= end + margin && chunk.end_sample + margin >= end, "{chunk:?}");
        assert!(!chunk.hard_cut);
    }
}

#[test]
fn a_recording_under_a_second_is_one_chunk_when_it_holds_speech() {
    let speech = speech();
    let word = &speech[SECOND..SECOND + 3 * SECOND / 10];
    assert_eq!(chunks(word, true), [Chunk { start_sample: 0, end_sample: word.len() as u64, hard_cut: false }]);
    assert_eq!(chunks(&[0.0; 4800], true), []);
    assert_eq!(chunks(&[0.0; 4800], false), [Chunk { start_sample: 0, end_sample: 4800, hard_cut: false }]);
}

#[test]
fn a_chunk_is_handed_on_while_the_recording_goes_on() {
    let recording = speech().repeat(30);
    let mut ends = Vec::new();
    let mut planner = Planner::new(PlanSettings { max_chunk_ms: 10_000, vad: true });
    for (count, block) in recording.chunks(SECOND).enumerate() {
        let arrived = (count * SECOND + block.len()) as u64;
        let mut sink = |planned: PlannedChunk| {
            ends.push(planned.chunk.end_sample);
            assert!(
                arrived - planned.chunk.start_sample <= 12 * u64::from(SAMPLE_RATE),
                "{arrived}: {:?}",
                planned.chunk
            );
            Ok(())
        };
        planner.push(block, &mut sink).unwrap();
    }
    assert!(ends.len() >= 9, "{ends:?}");
}

/// Speech, noise and silence of random lengths, the last frame perhaps not whole.
fn random_recording(speech: &[f32], random: &mut fastrand::Rng) -> Vec<f32> {
    let mut recording = Vec::new();
    for _ in 0..random.usize(1..12) {
        let samples = random.usize(1..10 * SECOND);
        match random.u8(0..4) {
            0 => recording.extend(std::iter::repeat_n(0.0, samples)),
            1 => recording.extend(white_noise(samples, 0.1, random)),
            _ => recording.extend(speech.iter().cycle().skip(random.usize(..speech.len())).take(samples)),
        }
    }
    recording
}

#[test]
fn every_plan_is_in_order_within_bounds_and_the_same_for_all_block_sizes() {
    let (speech, mut random) = (speech(), fastrand::Rng::with_seed(7));
    for round in 0..60 {
        let recording = random_recording(&speech, &mut random);
        let (max_ms, vad) = (random.u64(0..40_000), random.bool());
        let planned = plan(&recording, max_ms, vad, &[4096]);
        let sizes = [1, 255, random.usize(1..3 * SECOND), 513, 0];
        assert!(planned == plan(&recording, max_ms, vad, &sizes), "round {round}: depends on the blocks");

        let max_samples = max_ms.clamp(2048, 30_000) * u64::from(SAMPLE_RATE) / 1000;
        let mut end = 0;
        for PlannedChunk { chunk, sound } in &planned {
            let samples = &sound.samples;
            assert!(chunk.start_sample >= end && (vad || chunk.start_sample == end), "round {round}: {chunk:?}");
            end = chunk.end_sample;
            assert!(samples[..] == recording[chunk.start_sample as usize..end as usize], "round {round}: {chunk:?}");
            assert!(samples.len() as u64 <= max_samples, "round {round}: {chunk:?}");
            assert!(samples.len() >= SECOND.min(recording.len()), "round {round}: {chunk:?}");
        }
        assert!(
            end <= recording.len() as u64 && (vad || end == recording.len() as u64),
            "round {round}: ends at {end}"
        );
    }
}

#[test]
fn the_error_of_the_receiver_ends_the_plan() {
    let mut planner = Planner::new(PlanSettings { max_chunk_ms: 5000, vad: false });
    let outcome = planner.push(&[0.1; 20 * SECOND], &mut |_| Err(whisperq::error::Error::Aborted));
    assert!(matches!(outcome, Err(whisperq::error::Error::Aborted)));
}

#[test]
fn a_chunk_brings_along_what_was_heard_of_it() {
    let recording = [speech(), vec![0.0; 5 * SECOND], speech()].concat();
    let heard = speech_probabilities(&recording);
    for vad in [true, false] {
        let planned = plan(&recording, 5000, vad, &[1000]);
        assert!(planned.len() > 1);
        for PlannedChunk { chunk, sound } in planned {
            let first = chunk.start_sample as usize / VAD_FRAME_SAMPLES;
            let count = sound.samples.len().div_ceil(VAD_FRAME_SAMPLES);
            assert_eq!(sound.speech_probs, heard[first..first + count], "{chunk:?}, vad {vad}");
        }
    }
}

#[test]
fn sound_without_its_beginning_keeps_the_probabilities_of_the_rest() {
    let sound = Sound { samples: vec![0.0; 3 * VAD_FRAME_SAMPLES], speech_probs: vec![0.1, 0.2, 0.3] };
    assert_eq!(sound.clone().after(0), sound);
    assert_eq!(sound.clone().after(VAD_FRAME_SAMPLES).speech_probs, [0.2, 0.3]);
    assert_eq!(sound.clone().after(VAD_FRAME_SAMPLES + 1).speech_probs, [0.2, 0.3], "the second is not over");
    assert_eq!(sound.after(3 * VAD_FRAME_SAMPLES), Sound::default());
}

#[test]
fn the_detector_computes_what_its_authors_do() {
    // By onnxruntime with the same model in float32, every eighth frame of the recording.
    let expected =
        [0.0238, 0.0038, 0.9820, 0.9889, 0.9892, 0.1417, 0.9904, 0.9896, 0.9857, 0.9858, 0.9565, 0.0312, 0.0194];
    let found: Vec<f32> = speech_probabilities(&speech()).into_iter().step_by(8).collect();
    assert_eq!(found.len(), expected.len());
    for (position, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < 0.005, "frame {}: {found} instead of {expected}", 8 * position);
    }
}

#[test]
fn a_sample_that_is_no_number_does_not_deafen_the_detector() {
    let mut recording = speech();
    recording.splice(..0, [f32::NAN, f32::INFINITY, 1e30]);
    let probabilities = speech_probabilities(&recording);
    assert!(probabilities.iter().all(|probability| (0.0..=1.0).contains(probability)));
    assert!(probabilities.iter().any(|&probability| probability > 0.9));
}
