//! Places that lead nowhere or where nobody may be led: other schemes, other people's buckets, the operator's own network, for
//! audio and results alike; and what is odd about a place but no harm.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, ToSocketAddrs};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::boto::Boto;
use super::cases::{AGAIN, Case, NOT_AGAIN, assert_discreet, case, check, service};
use super::weed::{ACCESS_KEY, SECRET_KEY, Weed};
use crate::scripted::{Answer, Request, Server, nobody};
use crate::support::{fixture, write_wav};

const NOT_ALLOWED: &str = "address_not_allowed";
const BLOCK_BYTES: usize = 64 << 10;
/// Every kind there is.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// A second of silence, which is soon done.
fn silence() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    write_wav(file.path(), &[0.0; 16_000]);
    std::fs::read(file.path()).unwrap()
}

/// In chunks, as of a radio station.
fn endless() -> Answer {
    let chunk = [format!("{BLOCK_BYTES:x}\r\n").as_bytes(), &[b'x'; BLOCK_BYTES], b"\r\n"].concat();
    Answer::with_body(200, chunk).endless().with("transfer-encoding: chunked")
}

/// A hundred megabytes in a hundred thousand bytes.
fn bomb() -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&vec![0; 100 << 20]).unwrap();
    packed.finish().unwrap()
}

fn odd(request: &Request) -> Answer {
    let path = request.line.split([' ', '?']).nth(1).unwrap();
    if let Some(hops) = path.strip_prefix("/hops/") {
        return match hops.parse::<usize>().unwrap().checked_sub(1) {
            None => Answer::with_body(200, silence()),
            Some(next) => Answer::new(REDIRECTS[next % REDIRECTS.len()], "").with(&format!("location: /hops/{next}")),
        };
    }
    match path {
        "/more" => Answer::with_body(200, [silence(), vec![b'x'; 1000]].concat()).declared(silence().len() as u64),
        "/page" => Answer::with_body(200, silence()).with("content-type: text/html"),
        "/bomb" => Answer::with_body(200, bomb()),
        "/packed" => Answer::with_body(200, bomb()).with("content-encoding: gzip"),
        "/endless" => endless(),
        "/file" | "/talks/file" => Answer::new(302, "").with("location: file:///etc/passwd"),
        "/astray" => Answer::new(302, "").with("location: http://["),
        "/busy" => Answer::new(503, "<Error><Code>SlowDown</Code></Error>"),
        _ => Answer::new(401, "who are you?"),
    }
}

#[test]
fn what_is_odd_about_an_address_does_no_harm() {
    let (server, service) = (Server::start(odd), service(&[("ALLOW_PRIVATE_URLS", "true")]));
    let at = |path: &str| format!("{}{path}?hidden=1", server.url);
    let addresses = [
        // Five redirects, and more bytes than were declared.
        at("/hops/5"),
        at("/more"),
        at("/page"),
        at("/hops/0").replace("http:", "HTTP:"),
        at("/hops/0").replace("://", "://user:hidden@"),
    ];
    let submit = |audio| service.post_json("/jobs", &json!({"audio": audio}).to_string()).json();
    for submitted in addresses.map(submit) {
        let job = service.ended(submitted["id"].as_str().unwrap_or_else(|| panic!("{submitted}")));
        assert_eq!((&job["status"], &job["audio_seconds"]), (&json!("completed"), &json!(1.0)), "{job}");
        assert_discreet(&job);
    }
    let signed_in =
        server.asked().iter().any(|request| request.header("authorization") == Some("Basic dXNlcjpoaWRkZW4="));
    assert!(signed_in, "a password is for the server that it is meant for");
}

#[test]
fn nothing_that_a_server_sends_is_too_much_and_nowhere_it_sends_us_is_too_far() {
    let (server, service) = (Server::start(odd), service(&[("ALLOW_PRIVATE_URLS", "true")]));
    let at = |path: &str| format!("{}{path}?hidden=1", server.url);
    let cases = vec![
        case("a bomb", at("/bomb"), "not_audio", &["/bomb", NOT_AGAIN]),
        case("a packed bomb", at("/packed"), "not_audio", &["/packed", "Content-Encoding", NOT_AGAIN]),
        case("chunks without end", at("/endless"), "too_large", &["/endless", "MAX_AUDIO_BYTES", NOT_AGAIN]),
        case("a redirect to a file", at("/file"), NOT_ALLOWED, &["/file: ", "only http and https", NOT_AGAIN]),
        case("a redirect nowhere", at("/astray"), "transfer_failed", &["/astray", AGAIN]),
        case("no password", at("/private"), "denied", &["/private", "401", NOT_AGAIN]),
        case("a busy server", at("/busy"), "transfer_failed", &["/busy", "SlowDown", AGAIN]),
    ];
    check(&service, cases);
}

