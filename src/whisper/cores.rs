//! How many of the processor's cores a chunk is computed with: all of them while it is the only one, its part of them
//! beside others. whisper.cpp divides every step of a call among its threads, so that a recording of one chunk is done in half
//! the time on two cores, while many chunks are done fastest with a thread for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this wait for each other longer than they compute.
const MOST_THREADS: usize = 8;

/// The cores that some engines share.
#[derive(Debug)]
pub struct Cores {
    count: usize,
    /// Calls that are being computed.
    calls: AtomicUsize,
}

impl Cores {
    /// So many cores, whatever the machine has.
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { count, calls: AtomicUsize::new(0) })
    }

    /// All that this process may use.
    pub fn available() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Counts one more call, until the share is dropped.
    pub(super) fn share(&self) -> Share<'_> {
        let calls = 1 + self.calls.fetch_add(1, Ordering::Relaxed);
        Share { calls: &self.calls, threads: (self.count / calls).clamp(1, MOST_THREADS) }
    }
}

/// What one call may use.
#[derive(Debug)]
pub(super) struct Share<'c> {
    calls: &'c AtomicUsize,
    pub(super) threads: usize,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_all_cores_to_itself_and_its_part_of_them_beside_others() {
        let cores = Cores::new(6);
        let alone = cores.share();
        let second = cores.share();
        let third = cores.share();
        assert_eq!([&alone, &second, &third].map(|share| share.threads), [6, 3, 2]);
        drop((alone, second, third));
        assert_eq!(cores.share().threads, 6, "what has ended counts no more");
    }

    #[test]
    fn a_call_has_one_thread_at_least_and_no_crowd_of_them() {
        let cores = Cores::new(1);
        let _first = cores.share();
        assert_eq!(cores.share().threads, 1);
        assert_eq!(Cores::new(64).share().threads, MOST_THREADS);
    }
}
