//! How many recordings are decoded at the same time: fewer than are fetched, because decoding takes a core.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::Result;

/// How often a thread that waits for its turn looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A turn; the next one gets it when this is dropped.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    pub fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// Waits for a turn, calling `wait` again and again; its error ends the waiting.
    pub fn take(&self, wait: &mut dyn FnMut() -> Result<()>) -> Result<Turn<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            wait()?;
            free = self.freed.wait_timeout(free, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Ok(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_turn_is_free_again_when_it_was_given_back() {
        let turns = Turns::new(1);
        let mut give_up = || Err(Error::Aborted);
        let first = turns.take(&mut give_up).unwrap();
        assert!(matches!(turns.take(&mut give_up), Err(Error::Aborted)));
        drop(first);
        turns.take(&mut give_up).unwrap();
    }
}
