//! Processes that share a database: the lock file of each tells the living from the dead, and what the dead held returns
//! at once. A lock belongs to an open file, so a test can be several processes.

use whisperq::error::Error;
use whisperq::job::{JobState, NewJob, Options};
use whisperq::queue::{Claim, Order, Process, Submitted, WorkerRow, WorkerState};

use super::support::{Bench, LEASE_MS, MODEL, NOW, assert_lost, finish_plan, lane, limits, new_job, open, result};

fn register(bench: &Bench) -> Process {
    bench.queue.register("test", NOW).unwrap()
}

fn claim_as(bench: &Bench, process: &Process, kind: &'static str, lane: &str) -> Claim {
    bench.queue.claim(kind, lane, process.id(), "gpu-0", NOW).unwrap().unwrap()
}

fn owned(process: &Process) -> NewJob {
    NewJob { owner: Some(process.id().to_owned()), ..new_job() }
}

#[test]
pub(super) fn a_dead_process_is_taken_over_from_at_once_and_a_living_one_is_left_alone() {
    let bench = Bench::new();
    let (me, alive, dying) = (register(&bench), register(&bench), register(&bench));
    bench.planned(2);
    let kept = claim_as(&bench, &alive, "transcribe", MODEL);
    let lost = claim_as(&bench, &dying, "transcribe", MODEL);
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 0, "all three hold their locks");
    let dead = dying.id().to_owned();
    drop(dying);
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 1);
    assert_lost(bench.queue.finish_chunk(lost.task, result("late"), NOW));
    bench.finish(&kept);
    assert_eq!(bench.number(&format!("select ended_at_ms from processes where id = '{dead}'")), NOW);
    assert_eq!(bench.number("select count(*) from processes where ended_at_ms is null"), 2);
    assert!(!bench.folder().join(format!("proc/{dead}.lock")).exists());
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 0, "once");
}

#[test]
pub(super) fn a_process_whose_lock_file_is_gone_is_dead_too() {
    let bench = Bench::new();
    let (me, dying) = (register(&bench), register(&bench));
    bench.planned(1);
    claim_as(&bench, &dying, "transcribe", MODEL);
    std::fs::remove_file(bench.folder().join(format!("proc/{}.lock", dying.id()))).unwrap();
    drop(dying);
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 1);
}

#[test]
pub(super) fn a_process_does_not_recover_itself() {
    let bench = Bench::new();
    let me = register(&bench);
    bench.planned(1);
    let claim = claim_as(&bench, &me, "transcribe", MODEL);
    let id = me.id().to_owned();
    drop(me);
    assert_eq!(bench.queue.recover_dead(&id, NOW).unwrap(), 0);
    bench.finish(&claim);
}

#[test]
pub(super) fn the_jobs_of_a_dead_process_become_everyones() {
    let bench = Bench::new();
    let (me, dying) = (register(&bench), register(&bench));
    let jobs = [bench.queue.submit(owned(&dying), NOW).unwrap().id, bench.queue.submit(owned(&dying), NOW).unwrap().id];
    let prepare = claim_as(&bench, &dying, "prepare", &lane("prepare", dying.id()));
    finish_plan(&bench.queue, prepare.task, 3, Order::FirstThenRest, NOW);
    claim_as(&bench, &dying, "transcribe", &lane("transcribe", dying.id()));
    assert!(bench.try_claim().is_none());
    drop(dying);
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 1);
    assert_eq!(bench.claim_prepare().unwrap().job_id, jobs[1]);
    let chunk = bench.claim();
    assert_eq!((&chunk.job_id, chunk.task.attempt), (&jobs[0], 2));
    bench.finish(&chunk);
    bench.claim();
    bench.claim();
    assert_eq!(bench.number("select count(*) from lanes where lane like '%@%'"), 0);
}

