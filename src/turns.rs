//! How many threads do what takes a core at the same time: fewer than there are threads. Who waits gets the next turn by
//! rank, then in the order of asking. A turn is passed on after every chunk, so that a voice note does not wait for hours of
//! other recordings. What is done in a turn is `prepare`'s and `transcribe`'s business.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;

/// How often a thread that waits for its turn looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(250);

/// The lower one goes first.
pub type Rank = (i64, i64);

/// A rank and the number that was drawn with it.
type Place = (Rank, u64);

#[derive(Debug)]
pub struct Turns {
    line: Mutex<Line>,
    moved: Condvar,
}

#[derive(Debug)]
struct Line {
    free: usize,
    waiting: BTreeSet<Place>,
    drawn: u64,
}

/// A turn; the next one gets it when this is dropped.
#[derive(Debug)]
pub struct Turn(Arc<Turns>);

impl Turns {
    pub fn new(count: usize) -> Arc<Self> {
        let line = Line { free: count, waiting: BTreeSet::new(), drawn: 0 };
        Arc::new(Self { line: Mutex::new(line), moved: Condvar::new() })
    }

    /// Waits for a turn, calling `wait` again and again; its error ends the waiting. `wait` must not touch any turn.
    pub fn take(self: &Arc<Self>, rank: Rank, wait: &mut dyn FnMut() -> Result<()>) -> Result<Turn> {
        let place = self.join(rank);
        self.wait(place, wait)
    }

    fn join(&self, rank: Rank) -> Place {
        let mut line = self.line();
        line.drawn += 1;
        let place = (rank, line.drawn);
        line.waiting.insert(place);
        place
    }

    fn wait(self: &Arc<Self>, place: Place, wait: &mut dyn FnMut() -> Result<()>) -> Result<Turn> {
        let mut line = self.line();
        while line.free == 0 || line.waiting.first() != Some(&place) {
            if let Err(error) = wait() {
                line.waiting.remove(&place);
                self.moved.notify_all();
                return Err(error);
            }
            line = self.moved.wait_timeout(line, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        line.waiting.remove(&place);
        line.free -= 1;
        self.moved.notify_all();
        Ok(Turn(self.clone()))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Goes on with this turn, unless somebody waits who comes first: then with a later one.
    pub fn pass_on(self, rank: Rank, wait: &mut dyn FnMut() -> Result<()>) -> Result<Self> {
        let turns = self.0.clone();
        let place = turns.join(rank);
        drop(self);
        turns.wait(place, wait)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.line().free += 1;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    const ANY: Rank = (0, 0);

    fn give_up() -> Result<()> {
        Err(Error::Aborted)
    }

    #[test]
    fn a_turn_is_free_again_when_it_was_given_back() {
        let turns = Turns::new(1);
        let first = turns.take(ANY, &mut give_up).unwrap();
        assert!(matches!(turns.take(ANY, &mut give_up), Err(Error::Aborted)));
        drop(first);
        turns.take(ANY, &mut give_up).unwrap();
    }

    /// Who got the turn in which order: one with rank 5 who passed it on, and others who asked before he did.
    fn order(others: [Rank; 2]) -> Vec<Rank> {
        let turns = Turns::new(1);
        let order = Mutex::new(Vec::new());
        let note = |rank| order.lock().unwrap().push(rank);
        let turn = turns.take((0, 5), &mut || Ok(())).unwrap();
        std::thread::scope(|scope| {
            for (n, rank) in others.into_iter().enumerate() {
                let (turns, note) = (&turns, &note);
                scope.spawn(move || {
                    let _turn = turns.take(rank, &mut || Ok(())).unwrap();
                    note(rank);
                });
                while turns.line().waiting.len() <= n {
                    std::thread::yield_now();
                }
            }
            let _turn = turn.pass_on((0, 5), &mut || Ok(())).unwrap();
            note((0, 5));
        });
        order.into_inner().unwrap()
    }

    #[test]
    fn a_turn_is_passed_on_to_those_who_waited_for_it_and_comes_back() {
        assert_eq!(order([(0, 5), (0, 4)]), [(0, 4), (0, 5), (0, 5)]);
    }

    #[test]
    fn a_turn_stays_with_the_one_who_comes_first() {
        assert_eq!(order([(0, 7), (0, 6)]), [(0, 5), (0, 6), (0, 7)]);
        assert_eq!(order([(1, 0), (-1, 9)]), [(-1, 9), (0, 5), (1, 0)]);
    }
}
