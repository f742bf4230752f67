//! Killed, interrupted, cancelled: what was done stays done, and the next run goes on from there.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

use crate::support::{Whisperq, fixture, long_recording};

/// A run of `whisperq transcribe` whose log can be followed.
struct Run {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Run {
    fn start(whisperq: &Whisperq, file: &str) -> Self {
        let mut command = whisperq.command(&["transcribe", file]);
        command.env("RUST_LOG", "whisperq=debug").env("WORKER_COUNT", "2");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log }
    }

    /// Follows the log until `message` has come `times` times.
    fn wait_for(&mut self, message: &str, times: usize) {
        let lines = self.log.by_ref().map(Result::unwrap).filter(|line| line.contains(message));
        assert_eq!(lines.take(times).count(), times, "the run ended before {message} came {times} times");
    }

    /// Reads the log to its end, so that the run never waits for its reader.
    fn finish(mut self) -> (Option<i32>, String) {
        let log: Vec<String> = self.log.by_ref().map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), log.join("\n"))
    }
}

/// Five chunks or more of speech.
fn recording(whisperq: &Whisperq) -> String {
    let path = whisperq.path("long.wav");
    long_recording(&path, 125);
    path.display().to_string()
}

fn ids(whisperq: &Whisperq) -> Vec<Value> {
    let jobs: Vec<Value> = serde_json::from_str(&whisperq.output(&["jobs", "list", "--format", "json"])).unwrap();
    jobs.into_iter().map(|job| job["id"].clone()).collect()
}

#[test]
fn a_killed_run_goes_on_where_it_was_and_repeats_no_finished_chunk() {
    let whisperq = Whisperq::new();
    let file = recording(&whisperq);
    let mut run = Run::start(&whisperq, &file);
    run.wait_for("transcribed", 3);
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    let finished = "select count(*) as chunks from chunks where kind = 'transcribe' and outcome = 'done'";
    let before = whisperq.sql(finished)[0]["chunks"].as_i64().unwrap();
    assert!(before >= 2, "{before} chunks were done when the run was killed");

    let resumed = whisperq.output(&["transcribe", &file]);
    assert_eq!(ids(&whisperq).len(), 1, "no second job was made");
    let repeated = whisperq.sql(
        "select c.seq from chunks c join chunks done on done.job_id = c.job_id and done.kind = c.kind
             and done.seq = c.seq and done.outcome = 'done' and c.attempt > done.attempt",
    );
    assert!(repeated.is_empty(), "started again after they were done: {repeated:?}");
    let lost = whisperq.sql("select count(*) as chunks from chunks where outcome = 'lost'")[0]["chunks"].as_i64();
    assert!(lost <= Some(2), "at most one chunk per worker is repeated, not {lost:?}");

    let undisturbed = Whisperq::new().output(&["transcribe", &file]);
    assert_eq!(resumed, undisturbed);
}

#[test]
fn an_interrupted_run_gives_its_work_back_and_says_how_to_go_on() {
    let whisperq = Whisperq::new();
    let file = recording(&whisperq);
    let mut run = Run::start(&whisperq, &file);
    run.wait_for("transcribed", 1);
    let status = Command::new("kill").args(["-INT", &run.child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let (code, log) = run.finish();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("run the same command again"), "{log}");
    let outcomes = whisperq.sql("select distinct outcome from chunks where kind = 'transcribe' order by 1");
    let outcomes: Vec<&str> = outcomes.iter().filter_map(|row| row["outcome"].as_str()).collect();
    assert!(!outcomes.contains(&"lost") && outcomes.contains(&"done"), "{outcomes:?}");
    whisperq.output(&["transcribe", &file]);
    assert_eq!(ids(&whisperq).len(), 1);
}

#[test]
fn a_job_cancelled_from_another_terminal_stops_within_its_chunks() {
    let whisperq = Whisperq::new();
    let file = recording(&whisperq);
    let mut run = Run::start(&whisperq, &file);
    run.wait_for("transcribed", 1);
    let id = ids(&whisperq)[0].as_str().unwrap().to_owned();
    whisperq.output(&["jobs", "cancel", &id]);
    let (code, log) = run.finish();
    assert_eq!(code, Some(1));
    assert!(log.contains("cancelled"), "{log}");
    let open = whisperq.sql("select count(*) as n from chunks where outcome is null")[0]["n"].as_i64();
    assert_eq!(open, Some(0));
}

#[test]
fn a_file_that_was_changed_is_a_new_job() {
    let whisperq = Whisperq::new();
    let file = recording(&whisperq);
    let mut run = Run::start(&whisperq, &file);
    run.wait_for("transcribed", 1);
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    long_recording(&whisperq.path("long.wav"), 20);
    whisperq.output(&["transcribe", &file]);
    assert_eq!(ids(&whisperq).len(), 2);
}

#[test]
fn a_transcript_that_could_not_be_written_is_handed_out_by_the_next_run() {
    let whisperq = Whisperq::new();
    let file = fixture("sample.wav").display().to_string();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = whisperq.command(&["transcribe", &file]).stdout(full).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(whisperq.output(&["transcribe", &file]).contains("boxes are dry"));
    let attempts = whisperq.sql("select count(*) as n from chunks where kind = 'transcribe'");
    assert_eq!((ids(&whisperq).len(), attempts[0]["n"].as_i64()), (1, Some(1)), "the work was not done again");
    whisperq.output(&["transcribe", &file]);
    assert_eq!(ids(&whisperq).len(), 2, "once it is out, the same command is a new job");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let whisperq = Whisperq::new();
    let sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 9000) select i from n";
    let mut child = whisperq.command(&["sql", sql]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
