//! Chunks that are queued while their recording is still being decoded, what an interrupted preparation leaves behind, and
//! the second pass of a translation.

use whisperq::job::JobState;
use whisperq::queue::{Claim, Order, Plan, Stored, Work, prepare_lane};

use super::support::{Bench, LEASE_MS, ME, MODEL, NOW, OTHER, assert_lost, fault, plan, result, seconds};

fn seq(claim: &Claim) -> i64 {
    let Work::Transcribe { seq, .. } = claim.work else { panic!("{claim:?}") };
    seq
}

fn stored(claim: &Claim) -> &Stored {
    let Work::Prepare(stored) = &claim.work else { panic!("{claim:?}") };
    stored
}

#[test]
pub(super) fn chunks_are_transcribed_while_the_rest_is_decoded_and_the_job_ends_with_its_plan() {
    let bench = Bench::new();
    let id = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    for second in 0..3 {
        bench.queue.add_chunks(prepare.task, seconds(second..second + 1), Order::Free, NOW).unwrap();
        let claim = bench.claim();
        assert_eq!(seq(&claim), second.cast_signed());
        bench.finish(&claim);
    }
    bench.assert_state(&id, JobState::Running);
    bench.queue.finish_prepare(prepare.task, Some(plan(3)), NOW).unwrap();
    bench.assert_state(&id, JobState::Completed);
    assert_eq!(bench.queue.transcript(&id).unwrap().segments.len(), 3);
}

#[test]
pub(super) fn silence_that_is_no_part_of_the_plan_counts_as_done() {
    let bench = Bench::new();
    let id = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    let mut chunks = seconds(1..2);
    chunks.extend(seconds(8..9));
    bench.queue.add_chunks(prepare.task, chunks, Order::Free, NOW).unwrap();
    bench.finish(&bench.claim());
    bench.queue.finish_prepare(prepare.task, Some(Plan { audio_ms: 10_000, warnings: Vec::new() }), NOW).unwrap();
    assert_eq!(bench.job(&id).progress, 0.9);
}

#[test]
pub(super) fn a_recording_without_speech_is_a_job_well_done() {
    let bench = Bench::new();
    let id = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.finish_prepare(prepare.task, Some(Plan { audio_ms: 30_000, warnings: Vec::new() }), NOW).unwrap();
    bench.assert_state(&id, JobState::Completed);
    assert_eq!(bench.queue.transcript(&id).unwrap().text(), "");
}

#[test]
pub(super) fn a_preparation_that_was_interrupted_goes_on_where_the_known_chunks_end() {
    let bench = Bench::new();
    let id = bench.submit();
    let first = bench.claim_prepare().unwrap();
    assert_eq!(stored(&first), &Stored::default());
    bench.queue.add_chunks(first.task, seconds(0..3), Order::Free, NOW).unwrap();
    bench.finish(&bench.claim());
    let running = bench.claim();
    bench.queue.fail(first.task, &fault(), 0.0, NOW).unwrap();
    bench.queue.promote(NOW + 60_000).unwrap();

    let second = bench.claim_prepare().unwrap();
    let left = Stored { planned: false, end_sample: 48_000, unfinished: vec![(16_000, 32_000), (32_000, 48_000)] };
    assert_eq!(stored(&second), &left, "the one being transcribed may need its samples again too");
    assert_lost(bench.queue.add_chunks(first.task, seconds(3..4), Order::Free, NOW));
    bench.queue.add_chunks(second.task, seconds(3..4), Order::Free, NOW).unwrap();
    bench.queue.finish_prepare(second.task, Some(plan(4)), NOW).unwrap();
    bench.finish(&running);
    assert_eq!([seq(&bench.claim()), seq(&bench.claim())], [2, 3]);
    assert_eq!(bench.number("select count(*) from tasks where kind = 'transcribe'"), 4);
    bench.assert_state(&id, JobState::Running);
}

#[test]
pub(super) fn a_preparation_that_gets_on_between_its_losses_is_not_given_up() {
    let bench = Bench::new();
    let id = bench.submit();
    for second in 0..12 {
        let prepare = bench.claim_prepare().unwrap();
        bench.queue.add_chunks(prepare.task, seconds(second..second + 1), Order::Free, NOW).unwrap();
        bench.queue.reap(OTHER, NOW + LEASE_MS + 1).unwrap();
    }
    bench.assert_state(&id, JobState::Queued);
}

#[test]
pub(super) fn chunks_cannot_be_added_to_a_job_that_has_ended_or_has_all_of_them() {
    let bench = Bench::new();
    let id = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.cancel(&id, NOW).unwrap();
    assert_lost(bench.queue.add_chunks(prepare.task, seconds(0..1), Order::Free, NOW));

    bench.planned(1);
    bench.queue.prepare_again(bench.claim().task, NOW).unwrap();
    let again = bench.claim_prepare().unwrap();
    assert_lost(bench.queue.add_chunks(again.task, seconds(1..2), Order::Free, NOW));
}

