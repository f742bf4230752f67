//! The keeper thread beside real slots: it stops work that is no longer wanted and ends a process whose work hangs.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use whisperq::audio::Sound;
use whisperq::error::Error;
use whisperq::job::JobState;
use whisperq::keeper::Keeper;
use whisperq::queue::{Claim, Process, unix_now_ms};
use whisperq::shutdown::Shutdown;
use whisperq::spool::Spool;
use whisperq::storage::{Settings, Storage};
use whisperq::transcript::Control;
use whisperq::worker::{Slot, Worker};

use super::support::{Bench, MODEL, finish_plan, result};

const LONG: Duration = Duration::from_secs(60);

/// A process with a keeper and any number of workers.
struct House {
    bench: Bench,
    process: Process,
    spool: Spool,
    stop: Shutdown,
}

impl House {
    fn new() -> Self {
        let bench = Bench::new();
        let process = bench.queue.register("test", unix_now_ms()).unwrap();
        let spool = Spool::open(bench.folder().join("spool"), u64::MAX).unwrap();
        Self { bench, process, spool, stop: Shutdown::default() }
    }

    /// A job with one chunk, submitted by the real clock: the keeper knows no other.
    fn job(&self) -> String {
        let queue = &self.bench.queue;
        let id = queue.submit(super::support::new_job(), unix_now_ms()).unwrap().id;
        let prepare = queue
            .claim(
                "prepare",
                &whisperq::queue::prepare_lane(false, MODEL, None),
                self.process.id(),
                "prepare-0",
                unix_now_ms(),
            )
            .unwrap()
            .unwrap();
        finish_plan(queue, prepare.task, 1, whisperq::queue::Order::Free, unix_now_ms());
        id
    }

    fn claim(&self) -> Claim {
        self.bench.queue.claim("transcribe", MODEL, self.process.id(), "gpu-0", unix_now_ms()).unwrap().unwrap()
    }

    fn worker(&self, name: &str) -> Worker {
        Worker {
            queue: self.bench.queue.clone(),
            slot: Slot::new(name.to_owned()),
            process_id: self.process.id().to_owned(),
            shutdown: Shutdown::default(),
        }
    }

    fn keep(&self, slots: Vec<Arc<Slot>>, chunk_timeout: Duration, on_stuck: fn(&str)) {
        let keeper = Keeper {
            queue: self.bench.queue.clone(),
            spool: self.spool.clone(),
            storage: Storage::open(&Settings::new(self.bench.folder().to_owned())).unwrap(),
            process_id: self.process.id().to_owned(),
            slots,
            lease: Duration::from_millis(90),
            chunk_timeout,
            retention: None,
            on_stuck,
        };
        keeper.run(&self.stop);
    }

    /// Works on the chunk until it is told to stop.
    fn work(&self, worker: &Worker, claim: &Claim, begun: impl FnOnce()) {
        let until_stopped = |control: &Control| {
            begun();
            while !control.is_aborted() {
                control.tick();
                std::thread::yield_now();
            }
            Err(Error::Aborted)
        };
        let finish = |()| self.bench.queue.finish_chunk(claim.task, result("So"), unix_now_ms());
        worker.perform(claim.task, until_stopped, finish);
    }
}

fn never(worker: &str) {
    panic!("{worker} is not stuck");
}

#[test]
fn the_work_on_a_cancelled_job_is_stopped_and_its_audio_removed() {
    let house = House::new();
    let id = house.job();
    house.spool.write(&id, 0, &Sound::heard(vec![0.0; 16_000]), &mut || Ok(())).unwrap();
    let claim = house.claim();
    let worker = house.worker("gpu-0");
    std::thread::scope(|scope| {
        scope.spawn(|| house.keep(vec![worker.slot.clone()], LONG, never));
        house.work(&worker, &claim, || house.bench.queue.cancel(&id, unix_now_ms()).unwrap());
        while !house.spool.jobs().unwrap().is_empty() {
            std::thread::yield_now();
        }
        house.stop.trigger();
    });
    house.bench.assert_state(&id, JobState::Cancelled);
}

#[test]
fn the_keeper_does_the_chores_of_the_queue() {
    let house = House::new();
    let queue = &house.bench.queue;
    let retried = house.job();
    queue.fail(house.claim().task, &super::support::fault(), 0.0, unix_now_ms()).unwrap();
    let dying = queue.register("test", unix_now_ms()).unwrap();
    let left_behind = house.job();
    queue.claim("transcribe", MODEL, dying.id(), "gpu-0", unix_now_ms()).unwrap().unwrap();
    drop(dying);
    let old = queue.submit(super::support::new_job(), unix_now_ms() - 60_000).unwrap().id;
    let mut seen = queue.wake().seen();
    std::thread::scope(|scope| {
        scope.spawn(|| house.keep(Vec::new(), LONG, never));
        while house.bench.number("select count(*) from tasks where kind = 'transcribe' and state = 'queued'") < 2 {
            queue.wake().wait(seen, LONG);
            seen = queue.wake().seen();
        }
        house.stop.trigger();
    });
    house.bench.assert_state(&old, JobState::TimedOut);
    let claimed = [house.claim().job_id, house.claim().job_id];
    assert!(claimed.contains(&retried) && claimed.contains(&left_behind), "{claimed:?}");
}

/// How often a stuck worker was reported; a plain function cannot carry it.
static STUCK: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());

fn wait_for_stuck(times: u32) {
    drop(STUCK.1.wait_while(STUCK.0.lock().unwrap(), |stuck| *stuck < times).unwrap());
}

/// A worker that hangs until the process would have been ended, on a job that is cancelled meanwhile or not.
fn hang(cancelled: bool) -> House {
    let house = House::new();
    let id = house.job();
    let claim = house.claim();
    let worker = house.worker("gpu-0");
    let before = *STUCK.0.lock().unwrap();
    let on_stuck = |worker: &str| {
        assert_eq!(worker, "gpu-0");
        *STUCK.0.lock().unwrap() += 1;
        STUCK.1.notify_all();
    };
    std::thread::scope(|scope| {
        scope.spawn(|| house.keep(vec![worker.slot.clone()], Duration::from_millis(5), on_stuck));
        let hang = |_: &Control| {
            if cancelled {
                house.bench.queue.cancel(&id, unix_now_ms()).unwrap();
            }
            wait_for_stuck(before + 1);
            Ok(())
        };
        worker
            .perform(claim.task, hang, |()| house.bench.queue.finish_chunk(claim.task, result("late"), unix_now_ms()));
        house.stop.trigger();
    });
    house
}

#[test]
fn work_that_hangs_is_blamed_and_then_ends_the_process() {
    let house = hang(false);
    assert_eq!(house.bench.text("select outcome from attempts where task_id > 1"), "crashed");
    assert_eq!(house.claim().task.attempt, 2, "what it worked on is tried once more");
    drop(house);
    // A job that was cancelled because it hangs must not keep its worker for ever.
    let house = hang(true);
    assert_eq!(house.bench.text("select outcome from attempts where task_id > 1"), "cancelled");
}
