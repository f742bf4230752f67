//! Recordings that arrive and are not wanted as they are: with a wrong byte in them, or longer than allowed.

use super::proxy::Fault;
use super::site::{Object, SIZE, Site, assert_may_pass, assert_refused};
use crate::scripted::{Answer, Server};

/// Of the transfers of one recording, the last one whose damage is worth another.
const TRANSFERS: u64 = 3;

/// Fetches an object by its signed address and with keys; what S3 says of it, its ETag, is an MD5 both times.
fn in_both_ways(buckets: [&'static str; 2], test: impl Fn(&Site, &Object, &str)) {
    for (bucket, signed) in buckets.into_iter().zip([true, false]) {
        let (site, object) = (Site::new(), Object::new(bucket));
        let source = if signed { object.url() } else { site.with_keys(&object) };
        test(&site, &object, &source);
    }
}

#[test]
fn a_wrong_byte_is_noticed_and_the_recording_fetched_again() {
    in_both_ways(["damaged-signed", "damaged-keys"], |site, object, source| {
        object.proxy.on(object.bucket, 1, Fault::Corrupt(SIZE / 3));
        assert!(site.fetch(source).unwrap() == object.content);
        assert_eq!(object.let_through(), 2 * SIZE, "{source}");
    });
}

#[test]
fn a_recording_that_is_damaged_every_time_is_given_up() {
    in_both_ways(["always-damaged-signed", "always-damaged-keys"], |site, object, source| {
        object.proxy.sometimes(object.bucket, 1.0, 1, Fault::Corrupt(SIZE / 3));
        let message = assert_may_pass(site.fetch(source), "transfer_failed");
        assert!(message.contains("damaged") && !message.contains("X-Amz"), "{message}");
        assert_eq!(object.let_through(), TRANSFERS * SIZE, "{source}");
    });
}

#[test]
fn damage_in_one_part_of_a_transfer_that_was_cut_is_noticed_as_well() {
    let (site, object) = (Site::new(), Object::new("cut-and-damaged"));
    object.proxy.on(object.bucket, 1, Fault::Cut(SIZE / 2));
    object.proxy.on(object.bucket, 2, Fault::Corrupt(SIZE / 3));
    assert!(site.fetch(&object.url()).unwrap() == object.content);
    assert_eq!(object.let_through(), 2 * SIZE);
}

#[test]
fn a_recording_that_says_it_is_too_long_is_refused_before_its_first_byte() {
    let (site, object) = (Site::new(), Object::new("too-long"));
    // No byte of it ever comes: whoever refuses it has only seen how long it is.
    object.proxy.on(object.bucket, 1, Fault::Stall(0));
    let message = assert_refused(site.fetch_within(&object.url(), SIZE - 1, &mut || Ok(())), "too_large");
    assert!(message.contains(&SIZE.to_string()) && message.contains("MAX_AUDIO_BYTES"), "{message}");
    assert_eq!(object.let_through(), 0);
    assert!(site.fetch_within(&object.url(), SIZE, &mut || Ok(())).unwrap() == object.content, "as long as allowed");
}

#[test]
fn a_recording_that_says_nothing_is_refused_when_it_gets_too_long() {
    let server = Server::start(|_| Answer::repeated(200, b'x', u64::MAX).undeclared());
    let message = assert_refused(Site::new().fetch_within(&server.url, 1 << 20, &mut || Ok(())), "too_large");
    assert!(message.contains("MAX_AUDIO_BYTES"), "{message}");
    assert_eq!(server.asked().len(), 1, "trying again is no use");
}