fn keys(id: &str, secret: &str, endpoint: &str) -> Value {
    json!({"accessId": id, "accessSecret": secret, "endpointUrl": endpoint})
}

#[test]
fn the_keys_of_a_user_open_his_bucket_or_say_why_not() {
    let (boto, service, weed) = (Boto::shared(), service(&[("ALLOW_PRIVATE_URLS", "true")]), Weed::shared().endpoint());
    boto.create("bad-places");
    boto.put("bad-places", "page.mp3", &fixture("page.html.mp3"));
    let (name, express) = ("s3://bad-places/page.mp3", "s3://bad--usw2-az1--x-s3/page.mp3");
    let with =
        |what, keys, code, says: &[&str]| case(what, name, code, &[says, &[name]].concat()).with("s3Config", keys);
    let cases = vec![
        with("good keys", keys(ACCESS_KEY, SECRET_KEY, &weed), "not_audio", &[NOT_AGAIN]),
        with("a wrong key", keys(ACCESS_KEY, "hidden", &weed), "denied", &["SignatureDoesNotMatch", NOT_AGAIN]),
        with("an unknown key", keys("none", "hidden", &weed), "denied", &["InvalidAccessKeyId", NOT_AGAIN]),
        // Its own kind of session is not asked for: names of that form are others' elsewhere.
        case("a bucket named like one of S3 Express", express, "not_found", &[express, "NoSuchBucket", NOT_AGAIN])
            .with("s3Config", keys(ACCESS_KEY, SECRET_KEY, &weed)),
        // As an address is read everywhere.
        with("a blank before it", keys(ACCESS_KEY, SECRET_KEY, &format!(" {weed}")), "not_audio", &[NOT_AGAIN]),
        with("nobody there", keys("id", "hidden", &nobody()), "unreachable", &[AGAIN]),
        case("a file", name, NOT_ALLOWED, &["file:///etc/passwd", "endpointUrl", NOT_AGAIN])
            .with("s3Config", keys("id", "hidden", "file:///etc/passwd")),
        case("no address", name, NOT_ALLOWED, &["endpointUrl", NOT_AGAIN])
            .with("s3Config", keys("id", "hidden", "hidden")),
    ];
    check(&service, cases);
}

/// Somebody on this machine, whom the service must leave alone.
struct Neighbor {
    listener: TcpListener,
    port: u16,
}

impl Neighbor {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    #[track_caller]
    fn assert_left_alone(&self) {
        assert!(self.listener.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "somebody came");
    }
}

/// Names that mean this machine.
fn names_of_loopback() -> Vec<String> {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_here =
        |name: &&str| (*name, 80).to_socket_addrs().is_ok_and(|mut found| found.any(|found| found.ip().is_loopback()));
    // Not every system knows the second, and every machine has another third.
    let names: Vec<String> =
        ["localhost", "localhost.", own.trim()].into_iter().filter(is_here).map(str::to_owned).collect();
    assert!(names.iter().any(|name| name == "localhost"), "{names:?}");
    names
}

/// Everything that a job may name, at an address that nobody needs to look up.
fn all_at(host: &str, shown: &str, port: u16) -> Vec<Case> {
    let address = format!("http://{host}:{port}/a?hidden");
    let says = [format!("http://{shown}:{port}/a: "), "ALLOW_PRIVATE_URLS".to_owned(), NOT_AGAIN.to_owned()];
    let refused = |what| case(what, "s3://talks/a", NOT_ALLOWED, &says);
    vec![
        case("audio", address.as_str(), NOT_ALLOWED, &says),
        refused("webhook").with("webhook", json!(address)),
        refused("output_uri").with("output_uri", json!(address)),
        refused("s3Config").with("s3Config", keys("id", "hidden", address.trim_end_matches("?hidden"))),
    ]
}

