//! Who does the steps: threads of this process, or processes of their own. All start at the same moment.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::ground::{Ground, Hand};
use crate::step::Step;

pub(crate) trait Crew {
    /// How long `count` times of `step` take all together.
    fn run(&mut self, ground: &Ground, step: Step, count: u64) -> Duration;
}

pub(crate) struct Threads(pub(crate) usize);

impl Crew for Threads {
    fn run(&mut self, ground: &Ground, step: Step, count: u64) -> Duration {
        let start = Barrier::new(self.0 + 1);
        std::thread::scope(|scope| {
            let work = |share| {
                let claimed = step.get_ready(&ground.hand, share);
                start.wait();
                step.go(&ground.hand, share, &claimed);
            };
            let threads: Vec<_> = shares(count, self.0).map(|share| scope.spawn(move || work(share))).collect();
            start.wait();
            let began = Instant::now();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            began.elapsed()
        })
    }
}

/// This program, started several times over. Each is told a step and a count, answers when it is ready for them, waits for
/// the word to go, and answers when it has done them.
pub(crate) struct Processes(Vec<Remote>);

struct Remote {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Processes {
    pub(crate) fn start(folder: &Path, count: usize) -> Self {
        Self((0..count).map(|_| Remote::start(folder)).collect())
    }

    fn hear(&mut self, answer: &str) {
        for remote in &mut self.0 {
            assert_eq!(remote.answers.next().unwrap().unwrap(), answer);
        }
    }
}

impl Crew for Processes {
    fn run(&mut self, _: &Ground, step: Step, count: u64) -> Duration {
        let hands = self.0.len();
        self.0.iter_mut().zip(shares(count, hands)).for_each(|(remote, share)| {
            remote.tell(&format!("{} {share}", step.name()));
        });
        self.hear("ready");
        let began = Instant::now();
        self.0.iter_mut().for_each(|remote| remote.tell("go"));
        self.hear("done");
        began.elapsed()
    }
}

impl Remote {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("hand").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { orders: child.stdin.take(), child, answers }
    }

    fn tell(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // It ends with its orders; the folder must not go before it has.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// One of [`Processes`].
pub(crate) fn serve(folder: &Path) {
    let hand = Hand::open(folder);
    let mut orders = std::io::stdin().lines().map(Result::unwrap);
    while let Some(order) = orders.next() {
        let (step, count) = order.split_once(' ').unwrap();
        let (step, count) = (Step::named(step).unwrap(), count.parse().unwrap());
        let claimed = step.get_ready(&hand, count);
        println!("ready");
        assert_eq!(orders.next().unwrap(), "go");
        step.go(&hand, count, &claimed);
        println!("done");
    }
}

/// `count` divided among `hands`.
fn shares(count: u64, hands: usize) -> impl Iterator<Item = u64> {
    let hands = hands as u64;
    (0..hands).map(move |hand| count / hands + u64::from(hand < count % hands))
}
