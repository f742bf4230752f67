//! The one place where requests, notifications of S3 and batches of SQS are told apart: by what an invocation's payload
//! looks like, since nothing else says it.

use lambda_http::request::LambdaRequest;
use serde::Deserialize;

use super::records::{Message, Records};
use crate::error::{Error, Result};

/// What the function was invoked with.
pub(super) enum Event {
    /// A request by way of a function URL, an API Gateway or a load balancer.
    Http(Box<LambdaRequest>),
    Records(Records),
}

/// What all events made of records have in common.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "Records")]
    records: Vec<Origin>,
}

#[derive(Deserialize)]
struct Origin {
    #[serde(rename = "eventSource")]
    source: String,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Message>,
}

impl Event {
    /// # Errors
    /// `InvalidInput` with `invalid_event` for anything else.
    pub(super) fn parse(payload: &str) -> Result<Self> {
        let Ok(Shape { records }) = serde_json::from_str(payload) else { return http(payload) };
        match records.first().map(|record| record.source.as_str()) {
            Some("aws:sqs") => {
                let batch: Batch = serde_json::from_str(payload).map_err(|error| unknown(&error.to_string()))?;
                Ok(Self::Records(Records::Queued(batch.records)))
            }
            Some(source) if source.ends_with(":s3") => Ok(Self::Records(Records::Stored(payload.to_owned()))),
            source => Err(unknown(&format!("its records are of {}", source.unwrap_or("nothing")))),
        }
    }
}

fn http(payload: &str) -> Result<Event> {
    // It tries one kind after the other, so its error names none.
    let request: Result<LambdaRequest, _> = serde_json::from_str(payload);
    Ok(Event::Http(Box::new(request.map_err(|_| unknown("it is no request and has no records"))?)))
}

fn unknown(why: &str) -> Error {
    let taken = "a function URL, an API Gateway, a load balancer, S3 and SQS send what is taken here";
    Error::invalid("invalid_event", format!("the event is not understood ({why}): {taken}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(payload: &str) -> &'static str {
        match Event::parse(payload) {
            Ok(Event::Http(_)) => "http",
            Ok(Event::Records(Records::Stored(_))) => "s3",
            Ok(Event::Records(Records::Queued(_))) => "sqs",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn events_are_told_apart_by_where_their_records_come_from() {
        let request = r#"{"version": "2.0", "routeKey": "$default", "rawPath": "/ping", "rawQueryString": "", "headers": {},
            "requestContext": {"stage": "$default", "timeEpoch": 0, "http": {"method": "GET", "path": "/ping"}},
            "isBase64Encoded": false}"#;
        assert_eq!(kind(request), "http");
        assert_eq!(kind(r#"{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}]}"#), "s3");
        assert_eq!(kind(r#"{"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": "{}"}]}"#), "sqs");
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        for payload in ["{}", "[]", "null", r#"{"Records": []}"#, r#"{"Records": [{"eventSource": "aws:kinesis"}]}"#] {
            assert_eq!(kind(payload), "invalid_event", "{payload}");
        }
    }
}
