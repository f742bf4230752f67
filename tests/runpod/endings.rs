//! The end of a worker: asked for, or because it cannot work.

use rustix::process::Signal;

use super::platform::{Platform, body, is_ping, is_progress, is_result, is_take};
use super::worker::{Worker, job, long_job};
use crate::support::{Whisperq, model};

#[test]
fn a_worker_that_is_told_to_stop_does_what_it_was_given_and_lives_until_that_has_arrived() {
    let platform = Platform::start();
    platform.answer_posts(&[500, 200]);
    platform.hand_out(&long_job("a-u1", 35));
    let worker = Worker::start(&platform, &[("SHUTDOWN_SECONDS", "600")]);
    platform.asked(|request| is_ping(request) && request.line.contains("a-u1"));
    worker.signal(Signal::TERM);
    platform.results(1);
    assert_eq!(worker.end().0, Some(0));
    let seen = platform.seen();
    let refused = seen.iter().position(is_result).unwrap();
    let accepted = seen.iter().rposition(is_result).unwrap();
    let between = &seen[refused..accepted];
    assert!(between.iter().any(|request| is_ping(request) && request.line.contains("a-u1")), "it lives until then");
    assert!(!seen[refused..].iter().any(is_take), "and takes no other job");
}

#[test]
fn an_idle_worker_ends_without_waiting_for_its_polls() {
    let platform = Platform::start();
    let worker = Worker::start(&platform, &[]);
    platform.asked(is_take);
    let before = platform.seen().len();
    worker.signal(Signal::TERM);
    assert_eq!(worker.end().0, Some(0));
    // A poll is held back for two seconds: the answer would have been followed by another.
    assert!(platform.seen()[before..].iter().filter(|request| is_take(request)).count() <= 1);
}

#[test]
fn a_drain_is_bounded_and_the_next_start_goes_on() {
    let platform = Platform::start();
    platform.hand_out(&long_job("a-u1", 70));
    let worker = Worker::start(&platform, &[("SHUTDOWN_SECONDS", "1")]);
    platform.asked(is_progress);
    worker.signal(Signal::TERM);
    let (code, folder) = worker.end();
    assert_eq!(code, Some(0));
    assert!(!platform.seen().iter().any(is_result));
    let _worker = Worker::start_on(folder, &platform, &[]);
    assert_eq!(platform.results(1)[0].0, "a-u1");
}

#[test]
fn a_worker_without_its_model_says_so_and_does_not_come_back() {
    let platform = Platform::start();
    let whisperq = Whisperq::new();
    let nowhere = whisperq.path("nowhere");
    let worker = Worker::start_on(whisperq, &platform, &[("MODEL_DIR", nowhere.to_str().unwrap())]);
    assert_eq!(worker.end().0, Some(1));
    let pings: Vec<_> = platform.seen().into_iter().filter(is_ping).collect();
    assert_eq!(pings.len(), 1);
    assert!(pings[0].line.contains("&status=unhealthy&check=model&reason="), "{}", pings[0].line);
    let takes = platform.seen().into_iter().filter(is_take).count();
    assert_eq!(takes, 1, "one, for somebody to tell it to");
}

#[test]
fn a_model_that_is_no_good_is_told_to_whoever_waits_for_the_job() {
    let platform = Platform::start();
    let whisperq = Whisperq::new();
    let folder = whisperq.path("models");
    std::fs::create_dir(&folder).unwrap();
    // As long as it should be, but not what the engine knows.
    let mut bytes = std::fs::read(model().path).unwrap();
    let name = b"decoder.positional_embedding";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at] = b'X';
    std::fs::write(folder.join(model().path.file_name().unwrap()), bytes).unwrap();
    platform.hand_out(&job("a-u1"));
    let worker = Worker::start_on(whisperq, &platform, &[("MODEL_DIR", folder.to_str().unwrap())]);
    let error: serde_json::Value =
        serde_json::from_str(body(&platform.asked(is_result))["error"].as_str().unwrap()).unwrap();
    assert_eq!((&error["event"], &error["error_type"]), (&"init_failed".into(), &"init_failed".into()));
    assert_eq!(worker.end().0, Some(1));
    assert!(platform.seen().iter().any(|request| is_ping(request) && request.line.contains("status=unhealthy")));
}