#[test]
fn nothing_that_a_job_names_is_in_the_operators_own_network() {
    let (neighbor, server) = (Neighbor::new(), Server::start(odd));
    let service = service(&[("AWS_ENDPOINT_URL_S3", &server.url), ("S3_ALLOWED_BUCKETS", "talks")]);
    let hosts = [
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0.0.0.0", "0.0.0.0"),
        ("169.254.169.254", "169.254.169.254"),
        ("10.0.0.1", "10.0.0.1"),
        ("[::1]", "[::1]"),
        ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
        ("[fd00:ec2::254]", "[fd00:ec2::254]"),
    ];
    let mut cases: Vec<Case> = hosts.iter().flat_map(|(host, shown)| all_at(host, shown, neighbor.port)).collect();
    for name in names_of_loopback() {
        let shown = format!("http://{name}:{}/a", neighbor.port);
        cases.push(case("a name", format!("{shown}?hidden"), NOT_ALLOWED, &[shown.as_str(), NOT_AGAIN]));
        let at_a_name = case("S3 at a name", "s3://talks/a", NOT_ALLOWED, &["s3://talks/a", NOT_AGAIN]);
        cases.push(at_a_name.with("s3Config", keys("id", "hidden", &shown)));
    }
    let file = "file:///etc/passwd";
    for option in ["webhook", "output_uri"] {
        cases.push(case(option, "s3://talks/a", NOT_ALLOWED, &[file, NOT_AGAIN]).with(option, json!(file)));
    }
    let others = "s3://others/a";
    let says = [others, "S3_ALLOWED_BUCKETS allows talks", NOT_AGAIN];
    cases.push(case("another bucket", others, NOT_ALLOWED, &says));
    cases.push(case("another bucket", "s3://talks/a", NOT_ALLOWED, &says).with("output_uri", json!(others)));
    let deep = format!("s3://talks/{}", "a".repeat(1000));
    let no_room = case("no room for a name", "s3://talks/a", NOT_ALLOWED, &["output_uri", NOT_AGAIN]);
    cases.push(no_room.with("output_uri", json!(deep)));
    cases.push(case("S3 that leads to a file", "s3://talks/file", NOT_ALLOWED, &["s3://talks/file: ", NOT_AGAIN]));
    check(&service, cases);
    neighbor.assert_left_alone();
}

#[test]
fn what_is_no_address_is_named_without_its_secrets() {
    let cases = [
        ("file:///etc/passwd", "file:///etc/passwd "),
        ("/etc/passwd", "the address "),
        ("ftp://user:hidden@ftp.example/a?hidden", "ftp://ftp.example/a "),
        ("gopher://gopher.example/a", "gopher://gopher.example/a "),
        ("s3://talks", "talks"),
        ("s3://talks/", "talks"),
        ("s3://key:hidden@talks/a", "s3://bucket/key"),
    ];
    let cases = cases.map(|(audio, shown)| case("no address", audio, NOT_ALLOWED, &[shown, NOT_AGAIN]));
    check(&service(&[]), cases.into());
}

#[test]
fn the_operators_s3_leads_to_no_name_of_his_own_network() {
    let neighbor = Neighbor::new();
    let location = format!("location: http://localhost:{}/a", neighbor.port);
    let server = Server::start(move |_| Answer::new(307, "").with(&location));
    let case = case("a redirect", "s3://talks/a", NOT_ALLOWED, &["s3://talks/a", NOT_AGAIN]);
    check(&service(&[("AWS_ENDPOINT_URL_S3", &server.url)]), vec![case]);
    assert_eq!(server.asked().len(), 1);
    neighbor.assert_left_alone();
}

#[test]
fn the_operators_own_keys_may_be_renewed_before_the_next_try() {
    let server = Server::start(|_| Answer::new(403, "<Error><Code>ExpiredToken</Code></Error>"));
    let case = case("keys whose time is over", "s3://talks/a", "expired", &["s3://talks/a", "renew them", AGAIN]);
    check(&service(&[("AWS_ENDPOINT_URL_S3", &server.url), ("MAX_ATTEMPTS", "2")]), vec![case]);
    assert_eq!(server.asked().len(), 2, "as often as with any error that may pass");
}

#[test]
fn keys_that_are_not_understood_are_not_repeated() {
    let service = service(&[]);
    for keys in [json!("id:hidden"), json!({"accessId": "id", "hidden": "too"})] {
        let job = json!({"input": {"audio": "s3://talks/a"}, "s3Config": keys});
        let answer = service.post_json("/run", &job.to_string());
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("s3Config is not understood"), "{}", answer.text());
        assert_discreet(&answer.json());
    }
}
