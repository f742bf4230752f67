//! Real processes on one database that are killed, stopped and woken at random moments, some with clocks that are wrong:
//! nothing is lost, nothing finished is done again, and what the processes say they did is what the rows say. The same
//! with a guard taken out shows that this would be seen.

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use whisperq::db::weaken::{self, Weakened};
use whisperq::error::{Error, Result};
use whisperq::queue::{Limits, Order, Process, Queue, TaskRef, Work, unix_now_ms};

use super::invariants;
use super::support::{MODEL, limits, new_job, open, plan, result, seconds};

const CHUNKS: u64 = 8;
/// Jobs that are open while processes are killed.
const JOBS: i64 = 5;
const PROCESSES: usize = 4;
const KILLS: usize = 200;
/// With a guard taken out far fewer show it.
const WEAK_KILLS: usize = 40;
const WEAK_RUNS: usize = 5;
/// One in so many is stopped for longer than its lease instead of killed.
const STOPS: usize = 8;
/// Shorter than some of the work, which so goes on after its claim was lost.
const LEASE: Duration = Duration::from_millis(60);
const MILLISECONDS: Duration = Duration::from_millis(5);
const ASLEEP: Duration = Duration::from_millis(90);
const BOUND: Duration = Duration::from_secs(300);
/// Without a guard it may be that nothing goes on.
const WEAK_BOUND: Duration = Duration::from_secs(10);
/// The file whose presence makes a process started in its folder a worker of this test; it names the guard to leave out.
const MARK: &str = "killing-ground";
const OVER: &str = "over";
const JOURNAL: &str = "journal";
const ENTRY: &str = "queue::tests::kill::killed_processes_lose_no_job_and_repeat_no_finished_chunk";

/// A guard, its SQL and what stands there without it.
const WEAKENED: [(&str, &str, &str); 5] = [
    ("nothing", "", ""),
    (
        "the attempt in the fence of a finish",
        "where id = :id and attempt = :attempt and state = 'running' returning job_pk, pass",
        "where id = :id and :attempt > 0 and state = 'running' returning job_pk, pass",
    ),
    (
        "the state in the fence of a finish",
        "where id = :id and attempt = :attempt and state = 'running' returning job_pk, pass",
        "where id = :id and attempt = :attempt returning job_pk, pass",
    ),
    (
        "the counters",
        "set jobs = jobs - 1 where state = old.state; update",
        "set jobs = jobs - 0 where state = old.state; update",
    ),
    // A process that holds no lock is taken for dead, and its work for lost, again and again.
    ("the process lock", "", ""),
];
const NO_LOCK: usize = 4;

#[test]
fn killed_processes_lose_no_job_and_repeat_no_finished_chunk() {
    if let Ok(mark) = std::fs::read_to_string(MARK) {
        return work_until_over(mark.parse().unwrap());
    }
    let wanted = std::env::vars().find(|(name, _)| name == "KILLS");
    let kills = wanted.map_or(KILLS, |(_, kills)| kills.parse().unwrap());
    let violations = Field::run(0, kills);
    assert!(violations.is_empty(), "after {kills} kills:\n{}", violations.join("\n"));
}

#[test]
fn killed_processes_without_a_guard_are_caught() {
    for (weakened, (guard, ..)) in WEAKENED.iter().enumerate().skip(1) {
        // What is left to chance may not come about the first time.
        let mut runs = (0..WEAK_RUNS).map(|_| Field::run(weakened, WEAK_KILLS));
        let violations = runs.find(|violations| !violations.is_empty()).unwrap_or_default();
        println!("without {guard}, {WEAK_KILLS} kills: {}", violations.join("; "));
        assert!(!violations.is_empty(), "nobody misses {guard}");
    }
}

/// Where it happens.
struct Field {
    folder: TempDir,
    queue: Queue,
    processes: Vec<Child>,
    asleep: HashMap<usize, JoinHandle<()>>,
    jobs: Vec<String>,
    panics: usize,
}

