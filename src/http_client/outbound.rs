//! Requests to places that users name, or that hold what users asked for: one at a time, guarded, patient with slow servers and
//! given up when the work behind them is.

use std::error::Error as StdError;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use tokio::runtime::{Builder, Runtime};

use super::guard::{Forbidden, PublicOnly, check};
use super::{CONNECT_TIMEOUT, USER_AGENT, innermost, install_provider};
use crate::error::{Error, Result};

/// How often whoever waits is asked whether to go on.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// What is kept of an answer that is only looked at; an error in XML is a few hundred bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);
/// A slower upload than this is given up.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;

/// Called again and again while a transfer goes on or stands still; its error ends it.
pub type Wait<'a> = dyn FnMut() -> Result<()> + 'a;

/// Where a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To addresses on the public internet, unless ALLOW_PRIVATE_URLS permits others.
    Public,
    /// Also to the operator's own network: he chose the address himself.
    Anywhere,
}

/// One address and what is sent along with every request to it.
#[derive(Clone)]
pub struct Target {
    pub url: Url,
    pub headers: Vec<(String, String)>,
    pub reach: Reach,
}

/// What a server said.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub(super) headers: HeaderMap,
    /// The beginning of it.
    pub body: String,
}

/// Why a request came to nothing. No variant names the address, which may hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address guard forbids it.
    #[error("{0}")]
    Forbidden(String),
    /// No connection.
    #[error("{0}")]
    Unreachable(String),
    /// The connection ended or fell silent before the answer was here.
    #[error("{0}")]
    BrokenOff(String),
    /// An answer, but not the one that was asked for.
    #[error("the server answered {}", .0.status)]
    Refused(Box<Answer>),
    #[error("it was redirected too often")]
    RedirectedTooOften,
    /// The body is packed, which an audio file has no reason to be.
    #[error("the server sends it as {0}")]
    Packed(String),
    /// It is longer than allowed; the length is there where the server said it beforehand.
    #[error("it is too long")]
    TooLong(Option<u64>),
    #[error("cannot read the file: {0}")]
    Read(#[source] std::io::Error),
    #[error("cannot write the file: {0}")]
    Write(#[source] std::io::Error),
    /// Whoever waited for it has given up.
    #[error("{0}")]
    Stopped(#[source] Error),
}

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the next byte.
    pub silence: Duration,
    /// Before the second try; each further one waits twice as long.
    pub pause: Duration,
    /// How long a transfer may take beyond what its length needs at the slowest rate allowed.
    pub transfer: Duration,
}

/// The client; clones share its connections.
#[derive(Clone)]
pub struct Outbound {
    clients: Arc<Clients>,
    public_only: bool,
    pub(super) patience: Patience,
}

/// Made when they are first needed: each reads all certificates that the system trusts, which takes longer than a small
/// recording takes to decode, and a machine without any can work on its own files.
#[derive(Default)]
struct Clients {
    public: OnceLock<Client>,
    anywhere: OnceLock<Client>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(30), pause: Duration::from_millis(500), transfer: Duration::from_secs(60) }
    }
}

impl Answer {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Outbound {
    pub fn new(allow_private: bool, patience: Patience) -> Self {
        Self { clients: Arc::default(), public_only: !allow_private, patience }
    }

    /// Whether a request to this address would be tried; what its name resolves to is seen only then.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn check(&self, url: &Url) -> Result<(), OutboundError> {
        check(url, self.public_only).map_err(|forbidden| OutboundError::Forbidden(forbidden.to_string()))
    }

    /// Sends a body with PUT and returns whatever is answered.
    pub fn put(&self, target: &Target, body: Vec<u8>, wait: &mut Wait) -> Result<Answer, OutboundError> {
        self.send(Method::PUT, target, body, wait)
    }

    /// Sends a file with PUT, read from the disk as it is sent.
    pub fn put_file(&self, target: &Target, file: &Path) -> Result<Answer, OutboundError> {
        let wait: &mut Wait = &mut || Ok(());
        block_on(async {
            let file = tokio::fs::File::open(file).await.map_err(OutboundError::Read)?;
            let bytes = file.metadata().await.map_err(OutboundError::Read)?.len();
            let silence = self.patience.silence + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
            // S3 wants to know the length beforehand.
            let request = self.request(Method::PUT, target, &target.url)?.header(CONTENT_LENGTH, bytes).body(file);
            let response = patiently(request.send(), silence, wait).await?;
            self.answer(response, wait).await
        })?
    }

    /// The same with POST.
    pub fn post(&self, target: &Target, body: Vec<u8>, wait: &mut Wait) -> Result<Answer, OutboundError> {
        self.send(Method::POST, target, body, wait)
    }

