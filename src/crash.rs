//! Whose work killed the process: when a thread ends it by a fault or an abort, the task in that thread's hands is left in
//! a file, so that whoever takes over can blame this task alone and none of its neighbors. A process that dies in a thread
//! without a task leaves only that; one that is killed from outside leaves the file empty.

#![expect(unsafe_code, reason = "a handler of fatal signals is installed, and runs, by the rules of C")]

use std::fs::File;
use std::io::{Error as IoError, Read};
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use anyhow::Context;
use libc::c_int;

use crate::error::Result;

/// How a thread ends its process: by a fault of its own, or by `abort`, which is how libraries give up.
const FATAL: [c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];
/// A task and its attempt, as their 64 bits: a handler cannot format numbers, and a torn record is too short.
const RECORD_BYTES: usize = 16;
const NUMBER_BYTES: usize = 8;
/// In place of a file.
const NO_FILE: c_int = -1;
/// In place of an attempt: the first one is 1.
const NO_ATTEMPT: i64 = 0;

/// Opened beforehand: a handler may write, but should do little else.
static FILE: AtomicI32 = AtomicI32::new(NO_FILE);

thread_local! {
    // Made by the compiler and never destroyed, so that a handler can read it at any moment.
    static IN_HAND: (AtomicI64, AtomicI64) = const { (AtomicI64::new(0), AtomicI64::new(NO_ATTEMPT)) };
}

/// An attempt at a task, as the file names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub task: i64,
    pub attempt: i64,
}

/// What a process was killed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    Task(Held),
    /// A thread that holds no task, as one that the engine started for itself.
    Unknown,
}

/// From now on the process leaves in `path` what kills it. Panics are none of this: they unwind.
pub fn watch(path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    // Open for as long as the process lives: a handler may be about to write.
    FILE.store(file.into_raw_fd(), Ordering::SeqCst);
    for signal in FATAL {
        install(signal).with_context(|| format!("cannot watch for signal {signal}"))?;
    }
    Ok(())
}

/// To be called before an exit while threads are at work: what the end of the process does to them is not their fault.
pub fn unwatch() {
    FILE.store(NO_FILE, Ordering::SeqCst);
}

/// Says what the calling thread works on.
pub fn hold(held: Option<Held>) {
    IN_HAND.with(|(task, attempt)| {
        // A signal in between must not find the one with another's other.
        attempt.store(NO_ATTEMPT, Ordering::SeqCst);
        if let Some(held) = held {
            task.store(held.task, Ordering::SeqCst);
            attempt.store(held.attempt, Ordering::SeqCst);
        }
    });
}

/// What killed the process that had `path` watched; `None` where it did not kill itself.
pub fn read(path: &Path) -> Option<Culprit> {
    let mut record = [0; RECORD_BYTES];
    // Of threads that fault at the same time the first one counts.
    File::open(path).and_then(|mut file| file.read_exact(&mut record)).ok()?;
    let (task, attempt) = record.split_first_chunk::<NUMBER_BYTES>()?;
    let held = Held { task: i64::from_ne_bytes(*task), attempt: i64::from_ne_bytes(attempt.try_into().ok()?) };
    Some(if held.attempt == NO_ATTEMPT { Culprit::Unknown } else { Culprit::Task(held) })
}

fn install(signal: c_int) -> Result<(), IoError> {
    // SAFETY: zeros are a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_fatal_signal as *const () as libc::sighandler_t;
    // Every Rust thread has a second stack for this: the first one may have overflowed.
    action.sa_flags = libc::SA_ONSTACK;
    // SAFETY: `action` is complete, and its handler only does what POSIX allows in one.
    let installed = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if installed == 0 { Ok(()) } else { Err(IoError::last_os_error()) }
}

extern "C" fn on_fatal_signal(signal: c_int) {
    leave_record();
    // SAFETY: POSIX allows both in a handler. The signal is blocked until the handler returns; then it kills the process,
    // before an instruction that faulted is tried again.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Runs in the handler: no allocation, no lock, no panic.
fn leave_record() {
    let file = FILE.load(Ordering::SeqCst);
    let load = |number: &AtomicI64| number.load(Ordering::SeqCst);
    let (task, attempt) = IN_HAND.with(|(task, attempt)| (load(task), load(attempt)));
    if file == NO_FILE {
        return;
    }
    let record = [task.to_ne_bytes(), attempt.to_ne_bytes()];
    // SAFETY: POSIX allows it in a handler, and the record is that long. Where it fails nobody is blamed.
    unsafe { libc::write(file, record.as_ptr().cast(), RECORD_BYTES) };
}
