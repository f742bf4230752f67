//! RunPod's queue as a worker meets it: hands out what a test has put in, answers posts as told, and keeps what was asked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::Builder;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scripted::{Request, nobody};

/// For what a test waits for and what must come.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a poll is held back without news.
const HOLD: Duration = Duration::from_secs(2);

/// Ends with the process of the tests.
pub(crate) struct Platform {
    pub(crate) url: String,
    /// Where nobody listens until another is started there.
    pub(crate) away: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Status and body of the answers to come.
    takes: VecDeque<(u16, String)>,
    stops: VecDeque<String>,
    /// Statuses for posts of results; 0 for an answer that never comes, 200 when there are none.
    posts: VecDeque<u16>,
    seen: Vec<Request>,
    /// Whether the answer to progress waits for a result, which is how a worker shows that it does not wait for it.
    holds_progress: bool,
    /// Whether a poll without news is held back for long.
    holds_takes: bool,
    /// A result came while progress was unanswered.
    overtaken: bool,
    waiting_progress: usize,
    /// The bodies of results that were answered with 200, under the names of their jobs.
    accepted: Vec<(String, Value)>,
}

impl Platform {
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Where nobody listened before.
    pub(crate) fn start_on(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::<Shared>::default();
        let platform = Self { url, away: nobody(), shared: shared.clone() };
        let serve = move || {
            for stream in listener.incoming().map(Result::unwrap) {
                let shared = shared.clone();
                Builder::new().name("runpod-connection".into()).spawn(move || shared.serve(stream)).unwrap();
            }
        };
        Builder::new().name("runpod-platform".into()).spawn(serve).unwrap();
        platform
    }

