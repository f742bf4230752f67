//! A server for the tests of clients: it answers what a function says, each connection in a thread of its own, and
//! keeps what it was asked.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// For a request that a test waits for and that must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of a repeated byte is written at once.
const BLOCK_BYTES: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and target, such as `GET /jobs?limit=1`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn read_head(stream: &mut impl BufRead) -> Self {
        let head: Vec<String> = stream.lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let line = head[0].trim_end_matches(" HTTP/1.1").to_owned();
        let headers = head[1..].iter().filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        Self { line, headers, body: Vec::new() }
    }

    pub(crate) fn read_body(&mut self, stream: &mut impl Read) {
        let length = self.header("content-length").map_or(0, |length| length.parse().unwrap());
        self.body = vec![0; length];
        stream.read_exact(&mut self.body).unwrap();
    }
}

pub(crate) struct Answer {
    status: u16,
    headers: String,
    /// Over and over, until so many bytes are sent.
    body: Vec<u8>,
    sent_bytes: u64,
    /// Without it the body ends with the connection.
    declared_bytes: Option<u64>,
    early: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self::with_body(status, body.as_bytes().to_vec())
    }

    pub(crate) fn with_body(status: u16, body: Vec<u8>) -> Self {
        let bytes = body.len() as u64;
        Self { status, headers: String::new(), body, sent_bytes: bytes, declared_bytes: Some(bytes), early: false }
    }

    /// The same byte so often; `u64::MAX` for without end.
    pub(crate) fn repeated(status: u16, byte: u8, bytes: u64) -> Self {
        Self::over_and_over(status, vec![byte; BLOCK_BYTES], bytes)
    }

    /// The same again and again, until so many bytes are sent.
    pub(crate) fn over_and_over(status: u16, body: Vec<u8>, bytes: u64) -> Self {
        Self { sent_bytes: bytes, declared_bytes: Some(bytes), ..Self::with_body(status, body) }
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, &serde_json::json!({"error": {"code": code, "message": message}}).to_string())
    }

    pub(crate) fn with(mut self, header: &str) -> Self {
        self.headers += &format!("{header}\r\n");
        self
    }

    /// Does not say how long the body is.
    pub(crate) fn undeclared(mut self) -> Self {
        self.declared_bytes = None;
        self
    }

    /// Says that the body has so many bytes, whatever it has.
    pub(crate) fn declared(mut self, bytes: u64) -> Self {
        self.declared_bytes = Some(bytes);
        self
    }

    /// The same body over and over, without end and without a length.
    pub(crate) fn endless(self) -> Self {
        Self { sent_bytes: u64::MAX, declared_bytes: None, ..self }
    }

    /// Breaks off after so many bytes of the body.
    pub(crate) fn cut(mut self, bytes: u64) -> Self {
        self.sent_bytes = bytes.min(self.sent_bytes);
        self
    }

    /// Comes before the body of the request was read, as from a server that refuses by the head alone.
    pub(crate) fn early(mut self) -> Self {
        self.early = true;
        self
    }

    fn write(&self, stream: &mut impl Write, stopped: &AtomicBool) -> io::Result<()> {
        let Self { status, headers, .. } = self;
        let length = self.declared_bytes.map(|bytes| format!("content-length: {bytes}\r\n")).unwrap_or_default();
        write!(stream, "HTTP/1.1 {status} -\r\n{length}connection: close\r\n{headers}\r\n")?;
        let mut left = self.sent_bytes;
        while left > 0 && !stopped.load(Ordering::SeqCst) {
            let block = &self.body[..self.body.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            stream.write_all(block)?;
            left -= block.len() as u64;
        }
        Ok(())
    }
}

/// Ends with the test.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Asked>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Asked {
    requests: Mutex<Vec<Request>>,
    more: Condvar,
}

/// What all connections share. The function is asked about one request at a time, and before their bodies are read.
struct Service<F> {
    answer: Mutex<F>,
    asked: Arc<Asked>,
    stopped: Arc<AtomicBool>,
}

impl<F: FnMut(&Request) -> Answer> Service<F> {
    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut request = Request::read_head(&mut stream);
        let answer = (self.answer.lock().unwrap())(&request);
        if !answer.early {
            request.read_body(&mut stream);
        }
        // Before the answer, so that a client that has it can count on it.
        self.asked.requests.lock().unwrap().push(request);
        self.asked.more.notify_all();
        // A client that was told to stop does not wait for its answers.
        let _ = answer.write(stream.get_mut(), &self.stopped);
        if answer.early {
            // A connection that is closed with bytes unread takes the answer with it.
            let _ = io::copy(&mut stream, &mut io::sink());
        }
    }
}

impl Server {
    pub(crate) fn start(answer: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        Self::start_on("127.0.0.1:0", answer)
    }

    /// Where nobody listens.
    pub(crate) fn start_on(address: &str, answer: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, stopped) = (Arc::<Asked>::default(), Arc::new(AtomicBool::new(false)));
        let service = Service { answer: Mutex::new(answer), asked: asked.clone(), stopped: stopped.clone() };
        let service = Arc::new(service);
        let serve = move || {
            for stream in listener.incoming().map(Result::unwrap) {
                if service.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let service = service.clone();
                let connection = move || service.serve(stream);
                Builder::new().name("scripted-connection".into()).spawn(connection).unwrap();
            }
        };
        let thread = Builder::new().name("scripted-server".into()).spawn(serve).unwrap();
        Self { url, asked, stopped, thread: Some(thread) }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.requests.lock().unwrap().clone()
    }

    /// What was asked, once it is so many requests.
    pub(crate) fn asked_when(&self, requests: usize) -> Vec<Request> {
        let few = |asked: &mut Vec<Request>| asked.len() < requests;
        let asked = self.asked.requests.lock().unwrap();
        let (asked, waited) = self.asked.more.wait_timeout_while(asked, PATIENCE, few).unwrap();
        assert!(!waited.timed_out(), "{} of {requests} requests came: {asked:?}", asked.len());
        asked.clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|request| request.line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes it, so that it sees that.
        let woken = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}
