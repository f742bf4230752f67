//! The other side of a webhook: the library of the specification, which says whether a receiver would take it.

use std::io::{Read, Write};

use serde_json::{Value, json};

use super::python::{self, Running};

/// The payload, or why the receiver refuses it.
pub(crate) fn verify_webhook(secret: &str, headers: &[(String, String)], body: &[u8]) -> Result<Value, String> {
    let body = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    let headers: serde_json::Map<_, _> =
        headers.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let mut answer = ask("verify", &json!({"secret": secret, "headers": headers, "body": body}));
    match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["payload"].take()),
    }
}

/// The three headers that make a webhook of this body.
pub(crate) fn sign_webhook(secret: &str, id: &str, body: &str) -> Vec<(String, String)> {
    let answer = ask("sign", &json!({"secret": secret, "id": id, "body": body}));
    let headers = answer.as_object().unwrap().iter();
    headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

fn ask(what: &str, question: &Value) -> Value {
    let Running { mut input, mut output, mut child } = python::start("webhook.py", &[what], &[]);
    write!(input, "{question}").unwrap();
    drop(input);
    let mut answer = String::new();
    output.read_to_string(&mut answer).unwrap();
    assert!(child.wait().unwrap().success(), "webhook.py {what} failed");
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn a_receiver_takes_what_was_signed_and_nothing_else() {
    let (secret, body) = ("whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw==", r#"{"type":"job.completed"}"#);
    let headers = sign_webhook(secret, "msg_1", body);
    assert_eq!(verify_webhook(secret, &headers, body.as_bytes()), Ok(json!({"type": "job.completed"})));
    let refused =
        |secret: &str, headers: &[(String, String)], body: &[u8]| verify_webhook(secret, headers, body).unwrap_err();
    assert_eq!(refused(secret, &headers, b"{}"), "No matching signature found");
    assert_eq!(refused("whsec_b3RoZXI=", &headers, body.as_bytes()), "No matching signature found");
    assert_eq!(refused(secret, &headers[..2], body.as_bytes()), "Missing required headers");
}
