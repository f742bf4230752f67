//! One recording streamed to a file: what a cut connection has brought is kept, and the rest asked for.

use std::fs::File;
use std::io::{Seek, Write};
use std::time::{Duration, Instant};

use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
    LAST_MODIFIED, LOCATION, RANGE,
};
use reqwest::{Method, Response, StatusCode};

use super::outbound::{Outbound, OutboundError, Target, Wait, block_on, patiently, pause};

const MAX_REDIRECTS: usize = 5;
/// Tries in a row that bring nothing new.
const MAX_VAIN_TRIES: u32 = 4;
/// On average, over all connections: there are only so many transfers at a time, and who drips holds up the others.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;

/// A recording that is whole.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub bytes: u64,
    headers: HeaderMap,
}

/// A transfer, over as many connections as it takes.
struct Transfer<'a> {
    outbound: &'a Outbound,
    target: &'a Target,
    max_bytes: u64,
    file: &'a mut File,
    /// What is in the file.
    done: u64,
    /// What has come, that included which was thrown away.
    brought: u64,
    /// What came with the first of it.
    headers: Option<HeaderMap>,
    /// How long it has taken, as of the last look.
    taken: Duration,
    looked: Instant,
}

impl Fetched {
    /// A header that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Outbound {
    /// Streams what is at `target` into an empty file, `max_bytes` at most.
    pub fn fetch(
        &self,
        target: &Target,
        file: &mut File,
        max_bytes: u64,
        wait: &mut Wait,
    ) -> Result<Fetched, OutboundError> {
        let (taken, looked) = (Duration::ZERO, Instant::now());
        let (done, brought, headers) = (0, 0, None);
        let transfer = Transfer { outbound: self, target, max_bytes, file, done, brought, headers, taken, looked };
        block_on(transfer.run(wait))?
    }
}

