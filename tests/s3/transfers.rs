//! Recordings on their way here over networks that cut, hold and slow them: what has come is kept where that is safe, and
//! what comes out is the object, whole and of one version.

use std::time::{Duration, Instant};

use whisperq::error::Error;
use whisperq::http_client::Patience;

use super::proxy::Fault;
use super::site::{Object, SIZE, Site, assert_may_pass, noise};
use crate::scripted::{Answer, Request, Server};

/// Of what is sent, over what is needed.
const MOST: f64 = 1.1;

#[test]
fn a_transfer_that_is_cut_goes_on_where_it_was() {
    let (site, object) = (Site::new(), Object::new("cut-once"));
    object.proxy.on(object.bucket, 1, Fault::Cut(SIZE / 2));
    assert!(site.fetch(&object.url()).unwrap() == object.content);
    assert!(object.ratio() <= MOST, "{} times the file", object.ratio());
    assert!(object.proxy.opened() >= 2, "it was cut");
}

#[test]
fn a_transfer_that_is_cut_again_and_again_goes_on_each_time() {
    let (site, object) = (Site::new(), Object::new("cut-often"));
    let cuts = 9;
    for nth in 1..=cuts {
        object.proxy.on(object.bucket, nth, Fault::Cut(SIZE / (cuts + 1)));
    }
    assert!(site.fetch(&site.with_keys(&object)).unwrap() == object.content);
    assert!(object.ratio() <= MOST, "{} times the file", object.ratio());
    assert!(object.proxy.opened() > cuts, "{} connections", object.proxy.opened());
}

#[test]
fn cuts_before_the_first_byte_are_only_tries() {
    let (site, object) = (Site::new(), Object::new("cut-at-once"));
    for nth in [1, 2, 4, 5] {
        object.proxy.on(object.bucket, nth, Fault::Cut(0));
    }
    object.proxy.on(object.bucket, 3, Fault::Cut(SIZE / 2));
    assert!(site.fetch(&object.url()).unwrap() == object.content);
    assert!(object.ratio() <= MOST, "{} times the file", object.ratio());
}

#[test]
fn a_transfer_that_stands_still_goes_on_over_another_connection() {
    let (site, object) = (Site::with_silence(Duration::from_millis(500)), Object::new("stalled"));
    object.proxy.on(object.bucket, 1, Fault::Stall(SIZE / 2));
    assert!(site.fetch(&object.url()).unwrap() == object.content);
    assert!(object.ratio() <= MOST, "{} times the file", object.ratio());
    // It is not released: what came after it came elsewhere.
    object.proxy.wait_until_stalled(1);
}

#[test]
fn an_object_that_was_replaced_meanwhile_is_fetched_from_its_beginning() {
    let (site, object) = (Site::new(), Object::new("replaced"));
    let (url, other) = (object.url(), noise(2));
    object.proxy.on(object.bucket, 1, Fault::Cut(SIZE / 2));
    let mut replaced = false;
    let fetched = site.fetch_within(&url, u64::MAX, &mut || {
        // Nothing further is asked for before this returns.
        if !replaced && object.let_through() >= SIZE / 2 {
            object.put(&other);
            replaced = true;
        }
        Ok(())
    });
    assert!(replaced && fetched.unwrap() == other);
}

/// Half of the answer to the first request and all of those to later ones, each version under its own name. No checksum would
/// find a mixture out.
fn changing(header: &'static str, first: &'static str, then: &'static str) -> Server {
    let mut asked = 0;
    Server::start(move |request| {
        asked += 1;
        let (body, name) = if asked == 1 { (b"a".repeat(1000), first) } else { (b"b".repeat(1000), then) };
        let answer = match request.header("range") {
            // As some servers do, it takes no notice of If-Range.
            Some(_) => Answer::with_body(206, body[500..].to_vec()).with("content-range: bytes 500-999/1000"),
            None => Answer::with_body(200, body),
        };
        answer.cut(if asked == 1 { 500 } else { 1000 }).with(&format!("{header}: {name}"))
    })
}

#[test]
fn two_versions_are_not_mixed_by_a_server_that_sends_the_rest_of_whatever_it_has() {
    let monday = "Mon, 05 Jan 2026 10:00:00 GMT";
    for (header, then) in [("etag", "\"2\""), ("last-modified", "Mon, 05 Jan 2026 10:00:09 GMT")] {
        let server = changing(header, if header == "etag" { "\"1\"" } else { monday }, then);
        assert!(Site::new().fetch(&server.url).unwrap() == b"b".repeat(1000), "told apart by {header}");
    }
}

#[test]
fn the_rest_of_a_recording_may_leave_out_how_long_the_whole_is() {
    let server = Server::start(|request| {
        let from = request.header("range").map_or(0, |range| range["bytes=".len()..range.len() - 1].parse().unwrap());
        let to = (from + 400).min(1000);
        let answer = match from {
            0 => Answer::with_body(200, noise(1)[..1000].to_vec()).cut(400),
            _ => Answer::with_body(206, noise(1)[from..to].to_vec())
                .with(&format!("content-range: bytes {from}-{}/*", to - 1)),
        };
        answer.with("etag: \"1\"")
    });
    assert!(Site::new().fetch(&server.url).unwrap() == noise(1)[..1000]);
    assert_eq!(ranges(&server.asked()), [None, Some("bytes=400-"), Some("bytes=800-")]);
}

