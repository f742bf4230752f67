//! The process around the process: it runs the program as its child, hands on the requests to stop, and starts the child
//! again when it died. An engine that aborts takes its whole process along; this is what brings that back. Also how a program
//! begins anew with another environment.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt, parent_id};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, getrlimit, kill_process, setrlimit, wait};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::Result;

/// Pauses before the child is started again, doubling from the one to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A child that lived so long was well: its end is the first of its kind.
const SOUND_LIFE: Duration = Duration::from_secs(60);

/// Exit codes, part of the contract of the command line.
const DONE: u8 = 0;
const FAILED: u8 = 1;
/// To be put right by a person: trying again is no use.
const BAD_CONFIGURATION: u8 = 2;
/// Of a child that has said itself to whom it concerns that it cannot work here, and is not to come back; between the two
/// processes only.
pub const UNFIT: u8 = 3;

/// Runs this very program with `args` and, as one more, the number of this process, for [`follow_parent`]; returns the code
/// to exit with. It returns once the child has ended well, or after a request to stop, or because the configuration is
/// bad; from any other end the child comes back.
///
/// It is to be the only thing that its process does, in the thread that lives as long as the process: it waits for every
/// child there is, and children follow the thread that has started them.
///
/// # Errors
/// `Internal` when the child cannot be started the first time.
pub fn supervise(args: &[OsString]) -> Result<u8> {
    // Asked for once: a newer program in the same place is what is started again.
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    supervise_program(&program, args)
}

/// As [`supervise`], for another program.
///
/// # Errors
/// As [`supervise`].
pub fn supervise_program(program: &Path, args: &[OsString]) -> Result<u8> {
    let supervisor = Supervisor { program, args, signals: signals()? };
    let mut child = supervisor.start()?;
    let mut pause = FIRST_PAUSE;
    let mut is_first = true;
    loop {
        let started = Instant::now();
        let end = supervisor.follow(child)?;
        if let Some(code) = end.last_code(is_first) {
            return Ok(code);
        }
        is_first = false;
        if started.elapsed() >= SOUND_LIFE {
            pause = FIRST_PAUSE;
        }
        let process = child.as_raw_pid();
        tracing::error!(process, "the process ended ({}) and is started again in {pause:?}", end.status);
        match supervisor.start_again(&mut pause)? {
            Some(next) => child = next,
            None => return Ok(DONE),
        }
    }
}

/// What a supervised child begins with: from now on it dies with its parent, which is process number `parent`.
///
/// # Errors
/// `Internal` when that is gone already.
pub fn follow_parent(parent: u32) -> Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot tie this process to its parent")?;
    // It may have died before this process asked to be told.
    if parent_id() != parent {
        return Err(anyhow!("the process {parent} that started this one has ended").into());
    }
    Ok(())
}

/// Starts this very program once more in the place of this process, with one more variable in its environment: for those that
/// a library reads before `main`. Returns only where that is not possible.
pub fn start_over_with(name: &str, value: &str) -> anyhow::Error {
    let mut args = std::env::args_os();
    let typed = args.next().unwrap_or_default();
    match std::env::current_exe() {
        Ok(program) => Command::new(program).arg0(typed).args(args).env(name, value).exec().into(),
        Err(error) => error.into(),
    }
}

/// Lets this process have as many files open as the system allows it, and returns that number: the usual limit is for
/// programs with a handful of connections.
pub fn raise_file_limit() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("cannot raise the number of open files")?;
    // None stands for no limit.
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

struct Supervisor<'a> {
    program: &'a Path,
    args: &'a [OsString],
    signals: Receiver<i32>,
}

/// How a child ended.
struct End {
    status: ExitStatus,
    /// Whether it had been asked to.
    asked: bool,
}

impl End {
    /// What to exit with, unless the child is to come back. Settings that the first child could start with are good: what
    /// a later one takes for a bad one, as a full disk, may pass.
    fn last_code(&self, is_first: bool) -> Option<u8> {
        let code = self.status.code().and_then(|code| u8::try_from(code).ok());
        if self.asked {
            return Some(code.filter(|code| *code != UNFIT).unwrap_or(FAILED));
        }
        if code == Some(UNFIT) {
            return Some(FAILED);
        }
        code.filter(|code| *code == DONE || is_first && *code == BAD_CONFIGURATION)
    }
}

impl Supervisor<'_> {
    fn start(&self) -> Result<Pid> {
        let mut command = Command::new(self.program);
        command.args(self.args).arg(std::process::id().to_string()).stdin(Stdio::null());
        // In a group of its own it gets an interrupt from the terminal once, from its parent, and not twice.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        Ok(Pid::from_child(&child))
    }

    /// Waits for the end of the child and hands on the requests to stop.
    fn follow(&self, child: Pid) -> Result<End> {
        let mut asked = false;
        loop {
            if let Some(status) = reap(child)? {
                return Ok(End { status, asked });
            }
            let signal = self.signals.recv().context("the thread that watches for signals has ended")?;
            if let Some(request) = request(signal) {
                asked = true;
                // Until it is reaped the number is the child's, dead or alive.
                kill_process(child, request).context("cannot hand on the request to stop")?;
            }
        }
    }

    /// The next child after a pause, `None` when a request to stop came in between. Where it cannot be started (no memory
    /// left, say) it is tried again.
    fn start_again(&self, pause: &mut Duration) -> Result<Option<Pid>> {
        loop {
            if self.rest(*pause)? {
                return Ok(None);
            }
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            match self.start() {
                Ok(child) => return Ok(Some(child)),
                Err(error) => tracing::error!(%error, "trying again"),
            }
        }
    }

    /// Waits for so long, or until a request to stop, and says whether one came.
    fn rest(&self, pause: Duration) -> Result<bool> {
        let end = Instant::now() + pause;
        // Whatever stops the wait other than a signal is its end.
        while let Ok(signal) = self.signals.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if request(signal).is_some() {
                return Ok(true);
            }
            reap_all(|_, _| ())?;
        }
        Ok(false)
    }
}

/// The signals of this process, one by one: requests to stop, and that a child has changed.
fn signals() -> Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGCHLD]).context("cannot watch for signals")?;
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            // Nobody listens any more once the last child has ended.
            let _ = signals.forever().try_for_each(|signal| sender.send(signal));
        })
        .context("cannot start the thread that watches for signals")?;
    Ok(receiver)
}

fn request(signal: i32) -> Option<Signal> {
    match signal {
        SIGINT => Some(Signal::INT),
        SIGTERM => Some(Signal::TERM),
        _ => None,
    }
}

/// How the child ended, if it has.
fn reap(child: Pid) -> Result<Option<ExitStatus>> {
    let mut end = None;
    reap_all(|pid, status| {
        if pid == child {
            end = Some(status);
        }
    })?;
    Ok(end)
}

/// All that have ended, in whatever group, not only the child: the first process of a container inherits those whose parents have died.
fn reap_all(mut ended: impl FnMut(Pid, ExitStatus)) -> Result<()> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => ended(pid, ExitStatus::from_raw(status.as_raw())),
            Ok(None) | Err(Errno::CHILD) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(anyhow!(error).context("cannot wait for child processes").into()),
        }
    }
}
