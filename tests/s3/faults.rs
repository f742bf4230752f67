//! The tools of these tests tested: what the proxy does to answers, and the bad answers of the scripted server.

use std::time::{Duration, Instant};

use super::Connection;
use super::proxy::{Fault, Proxy};
use crate::scripted::{Answer, Server};

const BODY: &[u8] = b"0123456789";

/// A proxy before a server that answers everything with ten digits.
fn digits() -> (Server, Proxy) {
    let server = Server::start(|_| Answer::with_body(200, BODY.to_vec()));
    let proxy = Proxy::start(server.url.trim_start_matches("http://"));
    (server, proxy)
}

fn get(address: &str, path: &str) -> Vec<u8> {
    Connection::open(address).request("GET", path, b"").1
}

#[test]
fn only_the_answer_that_was_meant_is_cut() {
    let (server, proxy) = digits();
    proxy.on("/a", 2, Fault::Cut(4));
    let paths = ["/a", "/b", "/a?again", "/a"];
    let bodies = paths.map(|path| get(&proxy.address, path).len());
    assert_eq!(bodies, [10, 10, 4, 10]);
    assert_eq!((proxy.let_through("/a"), proxy.let_through(""), proxy.opened(), proxy.struck()), (24, 34, 4, 1));
    assert_eq!(server.lines()[2], "GET /a?again");
    assert_eq!(server.asked()[0].header("host"), Some(proxy.address.as_str()), "the client's own");
}

#[test]
fn a_stalled_answer_goes_on_when_it_is_released() {
    let (_server, proxy) = digits();
    proxy.on("/", 1, Fault::Stall(3));
    std::thread::scope(|scope| {
        let body = scope.spawn(|| get(&proxy.address, "/"));
        proxy.wait_until_stalled(1);
        assert_eq!(proxy.let_through("/"), 3);
        proxy.release();
        assert_eq!(body.join().unwrap(), BODY);
    });
}

#[test]
fn a_stalled_answer_ends_with_the_proxy() {
    let (_server, proxy) = digits();
    proxy.on("/", 1, Fault::Stall(0));
    std::thread::scope(|scope| {
        let address = proxy.address.clone();
        let body = scope.spawn(move || get(&address, "/"));
        proxy.wait_until_stalled(1);
        drop(proxy);
        assert_eq!(body.join().unwrap(), b"");
    });
}

#[test]
fn a_slow_answer_takes_its_time_and_is_whole() {
    let (_server, proxy) = digits();
    proxy.on("/", 1, Fault::Slow(50));
    let started = Instant::now();
    assert_eq!(get(&proxy.address, "/"), BODY);
    // The last bytes are not waited for.
    assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
}

#[test]
fn one_byte_of_a_corrupted_answer_is_another() {
    let (_server, proxy) = digits();
    proxy.on("/", 1, Fault::Corrupt(9));
    assert_eq!(get(&proxy.address, "/"), b"012345678\x38");
    assert_eq!(get(&proxy.address, "/"), BODY);
}

#[test]
fn the_same_seed_hits_the_same_answers() {
    let hits = |seed| {
        let (_server, proxy) = digits();
        proxy.on("/", 1, Fault::Pass);
        proxy.sometimes("/", 0.5, seed, Fault::Cut(0));
        (0..20).map(|_| get(&proxy.address, "/").is_empty()).collect::<Vec<_>>()
    };
    let first = hits(1);
    assert!(!first[0] && first.contains(&true) && first[1..].contains(&false), "{first:?}");
    assert_eq!(first, hits(1));
    assert_ne!(first, hits(2));
}

#[test]
fn the_scripted_server_can_lie_about_a_length_or_say_none() {
    let server = Server::start(|request| match request.line.as_str() {
        "GET /cut" => Answer::repeated(200, b'x', 100_000).cut(70_000),
        _ => Answer::repeated(200, b'x', 100_000).undeclared().with("a: b").with("c: d"),
    });
    let address = server.url.trim_start_matches("http://");
    assert_eq!(get(address, "/cut").len(), 70_000);
    assert_eq!(get(address, "/undeclared"), [b'x'; 100_000]);
}

#[test]
fn a_scripted_answer_without_end_keeps_nobody_waiting() {
    let server = Server::start(|request| match request.line.as_str() {
        "GET /endless" => Answer::repeated(200, b'x', u64::MAX).undeclared(),
        _ => Answer::new(204, ""),
    });
    let address = server.url.trim_start_matches("http://").to_owned();
    std::thread::scope(|scope| {
        let endless = scope.spawn(|| get(&address, "/endless").len());
        server.asked_when(1);
        assert_eq!(get(&address, "/"), b"");
        assert_eq!(server.asked_when(2).len(), 2);
        drop(server);
        assert!(endless.join().unwrap() > 0);
    });
}
