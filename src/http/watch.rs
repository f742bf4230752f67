//! How handlers wait: the queue's wake-up, which blocks, brought to where waiting is free. One thread stands between.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use crate::error::Result;
use crate::queue::Queue;
use crate::shutdown::Shutdown;

/// Whoever waits looks again after this long, for what other processes did.
const LOOK: Duration = Duration::from_secs(1);
/// Commits that come closer together than this are one wake-up: a hundred watchers need not look a hundred times each.
const TOGETHER: Duration = Duration::from_millis(100);

/// Wakes handlers after commits and at the end. Clones share it.
#[derive(Clone)]
pub(super) struct Watch {
    moved: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
}

impl Watch {
    /// Starts the thread between, which ends with `shutdown`.
    pub(super) fn start(queue: Queue, shutdown: Shutdown) -> Result<Self> {
        let (moved_to, moved) = watch::channel(0);
        let (stop, stopping) = watch::channel(false);
        let relay = move || {
            while !shutdown.wait(TOGETHER) {
                let seen = queue.wake().seen();
                if *moved_to.borrow() == seen {
                    queue.wake().wait(seen, LOOK);
                }
                moved_to.send_replace(queue.wake().seen());
            }
            stop.send_replace(true);
        };
        std::thread::Builder::new().name("http-watch".to_owned()).spawn(relay).context("cannot start http-watch")?;
        Ok(Self { moved, stopping })
    }

    /// Resolves when something may have happened to a job; false when the service stops.
    pub(super) async fn moved(&mut self) -> bool {
        // An error means that the thread has ended, as it does on shutdown.
        let _ = tokio::time::timeout(LOOK, self.moved.changed()).await;
        !*self.stopping.borrow()
    }

    /// Resolves when the service stops.
    pub(super) async fn stopped(mut self) {
        let _ = self.stopping.wait_for(|stopping| *stopping).await;
    }
}
