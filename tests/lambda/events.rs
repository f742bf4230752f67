//! Events of S3 and SQS: each recording once, however often it is told; what is not done is reported, and what is done
//! already is kept.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::emulator::{Function, LONG};
use super::frozen::{LONGER, SHORT};
use crate::s3::boto::Boto;
use crate::s3::weed::Weed;
use crate::support::{Whisperq, fixture, long_recording};

/// A function that may use the SeaweedFS of the tests, and a bucket of its own.
fn function(bucket: &str, settings: &[(&str, &str)]) -> Function {
    Boto::shared().create(bucket);
    let output = format!("s3://{bucket}/out");
    let environment = Weed::shared().environment();
    let mut all: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend([("S3_FORCE_PATH_STYLE", "true"), ("OUTPUT_URI", output.as_str())]);
    all.extend(settings);
    Function::start(&all)
}

fn put(bucket: &str, key: &str, file: &Path) {
    Boto::shared().put(bucket, key, file);
}

/// What S3 tells of an object; without a tag, by its place in the order of events.
fn stored(bucket: &str, key: &str, sequencer: &str) -> Value {
    json!({"Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "sequencer": sequencer}},
    }]})
}

fn batch(messages: &[(&str, Value)]) -> Value {
    let record = |(id, body): &(&str, Value)| {
        json!({"messageId": id, "receiptHandle": "x", "body": body.to_string(), "attributes": {}, "messageAttributes": {},
               "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:1:q", "awsRegion": "us-east-1"})
    };
    json!({"Records": messages.iter().map(record).collect::<Vec<_>>()})
}

fn failures(answer: &Value) -> Vec<&str> {
    let failures = answer["batchItemFailures"].as_array().unwrap_or_else(|| panic!("{answer}"));
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap()).collect()
}

#[test]
fn a_stored_object_becomes_one_job_however_often_it_is_told() {
    let bucket = "lambda-stored";
    let function = function(bucket, &[]);
    put(bucket, "in/talk.wav", &fixture("sample.wav"));
    let told = || function.invoke(stored(bucket, "in/talk.wav", "0055"), LONG).result.unwrap();
    let (first, again) = (told(), told());
    assert_eq!((first["jobs"].as_array().unwrap().len(), &again), (1, &first));
    assert_eq!(
        function.sql("select count(*), sum(attempts) from job_history where front_door = 's3'"),
        json!([[1, 2]])
    );
    let id = first["jobs"][0].as_str().unwrap();
    let transcript = Boto::shared().get(bucket, &format!("out/{id}.json"));
    assert!(String::from_utf8(transcript).unwrap().contains("The ship is late"));
    // What it wrote itself comes back as an event, and makes no job.
    let own = function.invoke(stored(bucket, &format!("out/{id}.json"), "0056"), LONG).result.unwrap();
    assert_eq!(own, json!({"jobs": []}));
}

#[test]
fn a_stored_object_that_is_no_recording_fails_its_invocation() {
    let bucket = "lambda-no-recording";
    let function = function(bucket, &[]);
    put(bucket, "in/page.mp3", &fixture("page.html.mp3"));
    let error = function.invoke(stored(bucket, "in/page.mp3", "1"), LONG).result.expect_err("it is a web page");
    assert!(error["errorMessage"].as_str().unwrap().contains("not_audio"), "{error}");
}

#[test]
fn what_else_a_notification_tells_of_is_done_before_its_failure_is_told() {
    let bucket = "lambda-some";
    let function = function(bucket, &[("S3_ALLOWED_BUCKETS", bucket)]);
    put(bucket, "in/page.mp3", &fixture("page.html.mp3"));
    put(bucket, "in/talk.wav", &fixture("sample.wav"));
    let mut told = stored(bucket, "in/page.mp3", "1");
    let mut tell = |bucket: &str, key: &str| {
        let record = stored(bucket, key, "1")["Records"][0].take();
        told["Records"].as_array_mut().unwrap().push(record);
    };
    tell("of-someone-else", "in/talk.wav");
    tell(bucket, "in/talk.wav");
    let error = function.invoke(told, LONG).result.expect_err("two are no jobs");
    assert!(error["errorMessage"].as_str().unwrap().contains("S3_ALLOWED_BUCKETS"), "{error}");
    let states = "select state, count(*) from job_history group by 1 order by 1";
    assert_eq!(function.sql(states), json!([["completed", 1], ["failed", 1]]));
}

