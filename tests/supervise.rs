//! The process around the process, with real processes: a child that dies comes back, one that is asked to stop does not,
//! and none outlives its parent.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use whisperq::supervise::{follow_parent, supervise, supervise_program};

const ENTRY: &str = "supervise::a_child_that_crashes_is_started_again_until_it_ends_well";
/// The file that makes a process started in its folder a supervisor; it holds the shell script to be its child.
const MARK: &str = "supervised";
/// In place of a script: the child is this program too.
const OWN_PROGRAM: &str = "own program";
/// What the children write down, a line each time.
const DIARY: &str = "diary";
const BOUND: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

#[test]
fn a_child_that_crashes_is_started_again_until_it_ends_well() {
    if let Ok(script) = std::fs::read_to_string(MARK) {
        be_supervised(&script);
    }
    let script = "echo started >> diary; [ $(wc -l < diary) -ge 3 ] && exit 0
                  [ $(wc -l < diary) -ge 2 ] && exit 7; kill -ABRT $$";
    let begun = Instant::now();
    let (code, log) = Supervised::start(script).end();
    assert_eq!(code, Some(0), "{log}");
    assert!(begun.elapsed() >= Duration::from_millis(1500), "half a second of pause, then a whole one: {log}");
    assert_eq!(log.matches("is started again").count(), 2, "{log}");
    assert!(log.contains("SIGABRT") && log.contains("exit status: 7"), "{log}");
}

#[test]
fn a_child_with_a_bad_configuration_is_not_started_again() {
    let supervised = Supervised::start("echo started >> diary; exit 2");
    let folder = supervised.wait_for("started");
    assert_eq!(supervised.end().0, Some(2));
    assert_eq!(diary(folder.path()), "started\n");
}

#[test]
fn what_a_later_child_takes_for_a_bad_configuration_may_pass() {
    let script = "echo started >> diary; [ $(wc -l < diary) -ge 3 ] && exit 0
                  [ $(wc -l < diary) -ge 2 ] && exit 2; exit 1";
    let (code, log) = Supervised::start(script).end();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn every_request_to_stop_is_handed_on_and_the_code_of_the_child_is_returned() {
    // 3 is between the two processes only.
    for (last, code) in [("exit 0", 0), ("exit 5", 5), ("exit 3", 1), ("trap - TERM; kill -TERM $$", 1)] {
        let script = format!(
            "trap 'echo INT >> diary' INT; trap 'echo TERM >> diary; {last}' TERM
             echo started >> diary; while true; do sleep 0.02; done"
        );
        let supervised = Supervised::start(&script);
        supervised.wait_for("started");
        supervised.send("INT");
        supervised.wait_for("INT");
        supervised.send("TERM");
        let folder = supervised.wait_for("TERM");
        assert_eq!(supervised.end().0, Some(code));
        assert_eq!(diary(folder.path()), "started\nINT\nTERM\n", "it was not started again");
    }
}

#[test]
fn a_request_to_stop_ends_the_pause() {
    // The pauses of half a second and of one are over then, the one of two seconds has begun.
    let supervised = Supervised::start("echo started >> diary; exit 1");
    supervised.wait_for("started\nstarted\nstarted");
    std::thread::sleep(Duration::from_millis(500));
    let sent = Instant::now();
    supervised.send("TERM");
    let folder = supervised.wait_for("started");
    assert_eq!(supervised.end().0, Some(0));
    assert!(sent.elapsed() < Duration::from_secs(1), "{:?}", sent.elapsed());
    assert_eq!(diary(folder.path()), "started\n".repeat(3));
}

#[test]
fn a_child_dies_with_its_supervisor() {
    let mut supervised = Supervised::start(OWN_PROGRAM);
    let folder = supervised.wait_for("\n");
    let child: u32 = diary(folder.path()).trim().parse().unwrap();
    assert!(is_alive(child));
    supervised.process.kill().unwrap();
    supervised.process.wait().unwrap();
    wait_until("the child to die", || !is_alive(child));
}

#[test]
fn a_child_whose_parent_has_died_before_it_asks_does_not_go_on() {
    let folder = folder(OWN_PROGRAM);
    // The number of a process that is not its parent.
    let output = entry(&folder).arg("1").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("has ended"), "{errors}");
    assert_eq!(diary(folder.path()), "");
}

/// A supervisor in a process of its own, and the folder it runs in.
struct Supervised {
    process: Child,
    folder: std::rc::Rc<TempDir>,
}

impl Supervised {
    fn start(script: &str) -> Self {
        let folder = std::rc::Rc::new(folder(script));
        let process = entry(&folder).stderr(Stdio::piped()).spawn().unwrap();
        Self { process, folder }
    }

    /// Waits until the children have written `text`; the folder, so that it can be read after the end.
    #[track_caller]
    fn wait_for(&self, text: &str) -> std::rc::Rc<TempDir> {
        wait_until(text, || diary(self.folder.path()).contains(text));
        self.folder.clone()
    }

    fn send(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.process.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end; its exit code and what it logged.
    fn end(self) -> (Option<i32>, String) {
        let output = self.process.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

fn folder(script: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(MARK), script).unwrap();
    folder
}

/// This very program again, in the folder whose mark says what it is.
fn entry(folder: &TempDir) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", ENTRY, "--nocapture"]).current_dir(folder.path()).stdout(Stdio::null());
    command
}

/// What that process does: without a number it is the supervisor, with one the child of the process with that number.
fn be_supervised(script: &str) -> ! {
    let parent = std::env::args().next_back().and_then(|last| last.parse().ok());
    if let Some(parent) = parent {
        follow_parent(parent).unwrap();
        std::fs::write(DIARY, format!("{}\n", std::process::id())).unwrap();
        std::thread::sleep(BOUND);
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let code = if script == OWN_PROGRAM {
        supervise(&["--exact", ENTRY, "--nocapture"].map(OsString::from))
    } else {
        supervise_program(Path::new("/bin/sh"), &["-c", script, "child"].map(OsString::from))
    };
    std::process::exit(code.unwrap().into());
}

fn diary(folder: &Path) -> String {
    std::fs::read_to_string(folder.join(DIARY)).unwrap_or_default()
}

/// A process that nobody has reaped yet is dead all the same.
fn is_alive(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < BOUND, "waited too long for {what}");
        std::thread::sleep(LOOK);
    }
}
