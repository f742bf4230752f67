//! How many threads do what takes a core at the same time: fewer than there are, because one that is fetching, or is at the
//! database, leaves its core to another. Who waits gets the next turn in the order of asking. What is done in a turn is
//! `prepare`'s and `transcribe`'s business.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;

/// How often a thread that waits for its turn looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub struct Turns {
    line: Mutex<Line>,
    moved: Condvar,
}

#[derive(Debug)]
struct Line {
    free: usize,
    /// Those who wait, by the number that each has drawn.
    waiting: VecDeque<u64>,
    drawn: u64,
}

/// A turn; the next one gets it when this is dropped.
#[derive(Debug)]
pub struct Turn<'a>(&'a Turns);

impl Turns {
    pub fn new(count: usize) -> Self {
        Self { line: Mutex::new(Line { free: count, waiting: VecDeque::new(), drawn: 0 }), moved: Condvar::new() }
    }

    /// Waits for a turn, calling `wait` again and again; its error ends the waiting.
    pub fn take(&self, wait: &mut dyn FnMut() -> Result<()>) -> Result<Turn<'_>> {
        let mut line = self.line();
        line.drawn += 1;
        let number = line.drawn;
        line.waiting.push_back(number);
        while line.free == 0 || line.waiting.front() != Some(&number) {
            if let Err(error) = wait() {
                line.waiting.retain(|&waiting| waiting != number);
                self.moved.notify_all();
                return Err(error);
            }
            line = self.moved.wait_timeout(line, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        line.waiting.pop_front();
        line.free -= 1;
        self.moved.notify_all();
        Ok(Turn(self))
    }

    /// Lets those go first who wait by now, if any.
    pub fn pass_on<'a>(&'a self, turn: Turn<'a>, wait: &mut dyn FnMut() -> Result<()>) -> Result<Turn<'a>> {
        if self.line().waiting.is_empty() {
            return Ok(turn);
        }
        drop(turn);
        self.take(wait)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.line().free += 1;
        self.0.moved.notify_all();
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

    #[test]
    fn a_turn_that_is_passed_on_comes_back_after_the_one_who_waited() {
        let turns = Turns::new(1);
        let order = Mutex::new(Vec::new());
        let note = |name| order.lock().unwrap().push(name);
        let first = turns.take(&mut || Ok(())).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _second = turns.take(&mut || Ok(())).unwrap();
                note("second");
            });
            while turns.line().waiting.is_empty() {
                std::thread::yield_now();
            }
            let _again = turns.pass_on(first, &mut || Ok(())).unwrap();
            note("first again");
        });
        assert_eq!(*order.lock().unwrap(), ["second", "first again"]);
    }
}
