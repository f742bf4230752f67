//! Real processes that are killed at random moments: nothing is lost, nothing finished is done again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use whisperq::error::Result;
use whisperq::queue::{Order, Process, Queue, TaskRef, Work, unix_now_ms};

use super::invariants;
use super::support::{MODEL, limits, new_job, open, plan, result, seconds};

const JOBS: usize = 6;
const CHUNKS: u64 = 20;
const PROCESSES: usize = 3;
const KILLS: usize = 12;
const BOUND: Duration = Duration::from_secs(30);
/// The file whose presence makes a process started in its folder a worker of this test.
const MARK: &str = "killing-ground";

#[test]
fn killed_processes_lose_no_job_and_repeat_no_finished_chunk() {
    if Path::new(MARK).exists() {
        return work_until_done();
    }
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path(), limits());
    let jobs: Vec<String> = (0..JOBS).map(|_| queue.submit(new_job(), unix_now_ms()).unwrap().id).collect();
    std::fs::write(folder.path().join(MARK), "").unwrap();
    let begun = Instant::now();
    let mut processes: Vec<Child> = (0..PROCESSES).map(|_| start(folder.path())).collect();
    let mut kills = 0;
    while open_jobs(&queue) > 0 {
        assert!(begun.elapsed() < BOUND, "{} jobs are open after {kills} kills", open_jobs(&queue));
        // Only a process that has something in its hands is worth killing.
        let victim = fastrand::usize(..PROCESSES);
        if kills < KILLS && running(&queue, processes[victim].id()) {
            processes[victim].kill().unwrap();
            processes[victim].wait().unwrap();
            processes[victim] = start(folder.path());
            kills += 1;
        }
        std::thread::sleep(Duration::from_millis(fastrand::u64(1..20)));
    }
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    assert!(kills >= 10, "only {kills} kills before everything was done");
    for id in jobs {
        let transcript = queue.transcript(&id).unwrap();
        let texts: Vec<&str> = transcript.segments.iter().map(|segment| segment.text.as_str()).collect();
        assert_eq!(texts, (0..CHUNKS).map(|seq| format!("chunk {seq}")).collect::<Vec<_>>());
    }
    invariants::check(queue.db());
    let lost: i64 = queue
        .db()
        .read(|c| Ok(c.query_row("select count(*) from attempts where outcome = 'lost'", [], |row| row.get(0))?))
        .unwrap();
    assert!(lost >= 1, "{kills} kills hit nobody at work");
}

/// This very test again, in the folder whose mark makes it a worker.
fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "queue::tests::kill::killed_processes_lose_no_job_and_repeat_no_finished_chunk"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn open_jobs(queue: &Queue) -> i64 {
    let sql = "select sum(jobs) from job_counts where state in ('queued', 'running')";
    queue.db().read(|conn| Ok(conn.query_row(sql, [], |row| row.get(0))?)).unwrap()
}

/// Whether the process has a task in its hands.
fn running(queue: &Queue, pid: u32) -> bool {
    let sql = "select exists (select 1 from tasks t join processes p on p.id = t.process_id
                              where t.state = 'running' and p.pid = ?1 and p.ended_at_ms is null)";
    queue.db().read(|conn| Ok(conn.query_row(sql, [pid], |row| row.get(0))?)).unwrap()
}

/// What each of the processes does.
fn work_until_done() {
    let queue = open(Path::new("."), limits());
    let process = queue.register("test", unix_now_ms()).unwrap();
    while open_jobs(&queue) > 0 {
        let seen = queue.wake().seen();
        queue.recover_dead(process.id(), unix_now_ms()).unwrap();
        let worked = step(&queue, &process, "prepare", &whisperq::queue::prepare_lane(false, MODEL, None))
            || step(&queue, &process, "transcribe", MODEL);
        if !worked {
            queue.wake().wait(seen, Duration::from_millis(5));
        }
    }
    queue.sign_off(process, unix_now_ms()).unwrap();
}

fn step(queue: &Queue, process: &Process, kind: &'static str, lane: &str) -> bool {
    let claim = queue.claim(kind, lane, process.id(), "gpu-0", unix_now_ms()).unwrap();
    let Some(claim) = claim else { return false };
    // The engine, at work: what a kill is most likely to hit.
    std::thread::sleep(Duration::from_millis(fastrand::u64(1..30)));
    record(queue, claim.task, &claim.work).unwrap();
    true
}

fn record(queue: &Queue, task: TaskRef, work: &Work) -> Result<()> {
    match work {
        Work::Prepare(stored) => {
            // Chunk by chunk, so that a kill leaves half a plan behind.
            for second in stored.end_sample / 16_000..CHUNKS {
                queue.add_chunks(task, seconds(second..second + 1), Order::FirstThenRest, unix_now_ms())?;
            }
            queue.finish_prepare(task, Some(plan(CHUNKS)), unix_now_ms())
        }
        Work::Transcribe { seq, .. } => queue.finish_chunk(task, result(&format!("chunk {seq}")), unix_now_ms()),
    }
}
