//! Who is claimed next: lanes, priorities, fairness between jobs, and every task exactly once.

use std::collections::HashSet;

use whisperq::audio::Chunk;
use whisperq::queue::{Claim, Order, Work, prepare_lane};

use super::support::{Bench, ME, MODEL, NOW, fault, finish_plan, lane};

fn seq(claim: &Claim) -> i64 {
    let Work::Transcribe { seq, .. } = claim.work else { panic!("{claim:?}") };
    seq
}

#[test]
pub(super) fn lanes_do_not_mix() {
    let bench = Bench::new();
    let tiny = bench.planned(1);
    let turbo = bench.submit_as(|job| job.model = "turbo".to_owned());
    let claim = |kind, lane: &str| bench.queue.claim(kind, lane, ME, "gpu-0", NOW).unwrap();
    let prepare = claim("prepare", &prepare_lane(false, "turbo", None)).unwrap();
    finish_plan(&bench.queue, prepare.task, 1, Order::Free, NOW);
    assert!(claim("prepare", MODEL).is_none(), "the kind counts too");
    assert_eq!(claim("transcribe", "turbo").unwrap().job_id, turbo);
    assert!(claim("transcribe", "turbo").is_none());
    assert_eq!(claim("transcribe", MODEL).unwrap().job_id, tiny);
}

#[test]
fn a_lane_tells_whether_so_many_tasks_wait_in_it() {
    let bench = Bench::new();
    bench.planned(2);
    let queued = |lane: &str| [1, 2, 3].map(|count| bench.queue.has_queued("transcribe", lane, count).unwrap());
    assert_eq!((queued(MODEL), queued("turbo")), ([true, true, false], [false; 3]));
    let claim = bench.claim();
    assert_eq!(queued(MODEL), [true, false, false], "what is claimed waits no more");
    bench.finish(&claim);
    bench.finish(&bench.claim());
    assert_eq!(queued(MODEL), [false; 3]);
}

#[test]
pub(super) fn a_higher_priority_goes_first_and_equals_go_in_order() {
    let bench = Bench::new();
    let jobs = [0, -1, 7, 0].map(|priority| bench.submit_as(|job| job.options.priority = Some(priority)));
    let prepared: Vec<String> = std::iter::from_fn(|| {
        let claim = bench.claim_prepare()?;
        finish_plan(&bench.queue, claim.task, 1, Order::Free, NOW);
        Some(claim.job_id)
    })
    .collect();
    let expected = [2, 0, 3, 1].map(|n| jobs[n].clone());
    assert_eq!(prepared, expected);
    assert_eq!([(); 4].map(|()| bench.claim().job_id), expected, "the chunks too");
}

#[test]
pub(super) fn a_short_job_passes_a_long_one() {
    for claimed_before in 0..5 {
        let bench = Bench::new();
        bench.planned(40);
        for n in 0..claimed_before {
            assert_eq!(seq(&bench.claim()), n, "within a job in order of time");
        }
        let short = bench.planned(1);
        let next_two = [bench.claim().job_id, bench.claim().job_id];
        assert!(next_two.contains(&short), "after {claimed_before} chunks of the long one");
    }
}

#[test]
pub(super) fn a_note_goes_before_the_next_chunks_of_the_jobs_under_way_even_if_they_are_shorter() {
    let bench = Bench::new();
    for _ in 0..4 {
        bench.planned(10);
    }
    for _ in 0..6 {
        bench.finish(&bench.claim());
    }
    let note = bench.submit();
    let prepare = bench.claim_prepare().unwrap();
    let chunk = Chunk { start_sample: 0, end_sample: 24_000, hard_cut: false };
    bench.queue.add_chunks(prepare.task, vec![chunk], Order::Free, NOW).unwrap();
    let next_two = [bench.claim().job_id, bench.claim().job_id];
    assert!(next_two.contains(&note), "a second and a half, among chunks of a second");
}

