//! What is secret about a job is in one folder for as long as it is needed, and nowhere else: not in the database, not in a log
//! that tells everything, not in an answer.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Child;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use whisperq::system::VIEWS;

use super::boto::Boto;
use super::weed::{ACCESS_KEY, SECRET_KEY, Weed};
use crate::scripted::{Answer, Server};
use crate::support::{Whisperq, fixture};

const BUCKET: &str = "discreet";
const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TOKEN: &str = "token-of-the-owner";
const PASSWORD: &str = "password-of-the-owner";

/// A service whose log goes to a file, with all that it can say.
struct Talkative {
    whisperq: Whisperq,
    child: Child,
    url: String,
}

impl Talkative {
    fn start() -> Self {
        let whisperq = Whisperq::new();
        let log = File::create(whisperq.path("log")).unwrap();
        let mut command = whisperq.command(&["serve"]);
        command.envs(Weed::shared().environment()).env("S3_FORCE_PATH_STYLE", "true").env("ALLOW_PRIVATE_URLS", "true");
        command
            .env("PORT", "0")
            .env("WORKER_COUNT", "1")
            .env("RUST_LOG", "trace")
            .env("WEBHOOK_SECRET", WEBHOOK_SECRET);
        let mut child = command.stderr(log).spawn().unwrap();
        loop {
            let log = std::fs::read_to_string(whisperq.path("log")).unwrap();
            if let Some((_, rest)) = log.split_once("whisperq: serving tiny.en on ")
                && let Some((url, _)) = rest.split_once('\n')
            {
                return Self { url: url.to_owned(), whisperq, child };
            }
            assert!(child.try_wait().unwrap().is_none(), "{log}");
            std::thread::yield_now();
        }
    }

    /// With curl, as a user would.
    fn ask(&self, path: &str, body: Option<&Value>) -> Value {
        let mut command = std::process::Command::new("curl");
        command.args(["--silent", "--show-error", "--noproxy", "*"]).arg(format!("{}{path}", self.url));
        if let Some(body) = body {
            command.args(["--header", "content-type: application/json", "--data", &body.to_string()]);
        }
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{path}: {error}: {output:?}"))
    }
}

impl Drop for Talkative {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signature(url: &str) -> String {
    let query = url.split_once("X-Amz-Signature=").unwrap().1;
    query.split('&').next().unwrap().to_owned()
}

/// All files below a folder but those below `secrets`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut found): (Vec<_>, Vec<_>) =
        entries.filter(|path| !path.ends_with("secrets")).partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| files(folder)));
    found
}

/// The secrets that lie in the folder for them: whose they are, readable by nobody else.
fn kept(whisperq: &Whisperq) -> Vec<String> {
    let folder = whisperq.path("data/secrets");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let entries =
        std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "webhooks");
    let name = |entry: std::fs::DirEntry| {
        // The keeper may have removed it meanwhile.
        let mode = entry.metadata().ok().map(|file| file.permissions().mode() & 0o777);
        assert!(mode.is_none_or(|mode| mode == 0o600), "{mode:?}");
        entry.file_name().into_string().unwrap()
    };
    entries.map(name).collect()
}

#[test]
fn secrets_are_in_their_folder_while_they_are_needed_and_nowhere_else() {
    let hook = Server::start(|_| Answer::new(200, ""));
    let boto = Boto::shared();
    boto.create(BUCKET);
    boto.put(BUCKET, "talk.mp3", &fixture("sample.mp3"));
    let (get, put) = (boto.presign_get(BUCKET, "talk.mp3", 600), boto.presign_put(BUCKET, "out.json", 600));
    let service = Talkative::start();
    let webhook = format!("{}/?token={TOKEN}", hook.url).replace("://", &format!("://owner:{PASSWORD}@"));
    let keys = json!({"accessId": ACCESS_KEY, "accessSecret": SECRET_KEY, "endpointUrl": Weed::shared().endpoint()});
    // One that fails keeps what a retry of it needs.
    let never = get.replace("talk.mp3", "none.mp3");
    let submits = [
        json!({"audio": get, "output_uri": put, "webhook": webhook}),
        json!({"audio": "s3://discreet/talk.mp3", "s3Config": keys, "output_uri": "s3://discreet/mine", "webhook": webhook}),
        json!({"audio": never, "webhook": webhook}),
    ];
    let ids = submits.map(|submit| service.ask("/jobs?wait=120", Some(&submit))["id"].as_str().unwrap().to_owned());
    hook.asked_when(3);
    while kept(&service.whisperq) != [ids[2].clone()] {
        std::thread::yield_now();
    }
    // As it stands in the header that it becomes.
    let encoded = STANDARD.encode(format!("owner:{PASSWORD}"));
    let open = [TOKEN, PASSWORD, SECRET_KEY, &encoded].map(str::to_owned);
    let needles = [&[signature(&get), signature(&put)], &open[..]].concat();
    let log = std::fs::read(service.whisperq.path("log")).unwrap();
    let text = String::from_utf8_lossy(&log).into_owned();
    assert!(text.contains("TRACE") && !text.contains("aws_sigv4"), "it tells all but what is signed with");
    let stored = files(&service.whisperq.path("data"));
    assert!(stored.len() > 3, "database, write-ahead log and more: {stored:?}");
    let stored = stored.into_iter().map(|file| (file.display().to_string(), std::fs::read(&file).unwrap_or_default()));
    let places =
        stored.chain([("the log".to_owned(), log), ("the answers".to_owned(), answers(&service, &ids).into())]);
    for (place, content) in places {
        search(&place, &content, &needles);
    }
}

/// What the service says of its jobs, in all ways.
fn answers(service: &Talkative, ids: &[String]) -> String {
    let views = VIEWS.map(|view| json!({"sql": format!("select * from {view}")}));
    let views = views.iter().map(|question| service.ask("/sql", Some(question)).to_string());
    let show = |id| service.whisperq.output(&["jobs", "show", id]);
    let jobs = ids.iter().map(|id| service.ask(&format!("/jobs/{id}"), None).to_string() + &show(id));
    service.ask("/jobs", None).to_string() + &jobs.chain(views).collect::<String>()
}

/// Also for the key of webhooks, as text and as bytes.
fn search(place: &str, content: &[u8], needles: &[String]) {
    let key = &WEBHOOK_SECRET["whsec_".len()..];
    let bytes = STANDARD.decode(key).unwrap();
    let needles = needles.iter().map(|needle| needle.as_bytes()).chain([key.as_bytes(), &bytes]);
    for needle in needles {
        let found = content.windows(needle.len()).position(|window| window == needle);
        let around = found.map(|at| String::from_utf8_lossy(&content[at.saturating_sub(300)..at]).into_owned());
        assert_eq!(around, None, "{place} holds a secret");
    }
}