impl Field {
    /// Kills `kills` processes at work; returns what is wrong then.
    fn run(weakened: usize, kills: usize) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MARK), weakened.to_string()).unwrap();
        weaken(weakened);
        let queue = open(folder.path(), short());
        weaken::set(None);
        let processes = (0..PROCESSES).map(|_| start(folder.path())).collect();
        let mut field = Self { folder, queue, processes, asleep: HashMap::new(), jobs: Vec::new(), panics: 0 };
        let bound = if weakened == 0 { BOUND } else { WEAK_BOUND };
        let begun = Instant::now();
        let mut killed = 0;
        while killed < kills && begun.elapsed() < bound {
            while open_jobs(&field.queue) < JOBS {
                field.jobs.push(field.queue.submit(new_job(), unix_now_ms()).unwrap().id);
            }
            field.look_after();
            killed += usize::from(field.hit(fastrand::usize(..PROCESSES)));
            std::thread::sleep(Duration::from_millis(fastrand::u64(10..40)));
        }
        let patience = Instant::now();
        while open_jobs(&field.queue) > 0 && patience.elapsed() < bound {
            field.look_after();
            std::thread::sleep(Duration::from_millis(10));
        }
        field.end();
        let mut violations = field.violations();
        // That nothing goes on may also be a slow machine.
        violations.retain(|violation| weakened == 0 || !violation.starts_with("a job is "));
        if killed < kills && weakened == 0 {
            violations.push(format!("only {killed} processes were caught at work"));
        }
        violations
    }

    /// Kills a process that has something in its hands, or puts it to sleep; whether it was killed.
    fn hit(&mut self, victim: usize) -> bool {
        if self.asleep.contains_key(&victim) || !running(&self.queue, self.processes[victim].id()) {
            return false;
        }
        if fastrand::usize(..STOPS) == 0 {
            self.asleep.insert(victim, put_to_sleep(self.processes[victim].id()));
            return false;
        }
        self.processes[victim].kill().unwrap();
        self.processes[victim].wait().unwrap();
        self.processes[victim] = start(self.folder.path());
        true
    }

    /// Notes who is awake again, and replaces who has died by itself.
    fn look_after(&mut self) {
        self.asleep.retain(|_, waker| !waker.is_finished());
        for process in &mut self.processes {
            if process.try_wait().unwrap().is_some() {
                self.panics += 1;
                *process = start(self.folder.path());
            }
        }
    }

    fn end(&mut self) {
        std::fs::write(self.folder.path().join(OVER), "").unwrap();
        for process in &mut self.processes {
            process.wait().unwrap();
        }
    }

    fn violations(&self) -> Vec<String> {
        let mut violations: Vec<String> = invariants::broken(self.queue.db());
        if self.panics > 0 {
            violations.push(format!("{} processes gave up over an error", self.panics));
        }
        let incomplete = self.jobs.iter().filter(|id| !self.is_as_it_should(id));
        violations.extend(incomplete.map(|id| {
            let job = self.queue.job(id, 0).unwrap();
            format!("a job is {}: {:?}", job.status, job.error)
        }));
        violations.extend(self.misreported());
        violations
    }

    /// Completed with all its text, or given up because one of its tasks was lost as often as allowed.
    fn is_as_it_should(&self, id: &str) -> bool {
        let Ok(transcript) = self.queue.transcript(id) else {
            let sql = "select count(*) from jobs j join tasks t on t.job_pk = j.pk and t.lost_count = 10
                       where j.id = ?1 and j.error_code = 'worker_lost'";
            return number(&self.queue, sql, [id]) > 0;
        };
        let texts = transcript.segments.iter().map(|segment| segment.text.clone());
        texts.eq((0..CHUNKS).map(|seq| format!("chunk {seq}")))
    }

    /// What the processes wrote down and the rows do not bear out.
    fn misreported(&self) -> Vec<String> {
        let journal = std::fs::read_to_string(self.folder.path().join(JOURNAL)).unwrap_or_default();
        let (mut started, mut twice, mut wrong, mut robbed) = (HashSet::new(), 0, 0, 0);
        let mut done = HashSet::new();
        for line in journal.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let (task, attempt): (i64, i64) = (words[1].parse().unwrap(), words[2].parse().unwrap());
            match words[0] {
                "robbed" => robbed += 1,
                "started" => twice += usize::from(!started.insert((task, attempt))),
                _ => wrong += usize::from(!done.insert(task) || !is_done_by(&self.queue, task, attempt)),
            }
        }
        let counted = [
            (twice, "attempts were started twice"),
            (robbed, "tasks were taken from the living within their lease"),
            (wrong, "finishes were accepted of attempts that did not own the task"),
        ];
        counted.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect()
    }
}

fn short() -> Limits {
    Limits { lease_ms: LEASE.as_millis() as i64, job_ttl_ms: 600_000, ..limits() }
}

fn weaken(which: usize) {
    let (_, guard, without) = WEAKENED[which];
    weaken::set((!guard.is_empty()).then(|| Weakened::new(guard, without)));
}

