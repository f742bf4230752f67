//! Keys, request ids, origins and the other manners of the web.

use super::client::Service;
use crate::support::fixture;

#[test]
fn a_key_is_asked_for_everywhere_but_at_health_checks() {
    let service = Service::start(&[("API_KEY", "first,second"), ("HOST", "127.0.0.1")]);
    for path in ["/health", "/ping"] {
        assert_eq!(service.get(path).status, 200, "{path}");
    }
    for path in ["/system", "/jobs", "/jobs/x", "/jobs/x/events", "/jobs/x/transcript"] {
        for header in ["", "authorization: Bearer wrong\r\n", "x-api-key: firs\r\n"] {
            let answer = service.request("GET", path, header, b"");
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path} {header}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    for header in ["authorization: Bearer second\r\n", "authorization: first\r\n", "x-api-key: second\r\n"] {
        assert_eq!(service.request("GET", "/system", header, b"").status, 200, "{header}");
    }
    let audio = std::fs::read(fixture("sample.wav")).unwrap();
    assert_eq!(service.post_form("/jobs", "", &[("file", Some("a.wav"), &audio)]).status, 401);
    assert_eq!(service.uploads(), 0);
}

#[test]
fn every_answer_has_a_request_id_and_keeps_the_one_that_came() {
    let service = Service::start(&[]);
    assert!(service.get("/nowhere").header("x-request-id").is_some_and(|id| id.len() == 36));
    let answer = service.request("GET", "/health", "x-request-id: mine\r\n", b"");
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    let long = service.request("GET", "/health", &format!("x-request-id: {}\r\n", "m".repeat(300)), b"");
    assert!(long.header("x-request-id").is_some_and(|id| id.len() == 36));
}

#[test]
fn head_and_options_are_answered() {
    let service = Service::start(&[]);
    let head = service.request("HEAD", "/system", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let options = service.request("OPTIONS", "/jobs", "", b"");
    assert_eq!(options.status, 204);
    assert_eq!(options.header("allow"), Some("GET,HEAD,POST"));
}

#[test]
fn pages_from_elsewhere_are_served_only_where_they_are_named() {
    let origin = "origin: https://a.example\r\n";
    let preflight =
        format!("{origin}access-control-request-method: POST\r\naccess-control-request-headers: authorization\r\n");
    let closed = Service::start(&[]);
    assert_eq!(closed.request("GET", "/health", origin, b"").header("access-control-allow-origin"), None);
    let open = Service::start(&[("CORS_ORIGINS", "https://a.example"), ("API_KEY", "k"), ("HOST", "127.0.0.1")]);
    let answer = open.request("OPTIONS", "/jobs", &preflight, b"");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("https://a.example")));
    assert!(answer.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization"), "a star would not cover it");
    let other = open.request("GET", "/health", "origin: https://b.example\r\n", b"");
    assert_eq!(other.header("access-control-allow-origin"), None);
}

#[test]
fn system_tells_of_workers_queue_jobs_and_the_last_minute() {
    let service = Service::start(&[]);
    service.done();
    let system = service.get("/system").json();
    let worker = &system["workers"][0];
    assert_eq!((worker["worker_id"].as_str(), worker["status"].as_str()), (Some("gpu-0"), Some("ready")), "{system}");
    assert_eq!((worker["chunks_done"].as_i64(), worker["current_job"].is_null()), (Some(1), true), "{system}");
    let busy = worker["busy_ratio"].as_f64().unwrap();
    assert!(busy > 0.0 && busy <= 1.0, "{system}");
    assert_eq!(
        (system["queue"]["size"].as_i64(), system["jobs"]["completed"].as_i64()),
        (Some(0), Some(1)),
        "{system}"
    );
    assert!(system["throughput"]["audio_seconds_per_second"].as_f64().unwrap() > 0.0, "{system}");
    let answer =
        service.post_json("/sql", "{\"sql\": \"select state, count(*) as n from job_history group by 1\"}").json();
    assert_eq!(answer["columns"], serde_json::json!(["state", "n"]), "{answer}");
    assert_eq!((&answer["rows"], &answer["truncated"]), (&serde_json::json!([["completed", 1]]), &false.into()));
    assert_eq!(system["models"][0]["name"], "tiny.en", "{system}");
    assert!(system["gpu"].is_array(), "{system}");
    let health = service.get("/health").json();
    assert_eq!((health["active_workers"].as_i64(), health["model_instances"].as_i64()), (Some(1), Some(1)), "{health}");
}
