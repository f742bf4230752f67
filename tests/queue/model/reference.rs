//! The model: what the queue is to do, without a database, threads or thrift. Written from the rules at the head of
//! `src/queue/mod.rs`, not from its code.

use std::collections::HashMap;

use whisperq::job::JobState;

use super::super::support::{LEASE_MS, NOW, limits};

const CHUNK_MS: i64 = 1_000;

/// Something that can be done; claims and jobs are named by their number.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Submit { priority: i32, key: Option<u8> },
    Claim { transcribe: bool, process: usize },
    Plan { claim: usize, chunks: u64 },
    Finish { claim: usize },
    Fail { claim: usize, for_good: bool },
    Release { claim: usize },
    Crash { claim: usize },
    Renew { claim: usize, process: usize },
    Cancel { job: usize },
    Retry { job: usize },
    Reap { process: usize },
    Promote,
    Expire,
    Wait { ms: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Blocked,
    Delayed(i64),
    Queued,
    Running { lease_until_ms: i64, process: usize },
    Done,
    Failed,
    Cancelled,
}

#[derive(Clone, Debug)]
struct Task {
    job: usize,
    is_chunk: bool,
    /// Within its job.
    seq: i64,
    state: State,
    attempt: i64,
    errors: i64,
    crashes: i64,
    losses: i64,
    key: i64,
}

#[derive(Clone, Debug)]
struct Job {
    state: JobState,
    generation: i64,
    priority: i32,
    key: Option<u8>,
    planned: bool,
    ttl_deadline_ms: i64,
    execution_deadline_ms: i64,
}

/// The queue, and how the last step ended.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) now_ms: i64,
    pub(super) ending: &'static str,
    jobs: Vec<Job>,
    tasks: Vec<Task>,
    /// Task and attempt.
    claims: Vec<(usize, i64)>,
    /// By kind and priority.
    clocks: HashMap<(bool, i32), i64>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            now_ms: NOW,
            ending: "done",
            jobs: Vec::new(),
            tasks: Vec::new(),
            claims: Vec::new(),
            clocks: HashMap::new(),
        }
    }
}

impl Task {
    fn length_ms(&self) -> i64 {
        if self.is_chunk { CHUNK_MS } else { 0 }
    }

    fn is_pending(&self) -> bool {
        !matches!(self.state, State::Done | State::Failed | State::Cancelled)
    }
}

impl Model {
    pub(super) fn claims(&self) -> usize {
        self.claims.len()
    }

    pub(super) fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn jobs_in(&self, state: JobState) -> i64 {
        self.jobs.iter().filter(|job| job.state == state).count() as i64
    }

    pub(super) fn is_prepare(&self, claim: usize) -> bool {
        !self.tasks[self.claims[claim].0].is_chunk
    }

    pub(super) fn take(&mut self, step: &Step) {
        self.ending = "done";
        match *step {
            Step::Submit { priority, key } => self.submit(priority, key),
            Step::Claim { transcribe, process } => self.claim(transcribe, process),
            Step::Plan { claim, chunks } => self.with_owned(claim, |model, task| model.plan(task, chunks)),
            Step::Finish { claim } => self.with_owned(claim, |model, task| {
                model.tasks[task].state = State::Done;
                model.complete(model.tasks[task].job);
            }),
            Step::Fail { claim, for_good } => self.with_owned(claim, |model, task| model.fail(task, for_good)),
            Step::Release { claim } => self.with_owned(claim, Self::requeue),
            Step::Crash { claim } => self.with_owned(claim, |model, task| {
                model.tasks[task].crashes += 1;
                model.take_back(task);
            }),
            Step::Renew { claim, process } => self.renew(claim, process),
            Step::Cancel { job } if self.is_open(job) => self.end(job, JobState::Cancelled),
            Step::Cancel { .. } => self.ending = "conflict",
            Step::Retry { job } => self.retry(job),
            Step::Reap { process } => self.reap(process),
            Step::Promote => self.promote(),
            Step::Expire => self.expire(),
            Step::Wait { ms } => self.now_ms += ms,
        }
    }

