//! What is wrong with an address ends its job under one of few codes, in words that name the place, never its query, and say
//! whether trying again helps.

use std::collections::BTreeMap;

use serde_json::json;

use super::Connection;
use super::boto::Boto;
use super::cases::{AGAIN, Case, NOT_AGAIN, case, check, service};
use super::weed::Weed;
use crate::scripted::{Answer, Request, Server, nobody};
use crate::support::fixture;

const BUCKET: &str = "bad-inputs";

/// What a web server says, by path.
fn web(request: &Request) -> Answer {
    let path = request.line.trim_start_matches("GET ").split('?').next().unwrap_or_default().to_owned();
    let region = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>";
    let audio = || std::fs::read(fixture("sample.wav")).unwrap();
    match path.trim_start_matches('/') {
        "missing" => Answer::new(404, "no"),
        "forbidden" => Answer::new(403, "no"),
        "broken" => Answer::new(500, "no"),
        "page" => Answer::new(200, "<!DOCTYPE html><html><body>Sign in</body></html>"),
        "empty" => Answer::new(200, ""),
        "short" => Answer::with_body(200, audio()).cut(1000),
        "packed" => Answer::new(200, "packed").with("content-encoding: gzip"),
        "archive" => Answer::with_body(200, [&[0x1f, 0x8b, 8, 0][..], &[0; 64]].concat()),
        "loop" => Answer::new(302, "").with("location: /loop?hidden=1"),
        "moved" => {
            Answer::new(301, "<Error><Code>PermanentRedirect</Code></Error>").with("x-amz-bucket-region: eu-west-3")
        }
        "region" => Answer::new(400, region),
        "signed-elsewhere" => {
            Answer::new(400, &region.replace("AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"))
        }
        "missigned" => Answer::new(400, "<Error><Code>AuthorizationQueryParametersError</Code></Error>"),
        "token" => Answer::new(400, "<Error><Code>InvalidToken</Code></Error>"),
        "nowhere" => Answer::new(400, &region.replace("eu-west-3", &"eu".repeat(1000))),
        "huge" => Answer::repeated(200, 0, 10 << 30),
        "endless" => Answer::repeated(200, 0, u64::MAX).undeclared(),
        other => match other.strip_prefix("hop").and_then(|left| left.parse::<u32>().ok()) {
            Some(0) => Answer::new(404, "the end"),
            Some(left) => Answer::new(307, "").with(&format!("location: hop{}", left - 1)),
            None => Answer::new(418, "no"),
        },
    }
}

/// A presigned address whose time is over.
fn expired(key: &str) -> String {
    let url = Boto::shared().presign_get(BUCKET, key, 1);
    let mut connection = Connection::open(&Weed::shared().address);
    while connection.request_url("GET", &url, b"").0 == 200 {
        std::thread::yield_now();
    }
    url
}

fn in_buckets() -> Vec<Case> {
    let boto = Boto::shared();
    boto.create(BUCKET);
    boto.put(BUCKET, "talk.mp3", &fixture("sample.mp3"));
    let forged = boto.presign_get(BUCKET, "talk.mp3", 600).replace("X-Amz-Signature=", "X-Amz-Signature=0");
    let of = "bad-inputs/none.mp3";
    vec![
        case("no such key", "s3://bad-inputs/none.mp3", "not_found", &["s3://", of, "NoSuchKey", NOT_AGAIN]),
        case(
            "no such bucket",
            "s3://no-such-bucket/a",
            "not_found",
            &["s3://no-such-bucket/a", "NoSuchBucket", NOT_AGAIN],
        ),
        case("a key of a folder", "s3://bad-inputs/talk.mp3/", "not_found", &["talk.mp3/", NOT_AGAIN]),
        case(
            "signed for nothing",
            boto.presign_get(BUCKET, "none.mp3", 600),
            "not_found",
            &["http://127.0.0.1:", of, NOT_AGAIN],
        ),
        case("signed wrongly", forged, "denied", &["/talk.mp3", "SignatureDoesNotMatch", NOT_AGAIN]),
        case("signed long ago", expired("talk.mp3"), "expired", &["/talk.mp3", "sign a new one", NOT_AGAIN]),
    ]
}

