//! What goes wrong is said in one line that names the next step, with the exit code of its kind: 1 the work failed, 2 bad
//! usage or configuration.

use std::process::Command;

use crate::scripted::{Answer, Server, nobody};
use crate::support::{Whisperq, fixture};

struct Case {
    name: &'static str,
    command: Command,
    code: i32,
    says: &'static str,
}

fn case(name: &'static str, command: Command, code: i32, says: &'static str) -> Case {
    Case { name, command, code, says }
}

fn with(mut command: Command, name: &str, value: &str) -> Command {
    command.env(name, value);
    command
}

/// A file of its own with this content.
fn file(whisperq: &Whisperq, name: &str, content: &[u8]) -> String {
    let path = whisperq.path(name);
    std::fs::write(&path, content).unwrap();
    path.display().to_string()
}

fn check(mut case: Case) {
    let output = case.command.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let name = case.name;
    assert_eq!(output.status.code(), Some(case.code), "{name}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{name}: {errors}");
    assert!(errors.starts_with("whisperq: ") && errors.contains(case.says), "{name}: {errors}");
    assert!(output.stdout.is_empty(), "{name}");
}

#[test]
fn inputs_that_are_no_recordings_fail_with_one_line() {
    let whisperq = Whisperq::new();
    let transcribe = |path: &str| whisperq.command(&["transcribe", path]);
    let fixture = |name: &str| transcribe(&fixture(name).display().to_string());
    for case in [
        case("no such file", transcribe("nowhere.mp3"), 1, "check the path"),
        case("a folder", transcribe("/"), 1, "not a file"),
        case("an address within", transcribe("http://localhost/a.mp3"), 1, "ALLOW_PRIVATE_URLS"),
        case("no address", transcribe("ftp://example.com/a.mp3"), 1, "https://"),
        case("empty", transcribe(&file(&whisperq, "empty.wav", b"")), 1, "empty"),
        case("text", transcribe(&file(&whisperq, "note.mp3", b"dear diary, today I spoke\n")), 1, "text"),
        case("html", fixture("page.html.mp3"), 1, "HTML"),
        case("random bytes", fixture("noise-bytes.mp3"), 1, "no recording"),
    ] {
        check(case);
    }
}

#[test]
fn wrong_usage_and_settings_are_refused_before_anything_starts() {
    let whisperq = Whisperq::new();
    let sample = fixture("sample.wav").display().to_string();
    let transcribe = |more: &[&str]| whisperq.command(&[&["transcribe", &sample], more].concat());
    let in_the_way = file(&whisperq, "in-the-way", b"");
    for case in [
        case("unknown model", transcribe(&["--model", "gigantic"]), 2, "tiny.en"),
        case("model not there", transcribe(&["--model", "large-v1"]), 2, "whisperq models pull large-v1"),
        case("unknown option", transcribe(&["--speed", "9"]), 2, "--help"),
        case("bad format", transcribe(&["--format", "doc"]), 2, "verbose_json"),
        case("bad language", transcribe(&["--language", "klingon"]), 2, "allowed is auto"),
        case("language beyond the model", transcribe(&["--language", "fr"]), 2, "knows only English"),
        case("translating english", transcribe(&["--translate"]), 2, "cannot translate"),
        case("folder of no use", transcribe(&["--output-dir", &in_the_way]), 2, "choose another"),
        case("bad temperature", transcribe(&["--temperature", "7"]), 2, "from 0 to 1"),
        case("no file", whisperq.command(&["transcribe"]), 2, "FILE|URL"),
        case("bad setting", with(transcribe(&[]), "WORKER_COUNT", "abc"), 2, "WORKER_COUNT=abc"),
        case("too many models", with(transcribe(&[]), "MODEL_INSTANCES", "9"), 2, "MODEL_INSTANCES=9"),
        case("bad switch", with(transcribe(&[]), "ALLOW_PRIVATE_URLS", "maybe"), 2, "true or false"),
        case("bad place", with(transcribe(&[]), "OUTPUT_URI", "https://a/?signed"), 2, "s3://bucket/prefix"),
        case("bad secret", with(transcribe(&[]), "WEBHOOK_SECRET", "secret"), 2, "whsec_"),
        case("no bucket", whisperq.command(&["upload", &sample]), 2, "UPLOAD_BUCKET"),
        case("unwritable data", with(transcribe(&[]), "DATA_DIR", &format!("{in_the_way}/data")), 2, "DATA_DIR"),
        case("bad filter", with(transcribe(&[]), "RUST_LOG", "whisperq=loud"), 2, "RUST_LOG"),
        case("unknown command", whisperq.command(&["transcibe", &sample]), 2, "transcribe"),
        case("bad status", whisperq.command(&["jobs", "list", "--status", "lost"]), 2, "queued"),
        case("writing sql", whisperq.command(&["sql", "delete from jobs"]), 2, "anything but reading"),
        case(
            "hidden writing",
            whisperq.command(&["sql", "with a as (select 1) delete from jobs"]),
            2,
            "anything but reading",
        ),
        case("wrong sql", whisperq.command(&["sql", "select * from nowhere"]), 2, "no such table"),
    ] {
        check(case);
    }
}