    /// Where a task that becomes claimable now begins.
    fn start(&self, is_chunk: bool, priority: i32) -> i64 {
        let clock = self.clocks.get(&(is_chunk, priority)).copied().unwrap_or(0);
        clock.max(self.now_ms / 20)
    }

    fn add_task(&mut self, job: usize, is_chunk: bool, seq: i64, key: i64) {
        let state = State::Queued;
        self.tasks.push(Task { job, is_chunk, seq, state, attempt: 0, errors: 0, crashes: 0, losses: 0, key });
    }

    fn submit(&mut self, priority: i32, key: Option<u8>) {
        if key.is_some() && self.jobs.iter().any(|job| job.key == key) {
            return;
        }
        self.jobs.push(Job {
            state: JobState::Queued,
            generation: 0,
            priority,
            key,
            planned: false,
            ttl_deadline_ms: self.now_ms + limits().job_ttl_ms,
            execution_deadline_ms: 0,
        });
        self.add_task(self.jobs.len() - 1, false, 0, self.start(false, priority));
    }

    fn claim(&mut self, is_chunk: bool, process: usize) {
        let waiting = |(_, task): &(usize, &Task)| task.is_chunk == is_chunk && task.state == State::Queued;
        let order = |(number, task): &(usize, &Task)| (-self.jobs[task.job].priority, task.key, *number);
        let Some((number, _)) = self.tasks.iter().enumerate().filter(waiting).min_by_key(order) else { return };
        let task = &mut self.tasks[number];
        task.state = State::Running { lease_until_ms: self.now_ms + LEASE_MS, process };
        task.attempt += 1;
        self.claims.push((number, task.attempt));
        let (reached, job) = (task.key - task.length_ms(), &mut self.jobs[task.job]);
        let clock = self.clocks.entry((is_chunk, job.priority)).or_insert(reached);
        *clock = reached.max(*clock);
        if is_chunk && job.state == JobState::Queued {
            job.state = JobState::Running;
            job.execution_deadline_ms = self.now_ms + limits().execution_timeout_ms;
        }
        self.ending = "claimed";
    }

    /// Runs `step` on the task of a claim, unless another one owns it.
    fn with_owned(&mut self, claim: usize, step: impl FnOnce(&mut Self, usize)) {
        let (task, attempt) = self.claims[claim];
        let owned = self.tasks[task].attempt == attempt && matches!(self.tasks[task].state, State::Running { .. });
        if owned { step(self, task) } else { self.ending = "lost" }
    }

    fn plan(&mut self, prepare: usize, chunks: u64) {
        let job = self.tasks[prepare].job;
        let priority = self.jobs[job].priority;
        let start = self.start(true, priority);
        if self.jobs[job].planned {
            let waiting = |task: &&mut Task| task.job == job && task.state == State::Blocked;
            let first = self.tasks.iter_mut().filter(waiting).map(|task| task.seq).min().unwrap_or(0);
            for task in self.tasks.iter_mut().filter(waiting) {
                task.state = State::Queued;
                task.key = start + (task.seq + 1 - first) * CHUNK_MS;
            }
        } else {
            self.tasks[prepare].losses = 0;
            for seq in 0..chunks.cast_signed() {
                // The first chunk goes by its middle.
                let credit = if seq == 0 { CHUNK_MS / 2 } else { 0 };
                self.add_task(job, true, seq, start + (seq + 1) * CHUNK_MS - credit);
            }
            self.jobs[job].planned = true;
        }
        self.tasks[prepare].state = State::Done;
        self.complete(job);
    }

    fn complete(&mut self, job: usize) {
        if self.jobs[job].planned && !self.tasks.iter().any(|task| task.job == job && task.is_pending()) {
            self.jobs[job].state = JobState::Completed;
        }
    }

    fn fail(&mut self, task: usize, for_good: bool) {
        self.tasks[task].errors += 1;
        let errors = self.tasks[task].errors;
        if for_good || errors >= limits().max_attempts {
            return self.give_up(task);
        }
        self.tasks[task].state = State::Delayed(self.now_ms + 1_000 * 4_i64.pow(errors as u32 - 1));
    }

    /// After a crash or a loss was counted.
    fn take_back(&mut self, task: usize) {
        if self.tasks[task].crashes >= 2 || self.tasks[task].losses >= 10 {
            return self.give_up(task);
        }
        self.requeue(task);
    }

