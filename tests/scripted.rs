//! A server for the tests of clients: it answers what a function says, one connection after the other, and keeps what it
//! was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and target, such as `GET /jobs?limit=1`.
    pub(crate) line: String,
    /// In lower case.
    headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn read_head(stream: &mut impl BufRead) -> Self {
        let head: Vec<String> = stream.lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let line = head[0].trim_end_matches(" HTTP/1.1").to_owned();
        // Names alone would do in lower case, but keys and types of the tests are in lower case as well.
        Self { line, headers: head[1..].iter().map(|line| line.to_lowercase()).collect(), body: Vec::new() }
    }

    fn read_body(&mut self, stream: &mut impl Read) {
        let length = self.header("content-length").map_or(0, |length| length.parse().unwrap());
        self.body = vec![0; length];
        stream.read_exact(&mut self.body).unwrap();
    }
}

pub(crate) struct Answer {
    status: u16,
    headers: String,
    body: String,
    early: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        Self { status, headers: String::new(), body: body.to_owned(), early: false }
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, &serde_json::json!({"error": {"code": code, "message": message}}).to_string())
    }

    pub(crate) fn with(mut self, header: &str) -> Self {
        self.headers = format!("{header}\r\n");
        self
    }

    /// Comes before the body of the request was read, as from a server that refuses by the head alone.
    pub(crate) fn early(mut self) -> Self {
        self.early = true;
        self
    }

    fn write(&self, stream: &mut impl Write) {
        let Self { status, headers, body, .. } = self;
        let head =
            format!("HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
        // A client that was told to stop does not wait for its answers.
        let _ = stream.write_all((head + body).as_bytes());
    }
}

/// Ends with the test.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(mut answer: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, stopped) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::new(AtomicBool::new(false)));
        let (requests, stop) = (asked.clone(), stopped.clone());
        let serve = move || {
            for stream in listener.incoming().map(Result::unwrap) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = BufReader::new(stream);
                let mut request = Request::read_head(&mut stream);
                let answer = answer(&request);
                if !answer.early {
                    request.read_body(&mut stream);
                }
                // Before the answer, so that a client that has it can count on it.
                requests.lock().unwrap().push(request);
                answer.write(stream.get_mut());
                if answer.early {
                    // A connection that is closed with bytes unread takes the answer with it.
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
            }
        };
        let thread = std::thread::Builder::new().name("scripted-server".into()).spawn(serve).unwrap();
        Self { url, asked, stopped, thread: Some(thread) }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
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