    fn send(&self, method: Method, target: &Target, body: Vec<u8>, wait: &mut Wait) -> Result<Answer, OutboundError> {
        let silence = self.patience.silence + Duration::from_secs(body.len() as u64 / SLOWEST_BYTES_PER_SECOND);
        block_on(async {
            let request = self.request(method, target, &target.url)?.body(body);
            let response = patiently(request.send(), silence, wait).await?;
            self.answer(response, wait).await
        })?
    }

    pub(super) fn request(&self, method: Method, target: &Target, url: &Url) -> Result<RequestBuilder, OutboundError> {
        // What a trusted address redirects to is not trusted for that.
        let is_own = *url == target.url;
        let trusted = target.reach == Reach::Anywhere && url.origin() == target.url.origin();
        if !trusted {
            self.check(url)?;
        }
        let request = self.client(trusted)?.request(method, url.clone());
        let headers = target.headers.iter().filter(|_| is_own);
        Ok(headers.fold(request, |request, (name, value)| request.header(name, value)))
    }

    fn client(&self, trusted: bool) -> Result<&Client, OutboundError> {
        let made = if trusted { &self.clients.anywhere } else { &self.clients.public };
        if let Some(client) = made.get() {
            return Ok(client);
        }
        install_provider();
        let guarded = self.public_only && !trusted;
        let settings = if guarded { settings().dns_resolver(PublicOnly).no_proxy() } else { settings() };
        let client = settings.build().map_err(|error| {
            let reason = innermost(&error);
            OutboundError::Unreachable(format!("no HTTP client, {reason}: are ca-certificates installed?"))
        })?;
        Ok(made.get_or_init(|| client))
    }

    /// Reads the beginning of what was answered, unless that is a yes, and not for long: a server that drips would hold up
    /// everyone else.
    pub(super) async fn answer(&self, mut response: Response, wait: &mut Wait<'_>) -> Result<Answer, OutboundError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let until = Instant::now() + MAX_ANSWER_TIME.min(self.patience.silence);
        let mut body = Vec::new();
        while !status.is_success() && body.len() < MAX_ANSWER_BYTES {
            let left = until.saturating_duration_since(Instant::now());
            match patiently(response.chunk(), left, wait).await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Err(error @ OutboundError::Stopped(_)) => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        body.truncate(MAX_ANSWER_BYTES);
        Ok(Answer { status: status.as_u16(), headers, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

/// Redirects are followed by hand, so that each one is checked.
fn settings() -> reqwest::ClientBuilder {
    Client::builder().user_agent(USER_AGENT).connect_timeout(CONNECT_TIMEOUT).redirect(Policy::none())
}

/// Waits on this thread for what is done on those of the clients, which live as long as the process.
///
/// # Errors
/// `Internal` where the system has no thread left.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let start = || {
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("outbound").enable_all().build();
        runtime.map_err(|error| error.to_string())
    };
    let runtime = RUNTIME.get_or_init(start).as_ref();
    let runtime = runtime.map_err(|error| anyhow::anyhow!("cannot start the threads of the HTTP client: {error}"))?;
    Ok(runtime.block_on(work))
}

/// Waits for what the other side does next, but not through a long silence, and not for anyone who has given up.
pub(super) async fn patiently<T>(
    next: impl Future<Output = reqwest::Result<T>>,
    silence: Duration,
    wait: &mut Wait<'_>,
) -> Result<T, OutboundError> {
    let mut next = pin!(next);
    let since = Instant::now();
    loop {
        let done = tokio::time::timeout(TICK.min(silence), &mut next).await;
        wait().map_err(OutboundError::Stopped)?;
        match done {
            Ok(done) => return done.map_err(|error| failed(&error)),
            Err(_) if since.elapsed() >= silence => {
                return Err(OutboundError::BrokenOff(format!("nothing came for {} s", silence.as_secs_f32())));
            }
            Err(_) => {}
        }
    }
}

/// Lets time pass.
pub(super) async fn pause(length: Duration, wait: &mut Wait<'_>) -> Result<(), OutboundError> {
    let until = Instant::now() + length;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        tokio::time::sleep(left.min(TICK)).await;
        wait().map_err(OutboundError::Stopped)?;
    }
    Ok(())
}

pub(super) fn failed(error: &reqwest::Error) -> OutboundError {
    let causes = std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| (*error).source());
    if let Some(forbidden) = causes.filter_map(|cause| cause.downcast_ref::<Forbidden>()).next() {
        return OutboundError::Forbidden(forbidden.to_string());
    }
    let reason = innermost(error);
    if error.is_connect() || error.is_timeout() {
        OutboundError::Unreachable(reason)
    } else {
        OutboundError::BrokenOff(reason)
    }
}

impl From<Error> for OutboundError {
    fn from(error: Error) -> Self {
        Self::Stopped(error)
    }
}
