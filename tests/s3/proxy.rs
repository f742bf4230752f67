//! A proxy that stands between a client and a server and does to answers what networks do to them: it cuts them off,
//! holds them, slows them down, changes a byte. It counts what it lets through.
//!
//! Requests pass unchanged, their Host as well, so a client signs for the proxy's own address.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::relay;

/// For what a test waits for and what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens to the body of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Pass,
    /// The connection ends after so many bytes of it.
    Cut(u64),
    /// Nothing more comes after so many bytes, on a connection that stays open, until `release`.
    Stall(u64),
    /// So many bytes come in a second.
    Slow(u64),
    /// The byte at this offset is another.
    Corrupt(u64),
}

/// Ends with the test, and with it all its connections.
pub(crate) struct Proxy {
    pub(crate) address: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the proxy and its connections know in common.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// By path.
    let_through: BTreeMap<String, u64>,
    /// Both ends of each.
    connections: BTreeMap<u64, [TcpStream; 2]>,
    opened: u64,
    /// Answers that were cut, held or changed.
    struck: u64,
    /// Answers that stall just now, and how often such were released.
    held: usize,
    releases: u64,
    stopped: bool,
}

struct Rule {
    path: String,
    when: When,
    fault: Fault,
}

enum When {
    /// How many more must come before it, and after that never.
    After(Option<u64>),
    /// With this probability, by a generator in this state.
    Chance(f64, u64),
}

impl When {
    fn is_now(&mut self) -> bool {
        match self {
            Self::After(left) => {
                let now = *left == Some(0);
                *left = left.and_then(|left| left.checked_sub(1));
                now
            }
            Self::Chance(probability, state) => random(state) < *probability,
        }
    }
}

/// From 0 to 1: splitmix64.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

impl Proxy {
    /// Before the server at this host and port.
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (listener.local_addr().unwrap().to_string(), Arc::<Shared>::default());
        let (upstream, accepting) = (upstream.to_owned(), shared.clone());
        let serve = move || {
            for client in listener.incoming().map(Result::unwrap) {
                if accepting.state().stopped {
                    return;
                }
                // A client that finds nobody behind the proxy is a client whose connection ends.
                if let Ok(server) = TcpStream::connect(&upstream) {
                    relay::start(client, server, &accepting);
                }
            }
        };
        let thread = Some(Builder::new().name("fault-proxy".into()).spawn(serve).unwrap());
        Self { address, shared, thread }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What happens to the n-th body, from 1 and from now on, that answers a request whose path contains `path`. Of
    /// several rules the first that fits holds.
    pub(crate) fn on(&self, path: &str, nth: u64, fault: Fault) {
        self.rule(path, When::After(Some(nth - 1)), fault);
    }

    /// What happens to such a body with this probability; the same seed gives the same sequence.
    pub(crate) fn sometimes(&self, path: &str, probability: f64, seed: u64, fault: Fault) {
        self.rule(path, When::Chance(probability, seed), fault);
    }

    fn rule(&self, path: &str, when: When, fault: Fault) {
        self.shared.state().rules.push(Rule { path: path.to_owned(), when, fault });
    }

    /// The bytes of bodies that were sent on for paths that contain this one. A client that hangs up has not read the
    /// last of them, which lay in buffers of the kernel.
    pub(crate) fn let_through(&self, path: &str) -> u64 {
        let state = self.shared.state();
        state.let_through.iter().filter(|(found, _)| found.contains(path)).map(|(_, bytes)| bytes).sum()
    }

    /// How many connections it was asked for.
    pub(crate) fn opened(&self) -> u64 {
        self.shared.state().opened
    }

    /// How many answers it has cut, held or changed.
    pub(crate) fn struck(&self) -> u64 {
        self.shared.state().struck
    }

    /// Returns when so many answers stall.
    pub(crate) fn wait_until_stalled(&self, answers: usize) {
        let short = |state: &mut State| state.held < answers;
        let waited = self.shared.changed.wait_timeout_while(self.shared.state(), PATIENCE, short);
        assert!(!waited.unwrap().1.timed_out(), "no {answers} answers stall");
    }

    /// Lets the answers go on that stall.
    pub(crate) fn release(&self) {
        self.shared.state().releases += 1;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        for end in state.connections.values().flatten() {
            let _ = end.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the listener, so that it sees that.
        let woken = TcpStream::connect(&self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Notes a connection, so that it can be ended.
    pub(super) fn open(&self, ends: [TcpStream; 2]) -> u64 {
        let mut state = self.state();
        let id = state.opened;
        state.opened += 1;
        state.connections.insert(id, ends);
        id
    }

    pub(super) fn close(&self, id: u64) {
        for end in self.state().connections.remove(&id).iter().flatten() {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// What is to happen to the next body for this path. Every rule for it sees that body.
    pub(super) fn next_fault(&self, path: &str) -> Fault {
        let mut state = self.state();
        let rules = state.rules.iter_mut().filter(|rule| path.contains(&rule.path));
        let now: Vec<Fault> = rules.filter_map(|rule| rule.when.is_now().then_some(rule.fault)).collect();
        now.first().copied().unwrap_or(Fault::Pass)
    }

    pub(super) fn count(&self, path: &str, bytes: usize) {
        *self.state().let_through.entry(path.to_owned()).or_default() += bytes as u64;
    }

    pub(super) fn strike(&self) {
        self.state().struck += 1;
    }

    /// Waits for `release`.
    pub(super) fn stall(&self) -> io::Result<()> {
        let mut state = self.state();
        state.held += 1;
        self.changed.notify_all();
        let before = state.releases;
        let held = |state: &mut State| state.releases == before && !state.stopped;
        let mut state = self.changed.wait_while(state, held).unwrap();
        state.held -= 1;
        Self::unless_stopped(&state)
    }

    /// Waits so long, and no longer than the proxy is there.
    pub(super) fn pause(&self, time: Duration) -> io::Result<()> {
        let (state, _) = self.changed.wait_timeout_while(self.state(), time, |state| !state.stopped).unwrap();
        Self::unless_stopped(&state)
    }

    fn unless_stopped(state: &State) -> io::Result<()> {
        if state.stopped { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}
