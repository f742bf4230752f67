//! Recordings from S3 and from anywhere, transcripts to S3, and word of it: with a real server that speaks S3, the
//! library that most users have, and a proxy between that makes trouble.

mod bad_inputs;
mod bad_places;
pub(crate) mod boto;
mod busy;
mod cases;
mod damage;
mod discreet;
mod faults;
mod journey;
mod many;
mod proxy;
mod python;
mod relay;
mod secrets;
mod site;
mod transfers;
mod webhook;
pub(crate) mod weed;
mod wire;

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use boto::Boto;
use proxy::Proxy;
use weed::Weed;
use wire::{Framing, Head};

/// A connection that carries one request after the other.
struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Connection {
    fn open(address: &str) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(address).unwrap()), address: address.to_owned() }
    }

    /// The status of the answer and as much of the body as comes.
    fn request(&mut self, method: &str, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n", self.address);
        self.stream.get_mut().write_all(&[head.as_bytes(), body].concat()).unwrap();
        let head = Head::read(&mut self.stream).unwrap().unwrap();
        let length = match head.answer_framing(method) {
            Framing::Length(length) => length,
            Framing::Chunked => panic!("nothing here answers in chunks"),
            Framing::Open => u64::MAX,
        };
        let mut body = Vec::new();
        let _ = Read::by_ref(&mut self.stream).take(length).read_to_end(&mut body);
        (head.status(), body)
    }

    /// The same, of a whole address.
    fn request_url(&mut self, method: &str, url: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let target = url.strip_prefix(&format!("http://{}", self.address)).unwrap();
        self.request(method, target, body)
    }
}

#[test]
fn what_boto3_puts_and_presigns_comes_back_through_the_proxy() {
    let (weed, bucket, key) = (Weed::shared(), "through-the-proxy", "calls/möte 1+2 & 50%.mp3");
    let proxy = Proxy::start(&weed.address);
    let (direct, through) = (Boto::shared(), Boto::at(proxy.url()));
    direct.create(bucket);
    // Large enough for several parts.
    let recording: Vec<u8> = (0..9_u32 << 20).map(|byte| (byte % 251) as u8).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    std::fs::write(&file, &recording).unwrap();
    through.put(bucket, key, &file);
    assert!(direct.get(bucket, key) == recording);

    let before = proxy.let_through(bucket);
    let mut connection = Connection::open(&proxy.address);
    for _ in 0..2 {
        let (status, body) = connection.request_url("GET", &through.presign_get(bucket, key, 60), b"");
        assert!(status == 200 && body == recording, "{status}, {} bytes", body.len());
    }
    assert_eq!(proxy.let_through(bucket) - before, 2 * recording.len() as u64);

    let (status, _) = connection.request_url("PUT", &through.presign_put(bucket, "out/1.json", 60), b"{}");
    assert_eq!((status, direct.get(bucket, "out/1.json")), (200, b"{}".to_vec()));
    assert_eq!(direct.keys(bucket, ""), [key, "out/1.json"]);
    direct.delete(bucket, key);
    assert_eq!(through.keys(bucket, "calls/"), [""; 0]);
    let (status, body) = connection.request_url("GET", &through.presign_get(bucket, key, 60), b"");
    assert!(status == 404 && String::from_utf8_lossy(&body).contains("<Code>NoSuchKey</Code>"));
}
