//! A command line that tells everything it does tells no secret.

use crate::scripted::{Answer, Server, nobody};
use crate::support::{Whisperq, fixture};

const TOKEN: &str = "operators-session-token";

#[test]
fn the_most_detailed_log_holds_no_key_no_signature_and_no_session() {
    let talk = std::fs::read(fixture("sample.wav")).unwrap();
    let server = Server::start(move |_| Answer::with_body(200, talk.clone()));
    let bad = format!("{}/a.mp3?X-Amz-Signature=hidden", nobody());
    // What asks for one crate by its name is answered no more than what asks for all.
    for filter in ["trace", "info,whisperq=trace,aws_sigv4::http_request=trace,aws_smithy_runtime=trace"] {
        let whisperq = Whisperq::new();
        let mut command = whisperq.command(&["transcribe", "s3://talks/talk.wav", &bad]);
        command.env("RUST_LOG", filter).env("S3_FORCE_PATH_STYLE", "true").env("AWS_ENDPOINT_URL_S3", &server.url);
        command.env("AWS_ACCESS_KEY_ID", "id").env("AWS_SECRET_ACCESS_KEY", "hidden").env("AWS_SESSION_TOKEN", TOKEN);
        command.env("AWS_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true").env("MAX_ATTEMPTS", "1");
        command.env("ALLOW_PRIVATE_URLS", "true");
        let output = command.output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("DEBUG") && log.contains("/a.mp3: cannot be reached"), "{log}");
        for secret in [TOKEN, "hidden", "Signature="] {
            assert!(
                !log.contains(secret) && !String::from_utf8_lossy(&output.stdout).contains(secret),
                "{secret}: {log}"
            );
        }
    }
    // It went where it belongs.
    assert!(server.lines().iter().all(|line| line.contains(&format!("X-Amz-Security-Token={TOKEN}"))));
    assert_eq!(server.lines().len(), 2);
}
