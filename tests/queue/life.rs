//! The life of a job from submit to transcript, and what its chunks hand to each other on the way.

use whisperq::error::Error;
use whisperq::job::JobState;
use whisperq::queue::{ChunkResult, Order, Plan, Stored, Work, WorkerRow, WorkerState, prepare_lane};
use whisperq::runpod_payload::Timings;

use super::support::{Bench, ME, MODEL, NOW, finish_plan, plan, result, seconds};

#[test]
pub(super) fn a_job_goes_from_submit_to_transcript_and_every_step_is_on_record() {
    let bench = Bench::new();
    let queue = &bench.queue;
    let id = bench.submit();
    let job = bench.job(&id);
    assert_eq!((job.status, job.progress, job.attempts, job.started_at), (JobState::Queued, 0.0, 0, None));

    let prepare = bench.claim_prepare().unwrap();
    assert_eq!((&prepare.job_id, &prepare.work), (&id, &Work::Prepare(Stored::default())));
    bench.assert_state(&id, JobState::Queued);
    assert!(bench.try_claim().is_none(), "no chunk before there is a plan");
    queue.add_chunks(prepare.task, seconds(0..3), Order::Free, NOW + 10).unwrap();
    let planned = Plan { warnings: vec!["the end is cut off".to_owned()], ..plan(3) };
    queue.finish_prepare(prepare.task, Some(planned), NOW + 10).unwrap();
    let job = bench.job(&id);
    assert_eq!((job.status, job.audio_seconds), (JobState::Queued, Some(3.0)));
    assert_eq!(job.warnings, ["the end is cut off"]);

    let claim = |worker, now| queue.claim("transcribe", MODEL, ME, worker, now).unwrap().unwrap();
    let first = claim("gpu-0", NOW + 100);
    let job = queue.job(&id, NOW + 150).unwrap();
    assert_eq!((job.status, job.delay_time_ms, job.execution_time_ms), (JobState::Running, Some(100), Some(50)));
    let second = claim("gpu-1", NOW + 200);
    let third = claim("gpu-1", NOW + 200);
    assert!(bench.try_claim().is_none(), "all chunks are taken");
    queue.finish_chunk(third.task, result(" country"), NOW + 300).unwrap();
    assert_eq!(bench.job(&id).progress, 1000.0 / 3000.0);
    queue.finish_chunk(first.task, result("Ask not"), NOW + 300).unwrap();
    assert!(matches!(queue.transcript(&id), Err(Error::Conflict(_))), "one chunk is missing");
    queue.finish_chunk(second.task, result(" what your"), NOW + 400).unwrap();

    let job = bench.job(&id);
    assert_eq!((job.status, job.progress, job.execution_time_ms), (JobState::Completed, 1.0, Some(300)));
    assert_eq!((job.attempts, job.worker_ids), (4, vec!["gpu-0".to_owned(), "gpu-1".to_owned()]));
    assert_eq!(job.language.as_deref(), Some("en"));
    let transcript = queue.transcript(&id).unwrap();
    assert_eq!((transcript.text().as_str(), transcript.duration_ms), ("Ask not what your country", 3000));
    assert_eq!(bench.text("select text from transcripts"), "Ask not what your country");
    assert_eq!(bench.number("select count(*) from attempts where outcome = 'done'"), 4);
    assert_eq!(bench.number("select sum(engine_ms) from attempts"), 21);
}

#[test]
pub(super) fn a_recording_without_speech_completes_with_its_plan() {
    let bench = Bench::new();
    let id = bench.planned(0);
    let job = bench.job(&id);
    assert_eq!((job.status, job.delay_time_ms, job.execution_time_ms), (JobState::Completed, Some(0), Some(0)));
    assert_eq!(bench.queue.transcript(&id).unwrap().text(), "");
}

