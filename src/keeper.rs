//! The keeper thread: renews the leases of what this process works on, ends the process when that stops moving, stops
//! work whose claim is gone, takes over from dead processes, and does the small chores of the queue. It is the only
//! thread that judges others by time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::queue::{Queue, TaskRef, unix_now_ms};
use crate::shutdown::Shutdown;
use crate::spool::Spool;
use crate::storage::Storage;
use crate::worker::Slot;

/// How soon a cancelled job's worker learns of it.
const LOOK: Duration = Duration::from_millis(250);
/// Due retries, dead processes and old files are looked for this often.
const CHORES: Duration = Duration::from_secs(1);
/// Secrets that nothing needs any more are looked for this often: there may be as many as jobs that failed.
const SECRETS: Duration = Duration::from_secs(10);
/// The addresses of webhooks, of which there are as many as jobs, are looked through this often.
const WEBHOOKS: Duration = Duration::from_secs(3600);
/// Space that removed jobs have left is given back by so many pages a time: ten milliseconds.
const PAGES_AT_ONCE: u32 = 256;
/// Leases are renewed this many times within one.
const BEATS_PER_LEASE: u32 = 3;
/// Between two looks at running work at most so much counts as time in which it could have moved: what is beyond, the
/// whole process may have been stopped.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// What the keeper looks after.
pub struct Keeper {
    pub queue: Queue,
    pub spool: Spool,
    pub storage: Storage,
    pub process_id: String,
    pub slots: Vec<Arc<Slot>>,
    pub lease: Duration,
    pub chunk_timeout: Duration,
    /// How long jobs are kept after their end; `None`: for ever.
    pub retention: Option<Duration>,
    /// Called with a task that has not moved for `chunk_timeout`, after that was recorded; does not return in production.
    pub on_stuck: fn(&str),
}

/// How long each slot has stood still while this process ran.
struct Seen {
    task: TaskRef,
    ticks: u64,
    still: Duration,
}

impl Keeper {
    /// Runs until `stop`.
    pub fn run(&self, stop: &Shutdown) {
        let mut seen = HashMap::new();
        let beat = self.lease / BEATS_PER_LEASE;
        let [mut last_beat, mut last_look] = [Instant::now(); 2];
        let mut last_wall_ms = unix_now_ms();
        let [mut last_chores, mut last_secrets, mut last_webhooks] = [None::<Instant>; 3];
        let mut reap_from = Instant::now() + self.lease;
        while !stop.wait(LOOK.min(beat)) {
            let passed = last_look.elapsed().min(LONGEST_LOOK);
            last_look = Instant::now();
            self.report("look after running work", self.look(&mut seen, passed));
            let wall_ms = unix_now_ms();
            if last_beat.elapsed() >= beat || slept(last_wall_ms, wall_ms, self.lease) {
                // After a thaw every lease looks expired, those of healthy neighbors too: first give all of them the
                // time to renew.
                if slept(last_wall_ms, wall_ms, self.lease) {
                    tracing::warn!("this process was suspended; leases are judged again after {:?}", self.lease);
                    reap_from = Instant::now() + self.lease;
                }
                self.report("renew leases", self.renew());
                last_beat = Instant::now();
            }
            last_wall_ms = wall_ms;
            if last_chores.is_none_or(|last| last.elapsed() >= CHORES) {
                self.report("do the chores of the queue", self.chores(Instant::now() >= reap_from));
                last_chores = Some(Instant::now());
            }
            if last_secrets.is_none_or(|last| last.elapsed() >= SECRETS) {
                self.report("forget secrets", self.sweep_secrets());
                last_secrets = Some(Instant::now());
            }
            if last_webhooks.is_none_or(|last| last.elapsed() >= WEBHOOKS) {
                self.report("forget webhooks", self.sweep_webhooks());
                last_webhooks = Some(Instant::now());
            }
        }
        self.report("clear the spool", self.sweep());
        self.report("forget secrets", self.sweep_secrets());
    }

