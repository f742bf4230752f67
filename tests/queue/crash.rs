//! Processes that are ended by one of their own threads: the task in that thread's hands is blamed, and none beside it.

use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread::Builder;
use std::time::Duration;

use whisperq::crash;
use whisperq::error::Result;
use whisperq::job::JobState;
use whisperq::queue::{Claim, Process, Queue, TaskRef};
use whisperq::shutdown::Shutdown;
use whisperq::transcript::Control;
use whisperq::worker::{Slot, Worker};

use super::support::{Bench, LEASE_MS, MODEL, NOW, OTHER, limits, open, result};

const ENTRY: &str =
    "queue::tests::crash::the_task_that_kills_its_process_is_blamed_alone_and_fails_its_job_the_second_time";
/// The file that makes a process started in its folder one that crashes; it says how.
const MARK: &str = "crash-here";
const JOBS: usize = 3;
const LONG: Duration = Duration::from_secs(60);
const SIGSEGV: i32 = 11;
const SIGABRT: i32 = 6;

/// How a thread ends its process.
const ABORT: &str = "abort";
const OVERFLOW: &str = "overflow";
/// As `ABORT`, but by a thread that the one with the task has started.
const HELPER: &str = "helper";
/// As `ABORT`, but by a thread that has no task any more.
const IDLE: &str = "idle";

#[test]
fn the_task_that_kills_its_process_is_blamed_alone_and_fails_its_job_the_second_time() {
    if let Ok(how) = std::fs::read_to_string(MARK) {
        return crash_here(&how);
    }
    let bench = Bench::new();
    let jobs: Vec<String> = (0..JOBS).map(|_| bench.planned(1)).collect();
    let me = bench.queue.register("test", NOW).unwrap();

    assert_eq!(run(&bench, ABORT), Some(SIGABRT));
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), JOBS);
    assert_eq!(counts(&bench), "1/0 0/1 0/1", "crashes and losses of each chunk");
    bench.assert_state(&jobs[0], JobState::Running);
    assert_eq!(files(&bench), [format!("{}.lock", me.id())]);

    assert_eq!(run(&bench, OVERFLOW), Some(SIGSEGV));
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), JOBS);
    assert_eq!(counts(&bench), "2/0 0/2 0/2");
    bench.assert_state(&jobs[0], JobState::Failed);
    assert_eq!(bench.code(&jobs[0]).as_deref(), Some("worker_crashed"));

    (1..JOBS).for_each(|_| bench.finish(&bench.claim()));
    jobs[1..].iter().for_each(|id| bench.assert_state(id, JobState::Completed));
}

#[test]
fn a_thread_that_the_engine_started_blames_the_task_it_was_started_for() {
    let blamed = if cfg!(target_os = "linux") { "1/0 0/1 0/1" } else { "0/1 0/1 0/1" };
    assert_eq!(counts_after(HELPER), (JOBS, blamed.to_owned()));
}

#[test]
fn a_thread_without_a_task_blames_nobody() {
    assert_eq!(counts_after(IDLE), (JOBS - 1, "0/0 0/1 0/1".to_owned()), "one was done");
}

/// How many tasks are recovered from a process that aborts, and the crashes and losses of each chunk.
fn counts_after(how: &str) -> (usize, String) {
    let bench = Bench::new();
    (0..JOBS).for_each(|_| drop(bench.planned(1)));
    let me = bench.queue.register("test", NOW).unwrap();
    assert_eq!(run(&bench, how), Some(SIGABRT));
    (bench.queue.recover_dead(me.id(), NOW).unwrap(), counts(&bench))
}

#[test]
fn the_second_chunk_of_a_job_that_fails_by_its_first_is_no_crash() {
    let bench = Bench::new();
    let id = bench.planned(2);
    let (me, dying) = (register(&bench), register(&bench));
    let (culprit, _) = (claim_as(&bench, &dying), claim_as(&bench, &dying));
    bench.sql("update tasks set crash_count = 1 where kind = 'transcribe'").unwrap();
    die(dying, &record(culprit.task.id, culprit.task.attempt));
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 1, "the second ended with the job");
    assert_eq!(bench.code(&id).as_deref(), Some("worker_crashed"));
    assert_eq!(outcomes(&bench), "crashed cancelled");
}

#[test]
fn a_file_that_is_empty_torn_or_not_about_a_running_attempt_blames_nobody() {
    let files: [fn(TaskRef) -> Vec<u8>; 5] = [
        |_| Vec::new(),
        |task| record(task.id, task.attempt)[..15].to_vec(),
        |task| record(task.id, task.attempt - 2),
        |task| record(task.id, task.attempt + 1),
        |task| record(task.id + 1, task.attempt),
    ];
    for file in files {
        let bench = Bench::new();
        bench.planned(1);
        let (me, dying) = (register(&bench), register(&bench));
        let claim = claim_as(&bench, &dying);
        die(dying, &file(claim.task));
        assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 1);
        assert_eq!(counts(&bench), "0/1");
    }
}