#[test]
pub(super) fn later_batches_wait_for_the_language_only_until_it_is_known() {
    let bench = Bench::new();
    bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    let add = |range| bench.queue.add_chunks(prepare.task, seconds(range), Order::FirstThenRest, NOW).unwrap();
    add(0..1);
    add(1..2);
    let first = bench.claim();
    assert!(bench.try_claim().is_none(), "the second batch waits");
    bench.finish(&first);
    add(2..3);
    assert_eq!([seq(&bench.claim()), seq(&bench.claim())], [1, 2]);
}

#[test]
pub(super) fn a_chain_holds_across_batches() {
    let bench = Bench::new();
    bench.submit_as(|job| job.options.condition_on_previous_text = true);
    let prepare = bench.claim_prepare().unwrap();
    let add = |range| bench.queue.add_chunks(prepare.task, seconds(range), Order::Chain, NOW).unwrap();
    add(0..1);
    add(1..3);
    for n in 0..3 {
        let claim = bench.claim();
        assert_eq!(seq(&claim), n);
        assert!(bench.try_claim().is_none(), "the next waits for this one");
        bench.finish(&claim);
    }
    add(3..4);
    assert_eq!(seq(&bench.claim()), 3, "the one before is done already");
}

#[test]
pub(super) fn two_long_recordings_that_are_decoded_at_the_same_time_take_turns() {
    let bench = Bench::new();
    let jobs = [bench.submit(), bench.submit()];
    let prepares = [bench.claim_prepare().unwrap(), bench.claim_prepare().unwrap()];
    // The first is decoded far ahead before the second begins, each in batches of two.
    for prepare in &prepares {
        for batch in 0..4 {
            let range = batch * 2..batch * 2 + 2;
            bench.queue.add_chunks(prepare.task, seconds(range), Order::Free, NOW).unwrap();
        }
    }
    let claimed: Vec<String> = std::iter::from_fn(|| Some(bench.try_claim()?.job_id)).collect();
    assert_eq!(claimed.len(), 16);
    for pair in claimed.chunks(2) {
        assert!(jobs.iter().all(|job| pair.contains(job)), "{claimed:?}");
    }
}

#[test]
pub(super) fn small_recordings_wait_in_a_lane_of_their_own() {
    let bench = Bench::new();
    let small = bench.submit_as(|job| job.source_bytes = Some(16 * 1024 * 1024));
    let large = bench.submit_as(|job| job.source_bytes = Some(16 * 1024 * 1024 + 1));
    let claim = |small| {
        let lane = prepare_lane(small, MODEL, None);
        bench.queue.claim("prepare", &lane, ME, "prepare-0", NOW).unwrap()
    };
    assert!(bench.queue.claim("prepare", &prepare_lane(true, "other", None), ME, "prepare-0", NOW).unwrap().is_none());
    let claimed = claim(true).unwrap();
    assert_eq!(claimed.job_id, small);
    assert!(claim(true).is_none());
    assert_eq!(claim(false).unwrap().job_id, large);
    bench.queue.fail(claimed.task, &fault(), 0.0, NOW).unwrap();
    bench.queue.promote(NOW + 60_000).unwrap();
    assert_eq!(claim(true).unwrap().job_id, small, "still small when it is tried again");
}

#[test]
pub(super) fn a_translation_is_a_second_pass_over_each_chunk_and_the_transcript_of_the_job() {
    let bench = Bench::new();
    let id = bench.submit_as(|job| job.options.translate = true);
    bench.prepare(2, Order::FirstThenRest);
    let mut passes = Vec::new();
    while let Some(claim) = bench.try_claim() {
        let Work::Transcribe { seq, translate, last_pass, .. } = claim.work else { panic!("{claim:?}") };
        assert_eq!(last_pass, translate);
        assert_eq!(
            translate,
            claim.language.is_some() && passes.contains(&(seq, false)),
            "after the chunk's first pass"
        );
        let text = format!("{} {seq}", if translate { "Yes" } else { "Ja" });
        bench.queue.finish_chunk(claim.task, result(&text), NOW).unwrap();
        passes.push((seq, translate));
        if passes.len() == 1 {
            assert_eq!(bench.job(&id).progress, 0.0, "a chunk counts with its last pass");
        }
    }
    assert_eq!(passes.len(), 4);
    bench.assert_state(&id, JobState::Completed);
    let transcript = bench.queue.transcript(&id).unwrap();
    assert_eq!((transcript.text().as_str(), transcript.translated), ("Yes 0 Yes 1", true));
    assert_eq!(bench.text("select group_concat(text) from segments where pass = 0"), "Ja 0,Ja 1", "as spoken");
    assert_eq!(bench.text("select text from transcripts"), "Yes 0 Yes 1");
}