#[test]
fn of_a_batch_with_one_bad_file_one_failure_is_reported() {
    let bucket = "lambda-batch";
    let function = function(bucket, &[]);
    for name in ["a", "b", "c", "d"] {
        put(bucket, &format!("in/{name}.wav"), &fixture("sample.wav"));
    }
    put(bucket, "in/bad.wav", &fixture("noise-bytes.mp3"));
    // As a job with options, and as S3 itself writes into a queue.
    let job = |name: &str| json!({"audio": format!("s3://{bucket}/in/{name}.wav"), "output_formats": ["srt"]});
    let messages = [
        ("m-a", job("a")),
        ("m-b", job("b")),
        ("m-bad", job("bad")),
        ("m-c", stored(bucket, "in/c.wav", "1")),
        ("m-d", stored(bucket, "in/d.wav", "2")),
    ];
    let answer = function.invoke(batch(&messages), LONG).result.unwrap();
    assert_eq!(failures(&answer), ["m-bad"]);
    let states = "select state, count(*) from job_history group by 1 order by 1";
    assert_eq!(function.sql(states), json!([["completed", 4], ["failed", 1]]));
    assert_eq!(Boto::shared().keys(bucket, "out/").iter().filter(|key| key.ends_with(".srt")).count(), 2);
    // SQS brings back the whole batch after a failure of its own: nothing that was done is done again.
    let answer = function.invoke(batch(&messages), LONG).result.unwrap();
    assert_eq!(failures(&answer), ["m-bad"]);
    assert_eq!(function.sql(states), json!([["completed", 4], ["failed", 1]]));
    let claims = "select count(*) from chunks where kind = 'transcribe'";
    assert_eq!(function.sql(claims), json!([[4]]));
}

#[test]
fn messages_that_are_no_jobs_fail_alone_and_the_test_of_s3_does_not() {
    let function = Function::start(&[]);
    let messages = [
        ("test", json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "talks"})),
        ("path", json!({"audio": "/etc/passwd"})),
        ("option", json!({"audio": "s3://talks/a.mp3", "beam_size": "many"})),
        ("text", json!("hello")),
    ];
    let answer = function.invoke(batch(&messages), LONG).result.unwrap();
    assert_eq!(failures(&answer), ["path", "option", "text"]);
    let error = function.invoke(json!({"hello": "lambda"}), LONG).result.expect_err("no event");
    assert_eq!(error["errorType"], "whisperq.invalid_event");
    assert_eq!(function.get("/health").status, 200, "and the next invocation is as any other");
}

#[test]
fn a_message_that_is_not_done_in_time_comes_again_and_keeps_its_chunks() {
    let bucket = "lambda-unfinished";
    let function = function(bucket, &[("LEASE_SECONDS", "3"), ("LAMBDA_MARGIN_MS", "2000")]);
    let whisperq = Whisperq::new();
    long_recording(&whisperq.path("long.wav"), LONGER);
    put(bucket, "in/long.wav", &whisperq.path("long.wav"));
    let message = batch(&[("m", json!({"audio": format!("s3://{bucket}/in/long.wav")}))]);
    let mut deliveries = 0;
    loop {
        let outcome = function.invoke(message.clone(), SHORT);
        assert!(outcome.left > Duration::ZERO);
        deliveries += 1;
        if failures(&outcome.result.unwrap()).is_empty() {
            break;
        }
    }
    assert!(deliveries > 1);
    assert_eq!(function.sql("select state, count(*) from job_history group by 1"), json!([["completed", 1]]));
    let twice = "select seq from chunks where kind = 'transcribe' group by seq having count(*) > 1";
    assert_eq!(function.sql(twice), json!([]));
}
