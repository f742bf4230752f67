//! The whole way of a recording: from a bucket or an address through the service, and its transcript back to a bucket and to
//! whoever wants word of it. What stands on both ends is real.

use std::path::Path;

use serde_json::{Value, json};

use super::Connection;
use super::boto::Boto;
use super::webhook::verify_webhook;
use super::weed::Weed;
use crate::http::client::Service;
use crate::scripted::{Answer, Server};
use crate::support::{Whisperq, fixture};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SPOKEN: &str = "Please call the customer";

/// A service that may use the SeaweedFS of the tests, and a bucket of its own.
fn service(bucket: &str, settings: &[(&str, &str)]) -> Service {
    Boto::shared().create(bucket);
    let environment = Weed::shared().environment();
    let mut all: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    all.extend([("S3_FORCE_PATH_STYLE", "true"), ("ALLOW_PRIVATE_URLS", "true"), ("WEBHOOK_SECRET", SECRET)]);
    all.extend(settings);
    Service::start(&all)
}

fn put(bucket: &str, key: &str, file: &Path) {
    Boto::shared().put(bucket, key, file);
}

/// Submits JSON and waits for the end of the job.
fn ended(service: &Service, request: &Value) -> Value {
    let answer = service.post_json("/jobs?wait=120", &request.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The job once its deliveries are over.
fn delivered(service: &Service, id: &str) -> Value {
    let is_over = |delivery: &Value| ["done", "failed"].contains(&delivery["state"].as_str().unwrap());
    loop {
        let job = service.get(&format!("/jobs/{id}")).json();
        if job["deliveries"].as_array().unwrap().iter().all(is_over) {
            return job;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_presigned_recording_comes_back_as_files_in_a_bucket_and_as_a_signed_message() {
    let bucket = "journey";
    let hook = Server::start(|_| Answer::new(204, ""));
    let service = service(bucket, &[("OUTPUT_URI", "s3://journey/out")]);
    put(bucket, "in/a talk.mp3", &fixture("sample.mp3"));
    let audio = Boto::shared().presign_get(bucket, "in/a talk.mp3", 600);
    let webhook = format!("{}/hook?token=of-the-owner", hook.url);
    let job = ended(&service, &json!({"audio": audio, "output_formats": "srt,verbose_json", "webhook": webhook}));
    assert_eq!((job["status"].as_str(), job["source"].as_str()), (Some("completed"), audio.split('?').next()));
    let id = job["id"].as_str().unwrap();

    let message = hook.asked_when(1).remove(0);
    assert_eq!(message.line, "POST /hook?token=of-the-owner");
    let event = verify_webhook(SECRET, &message.headers, &message.body).unwrap();
    assert_eq!((event["type"].as_str(), event["data"]["id"].as_str()), (Some("job.completed"), Some(id)));
    assert!(event["data"]["transcript"]["text"].as_str().unwrap().contains(SPOKEN));
    assert_eq!(event["data"]["deliveries"][0]["state"], "done", "files come first");

    let of = |extension: &str| format!("out/{id}.{extension}");
    assert_eq!(Boto::shared().keys(bucket, "out/"), [of("json"), of("srt"), of("verbose.json")]);
    let text = |key: String| String::from_utf8(Boto::shared().get(bucket, &key)).unwrap();
    let whole: Value = serde_json::from_str(&text(of("json"))).unwrap();
    assert!(whole["text"].as_str().unwrap().contains(SPOKEN) && whole["job"]["id"] == id);
    assert!(text(of("srt")).contains(" --> "));

    let shown = delivered(&service, id)["deliveries"].clone();
    assert_eq!((shown[0]["kind"].as_str(), shown[0]["target"].as_str()), (Some("output"), Some("s3://journey/out")));
    assert_eq!((shown[1]["kind"].as_str(), shown[1]["target"].as_str()), (Some("webhook"), webhook.split('?').next()));
    let repeated = service.request("POST", &format!("/jobs/{id}/redeliver"), "", b"");
    assert_eq!(repeated.status, 202, "{}", repeated.text());
    let again = hook.asked_when(2).remove(1);
    assert_eq!(again.header("webhook-id"), message.header("webhook-id"), "a receiver can tell a repetition");
}

#[test]
fn a_recording_in_a_bucket_goes_to_where_its_owner_wants_it_with_his_own_keys() {
    let bucket = "of-a-user";
    let nobodys = [("AWS_ACCESS_KEY_ID", "nobody"), ("AWS_SECRET_ACCESS_KEY", "nothing")];
    let service = service(bucket, &[nobodys[0], nobodys[1], ("S3_ALLOWED_BUCKETS", "another")]);
    put(bucket, "talk.mp3", &fixture("sample.mp3"));
    let keys = json!({"accessId": super::weed::ACCESS_KEY, "accessSecret": super::weed::SECRET_KEY,
        "bucketName": bucket, "endpointUrl": Weed::shared().endpoint()});
    let output = Boto::shared().presign_put(bucket, "result.txt", 600);
    let request =
        json!({"audio": "s3://of-a-user/talk.mp3", "s3Config": keys, "output_uri": output, "output_formats": ["txt"]});
    let job = ended(&service, &request);
    assert_eq!(job["status"], "completed", "{job}");
    delivered(&service, job["id"].as_str().unwrap());
    assert!(String::from_utf8(Boto::shared().get(bucket, "result.txt")).unwrap().contains(SPOKEN));
    // Without its secrets nothing is sent again, least of all with the operator's keys.
    let id = job["id"].as_str().unwrap();
    std::fs::remove_file(service.whisperq.path("data/secrets").join(id)).unwrap();
    assert_eq!(service.request("POST", &format!("/jobs/{id}/redeliver"), "", b"").status, 202);
    let again = delivered(&service, id)["deliveries"][0].clone();
    assert!(again["state"] == "failed" && again["last_error"].as_str().unwrap().contains("kept no more"), "{again}");
    let without = service.post_json("/jobs", &json!({"audio": "s3://of-a-user/talk.mp3"}).to_string());
    assert_eq!((without.status, without.code().as_str()), (400, "address_not_allowed"));
}

#[test]
fn a_failed_job_says_so_in_its_file_and_its_message() {
    let bucket = "failures";
    let hook = Server::start(|_| Answer::new(200, ""));
    let service = service(bucket, &[]);
    let request = json!({"audio": "s3://failures/none.mp3", "webhook": hook.url, "output_uri": "s3://failures"});
    let job = ended(&service, &request);
    assert_eq!((job["status"].as_str(), job["error"]["code"].as_str()), (Some("failed"), Some("not_found")));
    let message = hook.asked_when(1).remove(0);
    let event = verify_webhook(SECRET, &message.headers, &message.body).unwrap();
    assert_eq!(
        (event["type"].as_str(), event["data"]["error"]["code"].as_str()),
        (Some("job.failed"), Some("not_found"))
    );
    let file = Boto::shared().get(bucket, &format!("{}.json", job["id"].as_str().unwrap()));
    let file: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!((file["job"]["status"].as_str(), &file["text"]), (Some("failed"), &Value::Null));
}

#[test]
fn a_message_that_is_not_taken_is_sent_again_and_tells_how_often() {
    let mut answers = [503, 200].into_iter();
    let hook = Server::start(move |_| Answer::new(answers.next().unwrap_or(200), ""));
    let service = service("stubborn", &[]);
    let audio = "data:audio/wav;base64,UklGRg==";
    let job = ended(&service, &json!({"audio": audio, "webhook": hook.url}));
    let messages = hook.asked_when(2);
    assert_eq!(messages[0].header("webhook-id"), messages[1].header("webhook-id"));
    let delivery = delivered(&service, job["id"].as_str().unwrap())["deliveries"][0].clone();
    assert_eq!((delivery["attempts"].as_i64(), delivery["state"].as_str()), (Some(2), Some("done")));
    assert!(delivery["last_error"].as_str().unwrap().contains("the server answered 503; trying again may help"));
}

#[test]
fn a_recording_is_uploaded_to_a_presigned_address_and_submitted_by_its_name() {
    let bucket = "uploads";
    let service = service(bucket, &[("UPLOAD_BUCKET", "s3://uploads/in"), ("S3_ALLOWED_BUCKETS", "another")]);
    let place = service.post_json("/uploads", &json!({"name": "my talk.mp3"}).to_string()).json();
    let (url, audio) = (place["url"].as_str().unwrap(), place["audio"].as_str().unwrap());
    assert!(audio.starts_with("s3://uploads/in/") && audio.ends_with("/my_talk.mp3"), "{audio}");
    let recording = std::fs::read(fixture("sample.mp3")).unwrap();
    let (status, _) = Connection::open(&Weed::shared().address).request_url("PUT", url, &recording);
    assert_eq!(status, 200);
    assert_eq!(ended(&service, &json!({"audio": audio}))["status"], "completed");
}

#[test]
fn a_recording_is_uploaded_by_command_through_a_server_and_without_one() {
    let bucket = "typed";
    let service = service(bucket, &[("UPLOAD_BUCKET", bucket)]);
    let file = fixture("sample.mp3");
    let printed = |whisperq: &Whisperq, args: &[&str], environment: &[(&str, String)]| {
        let mut command = whisperq.command(args);
        let output = command.env("UPLOAD_BUCKET", bucket).envs(environment.iter().cloned()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().strip_prefix("s3://typed/").unwrap().to_owned()
    };
    let path = file.to_str().unwrap();
    let mut environment = Weed::shared().environment();
    environment.push(("S3_FORCE_PATH_STYLE", "true".to_owned()));
    let keys = [
        printed(&service.whisperq, &["upload", "--server", &service.url(), path], &[]),
        printed(&Whisperq::new(), &["upload", path], &environment),
    ];
    for key in keys {
        assert!(Boto::shared().get(bucket, &key) == std::fs::read(&file).unwrap(), "{key}");
    }
}

#[test]
fn an_upload_that_is_refused_says_whether_the_command_helps_again() {
    Boto::shared().create("typed-well");
    let refused = |bucket: &str, secret: Option<&str>| {
        let whisperq = Whisperq::new();
        let mut command = whisperq.command(&["upload", fixture("sample.mp3").to_str().unwrap()]);
        command.envs(Weed::shared().environment()).env("S3_FORCE_PATH_STYLE", "true").env("UPLOAD_BUCKET", bucket);
        command.envs(secret.map(|secret| ("AWS_SECRET_ACCESS_KEY", secret)));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for (said, why) in [
        (refused("typed-badly", None), "NoSuchBucket"),
        (refused("typed-well", Some("hidden")), "SignatureDoesNotMatch"),
    ] {
        assert!(said.contains(why) && said.contains("trying again as it is does not help"), "{said}");
    }
}

#[test]
fn an_object_that_was_stored_becomes_one_job_however_often_that_is_told() {
    let bucket = "watched";
    let service = service(bucket, &[("OUTPUT_URI", "s3://watched/out")]);
    put(bucket, "in/1+1.mp3", &fixture("sample.mp3"));
    let tag = "of-this-version";
    let record = |key: &str| json!({"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key, "versionId": tag}}});
    let event = json!({"Records": [record("in/1%2B1.mp3"), record("in/notes.txt"), record("out/x.json"), record("in/"), record("in/%0A.mp3")]});
    let told = || service.post_json("/events/s3?prefix=in/,out/,&suffix=.mp3,.json,", &event.to_string());
    let (first, second) = (told(), told());
    assert_eq!((first.status, &first.json()["ignored"]), (202, &json!(3)), "{}", first.text());
    assert_eq!(first.json(), second.json());
    assert_eq!(first.json()["refused"][0]["code"], "address_not_allowed", "one that can be no job stops no other");
    let id = first.json()["jobs"][0]["id"].as_str().unwrap().to_owned();
    let job = service.ended(&id);
    assert_eq!((job["status"].as_str(), job["source"].as_str()), (Some("completed"), Some("s3://watched/in/1+1.mp3")));
    assert_eq!(
        service.whisperq.sql("select front_door, count(*) as jobs from job_history"),
        [json!({"front_door": "s3", "jobs": 1})]
    );
}

#[test]
fn a_command_transcribes_an_object_and_an_address() {
    let bucket = "at-the-command-line";
    Boto::shared().create(bucket);
    put(bucket, "talk.mp3", &fixture("sample.mp3"));
    let whisperq = Whisperq::new();
    let signed = Boto::shared().presign_get(bucket, "talk.mp3", 600);
    for (address, private) in [("s3://at-the-command-line/talk.mp3", "false"), (&signed, "true")] {
        let mut command = whisperq.command(&["transcribe", address]);
        command
            .envs(Weed::shared().environment())
            .env("S3_FORCE_PATH_STYLE", "true")
            .env("ALLOW_PRIVATE_URLS", private);
        let output = command.output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(SPOKEN), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("Signature"));
    }
    let names = |folder: &str| -> Vec<String> {
        let files = std::fs::read_dir(whisperq.path(folder)).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!((names("data/secrets"), names("data/fetched")), (vec!["webhooks".to_owned()], Vec::new()));
}
