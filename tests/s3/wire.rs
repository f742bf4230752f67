//! HTTP/1.1 as the fault proxy sees it: heads, which it passes on byte for byte, and where bodies end.

use std::io::{self, BufRead};

/// A head as it came, the empty line with it.
pub(super) struct Head {
    pub(super) bytes: Vec<u8>,
}

/// Where a body ends.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    /// With the connection.
    Open,
}

/// What takes the bytes of a body: its payload, and what stands around the chunks of one.
pub(super) trait Sink {
    fn payload(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn around(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Head {
    /// Nothing where the connection has ended.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            if from.read_until(b'\n', &mut bytes)? == 0 {
                return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
        Ok(Some(Self { bytes }))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The words of the first line.
    pub(super) fn word(&self, position: usize) -> String {
        self.text().lines().next().and_then(|line| line.split(' ').nth(position)).unwrap_or_default().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let mut headers = text.lines().filter_map(|line| line.split_once(':'));
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    }

    pub(super) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// Of a request; without a length it has no body.
    pub(super) fn request_framing(&self) -> Framing {
        self.declared().unwrap_or(Framing::Length(0))
    }

    /// Of the answer to a request with this method.
    pub(super) fn answer_framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status(), 204 | 304) {
            return Framing::Length(0);
        }
        self.declared().unwrap_or(Framing::Open)
    }

    fn declared(&self) -> Option<Framing> {
        if self.header("transfer-encoding").is_some_and(|codings| codings.eq_ignore_ascii_case("chunked")) {
            return Some(Framing::Chunked);
        }
        Some(Framing::Length(self.header("content-length")?.parse().ok()?))
    }
}

/// Hands a body over in the pieces in which it comes.
pub(super) fn copy(from: &mut impl BufRead, framing: Framing, to: &mut impl Sink) -> io::Result<()> {
    match framing {
        Framing::Length(length) => copy_exactly(from, length, to),
        Framing::Chunked => copy_chunks(from, to),
        Framing::Open => copy_some(from, u64::MAX, to).map(|_| ()),
    }
}

fn copy_exactly(from: &mut impl BufRead, length: u64, to: &mut impl Sink) -> io::Result<()> {
    let copied = copy_some(from, length, to)?;
    if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Up to `most` bytes; fewer where the connection ends before.
fn copy_some(from: &mut impl BufRead, most: u64, to: &mut impl Sink) -> io::Result<u64> {
    let mut copied = 0;
    while copied < most {
        let bytes = from.fill_buf()?;
        let bytes = &bytes[..bytes.len().min(usize::try_from(most - copied).unwrap_or(usize::MAX))];
        if bytes.is_empty() {
            break;
        }
        to.payload(bytes)?;
        let length = bytes.len();
        from.consume(length);
        copied += length as u64;
    }
    Ok(copied)
}

fn copy_chunks(from: &mut impl BufRead, to: &mut impl Sink) -> io::Result<()> {
    loop {
        let line = line(from)?;
        to.around(&line)?;
        let text = String::from_utf8_lossy(&line);
        let size = text.split([';', '\r']).next().and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
        match size.ok_or(io::ErrorKind::InvalidData)? {
            0 => return copy_trailers(from, to),
            size => copy_exactly(from, size, to)?,
        }
        to.around(&self::line(from)?)?;
    }
}

fn copy_trailers(from: &mut impl BufRead, to: &mut impl Sink) -> io::Result<()> {
    loop {
        let line = line(from)?;
        to.around(&line)?;
        if line == b"\r\n" {
            return Ok(());
        }
    }
}

fn line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
