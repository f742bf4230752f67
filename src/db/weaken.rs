//! For the crate's own tests alone, and not there in any other build: takes a guard out of the queue's SQL, so that a test
//! can show what goes wrong without it. It holds for the databases that are opened while it is set, and for the thread that
//! sets it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A guard, as the piece of SQL that makes it and what stands there without it.
#[derive(Clone)]
pub(crate) struct Weakened {
    guard: &'static str,
    without: &'static str,
    uses: Arc<AtomicUsize>,
}

impl Weakened {
    pub(crate) fn new(guard: &'static str, without: &'static str) -> Self {
        Self { guard, without, uses: Arc::default() }
    }

    /// How many statements were compiled without it: 0 means that the guard is not written like this any more.
    pub(crate) fn uses(&self) -> usize {
        self.uses.load(Ordering::Relaxed)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Weakened>> = const { RefCell::new(None) };
}

pub(crate) fn set(weakened: Option<Weakened>) {
    CURRENT.set(weakened);
}

pub(super) fn current() -> Option<Weakened> {
    CURRENT.with_borrow(Clone::clone)
}

/// The SQL as it is to be compiled; comments, line breaks and indentation do not count.
pub(super) fn apply(sql: &str) -> Cow<'_, str> {
    CURRENT.with_borrow(|current| {
        let Some(weakened) = current else { return Cow::Borrowed(sql) };
        let code = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
        let plain = code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        if !plain.contains(weakened.guard) {
            return Cow::Borrowed(sql);
        }
        weakened.uses.fetch_add(1, Ordering::Relaxed);
        Cow::Owned(plain.replace(weakened.guard, weakened.without))
    })
}