/// A server of a thousand bytes that breaks off the first so many of its answers in the middle.
fn breaking(times: usize, headers: &'static [&'static str]) -> Server {
    let mut asked = 0;
    Server::start(move |_| {
        asked += 1;
        let answer = Answer::repeated(200, b'x', 1000).cut(if asked <= times { 500 } else { 1000 });
        headers.iter().fold(answer, |answer, header| answer.with(header))
    })
}

fn ranges(asked: &[Request]) -> Vec<Option<&str>> {
    asked.iter().map(|request| request.header("range")).collect()
}

#[test]
fn without_a_name_for_the_version_the_rest_is_not_asked_for() {
    // A weak one says that two versions mean the same, not that they are the same bytes.
    for headers in [&[][..], &["etag: W/\"1\""]] {
        let server = breaking(2, headers);
        assert_eq!(Site::new().fetch(&server.url).unwrap(), b"x".repeat(1000));
        assert_eq!(ranges(&server.asked()), [None, None, None]);
    }
}

#[test]
fn a_server_that_always_begins_at_the_beginning_is_taken_at_its_word() {
    let server = breaking(2, &["etag: \"1\""]);
    assert_eq!(Site::new().fetch(&server.url).unwrap(), b"x".repeat(1000));
    let asked = server.asked();
    assert_eq!(ranges(&asked), [None, Some("bytes=500-"), Some("bytes=500-")]);
    assert_eq!(asked[1].header("if-range"), Some("\"1\""));
}

#[test]
fn a_transfer_that_always_ends_at_the_same_place_is_given_up_after_few_tries() {
    for headers in [&[][..], &["etag: \"1\""]] {
        let server = breaking(usize::MAX, headers);
        let message = assert_may_pass(Site::new().fetch(&server.url), "transfer_failed");
        assert!(message.contains("broke off"), "{message}");
        assert_eq!(server.asked().len(), 4);
    }
}

#[test]
fn what_came_before_a_transfer_began_anew_was_not_slow() {
    let (pause, transfer) = (Duration::from_millis(5), Duration::from_secs(1));
    let site = Site::with(Patience { pause, transfer, ..Patience::default() });
    let mut asked = 0;
    let server = Server::start(move |_| {
        asked += 1;
        let bytes = 1 << 20;
        Answer::repeated(200, b'x', bytes).cut(if asked == 1 { bytes / 2 } else { bytes })
    });
    let mut rest = Some(transfer * 2);
    let fetched = site.fetch_within(&server.url, u64::MAX, &mut || {
        // Half a megabyte may take so long.
        if server.asked().len() == 2 {
            std::thread::sleep(rest.take().unwrap_or_default());
        }
        Ok(())
    });
    assert_eq!((fetched.unwrap().len(), rest), (1 << 20, None));
}

#[test]
fn a_transfer_that_drips_is_given_up_though_it_never_falls_silent() {
    let site = Site::with(Patience { transfer: Duration::from_millis(200), ..Patience::default() });
    let object = Object::new("dripping");
    object.proxy.on("dripping", 1, Fault::Slow(32 << 10));
    let said = assert_may_pass(site.fetch(&object.url()), "transfer_failed");
    assert!(said.contains("slower than 64 kB/s"), "{said}");
}

#[test]
fn a_transfer_is_not_slow_while_its_process_was_stopped() {
    let [silence, transfer, stop] = [1, 2, 4].map(Duration::from_secs);
    let site = Site::with(Patience { silence, transfer, ..Patience::default() });
    let server = Server::start(|_| Answer::new(200, "samples"));
    let mut stop = Some(stop);
    let fetched = site.fetch_within(&server.url, u64::MAX, &mut || {
        std::thread::sleep(stop.take().unwrap_or_default());
        Ok(())
    });
    assert_eq!((fetched.unwrap(), stop), (b"samples".to_vec(), None));
}

#[test]
fn a_transfer_ends_at_once_when_its_work_is_stopped() {
    for (bucket, fault) in [("stopped-slow", Fault::Slow(64 << 10)), ("stopped-still", Fault::Stall(64 << 10))] {
        let (site, object) = (Site::new(), Object::new(bucket));
        object.proxy.on(bucket, 1, fault);
        let mut stopped = None;
        let result = site.fetch_within(&object.url(), u64::MAX, &mut || {
            if object.let_through() < 64 << 10 {
                return Ok(());
            }
            assert!(stopped.is_none(), "it went on after it was stopped");
            stopped = Some(Instant::now());
            Err(Error::Aborted)
        });
        assert!(matches!(result, Err(Error::Aborted)), "{bucket}");
        // The rest of the slow one takes a minute, and the other one would be waited for longer.
        assert!(stopped.unwrap().elapsed() < Duration::from_secs(10), "{bucket}");
    }
}