fn on_the_web(web: &Server) -> Vec<Case> {
    let at = |path: &str| format!("{}/{path}?hidden=1", web.url);
    vec![
        case("nothing there", at("missing"), "not_found", &["/missing", "404", NOT_AGAIN]),
        case("nothing for us", at("forbidden"), "denied", &["/forbidden", "403", NOT_AGAIN]),
        case("a broken server", at("broken"), "transfer_failed", &["/broken", "500", AGAIN]),
        case("a teapot", at("teapot"), "transfer_failed", &["/teapot", "418", NOT_AGAIN]),
        case("a page", at("page"), "not_audio", &["/page", "HTML", NOT_AGAIN]),
        case("nothing in it", at("empty"), "not_audio", &["/empty", "0 bytes", NOT_AGAIN]),
        case("less than declared", at("short"), "transfer_failed", &["/short", AGAIN]),
        case("packed on the way", at("packed"), "not_audio", &["/packed", "gzip", NOT_AGAIN]),
        case("an archive", at("archive"), "not_audio", &["/archive", NOT_AGAIN]),
        case("a circle", at("loop"), "transfer_failed", &["/loop", "five", NOT_AGAIN]),
        case("six redirects", at("hop6"), "transfer_failed", &["/hop6", "five", NOT_AGAIN]),
        case("five redirects", at("hop5"), "not_found", &["/hop5", "404"]),
        case("another region", at("region"), "denied", &["/region", "AWS_REGION=eu-west-3", NOT_AGAIN]),
        case("signed for another region", at("signed-elsewhere"), "denied", &["AWS_REGION=eu-west-3", NOT_AGAIN]),
        case("signed in no way", at("missigned"), "denied", &["/missigned", "AuthorizationQueryParametersError"]),
        case("a token of nobody", at("token"), "denied", &["/token", "InvalidToken", NOT_AGAIN]),
        case("a region that is none", at("nowhere"), "denied", &["/nowhere", "set the bucket's region", NOT_AGAIN]),
        case("another region, by a redirect", at("moved"), "denied", &["/moved", "AWS_REGION=eu-west-3"]),
        case("ten gigabytes", at("huge"), "too_large", &["/huge", "10737418240 bytes", NOT_AGAIN]),
        case("no end", at("endless"), "too_large", &["/endless", "MAX_AUDIO_BYTES", NOT_AGAIN]),
        case("nobody there", format!("{}/a.mp3?hidden=1", nobody()), "unreachable", &["/a.mp3", AGAIN]),
        case(
            "no such name",
            "http://user:hidden@nowhere.invalid/a.mp3",
            "unreachable",
            &["http://nowhere.invalid/a.mp3", AGAIN],
        ),
    ]
}

#[test]
fn each_has_its_code_and_its_words() {
    let web = Server::start(web);
    let service = service(&[("ALLOW_PRIVATE_URLS", "true")]);
    check(&service, in_buckets().into_iter().chain(on_the_web(&web)).collect());
    let asked = web.lines().into_iter().fold(BTreeMap::<String, u32>::new(), |mut asked, line| {
        *asked.entry(line).or_default() += 1;
        asked
    });
    assert_eq!(asked["GET /huge?hidden=1"], 1, "what is too large is not asked for twice");
    assert_eq!(asked["GET /loop?hidden=1"], 6);
}

/// Nothing within is asked for, in whatever form its address is written, and whoever redirects there.
#[test]
fn addresses_within_are_never_asked() {
    let inside = Server::start(|_| Answer::new(200, "the keys"));
    let port = inside.url.rsplit_once(':').unwrap().1.to_owned();
    let redirects = inside.url.clone();
    // What the operator trusts is his S3, and not where that sends us.
    let s3 = Server::start(move |request| {
        let location = if request.line.contains("metadata") { "http://169.254.169.254/latest" } else { &redirects };
        Answer::new(307, "").with(&format!("location: {location}"))
    });
    let service = service(&[("AWS_ENDPOINT_URL_S3", &s3.url)]);
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0.0.0.0",
        "[::ffff:7f00:1]",
    ];
    let mut cases: Vec<Case> = hosts
        .map(|host| {
            case(
                "an address within",
                format!("http://{host}:{port}/a?hidden=1"),
                "address_not_allowed",
                &["/a", "ALLOW_PRIVATE_URLS"],
            )
        })
        .into();
    for scheme in
        ["file:///etc/passwd", "ftp://example.org/a", "gopher://example.org/a", "/etc/passwd", "talk.mp3", "data.wav"]
    {
        cases.push(case("another scheme", scheme, "address_not_allowed", &["https://"]));
    }
    cases.push(case(
        "S3 that leads to the keys of the machine",
        "s3://metadata/a",
        "address_not_allowed",
        &["s3://metadata/a"],
    ));
    cases.push(case("S3 that leads within", "s3://anything/a", "address_not_allowed", &["s3://anything/a"]));
    check(&service, cases);
    assert_eq!(inside.lines(), [""; 0], "nobody came");
}

#[test]
fn results_are_not_sent_within_either() {
    let inside = Server::start(|_| Answer::new(200, ""));
    let service = service(&[]);
    let by_name = inside.url.replace("127.0.0.1", "localhost");
    let audio = "data:audio/wav;base64,UklGRg==";
    let request =
        json!({"audio": audio, "webhook": format!("{by_name}/?hidden"), "output_uri": format!("{by_name}/out?hidden")});
    let id = service.post_json("/jobs", &request.to_string()).json()["id"].as_str().unwrap().to_owned();
    let states = || -> Vec<String> {
        let deliveries = service.get(&format!("/jobs/{id}")).json()["deliveries"].as_array().unwrap().clone();
        deliveries.iter().map(|delivery| delivery["state"].as_str().unwrap().to_owned()).collect()
    };
    while states() != ["failed", "failed"] {
        std::thread::yield_now();
    }
    let deliveries = service.get(&format!("/jobs/{id}")).json()["deliveries"].clone();
    for delivery in deliveries.as_array().unwrap() {
        let error = delivery["last_error"].as_str().unwrap();
        assert!(error.contains("ALLOW_PRIVATE_URLS") && !error.contains("hidden"), "{error}");
    }
    assert_eq!(inside.lines(), [""; 0], "nobody came");
}