    fn requeue(&mut self, task: usize) {
        let (is_chunk, priority) = (self.tasks[task].is_chunk, self.jobs[self.tasks[task].job].priority);
        self.tasks[task].key = self.start(is_chunk, priority) + self.tasks[task].length_ms();
        self.tasks[task].state = State::Queued;
    }

    fn give_up(&mut self, task: usize) {
        self.tasks[task].state = State::Failed;
        self.end(self.tasks[task].job, JobState::Failed);
    }

    fn is_open(&self, job: usize) -> bool {
        matches!(self.jobs[job].state, JobState::Queued | JobState::Running)
    }

    fn end(&mut self, job: usize, state: JobState) {
        self.jobs[job].state = state;
        for task in self.tasks.iter_mut().filter(|task| task.job == job && task.is_pending()) {
            task.state = State::Cancelled;
        }
    }

    fn renew(&mut self, claim: usize, by: usize) {
        let (task, attempt) = self.claims[claim];
        let task = &mut self.tasks[task];
        match task.state {
            State::Running { process, .. } if task.attempt == attempt && process == by => {
                task.state = State::Running { lease_until_ms: self.now_ms + LEASE_MS, process };
            }
            _ => self.ending = "lost",
        }
    }

    fn retry(&mut self, number: usize) {
        let job = &mut self.jobs[number];
        if !matches!(job.state, JobState::Failed | JobState::TimedOut) {
            self.ending = "conflict";
            return;
        }
        job.state = JobState::Queued;
        job.generation += 1;
        job.ttl_deadline_ms = self.now_ms + limits().job_ttl_ms;
        let key = self.start(false, self.jobs[number].priority);
        for task in self.tasks.iter_mut().filter(|task| task.job == number) {
            if task.is_chunk && task.state == State::Done {
                continue;
            }
            (task.errors, task.crashes, task.losses) = (0, 0, 0);
            task.state = if task.is_chunk { State::Blocked } else { State::Queued };
            if !task.is_chunk {
                task.key = key;
            }
        }
    }

    fn reap(&mut self, own: usize) {
        for task in 0..self.tasks.len() {
            match self.tasks[task].state {
                State::Running { lease_until_ms, process } if lease_until_ms <= self.now_ms && process != own => {
                    self.tasks[task].losses += 1;
                    self.take_back(task);
                }
                _ => {}
            }
        }
    }

    fn promote(&mut self) {
        for task in 0..self.tasks.len() {
            if matches!(self.tasks[task].state, State::Delayed(at) if at <= self.now_ms) {
                self.requeue(task);
            }
        }
    }

    fn expire(&mut self) {
        for number in 0..self.jobs.len() {
            let job = &self.jobs[number];
            let is_over = match job.state {
                JobState::Queued => job.ttl_deadline_ms <= self.now_ms,
                JobState::Running => job.execution_deadline_ms <= self.now_ms,
                _ => false,
            };
            if is_over {
                self.end(number, JobState::TimedOut);
            }
        }
    }

    /// As the real one is written out.
    pub(super) fn dump(&self) -> String {
        let jobs = self.jobs.iter().enumerate();
        let jobs = jobs.map(|(n, job)| format!("job {} {} generation {}", n + 1, job.state, job.generation));
        let tasks = self.tasks.iter().enumerate().map(|(n, task)| {
            let (state, lease, at) = match task.state {
                State::Blocked => ("blocked", 0, 0),
                State::Delayed(at) => ("delayed", 0, at),
                State::Queued => ("queued", 0, 0),
                State::Running { lease_until_ms, .. } => ("running", lease_until_ms, 0),
                State::Done => ("done", 0, 0),
                State::Failed => ("failed", 0, 0),
                State::Cancelled => ("cancelled", 0, 0),
            };
            let Task { job, attempt, errors, crashes, losses, key, .. } = task;
            format!(
                "task {} of job {} {state} attempt {attempt} errors {errors} crashes {crashes} losses {losses} key {key} \
                 lease {lease} at {at}",
                n + 1,
                job + 1
            )
        });
        jobs.chain(tasks).collect::<Vec<_>>().join("\n")
    }
}
