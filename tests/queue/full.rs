//! A disk without room, and a database that cannot be written: a clear error each time, nothing half done, and the same
//! work goes on when there is room again.

use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use whisperq::db::{Db, may_pass};
use whisperq::error::Error;
use whisperq::job::JobState;
use whisperq::queue::{Limits, Queue};

use super::invariants;
use super::support::{Bench, NOW, limits, new_job, open, result};

const ENTRY: &str = "queue::tests::full::files_that_cannot_grow_lose_nothing_that_was_accepted";
/// The file that makes a process started in its folder one whose files cannot grow; what it has accepted goes in there.
const MARK: &str = "accepted";

#[track_caller]
fn assert_may_pass(result: Result<impl std::fmt::Debug, Error>, words: &str) {
    let error = result.unwrap_err();
    assert!(may_pass(&error), "worth another try: {error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_full_disk_refuses_what_it_cannot_store_and_keeps_what_it_has() {
    let bench = Bench::new();
    let id = bench.planned(2);
    let (first, second) = (bench.claim(), bench.claim());
    bench.finish(&first);
    bench.sql("pragma max_page_count = 1").unwrap();
    let long = || result(&"so ".repeat(100_000));
    assert_may_pass(bench.queue.finish_chunk(second.task, long(), NOW), "full");
    bench.assert_state(&id, JobState::Running);
    assert_eq!(bench.number("select count(*) from chunk_segments"), 1, "nothing of the second chunk");
    invariants::check(bench.queue.db());
    bench.sql("pragma max_page_count = 1000000").unwrap();
    bench.queue.finish_chunk(second.task, long(), NOW).unwrap();
    bench.assert_state(&id, JobState::Completed);
}

#[test]
fn a_database_that_cannot_be_written_says_so_and_can_still_be_read() {
    let bench = Bench::new();
    let id = bench.planned(1);
    bench.sql("pragma query_only = 1").unwrap();
    assert_may_pass(bench.queue.submit(new_job(), NOW), "readonly");
    assert_may_pass(bench.queue.cancel(&id, NOW), "readonly");
    bench.assert_state(&id, JobState::Queued);
    let again =
        Queue::new(Db::open(&bench.folder().join("queue.db")).unwrap().into(), limits(), bench.folder().join("proc"));
    again.cancel(&id, NOW).unwrap();
}

#[test]
fn files_that_cannot_grow_lose_nothing_that_was_accepted() {
    if Path::new(MARK).exists() {
        return fill_up();
    }
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), limits()));
    std::fs::write(folder.path().join(MARK), "").unwrap();
    // The limit would otherwise kill who meets it.
    let script = "trap '' XFSZ; ulimit -S -f 4500; exec \"$0\" --exact \"$1\"";
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("bash").args(["-c", script]).arg(exe).arg(ENTRY).current_dir(folder.path()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let queue = open(folder.path(), limits());
    invariants::check(queue.db());
    let accepted = std::fs::read_to_string(folder.path().join(MARK)).unwrap();
    assert!(accepted.lines().count() > 100);
    for id in accepted.lines() {
        assert_eq!(queue.job(id, NOW).unwrap().status, JobState::Queued);
    }
    let jobs: i64 = queue.db().read(|c| Ok(c.query_row("select count(*) from jobs", [], |row| row.get(0))?)).unwrap();
    assert_eq!(jobs as usize, accepted.lines().count(), "and nothing that was refused");
}

/// Submits until the files cannot grow any more, and once again when they can.
fn fill_up() {
    let queue = open(Path::new("."), Limits { max_queued: 1_000_000, ..limits() });
    let mut accepted = String::new();
    let refused = loop {
        match queue.submit(new_job(), NOW) {
            Ok(submitted) => accepted += &format!("{}\n", submitted.id),
            Err(error) => break error,
        }
    };
    assert!(may_pass(&refused), "after {} jobs: {refused}", accepted.lines().count());
    assert!(queue.submit(new_job(), NOW).is_err(), "there is no more room than before");
    setrlimit(Resource::Fsize, Rlimit { current: None, ..getrlimit(Resource::Fsize) }).unwrap();
    accepted += &format!("{}\n", queue.submit(new_job(), NOW).unwrap().id);
    std::fs::write(MARK, accepted).unwrap();
}