#[test]
pub(super) fn a_job_left_behind_is_taken_up_by_who_asks_for_just_the_same() {
    let bench = Bench::new();
    let (me, dying) = (register(&bench), register(&bench));
    let first = bench.queue.submit(owned(&dying), NOW).unwrap().id;
    let prepare = claim_as(&bench, &dying, "prepare", &lane("prepare", dying.id()));
    finish_plan(&bench.queue, prepare.task, 2, Order::Free, NOW);
    let chunks = lane("transcribe", dying.id());
    let chunk = claim_as(&bench, &dying, "transcribe", &chunks);
    bench.finish(&chunk);

    let taken = bench.queue.resume_or_submit(owned(&me), NOW).unwrap();
    assert!(!taken.resumed, "its owner lives");
    bench.queue.cancel(&taken.id, NOW).unwrap();
    drop(dying);
    bench.queue.recover_dead(me.id(), NOW).unwrap();
    let differing: [fn(&mut NewJob); 5] = [
        |job| job.source = "/audio/b.wav".to_owned(),
        |job| job.source_version = Some("2".to_owned()),
        |job| job.source_version = None,
        |job| job.options.word_timestamps = true,
        |job| job.model = "turbo".to_owned(),
    ];
    for differ in differing {
        let mut job = owned(&me);
        differ(&mut job);
        assert!(!bench.queue.resume_or_submit(job, NOW).unwrap().resumed);
    }
    let taken = bench.queue.resume_or_submit(owned(&me), NOW).unwrap();
    assert_eq!(taken, Submitted { id: first.clone(), resumed: true });
    assert!(!bench.queue.resume_or_submit(owned(&me), NOW).unwrap().resumed, "it has an owner again");
    assert!(bench.try_claim().is_none(), "it left the lane of everyone");
    let rest = claim_as(&bench, &me, "transcribe", &lane("transcribe", me.id()));
    assert_eq!(rest.job_id, first);
    bench.finish(&rest);
    assert_eq!(bench.job(&first).attempts, 3, "the finished chunk was not done again");
}

#[test]
pub(super) fn an_address_is_taken_up_whatever_version_was_fetched_but_not_for_another_of_the_same_open_part() {
    let bench = Bench::new();
    let me = register(&bench);
    let at = |digest: &str| NewJob {
        source: "https://example.org/get".to_owned(),
        source_version: None,
        options: Options { audio_digest: Some(digest.to_owned()), ..Options::default() },
        ..new_job()
    };
    let first = bench.queue.submit(at("one"), NOW).unwrap().id;
    let prepare = bench.claim_prepare().unwrap();
    bench.queue.note_source(prepare.task, Some("etag".to_owned()), 7).unwrap();
    let mine = |digest| NewJob { owner: Some(me.id().to_owned()), ..at(digest) };
    assert!(!bench.queue.resume_or_submit(mine("two"), NOW).unwrap().resumed);
    assert_eq!(bench.queue.resume_or_submit(mine("one"), NOW).unwrap(), Submitted { id: first, resumed: true });
}

#[test]
pub(super) fn a_completed_job_is_taken_up_until_its_transcript_was_handed_out() {
    let bench = Bench::new();
    let me = register(&bench);
    bench.queue.cancel(&bench.submit(), NOW).unwrap();
    let completed = bench.planned(0);
    let taken = bench.queue.resume_or_submit(owned(&me), NOW).unwrap();
    assert_eq!(taken, Submitted { id: completed.clone(), resumed: true });
    bench.assert_state(&completed, JobState::Completed);
    bench.queue.hand_out(&completed, NOW).unwrap();
    assert!(!bench.queue.resume_or_submit(owned(&me), NOW).unwrap().resumed);
}