    /// The environment of a worker in the cloud.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let at = |path: &str| format!("{}/v2/e/{path}?gpu=$RUNPOD_GPU_TYPE_ID", self.url);
        vec![
            ("RUNPOD_WEBHOOK_GET_JOB", at("job-take/$ID")),
            ("RUNPOD_WEBHOOK_POST_OUTPUT", at("job-done/$RUNPOD_POD_ID/$ID")),
            ("RUNPOD_WEBHOOK_POST_STREAM", at("job-stream/$RUNPOD_POD_ID/$ID")),
            ("RUNPOD_WEBHOOK_PING", at("ping/$RUNPOD_POD_ID")),
            ("RUNPOD_PING_INTERVAL", "200".to_owned()),
            ("RUNPOD_POD_ID", "pod1".to_owned()),
            ("RUNPOD_POD_HOSTNAME", "host1".to_owned()),
            ("RUNPOD_GPU_TYPE_ID", "NVIDIA A40".to_owned()),
            ("RUNPOD_AI_API_KEY", "rpa_key".to_owned()),
        ]
    }

    /// The next answer to a worker that takes.
    pub(crate) fn answer_take(&self, status: u16, body: &str) {
        self.change(|state| state.takes.push_back((status, body.to_owned())));
    }

    pub(crate) fn hand_out(&self, job: &Value) {
        self.answer_take(200, &job.to_string());
    }

    /// The next answers to posted results.
    pub(crate) fn answer_posts(&self, statuses: &[u16]) {
        self.change(|state| state.posts.extend(statuses));
    }

    /// From now on progress is answered late.
    pub(crate) fn hold_progress(&self) {
        self.change(|state| state.holds_progress = true);
    }

    /// From now on a poll is answered when there is a job, and not before.
    pub(crate) fn hold_takes(&self) {
        self.change(|state| state.holds_takes = true);
    }

    pub(crate) fn was_overtaken(&self) -> bool {
        self.shared.state.lock().unwrap().overtaken
    }

    /// Answers to takes that nobody came for.
    pub(crate) fn left(&self) -> usize {
        self.shared.state.lock().unwrap().takes.len()
    }

    /// Results that were accepted so far.
    pub(crate) fn accepted(&self) -> Vec<(String, Value)> {
        self.shared.state.lock().unwrap().accepted.clone()
    }

    pub(crate) fn stop(&self, job_id: &str) {
        self.change(|state| state.stops.push_back(json!({"jobsToStop": [job_id]}).to_string()));
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock().unwrap());
        self.shared.moved.notify_all();
    }

    /// The first request that is as told, waited for.
    #[track_caller]
    pub(crate) fn asked(&self, is: impl Fn(&Request) -> bool) -> Request {
        self.asked_nth(0, is)
    }

    #[track_caller]
    pub(crate) fn asked_nth(&self, n: usize, is: impl Fn(&Request) -> bool) -> Request {
        self.wait(|state| state.seen.iter().filter(|request| is(request)).nth(n).cloned())
    }

    /// Results that were accepted, once there are so many: name of the job and body.
    #[track_caller]
    pub(crate) fn results(&self, count: usize) -> Vec<(String, Value)> {
        self.wait(|state| (state.accepted.len() >= count).then(|| state.accepted.clone()))
    }

    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        self.results(1).remove(0).1
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.shared.state.lock().unwrap().seen.clone()
    }

    #[track_caller]
    fn wait<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        let state = self.shared.state.lock().unwrap();
        let without = |state: &mut State| look(state).is_none();
        let (state, waited) = self.shared.moved.wait_timeout_while(state, PATIENCE, without).unwrap();
        let lines: Vec<&str> = state.seen.iter().map(|request| request.line.as_str()).collect();
        assert!(!waited.timed_out(), "it did not come; these did: {lines:#?}");
        look(&state).unwrap()
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        if !stream.fill_buf().is_ok_and(|begun| !begun.is_empty()) {
            // A worker that was killed had only connected.
            return;
        }
        let mut request = Request::read_head(&mut stream);
        request.read_body(&mut stream);
        let answer = self.answer(&request, stream.get_ref());
        let Some((status, body)) = answer else {
            // Until the other side has gone.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
            return;
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        // A worker that ended does not wait for its polls.
        let _ = stream.get_mut().write_all(format!("{head}{body}").as_bytes());
    }

    fn answer(&self, request: &Request, asker: &TcpStream) -> Option<(u16, String)> {
        let mut state = self.state.lock().unwrap();
        state.seen.push(request.clone());
        self.moved.notify_all();
        if is_take(request) {
            let hold = if state.holds_takes { PATIENCE } else { HOLD };
            let mut state = self.held_for(hold, state, |state| state.takes.is_empty())?;
            // A worker that has ended gets no job.
            let job = if is_open(asker) { state.takes.pop_front() } else { None };
            return Some(job.unwrap_or((204, String::new())));
        }
        if is_stop(request) {
            let stops = self.held(state, |state| state.stops.is_empty());
            let body = stops.and_then(|mut state| state.stops.pop_front());
            return Some(body.map_or((204, String::new()), |body| (200, body)));
        }
        if is_progress(request) && state.holds_progress {
            state.overtaken |= state.seen.iter().any(is_result);
            state.waiting_progress += 1;
            let mut state = self.held(state, |state| !state.seen.iter().any(is_result))?;
            state.waiting_progress -= 1;
            return Some((200, String::new()));
        }
        if is_result(request) {
            state.overtaken |= state.waiting_progress > 0;
            let status = state.posts.pop_front().unwrap_or(200);
            if status == 200 {
                state.accepted.push((job_of(request), body(request)));
                self.moved.notify_all();
            }
            return (status > 0).then(|| (status, String::new()));
        }
        Some((200, String::new()))
    }

    fn held<'a>(
        &self,
        state: std::sync::MutexGuard<'a, State>,
        without: impl Fn(&State) -> bool,
    ) -> Option<std::sync::MutexGuard<'a, State>> {
        self.held_for(HOLD, state, without)
    }

    fn held_for<'a>(
        &self,
        most: Duration,
        state: std::sync::MutexGuard<'a, State>,
        without: impl Fn(&State) -> bool,
    ) -> Option<std::sync::MutexGuard<'a, State>> {
        Some(self.moved.wait_timeout_while(state, most, |state| without(state)).unwrap().0)
    }
}

/// Whether the other side has not gone.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

pub(crate) fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap_or_else(|error| panic!("{error}: {request:?}"))
}

/// The job that a message is about.
pub(crate) fn job_of(request: &Request) -> String {
    let path = request.line.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().replace("%2F", "/")
}

pub(crate) fn is_stop(request: &Request) -> bool {
    request.line.contains("/job-stop/")
}

pub(crate) fn is_stream(request: &Request) -> bool {
    request.line.contains("/job-stream/")
}

pub(crate) fn is_take(request: &Request) -> bool {
    request.line.contains("/job-take/") || request.line.contains("/job-take-batch/")
}

pub(crate) fn is_ping(request: &Request) -> bool {
    request.line.contains("/ping/")
}

pub(crate) fn is_progress(request: &Request) -> bool {
    request.line.contains("/job-done/") && body(request)["status"] == "IN_PROGRESS"
}

pub(crate) fn is_result(request: &Request) -> bool {
    request.line.contains("/job-done/") && !is_progress(request)
}