#[test]
fn a_database_that_is_none_is_refused_with_the_setting_to_change() {
    let whisperq = Whisperq::new();
    std::fs::create_dir_all(whisperq.path("data")).unwrap();
    file(&whisperq, "data/whisperq.db", &[b'x'; 8192]);
    check(case("not a database", whisperq.command(&["jobs", "list"]), 2, "check DATA_DIR"));
}

#[test]
fn jobs_that_do_not_exist_or_have_ended_cannot_be_steered() {
    let whisperq = Whisperq::new();
    whisperq.output(&["transcribe", &fixture("sample.wav").display().to_string()]);
    let jobs: serde_json::Value =
        serde_json::from_str(&whisperq.output(&["jobs", "list", "--format", "json"])).unwrap();
    let id = jobs[0]["id"].as_str().unwrap();
    for case in [
        case("unknown job", whisperq.command(&["jobs", "show", "nobody"]), 1, "whisperq jobs list"),
        case("cancel when done", whisperq.command(&["jobs", "cancel", id]), 1, "is completed"),
        case("retry when done", whisperq.command(&["jobs", "retry", id]), 1, "is completed"),
    ] {
        check(case);
    }
}

#[test]
fn one_bad_recording_among_good_ones_fails_alone() {
    let whisperq = Whisperq::new();
    let (bad, good) = (fixture("noise-bytes.mp3"), fixture("sample.wav"));
    let output = whisperq.run(&["transcribe", &bad.display().to_string(), &good.display().to_string()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("boxes are dry"));
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
}

#[test]
fn a_server_that_cannot_be_asked_is_named_with_what_to_do() {
    let whisperq = Whisperq::new();
    let (sample, nobody) = (fixture("sample.wav").display().to_string(), nobody());
    let load = |more: &[&str]| whisperq.command(&[&["load", &sample], more].concat());
    let jobs = |more: &[&str]| whisperq.command(&[&["jobs", "list"], more].concat());
    let locked = Server::start(|_| Answer::error(401, "unauthorized", "the key is wrong"));
    let strange = Server::start(|_| Answer::new(200, "<html>welcome</html>"));
    for case in [
        case("nobody there", load(&["--server", &nobody]), 1, "start it there with whisperq serve"),
        case("no file there", whisperq.command(&["load", "nowhere.mp3", "--server", &nobody]), 1, "check the path"),
        case("a folder", whisperq.command(&["load", "/", "--server", &nobody]), 1, "name a recording"),
        case("no file", whisperq.command(&["load"]), 2, "FILES"),
        case("no clients", load(&["--clients", "0"]), 2, "--clients"),
        case("no scheme", load(&["--server", "localhost:8080"]), 2, "http://127.0.0.1:8080"),
        case("a key of two lines", load(&["--api-key", "a\nb"]), 2, "--api-key"),
        case("a wrong key", load(&["--server", &locked.url, "--api-key", "sesame"]), 2, "with --api-key or in API_KEY"),
        case("jobs of nobody", jobs(&["--server", &nobody]), 1, "refused"),
        case("jobs behind a key", jobs(&["--server", &locked.url]), 2, "the key is wrong"),
        case("jobs of something else", jobs(&["--server", &strange.url]), 1, "names a whisperq"),
        case("a bad status of a server's", jobs(&["--server", &nobody, "--status", "lost"]), 2, "queued"),
    ] {
        check(case);
    }
}
