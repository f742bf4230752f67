//! The wake-up inside one process: a counter that grows with every commit that may have made work, and a wait for it to
//! move. It is for speed only; whoever waits also looks again after a while, for commits of other processes.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Default)]
pub struct Wake {
    count: Mutex<u64>,
    moved: Condvar,
}

impl Wake {
    /// Read this before looking for work: a wake-up between the look and the wait is then not missed.
    pub fn seen(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn notify(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.moved.notify_all();
    }

    /// Returns when the counter has left `seen`, or after `limit`.
    pub fn wait(&self, seen: u64, limit: Duration) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.moved.wait_timeout_while(count, limit, |count| *count == seen));
    }
}