#[test]
pub(super) fn time_limits_stand_still_for_an_owner_and_begin_anew_for_whoever_comes_after() {
    let bench = Bench::new();
    let (me, dying) = (register(&bench), register(&bench));
    let id = bench.queue.submit(owned(&dying), NOW).unwrap().id;
    let prepare = claim_as(&bench, &dying, "prepare", &lane("prepare", dying.id()));
    finish_plan(&bench.queue, prepare.task, 2, Order::Free, NOW);
    claim_as(&bench, &dying, "transcribe", &lane("transcribe", dying.id()));
    let (ttl_ms, limit_ms) = (limits().job_ttl_ms, limits().execution_timeout_ms);
    let much_later = NOW + 10 * (ttl_ms + limit_ms);
    assert_eq!(bench.queue.expire(much_later).unwrap(), 0, "its owner waits for it");
    drop(dying);
    bench.queue.recover_dead(me.id(), much_later).unwrap();
    assert_eq!(bench.queue.expire(much_later + ttl_ms + limit_ms - 1).unwrap(), 0);
    assert_eq!(bench.queue.expire(much_later + ttl_ms + limit_ms).unwrap(), 1, "nobody came");
    bench.assert_state(&id, JobState::TimedOut);
}

#[test]
pub(super) fn a_queued_job_waits_beyond_its_time_where_its_owner_does() {
    let bench = Bench::new();
    let owner = register(&bench);
    bench.queue.submit(owned(&owner), NOW).unwrap();
    let late = NOW + 10 * limits().job_ttl_ms;
    assert_eq!(bench.queue.expire(late).unwrap(), 0);
    bench.queue.sign_off(owner, late).unwrap();
    assert_eq!(bench.queue.expire(late + limits().job_ttl_ms).unwrap(), 1);
}

#[test]
pub(super) fn signing_off_gives_everything_back() {
    let bench = Bench::new();
    let (me, leaving) = (register(&bench), register(&bench));
    bench.queue.submit(owned(&leaving), NOW).unwrap();
    bench.planned(1);
    let claim = claim_as(&bench, &leaving, "transcribe", MODEL);
    let lock = bench.folder().join(format!("proc/{}.lock", leaving.id()));
    assert!(lock.exists());
    bench.queue.sign_off(leaving, NOW).unwrap();
    assert!(!lock.exists());
    assert_lost(bench.queue.finish_chunk(claim.task, result("late"), NOW));
    assert_eq!(bench.claim().task.id, claim.task.id);
    assert!(bench.claim_prepare().is_some(), "its own job is everyone's");
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 0);
    assert_eq!(bench.number("select count(*) from processes where ended_at_ms is null"), 1);
}

#[test]
pub(super) fn what_one_process_submits_another_does() {
    let bench = Bench::new();
    let other = open(bench.folder(), limits());
    let id = other.submit(new_job(), NOW).unwrap().id;
    bench.prepare(1, Order::Free);
    let claim = other.claim("transcribe", MODEL, "other", "gpu-0", NOW).unwrap().unwrap();
    assert_eq!(bench.queue.reap("me", NOW + LEASE_MS).unwrap(), 1);
    assert!(matches!(other.finish_chunk(claim.task, result("late"), NOW), Err(Error::ClaimLost)));
    bench.finish(&bench.claim());
    assert_eq!(other.transcript(&id).unwrap().text(), "So");
}

fn report(bench: &Bench, process: &Process, model: &str) {
    let worker = WorkerRow {
        process_id: process.id().to_owned(),
        worker_id: model.to_owned(),
        model: model.to_owned(),
        model_instance: 0,
        device: "cpu".to_owned(),
        state: WorkerState::Ready,
        error: None,
    };
    bench.queue.report_worker(worker).unwrap();
}

#[test]
pub(super) fn a_job_is_abandoned_when_only_command_lines_are_left_that_keep_to_their_own() {
    let bench = Bench::new();
    let id = bench.planned(1);
    let ended = bench.submit();
    bench.queue.cancel(&ended, NOW).unwrap();
    let jobs = [id.clone(), ended, bench.submit_as(|job| job.owner = Some("other".to_owned()))];
    let _command_line = bench.queue.register("transcribe", NOW).unwrap();
    assert_eq!(bench.queue.abandoned_among(&jobs).unwrap(), [id]);
    let service = bench.queue.register("serve", NOW).unwrap();
    report(&bench, &service, "large-v3");
    assert_eq!(bench.queue.abandoned_among(&jobs).unwrap().len(), 1, "it serves another model");
    report(&bench, &service, MODEL);
    assert!(bench.queue.abandoned_among(&jobs).unwrap().is_empty());
}
