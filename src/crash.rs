//! Whose work killed the process: when a thread ends it by a fault or an abort, the task in its hands, or in those of the
//! thread that started it, is left in a file, so that whoever takes over can blame this task alone and none of its neighbors. A process that dies in a thread
//! without a task leaves only that; one that is killed from outside leaves the file empty.

#![expect(unsafe_code, reason = "a handler of fatal signals is installed, and runs, by the rules of C")]

use std::fs::File;
use std::io::{Error as IoError, Read};
use std::os::fd::IntoRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};

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
/// More than a process has threads that hold tasks; what has no place is not found by name.
const MOST_NAMES: usize = 128;
/// In place of a name, and the name of every thread where the system tells none.
const NO_NAME: u64 = 0;
#[cfg(target_os = "linux")]
const THREAD_NAME_BYTES: usize = 16;

/// Opened beforehand: a handler may write, but should do little else.
static FILE: AtomicI32 = AtomicI32::new(NO_FILE);

thread_local! {
    // Made by the compiler and never destroyed, so that a handler can read it at any moment.
    static IN_HAND: Hand = const { Hand::new() };
}

/// The same by the name of the thread: on Linux the threads that an engine starts have that of the one that called it.
static BY_NAME: [Named; MOST_NAMES] =
    [const { Named { name: AtomicU64::new(NO_NAME), hand: Hand::new() } }; MOST_NAMES];

struct Named {
    name: AtomicU64,
    hand: Hand,
}

/// What a thread works on, if anything.
struct Hand {
    task: AtomicI64,
    attempt: AtomicI64,
}

impl Named {
    fn is(&self, name: u64) -> bool {
        self.name.load(Ordering::SeqCst) == name
    }
}

impl Hand {
    const fn new() -> Self {
        Self { task: AtomicI64::new(0), attempt: AtomicI64::new(NO_ATTEMPT) }
    }

    fn hold(&self, held: Option<Held>) {
        // A signal to this thread in between must not find the one with another's other.
        self.attempt.store(NO_ATTEMPT, Ordering::SeqCst);
        if let Some(held) = held {
            self.task.store(held.task, Ordering::SeqCst);
            self.attempt.store(held.attempt, Ordering::SeqCst);
        }
    }

    fn held(&self) -> Option<Held> {
        let attempt = self.attempt.load(Ordering::SeqCst);
        (attempt != NO_ATTEMPT).then(|| Held { task: self.task.load(Ordering::SeqCst), attempt })
    }
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
    /// A thread that holds no task, and was started by none that does as far as the system tells.
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
    IN_HAND.with(|hand| hand.hold(held));
    let name = thread_name();
    let free = |named: &Named| named.name.compare_exchange(NO_NAME, name, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    if name != NO_NAME
        && let Some(named) = BY_NAME.iter().find(|named| named.is(name) || free(named))
    {
        named.hand.hold(held);
    }
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
    if file == NO_FILE {
        return;
    }
    let name = thread_name();
    let by_name = || BY_NAME.iter().find(|named| named.is(name)).and_then(|named| named.hand.held());
    let nothing = Held { task: 0, attempt: NO_ATTEMPT };
    let held = IN_HAND.with(Hand::held).or_else(by_name).unwrap_or(nothing);
    let record = [held.task.to_ne_bytes(), held.attempt.to_ne_bytes()];
    // SAFETY: POSIX allows it in a handler, and the record is that long. Where it fails nobody is blamed.
    unsafe { libc::write(file, record.as_ptr().cast(), RECORD_BYTES) };
}

/// The calling thread's name as a number; a handler may ask for it.
#[cfg(target_os = "linux")]
fn thread_name() -> u64 {
    let mut name = [0_u8; THREAD_NAME_BYTES];
    // SAFETY: the system writes at most so many bytes, the last of them a zero.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.iter().fold(NO_NAME, |number, &byte| number.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

#[cfg(not(target_os = "linux"))]
fn thread_name() -> u64 {
    NO_NAME
}
