//! Server-sent events: complete, in order, and resumable.

use super::client::Service;
use crate::support::{fixture, long_recording};

/// An event: name, id and data.
type Event = (String, String, String);

fn events(service: &Service, id: &str, last: Option<&str>) -> Vec<Event> {
    let header = last.map(|last| format!("last-event-id: {last}\r\n")).unwrap_or_default();
    let answer = service.request("GET", &format!("/jobs/{id}/events"), &header, b"");
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let text = answer.text();
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned()
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("event: "));
    blocks.map(|block| (field(block, "event"), field(block, "id"), field(block, "data"))).collect()
}

fn segments(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| event.0 == "segment").collect()
}

#[test]
fn a_watcher_is_told_every_segment_in_order_and_the_end() {
    let service = Service::start(&[]);
    let long = service.whisperq.path("long.wav");
    long_recording(&long, 40);
    let id = service.submit(&long);
    let live = events(&service, &id, None);
    let transcript = service.get(&format!("/jobs/{id}/transcript")).json();
    let told: Vec<serde_json::Value> =
        segments(&live).iter().map(|event| serde_json::from_str(&event.2).unwrap()).collect();
    let kept = transcript["segments"].as_array().unwrap();
    assert_eq!(told.len(), kept.len());
    assert!(told.iter().zip(kept).all(|(told, kept)| told["text"] == kept["text"] && told["start"] == kept["start"]));
    assert_eq!(live.first().unwrap().0, "state");
    let (name, last, data) = live.last().unwrap();
    assert_eq!((name.as_str(), last.as_str()), ("done", "end"));
    assert!(data.contains("\"status\":\"completed\""), "{data}");

    let replayed = events(&service, &id, None);
    assert_eq!(segments(&replayed), segments(&live), "the same for whoever comes later");
    let third = segments(&live)[2].1.clone();
    let rest = events(&service, &id, Some(&third));
    assert_eq!(segments(&rest), segments(&live)[3..], "and for whoever comes back");
}

#[test]
fn who_has_heard_everything_is_sent_away_and_a_wrong_place_is_refused() {
    let service = Service::start(&[]);
    let id = service.submit(&fixture("sample.wav"));
    let path = format!("/jobs/{id}/events");
    assert_eq!(service.request("GET", &path, "last-event-id: end\r\n", b"").status, 204);
    assert_eq!(service.request("GET", &path, "last-event-id: soon\r\n", b"").code(), "invalid_event_id");
    assert_eq!(service.get("/jobs/none/events").code(), "not_found");
}
