//! What a client may not do to the others: send too much, too slowly, or more than there is room for.

use std::io::{Read, Write};
use std::sync::Barrier;

use super::client::{Service, form, form_type};
use crate::support::fixture;

#[test]
fn a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() {
    let service = Service::start(&[("MAX_AUDIO_BYTES", "1 MiB")]);
    let announced = format!("POST /jobs HTTP/1.1\r\nhost: x\r\n{}content-length: 9000000\r\n\r\n", form_type());
    let answer = service.exchange(announced.as_bytes());
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));

    let body = form(&[("file", Some("a.wav"), &vec![7; 2 << 20])]);
    let chunked = format!(
        "POST /jobs HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}transfer-encoding: chunked\r\n\r\n{:x}\r\n",
        form_type(),
        body.len()
    );
    let answer = service.exchange(&[chunked.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat());
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    assert_eq!(service.uploads(), 0, "nothing stays behind");
}

#[test]
fn a_client_learns_why_it_is_refused_when_it_sends_everything_first() {
    let service = Service::start(&[("API_KEY", "k"), ("HOST", "127.0.0.1")]);
    let large = vec![7; 20 << 20];
    let answer = service.post_form("/jobs", "", &[("file", Some("a.wav"), &large)]);
    assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"));
}

#[test]
fn a_form_that_never_comes_to_its_point_is_refused_before_it_fills_the_memory() {
    let service = Service::start(&[]);
    let boundary = "--x\r\ncontent-disposition: form-data; name=\"";
    for start in ["", boundary] {
        let head = "POST /jobs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: multipart/form-data; \
                    boundary=x\r\ncontent-length: 60000000\r\n\r\n";
        let mut stream = service.connect();
        stream.write_all(&[head.as_bytes(), start.as_bytes(), &vec![b'a'; 3 << 20]].concat()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = super::client::Response::read(stream);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_form"), "{}", answer.text());
        assert!(answer.text().contains("belong to no part"), "{}", answer.text());
    }
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing_behind() {
    let service = Service::start(&[]);
    let head = format!("POST /jobs HTTP/1.1\r\nhost: x\r\n{}content-length: 100000\r\n\r\n", form_type());
    let mut stream = service.connect();
    let body = form(&[("file", Some("a.wav"), &[7; 5000])]);
    stream.write_all(&[head.as_bytes(), &body[..4000]].concat()).unwrap();
    while service.uploads() == 0 {
        assert_eq!(service.get("/health").status, 200);
    }
    drop(stream);
    while service.uploads() > 0 {
        assert_eq!(service.get("/health").status, 200);
    }
    assert!(service.get("/jobs").json()["jobs"].as_array().unwrap().is_empty());
}

#[test]
fn a_client_that_never_ends_its_headers_is_cut_off() {
    let service = Service::start(&[]);
    let mut slow = service.connect();
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n").unwrap();
    assert_eq!(service.get("/health").status, 200, "others are served meanwhile");
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
}

#[test]
fn a_full_queue_is_a_429_that_says_when_to_come_back_and_nothing_accepted_is_lost() {
    let service = Service::start(&[("MAX_QUEUED", "2")]);
    let audio = std::fs::read(fixture("sample.mp3")).unwrap();
    let first = service.post_form("/jobs", "idempotency-key: k\r\n", &[("file", Some("a.mp3"), &audio)]);
    assert_eq!(first.status, 202);
    let answers: Vec<_> = (0..20).map(|_| service.post_form("/jobs", "", &[("file", Some("a.mp3"), &audio)])).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 202).collect();
    assert!(!refused.is_empty());
    for answer in refused {
        assert_eq!((answer.status, answer.code().as_str()), (429, "overloaded"));
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    // What was accepted before is no new job: its key is known however full the queue is.
    let again = service.post_form("/jobs", "idempotency-key: k\r\n", &[("file", Some("a.mp3"), &audio)]);
    assert_eq!(again.status, 202, "{}", again.text());
    for answer in answers.iter().filter(|answer| answer.status == 202) {
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(service.ended(&id)["status"], "completed");
    }
}

#[test]
fn two_hundred_uploads_at_once_are_all_accepted() {
    const CLIENTS: usize = 200;
    let service = Service::start(&[]);
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    let together = Barrier::new(CLIENTS);
    let mut ids: Vec<String> = std::thread::scope(|scope| {
        let client = || {
            together.wait();
            let answer = service.post_form("/jobs", "", &[("file", Some("a.wav"), &audio)]);
            assert_eq!(answer.status, 202, "{}", answer.text());
            answer.json()["id"].as_str().unwrap().to_owned()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), CLIENTS);
    let jobs =
        service.get("/system").json()["jobs"].as_object().unwrap().values().filter_map(|n| n.as_u64()).sum::<u64>();
    assert_eq!(jobs, CLIENTS as u64);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn threads_of_the_engine_sleep_soon_while_they_wait_unless_its_owner_has_decided() {
    let variables_of = |service: &Service| {
        let environment = std::fs::read(format!("/proc/{}/environ", service.child.id())).unwrap();
        let variables = String::from_utf8(environment).unwrap();
        variables.split('\0').filter(|one| one.contains("OMP")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(variables_of(&Service::start(&[])), ["GOMP_SPINCOUNT=1000"]);
    let own = ("OMP_WAIT_POLICY", "passive");
    assert_eq!(variables_of(&Service::start(&[own])), ["OMP_WAIT_POLICY=passive"]);
}