#[test]
pub(super) fn a_long_job_moves_on_under_an_endless_stream_of_short_ones() {
    let bench = Bench::new();
    let long = bench.planned(10);
    let (mut claims_of_long, mut now) = (0, NOW);
    // Twenty seconds pass for each second of audio, so the floor of the clock overtakes the keys of the long one.
    for _ in 0..20 {
        now += 20_000;
        bench.submit();
        let prepare = bench.claim_prepare().unwrap();
        finish_plan(&bench.queue, prepare.task, 1, Order::Free, now);
        let claim = bench.queue.claim("transcribe", MODEL, ME, "gpu-0", now).unwrap().unwrap();
        claims_of_long += i32::from(claim.job_id == long);
    }
    assert!(claims_of_long >= 9, "{claims_of_long} of its 10 chunks");
}

#[test]
pub(super) fn a_job_that_comes_late_starts_at_the_clock_and_not_before_those_that_waited() {
    let bench = Bench::new();
    let early = bench.planned(3);
    for _ in 0..2 {
        assert_eq!(bench.claim().job_id, early);
    }
    let late = bench.planned(3);
    // The clock stands at the start of the second chunk; were it at zero, the late job would go first three times.
    assert_eq!([(); 4].map(|()| bench.claim().job_id == late), [true, false, true, true]);
}

#[test]
pub(super) fn a_chunk_that_is_tried_again_gets_a_new_place() {
    let bench = Bench::new();
    bench.planned(5);
    let claims = [(); 4].map(|()| bench.claim());
    bench.queue.fail(claims[0].task, &fault(), 0.0, NOW).unwrap();
    bench.queue.promote(NOW + 500).unwrap();
    let again = bench.number("select key from tasks where seq = 0 and kind = 'transcribe'");
    let last = bench.number("select key from tasks where seq = 3");
    // At the clock, which is the start of the fourth chunk, plus its own second.
    assert_eq!(again, last, "neither its old place nor the end of the line");
}

#[test]
pub(super) fn a_job_with_an_owner_is_seen_by_its_owner_alone() {
    let bench = Bench::new();
    let id = bench.submit_as(|job| job.owner = Some(ME.to_owned()));
    assert!(bench.claim_prepare().is_none());
    let claim = |kind| bench.queue.claim(kind, &lane(kind, ME), ME, "w", NOW).unwrap();
    let prepare = claim("prepare").unwrap();
    finish_plan(&bench.queue, prepare.task, 1, Order::Free, NOW);
    assert!(bench.try_claim().is_none());
    assert_eq!(claim("transcribe").unwrap().job_id, id);
}

#[test]
pub(super) fn a_job_left_behind_takes_its_place_by_the_clock_of_the_common_lane() {
    let bench = Bench::new();
    let dead = bench.queue.register("test", NOW).unwrap();
    let id = bench.submit_as(|job| job.owner = Some(dead.id().to_owned()));
    let claim = |kind| bench.queue.claim(kind, &lane(kind, dead.id()), dead.id(), "w", NOW).unwrap().unwrap();
    finish_plan(&bench.queue, claim("prepare").task, 40, Order::Free, NOW);
    for _ in 0..20 {
        bench.finish(&claim("transcribe"));
    }
    bench.planned(40);
    drop(dead);
    bench.queue.recover_dead(ME, NOW).unwrap();
    let next_two = [bench.claim().job_id, bench.claim().job_id];
    assert!(next_two.contains(&id), "twenty chunks into its own lane are nothing in this one");
}

#[test]
pub(super) fn no_task_is_given_to_two_claimers() {
    let bench = Bench::new();
    bench.planned(500);
    let claimed: Vec<i64> = std::thread::scope(|scope| {
        let claimers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| std::iter::from_fn(|| Some(bench.try_claim()?.task.id)).collect::<Vec<_>>()))
            .collect();
        claimers.into_iter().flat_map(|claimer| claimer.join().unwrap()).collect()
    });
    assert_eq!(claimed.len(), 500);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>().len(), 500);
}

#[test]
pub(super) fn the_clock_of_a_lane_does_not_go_back_with_a_long_chunk() {
    let bench = Bench::new();
    for samples in [16_000, 320_000] {
        bench.submit();
        let prepare = bench.claim_prepare().unwrap();
        let chunk = Chunk { start_sample: 0, end_sample: samples, hard_cut: false };
        bench.queue.add_chunks(prepare.task, vec![chunk], Order::Free, NOW).unwrap();
    }
    let clock = || bench.number("select virtual_ms from lanes where kind = 'transcribe'");
    bench.claim();
    let short = clock();
    // It starts before the short one has: its middle counts.
    bench.claim();
    assert!(clock() >= short);
}
