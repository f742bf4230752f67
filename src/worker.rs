//! What all working threads share: the slot that shows which task a thread holds, and the loop around its step. What a
//! step does is `prepare`'s and `transcribe`'s business.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;

use crate::crash::{self, Held};
use crate::db;
use crate::error::{Error, Result};
use crate::queue::{Queue, TaskRef, unix_now_ms};
use crate::shutdown::Shutdown;
use crate::transcript::Control;

/// How long an idle thread sleeps before it looks again without a wake-up, for work that another process queued.
const POLL: Duration = Duration::from_millis(500);
/// Pause after the database refused, before the same is tried again.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Worked,
    Idle,
}

/// The task that a thread holds, as its keeper sees it.
#[derive(Debug)]
pub struct Slot {
    worker_id: String,
    held: Mutex<Option<TaskRef>>,
    control: Control,
}

impl Slot {
    pub fn new(worker_id: String) -> Arc<Self> {
        Arc::new(Self { worker_id, held: Mutex::default(), control: Control::default() })
    }

    pub fn worker_id(&self) -> &str {
        &self.worker_id
    }

    /// Moved and watched while the task is worked on.
    pub fn control(&self) -> &Control {
        &self.control
    }

    pub fn held(&self) -> Option<TaskRef> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the work, but only while it is still on `task`.
    pub fn abort(&self, task: TaskRef) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held == Some(task) {
            self.control.abort();
        }
    }

    /// Called by the working thread itself: should it kill the process, it is known by what.
    fn hold(&self, task: Option<TaskRef>) {
        crash::hold(task.map(|task| Held { task: task.id, attempt: task.attempt }));
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.control.reset();
        *held = task;
    }
}

/// A thread's place in the process: its slot, the queue it claims from and the request to stop.
#[derive(Clone)]
pub struct Worker {
    pub queue: Queue,
    pub slot: Arc<Slot>,
    pub process_id: String,
    pub shutdown: Shutdown,
}

impl Worker {
    /// Calls `step` until shutdown, sleeping while there is nothing to do.
    pub fn run(&self, mut step: impl FnMut() -> Result<Outcome>) {
        self.until(|| Ok(ControlFlow::Continue(step()?)));
    }

    /// The same until `step` breaks off, and whether it did so before shutdown.
    pub fn until(&self, mut step: impl FnMut() -> Result<ControlFlow<(), Outcome>>) -> bool {
        while !self.shutdown.is_triggered() {
            let seen = self.queue.wake().seen();
            match step() {
                Ok(ControlFlow::Break(())) => return true,
                Ok(ControlFlow::Continue(Outcome::Worked)) => {}
                Ok(ControlFlow::Continue(Outcome::Idle)) => self.queue.wake().wait(seen, POLL),
                Err(error) => {
                    tracing::error!(worker = self.slot.worker_id, %error, "cannot take work; trying again");
                    self.shutdown.wait(DATABASE_PAUSE);
                }
            }
        }
        false
    }

    /// Does one claimed task and records how it ended: `finish` when `work` succeeds, else a failure, a release or
    /// nothing at all, when the claim was lost meanwhile.
    pub fn perform<T: Clone>(
        &self,
        task: TaskRef,
        work: impl FnOnce(&Control) -> Result<T>,
        finish: impl Fn(T) -> Result<()>,
    ) {
        self.slot.hold(Some(task));
        let result = catch_unwind(AssertUnwindSafe(|| work(&self.slot.control)));
        let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
        let recorded = result.and_then(|value| self.persist(|| finish(value.clone())));
        if let Err(error) = recorded {
            self.give_back(task, &error);
        }
        self.slot.hold(None);
    }

    /// Records that the work, or the record of it, came to nothing.
    fn give_back(&self, task: TaskRef, error: &Error) {
        let recorded = self.persist(|| match error {
            // Whoever took the task away has recorded that; on shutdown it is given back.
            Error::Aborted => self.queue.release(task, unix_now_ms()),
            error => {
                self.log_failure(task, error);
                self.queue.fail(task, error, fastrand::f64(), unix_now_ms())
            }
        });
        if let Err(error) = recorded {
            tracing::error!(worker = self.slot.worker_id, task = task.id, %error, "cannot record the failure");
        }
    }

    /// An input that is no good is its owner's business and stored with the job; anything else is the operator's too.
    fn log_failure(&self, task: TaskRef, error: &Error) {
        let worker = &self.slot.worker_id;
        if error.is_retryable() {
            tracing::warn!(worker, task = task.id, %error, "the attempt failed");
        } else {
            tracing::info!(worker, task = task.id, %error, "the input was refused");
        }
    }

    /// Repeats `record` while only the state of the machine is in its way: work that was done is not thrown away because
    /// a disk was full for a while.
    ///
    /// # Errors
    /// What the database refuses for good, such as a result that breaks its rules.
    fn persist(&self, record: impl Fn() -> Result<()>) -> Result<()> {
        loop {
            self.slot.control.tick();
            match record() {
                Err(Error::ClaimLost) => {
                    tracing::info!(
                        worker = self.slot.worker_id,
                        "the task was taken back meanwhile; its result is void"
                    );
                    return Ok(());
                }
                Err(error) if db::may_pass(&error) => {
                    tracing::error!(worker = self.slot.worker_id, %error, "cannot record the result; trying again");
                    if self.shutdown.wait(DATABASE_PAUSE) {
                        return Ok(());
                    }
                }
                result => return result,
            }
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    anyhow!("the work panicked: {}", text.unwrap_or("no message")).into()
}