#[test]
pub(super) fn a_finished_chunk_is_counted_for_the_worker_that_did_it() {
    let bench = Bench::new();
    let row = |worker: &str| WorkerRow {
        process_id: ME.to_owned(),
        worker_id: worker.to_owned(),
        model: MODEL.to_owned(),
        model_instance: 0,
        device: "cpu".to_owned(),
        state: WorkerState::Ready,
        error: None,
    };
    bench
        .sql(&format!(
            "insert into processes (id, pid, command, version, started_at_ms, heartbeat_at_ms)
             values ('{ME}', 1, 'serve', '0', {NOW}, {NOW})"
        ))
        .unwrap();
    bench.queue.report_worker(row("gpu-0")).unwrap();
    bench.queue.report_worker(row("gpu-1")).unwrap();
    bench.planned(2);
    bench.finish(&bench.claim());
    let done = |worker| {
        bench.text(&format!(
            "select chunks_done || ' ' || audio_ms || ' ' || engine_ms from worker_threads where worker_id = '{worker}'"
        ))
    };
    assert_eq!((done("gpu-0").as_str(), done("gpu-1").as_str()), ("1 1000 7", "0 0 0"));
    assert_eq!(bench.text("select status from workers where worker_id = 'gpu-0'"), "ready");
    bench.claim();
    assert_eq!(bench.text("select status || current_chunk from workers where worker_id = 'gpu-0'"), "busy1");
}

#[test]
pub(super) fn the_first_chunk_finds_the_language_for_the_rest() {
    let bench = Bench::new();
    let id = bench.submit();
    bench.prepare(3, Order::FirstThenRest);
    let first = bench.claim();
    assert_eq!(first.language, None);
    assert!(bench.try_claim().is_none(), "the others wait for the language");
    let heard = ChunkResult { language: "de".to_owned(), language_probability: Some(0.75), ..result("Ja") };
    bench.queue.finish_chunk(first.task, heard, NOW).unwrap();
    let rest = [bench.claim(), bench.claim()];
    for claim in &rest {
        assert_eq!(claim.language.as_deref(), Some("de"));
        bench.finish(claim);
    }
    assert_eq!(bench.job(&id).language.as_deref(), Some("de"), "later chunks do not change it");
    assert_eq!(bench.queue.transcript(&id).unwrap().language_probability, Some(0.75));
}

#[test]
fn a_completed_job_tells_where_its_time_went() {
    let bench = Bench::new();
    let id = bench.submit();
    let lane = prepare_lane(false, MODEL, None);
    let preparing = bench.queue.claim("prepare", &lane, ME, "prepare-0", NOW + 40).unwrap().unwrap();
    finish_plan(&bench.queue, preparing.task, 2, Order::Free, NOW + 100);
    for _ in 0..2 {
        let chunk = bench.queue.claim("transcribe", MODEL, ME, "gpu-0", NOW + 150).unwrap().unwrap();
        bench.queue.finish_chunk(chunk.task, result("So"), NOW + 500).unwrap();
    }
    let timings = bench.queue.spoken(&id).unwrap().timings;
    assert_eq!(timings, Timings { queue_ms: 40, prepare_ms: 60, engine_ms: 14, total_ms: 500 });
}

#[test]
pub(super) fn a_chain_runs_one_chunk_at_a_time_and_hands_over_the_text() {
    let bench = Bench::new();
    let id = bench.submit_as(|job| job.options.condition_on_previous_text = true);
    bench.prepare(3, Order::Chain);
    let mut before = None;
    for (n, text) in ["And so,", " my fellow", " Americans"].into_iter().enumerate() {
        let claim = bench.claim();
        assert!(bench.try_claim().is_none(), "the next waits for this one");
        let Work::Transcribe { seq, previous_text, .. } = &claim.work else { panic!("{claim:?}") };
        assert_eq!((*seq, previous_text.as_deref()), (n as i64, before));
        bench.queue.finish_chunk(claim.task, result(text), NOW).unwrap();
        before = Some(text);
    }
    assert_eq!(bench.queue.transcript(&id).unwrap().text(), "And so, my fellow Americans");
}

#[test]
pub(super) fn a_chunk_gets_no_text_from_before_unless_the_job_wants_it() {
    let bench = Bench::new();
    bench.planned(2);
    bench.finish(&bench.claim());
    let claim = bench.claim();
    assert!(matches!(claim.work, Work::Transcribe { seq: 1, previous_text: None, .. }), "{claim:?}");
}
