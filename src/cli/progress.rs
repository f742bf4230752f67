//! Progress bars on a terminal; silent everywhere else.

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
