//! What a worker and the queue said to each other, as fields that can be compared: without times, versions of Python, and
//! whatever else differs from run to run.

use std::collections::BTreeMap;

use serde_json::Value;

use super::platform::{Platform, body, is_ping, is_result, is_stop, is_stream, is_take, job_of};
use crate::scripted::Request;

/// By name; what did not happen has no field.
pub(crate) type Fields = BTreeMap<String, String>;

const HEADERS: [&str; 6] =
    ["authorization", "content-type", "charset", "x-request-id", "accept-encoding", "user-agent"];

/// All that can be read from an exchange about the jobs named.
pub(crate) fn fields(seen: &[Request], accepted: &[(String, Value)], jobs: &[&str]) -> Fields {
    let mut fields = Fields::new();
    let first = |is: &dyn Fn(&&Request) -> bool| seen.iter().find(is);
    let is_busy = |request: &Request| request.line.contains("job_id=");
    for (name, found) in [
        ("take", first(&|request| is_take(request))),
        ("stop poll", first(&|request| is_stop(request))),
        ("idle ping", first(&|request| is_ping(request) && !is_busy(request))),
        ("busy ping", first(&|request| is_ping(request) && is_busy(request))),
        ("segment", first(&|request| is_stream(request))),
        ("progress", first(&|request| super::platform::is_progress(request))),
        ("result", first(&|request| is_result(request) && job_of(request) == jobs[0])),
    ] {
        found.into_iter().for_each(|request| tell(&mut fields, name, request));
    }
    let later = seen.iter().skip_while(|request| !is_result(request)).find(|request| is_take(request));
    later.into_iter().for_each(|request| tell_headers(&mut fields, "take after a result", request));
    let segments: Vec<Value> = seen.iter().filter(|request| is_stream(request)).map(body).collect();
    fields.insert("all segments".into(), Value::Array(segments).to_string());
    fields.insert("order".into(), order(seen));
    for job in jobs {
        fields.insert(format!("outcome of {job}"), outcome(accepted, job));
    }
    fields
}

fn tell(fields: &mut Fields, name: &str, request: &Request) {
    let (target, parameters) = request.line.split_once('?').unwrap_or((&request.line, ""));
    fields.insert(format!("{name}: target"), target.to_owned());
    fields.insert(format!("{name}: parameters"), parameters.to_owned());
    tell_headers(fields, name, request);
    if request.body.is_empty() {
        return;
    }
    for (key, value) in body(request).as_object().unwrap() {
        let inner: Option<Value> = value.as_str().and_then(|text| serde_json::from_str(text).ok());
        match (key.as_str(), inner) {
            ("error", Some(Value::Object(inner))) => {
                let told = inner.iter().map(|(part, value)| (format!("{name}: error, {part}"), plain(part, value)));
                fields.extend(told);
            }
            _ => drop(fields.insert(format!("{name}: {key}"), value.to_string())),
        }
    }
}

fn tell_headers(fields: &mut Fields, name: &str, request: &Request) {
    for header in HEADERS {
        let value = request.header(header).map_or("(absent)", |value| if value.is_empty() { "(empty)" } else { value });
        // The name and version of a program, without those of the machine beneath it.
        let value = if header == "user-agent" { value.split(' ').next().unwrap_or_default() } else { value };
        fields.insert(format!("{name}: {header}"), value.to_owned());
    }
}

fn plain(part: &str, value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if part == "error_traceback" && !text.is_empty() { "(lines of Python)".to_owned() } else { text }
}

/// Segments and results, in the order in which they came.
fn order(seen: &[Request]) -> String {
    let kind = |request: &Request| match () {
        () if is_stream(request) => Some("segments".to_owned()),
        () if is_result(request) => Some(format!("result of {}", job_of(request))),
        () => None,
    };
    let mut kinds: Vec<String> = seen.iter().filter_map(kind).collect();
    kinds.dedup();
    kinds.join(", ")
}

/// What was heard of a job at its end.
pub(crate) fn outcome(accepted: &[(String, Value)], job: &str) -> String {
    let of_job = accepted.iter().filter(|(name, _)| name == job);
    let keys = |body: &Value| body.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" and ");
    let heard: Vec<String> = of_job.map(|(_, body)| keys(body)).collect();
    if heard.is_empty() { "nothing".to_owned() } else { heard.join(", then ") }
}

/// What RunPod's own worker is to answer so that it says the same: for each job what ours said.
pub(crate) fn answers(platform: &Platform, jobs: &[&str]) -> Value {
    let seen = platform.seen();
    let of = |job: &str, is: fn(&Request) -> bool| -> Vec<Value> {
        seen.iter().filter(|request| is(request) && job_of(request) == job).map(body).collect()
    };
    let mut answers = Value::Object(serde_json::Map::new());
    for job in jobs {
        let answer = &mut answers[*job];
        let result = of(job, is_result).into_iter().next().unwrap_or_default();
        answer["output"] = result["output"].clone();
        if result["stopPod"] == true {
            answer["output"]["refresh_worker"] = true.into();
        }
        if let Some(error) = result["error"].as_str() {
            let error: Value = serde_json::from_str(error).unwrap();
            answer["raises"] = error["error_message"].clone();
        }
        if let Some(progress) = of(job, super::platform::is_progress).into_iter().next() {
            answer["progress"] = progress["output"].clone();
        }
        answer["segments"] = of(job, is_stream).into_iter().map(|sent| sent["output"].clone()).collect();
    }
    answers
}
