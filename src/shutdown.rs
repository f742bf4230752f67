//! The request to stop, shared by all threads: set once, seen by everyone, with SIGINT and SIGTERM as its usual cause.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A flag that can be waited on. Clones share it.
#[derive(Clone, Default)]
pub struct Shutdown {
    inner: Arc<(Mutex<bool>, Condvar)>,
}

impl Shutdown {
    pub fn trigger(&self) {
        *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.1.notify_all();
    }

    pub fn is_triggered(&self) -> bool {
        *self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for `period` or until the request comes, and says whether it has.
    pub fn wait(&self, period: Duration) -> bool {
        let triggered = self.inner.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.inner.1.wait_timeout_while(triggered, period, |triggered| !*triggered);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
