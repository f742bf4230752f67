//! One connection through the fault proxy: a thread for the requests, which pass, and one for the answers, to whose
//! bodies things happen. Two, because a client may wait for the word of a server in the middle of its request.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use super::proxy::{Fault, Shared};
use super::wire::{self, Framing, Head, Sink};

/// How often a slow answer sends something.
const SLOW_BLOCKS_PER_SECOND: u64 = 20;

/// What of a request decides about its answer.
struct Asked {
    method: String,
    path: String,
}

pub(super) fn start(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    // Heads and blocks are to leave as they come.
    client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).unwrap();
    let id = shared.open([client.try_clone().unwrap(), server.try_clone().unwrap()]);
    let (ask, asked) = channel();
    let (from_client, to_server) = (BufReader::new(client.try_clone().unwrap()), server.try_clone().unwrap());
    let requests = move || {
        let _ = pass_requests(from_client, &to_server, &ask);
        // The server may still be answering what came.
        let _ = to_server.shutdown(Shutdown::Write);
    };
    let (from_server, shared) = (BufReader::new(server), shared.clone());
    let answers = move || {
        let _ = pass_answers(from_server, &client, &asked, &shared);
        shared.close(id);
    };
    Builder::new().name("fault-proxy-requests".into()).spawn(requests).unwrap();
    Builder::new().name("fault-proxy-answers".into()).spawn(answers).unwrap();
}

fn pass_requests(mut client: impl BufRead, mut server: &TcpStream, ask: &Sender<Asked>) -> io::Result<()> {
    while let Some(head) = Head::read(&mut client)? {
        let path = head.word(1).split('?').next().unwrap_or_default().to_owned();
        // Before the server can answer it.
        if ask.send(Asked { method: head.word(0), path }).is_err() {
            return Ok(());
        }
        server.write_all(&head.bytes)?;
        wire::copy(&mut client, head.request_framing(), &mut Passing(server))?;
    }
    Ok(())
}

fn pass_answers(
    mut server: impl BufRead,
    mut client: &TcpStream,
    asked: &Receiver<Asked>,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(head) = Head::read(&mut server)? {
        client.write_all(&head.bytes)?;
        // "Continue" and the like come before the answer.
        if (100..200).contains(&head.status()) {
            continue;
        }
        let Ok(Asked { method, path }) = asked.recv() else { return Ok(()) };
        let framing = head.answer_framing(&method);
        if framing == Framing::Length(0) {
            continue;
        }
        let fault = shared.next_fault(&path);
        wire::copy(&mut server, framing, &mut Faulty { client, path, fault, at: 0, shared })?;
        if framing == Framing::Open {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends on what it is given.
struct Passing<'a>(&'a TcpStream);

impl Sink for Passing<'_> {
    fn payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn around(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

/// Sends an answer's body on as its fault says.
struct Faulty<'a> {
    client: &'a TcpStream,
    path: String,
    fault: Fault,
    /// How many bytes it has sent.
    at: u64,
    shared: &'a Shared,
}

impl Faulty<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Before they are sent, so that a client that has them can count on it.
        self.shared.count(&self.path, bytes.len());
        self.at += bytes.len() as u64;
        self.client.write_all(bytes)
    }

    fn send_slowly(&mut self, bytes: &[u8], bytes_per_second: u64) -> io::Result<()> {
        let block = bytes_per_second.div_ceil(SLOW_BLOCKS_PER_SECOND);
        for bytes in bytes.chunks(block as usize) {
            self.send(bytes)?;
            self.shared.pause(Duration::from_secs_f64(bytes.len() as f64 / bytes_per_second as f64))?;
        }
        Ok(())
    }

    /// Where among these next bytes the offset lies.
    fn within(&self, bytes: &[u8], offset: u64) -> Option<usize> {
        let place = usize::try_from(offset.checked_sub(self.at)?).ok()?;
        (place < bytes.len()).then_some(place)
    }
}

impl Sink for Faulty<'_> {
    fn payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        let place = match self.fault {
            Fault::Pass => None,
            Fault::Slow(bytes_per_second) => return self.send_slowly(bytes, bytes_per_second),
            Fault::Cut(offset) | Fault::Stall(offset) | Fault::Corrupt(offset) => self.within(bytes, offset),
        };
        let Some(place) = place else { return self.send(bytes) };
        self.shared.strike();
        let (before, after) = bytes.split_at(place);
        self.send(before)?;
        match self.fault {
            Fault::Cut(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Fault::Stall(_) => self.shared.stall()?,
            _ => return self.send(&[&[after[0] ^ 1], &after[1..]].concat()),
        }
        // It stalls once, also where nothing was sent since.
        self.fault = Fault::Pass;
        self.send(after)
    }

    fn around(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.write_all(bytes)
    }
}
