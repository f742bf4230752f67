//! Progress on a terminal: bars and counts; silent everywhere else.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::job::JobState;

/// The bar counts in thousandths.
const FULL: u64 = 1000;

/// One bar per recording.
pub(super) struct Bars {
    group: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl Bars {
    pub(super) fn new(names: &[String]) -> Self {
        let group = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:30!} {bar:30} {percent:>3}% {elapsed} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = names
            .iter()
            .map(|name| group.add(ProgressBar::new(FULL).with_style(style.clone()).with_prefix(name.clone())))
            .collect();
        Self { group, bars }
    }

    pub(super) fn show(&self, n: usize, status: JobState, progress: f64) {
        let Some(bar) = self.bars.get(n) else { return };
        bar.set_position((progress * FULL as f64) as u64);
        bar.set_message(status.name());
        if status == JobState::Completed {
            bar.finish_and_clear();
        } else if status.is_terminal() {
            bar.abandon();
        }
    }

    /// Prints without tearing the bars.
    pub(super) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.group.suspend(print)
    }
}

/// One line that counts requests.
pub(super) struct Count(ProgressBar);

impl Count {
    pub(super) fn new(requests: usize, clients: usize) -> Self {
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} requests {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let who = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        Self(ProgressBar::new(requests as u64).with_style(style).with_prefix(who))
    }

    /// Also where the number is the same: the clock moves.
    pub(super) fn show(&self, ended: usize) {
        self.0.set_position(ended as u64);
        self.0.tick();
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