/// The first test above again, in the folder whose mark makes it a worker.
fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", ENTRY])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// By a thread of its own: whoever submits may wait for the sleeper, which can hold the lock of the database.
fn put_to_sleep(pid: u32) -> JoinHandle<()> {
    let signal = move |name: &str| assert!(Command::new("kill").args([name, &pid.to_string()]).status().is_ok());
    signal("-STOP");
    let wake = move || {
        std::thread::sleep(ASLEEP);
        signal("-CONT");
    };
    std::thread::Builder::new().name("waker".to_owned()).spawn(wake).unwrap()
}

fn number(queue: &Queue, sql: &str, params: impl rusqlite::Params) -> i64 {
    queue.db().read(|conn| Ok(conn.query_row(sql, params, |row| row.get(0))?)).unwrap()
}

fn open_jobs(queue: &Queue) -> i64 {
    number(queue, "select count(*) from jobs where state in ('queued', 'running')", [])
}

/// Whether the process has a task in its hands.
fn running(queue: &Queue, pid: u32) -> bool {
    let sql = "select exists (select 1 from tasks t join processes p on p.id = t.process_id
                              where t.state = 'running' and p.pid = ?1)";
    number(queue, sql, [pid]) == 1
}

fn is_done_by(queue: &Queue, task: i64, attempt: i64) -> bool {
    let sql = "select exists (select 1 from attempts where task_id = ?1 and attempt = ?2 and outcome = 'done')";
    number(queue, sql, (task, attempt)) == 1
}

/// What each of the processes does.
fn work_until_over(weakened: usize) {
    weaken(weakened);
    let queue = open(Path::new("."), short());
    // Now and then a clock is wrong.
    let wrong_ms = if fastrand::usize(..10) == 0 { fastrand::i64(-3_600_000..3_600_000) } else { 0 };
    let now = || unix_now_ms() + wrong_ms;
    let process = queue.register("test", now()).unwrap();
    if weakened == NO_LOCK {
        std::fs::remove_file(format!("proc/{}.lock", process.id())).unwrap();
    }
    while !Path::new(OVER).exists() {
        let seen = queue.wake().seen();
        queue.recover_dead(process.id(), now()).unwrap();
        if wrong_ms == 0 {
            queue.reap(process.id(), now()).unwrap();
        }
        let worked = step(&queue, &process, "prepare", &whisperq::queue::prepare_lane(false, MODEL, None), now())
            || step(&queue, &process, "transcribe", MODEL, now());
        if !worked {
            queue.wake().wait(seen, Duration::from_millis(5));
        }
    }
}

fn step(queue: &Queue, process: &Process, kind: &'static str, lane: &str, now_ms: i64) -> bool {
    let begun = Instant::now();
    let Some(claim) = queue.claim(kind, lane, process.id(), "gpu-0", now_ms).unwrap() else { return false };
    note("started", claim.task);
    // The engine, at work: what a kill is most likely to hit, and now and then longer than the lease.
    let overruns = fastrand::usize(..6) == 0;
    std::thread::sleep(Duration::from_millis(fastrand::u64(if overruns { 60..150 } else { 1..25 })));
    match record(queue, claim.task, &claim.work, now_ms) {
        Ok(()) if kind == "transcribe" => note("done", claim.task),
        // A wrong clock makes a lease end early, and one of whole milliseconds a little.
        Err(Error::ClaimLost) if begun.elapsed() + MILLISECONDS < LEASE && now_ms.abs_diff(unix_now_ms()) < 1_000 => {
            note("robbed", claim.task);
        }
        Ok(()) | Err(Error::ClaimLost) => {}
        Err(error) => panic!("{error}"),
    }
    true
}

/// One line, whole or not at all, outside the database.
fn note(what: &str, task: TaskRef) {
    let mut journal = OpenOptions::new().create(true).append(true).open(JOURNAL).unwrap();
    journal.write_all(format!("{what} {} {}\n", task.id, task.attempt).as_bytes()).unwrap();
}

fn record(queue: &Queue, task: TaskRef, work: &Work, now_ms: i64) -> Result<()> {
    match work {
        Work::Prepare(stored) => {
            // Chunk by chunk, so that a kill leaves half a plan behind.
            for second in stored.end_sample / 16_000..CHUNKS {
                queue.add_chunks(task, seconds(second..second + 1), Order::FirstThenRest, now_ms)?;
            }
            queue.finish_prepare(task, Some(plan(CHUNKS)), now_ms)
        }
        Work::Deliver { .. } => queue.finish_delivery(task, now_ms),
        Work::Transcribe { seq, .. } => queue.finish_chunk(task, result(&format!("chunk {seq}")), now_ms),
    }
}
