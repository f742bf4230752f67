//! Lambda's runtime API: hands events to the one function that asks for them, keeps what it answers, and stops its process as
//! soon as it asks for the next.

use std::collections::{HashMap, VecDeque};
use std::io::{BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::scripted::Request;
use crate::support::Whisperq;

/// For what must come.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is looked whether the process is still there.
const LOOK: Duration = Duration::from_secs(1);
/// A time for an invocation that it does not need.
pub(super) const LONG: Duration = Duration::from_secs(300);
const API: &str = "/2018-06-01/runtime/";

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    /// Id, event and time.
    events: VecDeque<(String, Value, Duration)>,
    deadlines: HashMap<String, Instant>,
    outcomes: HashMap<String, Outcome>,
    /// Polls that were not answered yet.
    polls: u32,
    init_error: Option<Value>,
    invocations: u32,
}

/// How an invocation ended.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// What was answered, or the error.
    pub(super) result: Result<Value, Value>,
    /// Time that was left.
    pub(super) left: Duration,
}

/// A function with one instance; it ends with the test.
pub(super) struct Function {
    pub(super) whisperq: Whisperq,
    shared: Arc<Shared>,
    child: Mutex<Child>,
    _log: Option<ChildStderr>,
}

/// How a function ended that could not start.
pub(super) struct Failed {
    pub(super) init_error: Value,
    pub(super) status: ExitStatus,
    pub(super) log: String,
}

impl Function {
    /// An instance that has asked for its first event, and is stopped.
    pub(super) fn start(settings: &[(&str, &str)]) -> Self {
        let function = Self::launch(settings);
        function.wait(|state| state.polls > 0 || state.init_error.is_some());
        assert_eq!(function.shared.state.lock().unwrap().init_error, None);
        function.signal(Signal::STOP);
        function
    }

    /// One that cannot start.
    pub(super) fn fail(settings: &[(&str, &str)]) -> Failed {
        let mut function = Self::launch(settings);
        let mut log = String::new();
        function._log.take().unwrap().read_to_string(&mut log).unwrap();
        let status = function.child.get_mut().unwrap().wait().unwrap();
        let init_error = function.shared.state.lock().unwrap().init_error.clone();
        Failed { init_error: init_error.unwrap_or_else(|| panic!("no init error: {log}")), status, log }
    }

    fn launch(settings: &[(&str, &str)]) -> Self {
        let shared = Arc::<Shared>::default();
        let address = serve(&shared);
        let whisperq = Whisperq::new();
        let mut command = whisperq.command(&[]);
        command
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "whisperq")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "4096")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream-1")
            .env("WORKER_COUNT", "1")
            .env("RUST_LOG", "off")
            .envs(settings.iter().copied())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = child.stderr.take();
        Self { whisperq, shared, child: Mutex::new(child), _log: log }
    }

    /// Wakes the instance for one event, until it has answered and asks for the next.
    pub(super) fn invoke(&self, event: Value, time: Duration) -> Outcome {
        let id = {
            let mut state = self.shared.state.lock().unwrap();
            state.invocations += 1;
            let id = format!("request-{}", state.invocations);
            state.events.push_back((id.clone(), event, time));
            id
        };
        self.shared.moved.notify_all();
        self.signal(Signal::CONT);
        // It has asked for the next when it asks and there is nothing to hand out.
        self.wait(|state| state.outcomes.contains_key(&id) && state.polls > 0);
        self.signal(Signal::STOP);
        self.shared.state.lock().unwrap().outcomes.remove(&id).unwrap()
    }

    /// A request by way of a function URL.
    pub(super) fn request(&self, request: Value, time: Duration) -> Response {
        let outcome = self.invoke(request, time);
        Response::of(&outcome.result.unwrap_or_else(|error| panic!("{error}")), outcome.left)
    }

    /// The same, with as much time as it needs.
    pub(super) fn get(&self, path: &str) -> Response {
        self.request(url_event("GET", path, &[], b""), LONG)
    }

    /// The rows of a question that the function itself is asked.
    pub(super) fn sql(&self, sql: &str) -> Value {
        let body = json!({"sql": sql}).to_string();
        self.request(url_event("POST", "/sql", &[("content-type", "application/json")], body.as_bytes()), LONG).json()
            ["rows"]
            .take()
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock().unwrap();
        while !until(&state) {
            assert!(Instant::now() < deadline, "the function does not answer; polls: {}", state.polls);
            let ended = self.child.lock().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "the function's process has ended");
            state = self.shared.moved.wait_timeout(state, LOOK).unwrap().0;
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.lock().unwrap()), signal).unwrap();
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The address of the API.
fn serve(shared: &Arc<Shared>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shared = shared.clone();
    let serve = move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let shared = shared.clone();
            Builder::new().name("lambda-connection".into()).spawn(move || shared.serve(stream)).unwrap();
        }
    };
    Builder::new().name("lambda-api".into()).spawn(serve).unwrap();
    address
}