#[test]
fn a_thread_of_the_engine_that_crashed_worked_on_the_only_task_there_was() {
    for (tasks, blamed) in [(1, "1/0"), (2, "0/1 0/1")] {
        let bench = Bench::new();
        bench.planned(tasks);
        let (me, dying) = (register(&bench), register(&bench));
        (0..tasks).for_each(|_| drop(claim_as(&bench, &dying)));
        die(dying, &record(0, 0));
        assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap() as u64, tasks);
        assert_eq!(counts(&bench), blamed);
    }
}

#[test]
fn a_task_that_another_process_has_taken_over_is_not_blamed() {
    let bench = Bench::new();
    bench.planned(1);
    let (me, dying) = (register(&bench), register(&bench));
    let lost = claim_as(&bench, &dying);
    assert_eq!(bench.queue.reap(OTHER, NOW + LEASE_MS).unwrap(), 1);
    let again = claim_as(&bench, &me);
    assert_eq!(again.task.id, lost.task.id);
    die(dying, &record(again.task.id, again.task.attempt));
    assert_eq!(bench.queue.recover_dead(me.id(), NOW).unwrap(), 0);
    bench.finish(&again);
    assert_eq!(outcomes(&bench), "lost done");
}

#[test]
fn a_process_that_signs_off_leaves_no_file() {
    let bench = Bench::new();
    let leaving = register(&bench);
    std::fs::write(leaving.crash_file(), "").unwrap();
    bench.queue.sign_off(leaving, NOW).unwrap();
    assert!(files(&bench).is_empty(), "{:?}", files(&bench));
}

fn register(bench: &Bench) -> Process {
    bench.queue.register("test", NOW).unwrap()
}

fn claim_as(bench: &Bench, process: &Process) -> Claim {
    bench.queue.claim("transcribe", MODEL, process.id(), "gpu-0", NOW).unwrap().unwrap()
}

/// Ends a process of this test with something in its crash file.
fn die(process: Process, crash_file: &[u8]) {
    std::fs::write(process.crash_file(), crash_file).unwrap();
    drop(process);
}

/// What a handler would have written.
fn record(task: i64, attempt: i64) -> Vec<u8> {
    [task.to_ne_bytes(), attempt.to_ne_bytes()].concat()
}

fn counts(bench: &Bench) -> String {
    bench.text(
        "select group_concat(crash_count || '/' || lost_count, ' ' order by job_pk) from tasks
         where kind = 'transcribe'",
    )
}

/// Of the chunks.
fn outcomes(bench: &Bench) -> String {
    bench.text(
        "select group_concat(outcome, ' ' order by a.task_id, a.attempt) from attempts a
         join tasks t on t.id = a.task_id where t.kind = 'transcribe'",
    )
}

/// Locks and crash files that are left.
fn files(bench: &Bench) -> Vec<String> {
    let files = std::fs::read_dir(bench.folder().join("proc")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// Has a process claim a chunk of each job and crash by the first one's thread; the signal that ended it.
fn run(bench: &Bench, how: &str) -> Option<i32> {
    std::fs::write(bench.folder().join(MARK), how).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", ENTRY]).current_dir(bench.folder()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().signal()
}

/// What that process does.
fn crash_here(how: &str) {
    let queue = open(Path::new("."), limits());
    let process = queue.register("test", NOW).unwrap();
    crash::watch(process.crash_file()).unwrap();
    let mut claims: Vec<Claim> = (0..JOBS).map(|n| claim(&queue, &process, n)).collect();
    claims.sort_by_key(|claim| claim.task.id);
    let at_work = Barrier::new(JOBS);
    std::thread::scope(|scope| {
        for (n, claim) in claims.iter().enumerate() {
            let (worker, at_work) = (worker(&queue, &process, n), &at_work);
            let thread = Builder::new().name(worker.slot.worker_id().to_owned());
            let act = move || {
                work(&worker, claim, at_work, if n == 0 { how } else { "wait" });
                // Only the thread that has finished its task comes here.
                std::process::abort();
            };
            drop(thread.spawn_scoped(scope, act).unwrap());
        }
    });
}

fn claim(queue: &Queue, process: &Process, n: usize) -> Claim {
    queue.claim("transcribe", MODEL, process.id(), &format!("gpu-{n}"), NOW).unwrap().unwrap()
}

fn worker(queue: &Queue, process: &Process, n: usize) -> Worker {
    Worker {
        queue: queue.clone(),
        slot: Slot::new(format!("gpu-{n}")),
        process_id: process.id().to_owned(),
        shutdown: Shutdown::default(),
    }
}

fn work(worker: &Worker, claim: &Claim, at_work: &Barrier, how: &str) {
    let act = |_: &Control| -> Result<()> {
        at_work.wait();
        match how {
            ABORT => std::process::abort(),
            OVERFLOW => drop(overflow(0)),
            // Without a name of its own.
            HELPER => drop(Builder::new().spawn(|| std::process::abort()).unwrap().join()),
            IDLE => {}
            _ => std::thread::sleep(LONG),
        }
        Ok(())
    };
    worker.perform(claim.task, act, |()| worker.queue.finish_chunk(claim.task, result("So"), NOW));
}

/// Takes more stack than there is.
#[expect(unconditional_recursion, reason = "that is how a stack overflows")]
fn overflow(depth: u64) -> [u64; 64] {
    let frame = black_box([depth; 64]);
    let mut deeper = overflow(black_box(depth + 1));
    deeper[0] += frame[63];
    deeper
}