    fn report(&self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            tracing::error!(process = self.process_id, %error, "cannot {what}; trying again");
        }
    }

    fn held(&self) -> Vec<(TaskRef, &Arc<Slot>)> {
        self.slots.iter().filter_map(|slot| Some((slot.held()?, slot))).collect()
    }

    /// Stops work whose claim is gone, and ends the process over work that has stopped moving.
    fn look(&self, seen: &mut HashMap<String, Seen>, passed: Duration) -> Result<()> {
        let held = self.held();
        for (task, slot) in &held {
            let ticks = slot.control().ticks();
            let last = seen.get(slot.worker_id()).filter(|last| last.task == *task && last.ticks == ticks);
            let still = last.map_or(Duration::ZERO, |last| last.still + passed);
            if still >= self.chunk_timeout {
                self.give_up(*task, slot)?;
            }
            seen.insert(slot.worker_id().to_owned(), Seen { task: *task, ticks, still });
        }
        self.abort_lost(&self.queue.lost_among(&held.iter().map(|(task, _)| *task).collect::<Vec<_>>())?);
        Ok(())
    }

    /// Nothing can stop a thread inside a library that hangs; recording the blame and ending the process frees the rest.
    fn give_up(&self, task: TaskRef, slot: &Slot) -> Result<()> {
        let seconds = self.chunk_timeout.as_secs();
        tracing::error!(worker = slot.worker_id(), task = task.id, "no progress for {seconds} s: ending the process");
        match self.queue.crash(task, unix_now_ms()) {
            // Its job was cancelled meanwhile, perhaps because it hangs: the thread is no less stuck.
            Ok(()) | Err(Error::ClaimLost) => {}
            Err(error) => return Err(error),
        }
        (self.on_stuck)(slot.worker_id());
        Ok(())
    }

    fn renew(&self) -> Result<()> {
        let tasks: Vec<TaskRef> = self.held().into_iter().map(|(task, _)| task).collect();
        self.abort_lost(&self.queue.renew(&self.process_id, &tasks, unix_now_ms())?);
        Ok(())
    }

    fn abort_lost(&self, lost: &[TaskRef]) {
        for (task, slot) in lost.iter().flat_map(|task| self.slots.iter().map(move |slot| (task, slot))) {
            slot.abort(*task);
        }
    }

    fn chores(&self, may_reap: bool) -> Result<()> {
        let now_ms = unix_now_ms();
        // First: the time limits of what a dead process owned begin anew.
        self.queue.recover_dead(&self.process_id, now_ms)?;
        self.queue.promote(now_ms)?;
        self.queue.expire(now_ms)?;
        if may_reap {
            self.queue.reap(&self.process_id, now_ms)?;
        }
        self.sweep()?;
        self.sweep_uploads()?;
        self.sweep_fetched()?;
        let retention_ms = self.retention.map_or(now_ms, |kept| i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
        self.queue.remove_old(now_ms.saturating_sub(retention_ms), now_ms)?;
        self.queue.db().shrink(PAGES_AT_ONCE)
    }

    /// Removes what was sent for jobs that need it no more, and what no job came of.
    fn sweep_uploads(&self) -> Result<()> {
        let uploads = self.storage.uploads().jobs()?;
        let ids: Vec<&str> = uploads.iter().map(|(id, _)| id.as_str()).collect();
        for ((job_id, is_old), needed) in uploads.iter().zip(self.queue.need_recording(&ids)?) {
            if !needed.unwrap_or(!is_old) {
                self.report("remove an upload", self.storage.uploads().remove(job_id));
            }
        }
        Ok(())
    }

    /// Forgets the secrets that no further attempt can need.
    fn sweep_secrets(&self) -> Result<()> {
        let secrets = self.storage.jobs_with_secrets()?;
        for ((job_id, is_old), needed) in secrets.iter().zip(self.queue.need_secrets(&secrets)?) {
            if !needed.unwrap_or(!is_old) {
                self.report("forget the secrets of a job", self.storage.forget_secrets(job_id));
            }
        }
        Ok(())
    }

    /// The address of a webhook stays as long as its job: it may be told again.
    fn sweep_webhooks(&self) -> Result<()> {
        let webhooks = self.storage.jobs_with_webhooks()?;
        for ((job_id, is_old), known) in webhooks.iter().zip(self.queue.need_secrets(&webhooks)?) {
            if known.is_none() && *is_old {
                self.report("forget a webhook", self.storage.forget_webhook(job_id));
            }
        }
        Ok(())
    }

    /// Removes what a process that died had fetched for a job that has ended since.
    fn sweep_fetched(&self) -> Result<()> {
        for job_id in self.queue.ended_among(self.storage.fetching()?)? {
            self.report("remove what was fetched", self.storage.remove_fetched(&job_id, None));
        }
        Ok(())
    }

    /// Removes the audio of jobs that have ended, and where room is short that of jobs nobody works on: it can be decoded
    /// again, should somebody take them up.
    fn sweep(&self) -> Result<()> {
        let jobs = self.spool.jobs()?;
        let mut unneeded = if self.spool.is_short() { self.queue.abandoned_among(&jobs)? } else { Vec::new() };
        unneeded.extend(self.queue.ended_among(jobs)?);
        for job_id in unneeded {
            self.report("clear the spool", self.spool.remove(&job_id));
        }
        Ok(())
    }
}

/// Whether more time has passed on the wall than a running process can have missed.
fn slept(last_wall_ms: i64, wall_ms: i64, lease: Duration) -> bool {
    let half_lease_ms = i64::try_from(lease.as_millis() / 2).unwrap_or(i64::MAX);
    wall_ms - last_wall_ms > half_lease_ms
}