impl Shared {
    /// One request: each connection is closed after it.
    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut request = Request::read_head(&mut stream);
        request.read_body(&mut stream);
        let path = request.line.split_once(API).unwrap_or_else(|| panic!("{}", request.line)).1.to_owned();
        let (status, headers, body) = match path.split('/').collect::<Vec<_>>()[..] {
            ["invocation", "next"] => self.hand_out(),
            ["invocation", id, how] => {
                self.keep(id, how == "response", &request.body);
                (202, String::new(), "{}".to_owned())
            }
            ["init", "error"] => {
                self.state.lock().unwrap().init_error = Some(serde_json::from_slice(&request.body).unwrap());
                self.moved.notify_all();
                (202, String::new(), "{}".to_owned())
            }
            _ => panic!("{path}"),
        };
        let length = body.len();
        // A function that was killed does not wait for its answers.
        let _ = write!(
            stream.get_mut(),
            "HTTP/1.1 {status} -\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        );
    }

    fn hand_out(&self) -> (u16, String, String) {
        let mut state = self.state.lock().unwrap();
        state.polls += 1;
        self.moved.notify_all();
        let mut state = self.moved.wait_while(state, |state| state.events.is_empty()).unwrap();
        state.polls -= 1;
        let (id, event, time) = state.events.pop_front().unwrap();
        let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + time;
        state.deadlines.insert(id.clone(), Instant::now() + time);
        let headers = format!(
            "Lambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: {}\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:whisperq\r\n",
            deadline.as_millis()
        );
        (200, headers, event.to_string())
    }

    fn keep(&self, id: &str, is_response: bool, body: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let left = state.deadlines[id].saturating_duration_since(Instant::now());
        let body: Value = serde_json::from_slice(body).unwrap();
        let result = if is_response { Ok(body) } else { Err(body) };
        state.outcomes.insert(id.to_owned(), Outcome { result, left });
        self.moved.notify_all();
    }
}

/// An answer to a request.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u64,
    pub(super) headers: Value,
    pub(super) body: Vec<u8>,
    pub(super) left: Duration,
}

impl Response {
    pub(super) fn of(answer: &Value, left: Duration) -> Self {
        let status = answer["statusCode"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        let body = answer["body"].as_str().unwrap_or_default();
        let body = match answer["isBase64Encoded"] == true {
            true => STANDARD.decode(body).unwrap(),
            false => body.as_bytes().to_vec(),
        };
        let headers = match answer["headers"].as_object().filter(|headers| !headers.is_empty()) {
            Some(_) => answer["headers"].clone(),
            // Of an API Gateway each is a list.
            None => {
                let all = answer["multiValueHeaders"].as_object().cloned().unwrap_or_default();
                all.into_iter().map(|(name, values)| (name, values[0].clone())).collect()
            }
        };
        Self { status, headers, body, left }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

fn split(path: &str) -> (&str, &str) {
    path.split_once('?').unwrap_or((path, ""))
}

fn object(headers: &[(&str, &str)]) -> Value {
    headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

/// What a function URL sends.
pub(super) fn url_event(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Value {
    v2_event("$default", "id.lambda-url.us-east-1.on.aws", method, path, headers, body)
}

/// What an HTTP API of the API Gateway sends; `path` begins with the stage.
pub(super) fn v2_event(
    stage: &str,
    domain: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Value {
    let (path, query) = split(path);
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query, "headers": object(headers),
        "requestContext": {
            "accountId": "anonymous", "apiId": "id", "domainName": domain, "domainPrefix": "id", "requestId": "r",
            "routeKey": "$default", "stage": stage, "time": "24/Nov/2026:12:00:00 +0000", "timeEpoch": 1795521600000_i64,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.1", "userAgent": "t"},
        },
        "body": STANDARD.encode(body), "isBase64Encoded": true,
    })
}

/// What a REST API of the API Gateway sends; `path` is without the stage, which is `prod`.
pub(super) fn v1_event(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Value {
    let (path, query) = split(path);
    let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
    let single: Value = pairs().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    let many: Value = pairs().map(|(name, value)| (name.to_owned(), json!([value]))).collect();
    let many_headers: Value = headers.iter().map(|(name, value)| ((*name).to_owned(), json!([value]))).collect();
    json!({
        "resource": "/{proxy+}", "path": path, "httpMethod": method, "headers": object(headers),
        "multiValueHeaders": many_headers, "queryStringParameters": single, "multiValueQueryStringParameters": many,
        "pathParameters": {"proxy": path.trim_start_matches('/')}, "stageVariables": null,
        "requestContext": {
            "accountId": "123456789012", "resourceId": "x", "stage": "prod", "requestId": "r", "identity": {"sourceIp": "203.0.113.1"},
            "resourcePath": "/{proxy+}", "httpMethod": method, "apiId": "id", "protocol": "HTTP/1.1",
            "path": format!("/prod{path}"), "domainName": "id.execute-api.us-east-1.amazonaws.com",
        },
        "body": STANDARD.encode(body), "isBase64Encoded": true,
    })
}

/// What a load balancer sends.
pub(super) fn alb_event(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Value {
    let (path, query) = split(path);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query: Value = pairs.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    json!({
        "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/t/1"}},
        "httpMethod": method, "path": path, "queryStringParameters": query, "headers": object(headers),
        "body": STANDARD.encode(body), "isBase64Encoded": true,
    })
}
