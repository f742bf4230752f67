//! Ctrl-C and SIGTERM: the first asks for an orderly stop, a second Ctrl-C ends the process at once.

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::crash;
use crate::error::Result;
use crate::shutdown::Shutdown;

/// As shells report a command that was interrupted.
const INTERRUPTED: i32 = 130;

/// Triggers `shutdown` on the first signal.
pub(super) fn watch(shutdown: &Shutdown) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    let shutdown = shutdown.clone();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                // Service managers may send SIGTERM to a process and to the one that watches over it, which hands it on.
                if shutdown.is_triggered() && signal == SIGINT {
                    crash::unwatch();
                    std::process::exit(INTERRUPTED);
                }
                shutdown.trigger();
            }
        })
        .context("cannot start the thread that watches for signals")?;
    Ok(())
}