impl Transfer<'_> {
    async fn run(mut self, wait: &mut Wait<'_>) -> Result<Fetched, OutboundError> {
        let (mut farthest, mut vain) = (0, 0);
        loop {
            let error = match self.go_on(wait).await {
                Ok(()) => return Ok(Fetched { bytes: self.done, headers: self.headers.unwrap_or_default() }),
                Err(error) => error,
            };
            if self.is_too_slow() {
                return Err(too_slow());
            }
            vain = if self.done > farthest { 1 } else { vain + 1 };
            farthest = farthest.max(self.done);
            if vain == MAX_VAIN_TRIES || !error.may_pass() {
                return Err(error);
            }
            if matches!(&error, OutboundError::Refused(answer) if answer.status == 416) {
                // The rest that was asked for is no part of what is there now.
                self.start_over()?;
            }
            tracing::debug!(%error, self.done, "a transfer broke off; going on");
            pause(self.outbound.patience.pause * 2_u32.pow(vain - 1), wait).await?;
        }
    }

    /// Asks for what is not here yet and takes it until the end, or until the connection ends.
    async fn go_on(&mut self, wait: &mut Wait<'_>) -> Result<(), OutboundError> {
        let mut response = self.open(wait).await?;
        let expected = self.begin(&response)?;
        let silence = self.outbound.patience.silence;
        while let Some(piece) = patiently(response.chunk(), silence, wait).await? {
            if self.done + piece.len() as u64 > self.max_bytes {
                return Err(OutboundError::TooLong(None));
            }
            self.file.write_all(&piece).map_err(OutboundError::Write)?;
            self.done += piece.len() as u64;
            self.brought += piece.len() as u64;
            if self.is_too_slow() {
                return Err(too_slow());
            }
        }
        match expected {
            Some(expected) if self.done != expected => {
                Err(OutboundError::BrokenOff(format!("{} of {expected} bytes came", self.done)))
            }
            _ => Ok(()),
        }
    }

    /// The answer that has the file in it, after redirects.
    async fn open(&self, wait: &mut Wait<'_>) -> Result<Response, OutboundError> {
        let mut url = self.target.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request =
                self.outbound.request(Method::GET, self.target, &url)?.header(ACCEPT_ENCODING, "identity");
            if let (1.., Some(validator)) = (self.done, self.validator()) {
                request = request.header(RANGE, format!("bytes={}-", self.done)).header(IF_RANGE, validator);
            }
            let response = patiently(request.send(), self.outbound.patience.silence, wait).await?;
            let location = response.headers().get(LOCATION).filter(|_| is_redirect(response.status()));
            match location.map(|location| location.to_str()) {
                None if response.status().is_success() => return Ok(response),
                None => return Err(OutboundError::Refused(Box::new(self.outbound.answer(response, wait).await?))),
                Some(location) => {
                    let next = location.ok().and_then(|location| url.join(location).ok());
                    url = next.ok_or_else(|| OutboundError::BrokenOff("a redirect leads nowhere".to_owned()))?;
                }
            }
        }
        Err(OutboundError::RedirectedTooOften)
    }

    /// Makes the file fit for what this answer brings; returns how long the file is to be, where that is known.
    fn begin(&mut self, response: &Response) -> Result<Option<u64>, OutboundError> {
        let headers = response.headers();
        if let Some(packed) = headers.get(CONTENT_ENCODING).filter(|packed| is_packed(packed)) {
            return Err(OutboundError::Packed(packed.to_str().unwrap_or("something").to_owned()));
        }
        let range = (response.status() == StatusCode::PARTIAL_CONTENT).then(|| content_range(headers)).flatten();
        let whole = match range {
            // Some servers take no notice of If-Range: the version is compared here too.
            // A part that does not say how long the whole is belongs to what did.
            Some((from, whole)) if from == self.done && self.done > 0 && self.is_same(headers) => {
                whole.or_else(|| self.said_bytes())
            }
            // Not what was asked for: from the beginning then.
            _ if response.status() == StatusCode::PARTIAL_CONTENT => {
                self.start_over()?;
                return Err(OutboundError::BrokenOff("the server sent another part than it was asked for".to_owned()));
            }
            _ => {
                self.start_over()?;
                self.headers = Some(headers.clone());
                response.content_length()
            }
        };
        match whole {
            Some(bytes) if bytes > self.max_bytes => Err(OutboundError::TooLong(whole)),
            _ => Ok(whole),
        }
    }

    fn is_too_slow(&mut self) -> bool {
        // Between two looks no silence lasts longer: beyond that the process was stopped, as Lambda does.
        self.taken += self.looked.elapsed().min(self.outbound.patience.silence);
        self.looked = Instant::now();
        let needed = Duration::from_secs(self.brought / SLOWEST_BYTES_PER_SECOND);
        self.taken > self.outbound.patience.transfer + needed
    }

    fn start_over(&mut self) -> Result<(), OutboundError> {
        self.done = 0;
        self.headers = None;
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(OutboundError::Write)
    }

    /// How long the first answer said that the file is.
    fn said_bytes(&self) -> Option<u64> {
        self.headers.as_ref()?.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    fn is_same(&self, headers: &HeaderMap) -> bool {
        let same = |name| Some(self.headers.as_ref()?.get(&name)? == headers.get(&name)?);
        // The time says something only where there is no ETag: copies of one file may have different ones.
        same(ETAG).or_else(|| same(LAST_MODIFIED)).unwrap_or(true)
    }

    /// What only this version of the file has; without it the parts of two versions could be mixed.
    fn validator(&self) -> Option<&HeaderValue> {
        let headers = self.headers.as_ref()?;
        let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
        strong.or_else(|| headers.get(LAST_MODIFIED))
    }
}

impl OutboundError {
    /// Whether the same request may succeed in a while.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::BrokenOff(_) => true,
            Self::Refused(answer) => matches!(answer.status, 408 | 416 | 425 | 429 | 500..=599),
            _ => false,
        }
    }
}

fn too_slow() -> OutboundError {
    OutboundError::BrokenOff(format!("it comes slower than {} kB/s", SLOWEST_BYTES_PER_SECOND / 1024))
}

/// Whether the bytes are not those of the file. `aws-chunked` is how some uploads were sent: a store that keeps the word has
/// unwrapped the bytes.
fn is_packed(encoding: &HeaderValue) -> bool {
    let plain = |word: &str| ["", "identity", "aws-chunked"].iter().any(|plain| word.eq_ignore_ascii_case(plain));
    !encoding.to_str().is_ok_and(|words| words.split(',').all(|word| plain(word.trim())))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// First byte and length of the whole, from `bytes 100-199/200`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (part, whole) = range.split_once('/')?;
    Some((part.split_once('-')?.0.parse().ok()?, whole.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_the_bytes_is_packed() {
        let packed = |text| is_packed(&HeaderValue::from_static(text));
        assert!(!["", "identity", "Identity", "aws-chunked", "aws-chunked, identity"].map(packed).contains(&true));
        assert!(!["gzip", "GZIP", "aws-chunked, gzip", "br"].map(packed).contains(&false));
    }

    #[test]
    fn the_place_of_a_part_is_read_from_its_header() {
        let read = |text| content_range(&HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static(text))]));
        assert_eq!(read("bytes 100-199/200"), Some((100, Some(200))));
        assert_eq!(read("bytes 0-9/*"), Some((0, None)));
        assert_eq!(read("items 0-9/10"), None);
    }
}
