//! How long a short recording takes while long ones keep all workers busy, against the time of a chunk. The figures and
//! the command are in benches/README.md.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints its figures, and stops where it fails")]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use whisperq::app::{App, Source};
use whisperq::config::Config;
use whisperq::job::{FrontDoor, JobState, Options};
use whisperq::queue::{new_id, unix_now_ms};
use whisperq::shutdown::Shutdown;

const LOOK: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    // The program starts itself to decode.
    if std::env::args().nth(1).as_deref() == Some("decode") {
        return whisperq::cli::run();
    }
    let given: BTreeMap<String, String> = std::env::args()
        .filter_map(|arg| arg.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let number = |key: &str, otherwise: usize| given.get(key).map_or(otherwise, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let own = [
        ("DATA_DIR", folder.path().to_str().unwrap().to_owned()),
        ("WORKER_COUNT", number("workers", 2).to_string()),
        ("MODEL_NAME", given.get("model").map_or("tiny.en", String::as_str).to_owned()),
    ];
    let vars = std::env::vars().chain(own.map(|(name, value)| (name.to_owned(), value)));
    let vars: BTreeMap<String, String> = vars.collect();
    let shutdown = Shutdown::default();
    let app = App::start(&Config::from_vars(vars.into_iter()).unwrap(), "bench", false, &shutdown).unwrap();

    let long: Vec<String> = (0..number("jobs", 4)).map(|_| submit(&app, &given["long"])).collect();
    let began = Instant::now();
    while chunk_times(&app).is_empty() {
        std::thread::sleep(LOOK);
    }
    println!("first chunk of the long recordings done after {:.2} s", began.elapsed().as_secs_f64());
    if given.contains_key("settled") {
        while long.iter().any(|job| app.intake().queue.job(job, unix_now_ms()).unwrap().audio_seconds.is_none()) {
            std::thread::sleep(LOOK);
        }
        println!("all decoded after {:.2} s", began.elapsed().as_secs_f64());
    }
    let mut waits = Vec::new();
    for _ in 0..number("probes", 10) {
        let submitted = Instant::now();
        let job = submit(&app, &given["short"]);
        while wait(&app, &job) != JobState::Completed {}
        waits.push(submitted.elapsed().as_secs_f64());
    }
    let still_busy = long.iter().all(|job| !app.intake().queue.progress(job).unwrap().0.is_terminal());
    let mut chunks = chunk_times(&app);
    chunks.sort_by(f64::total_cmp);
    println!("short recording, each: {}", waits.iter().map(|wait| format!("{wait:.2} ")).collect::<String>());
    waits.sort_by(f64::total_cmp);
    let chunk = chunks[chunks.len() / 2];
    println!("long recordings still running at the end: {still_busy}");
    println!("chunks done {}, median {chunk:.2} s, longest {:.2} s", chunks.len(), chunks[chunks.len() - 1]);
    println!(
        "short recording, submit to completed: median {:.2} s, worst {:.2} s",
        waits[waits.len() / 2],
        waits[waits.len() - 1]
    );
    println!("the limit, twice the median chunk and half a second: {:.2} s", 2.0 * chunk + 0.5);
    app.shut_down(Duration::ZERO).unwrap();
    ExitCode::SUCCESS
}

/// A job that any worker may take.
fn submit(app: &App, file: &str) -> String {
    let path = std::path::Path::new(file).canonicalize().unwrap();
    let bytes = path.metadata().unwrap().len();
    let source = Source { name: path.to_str().unwrap().to_owned(), version: None, bytes: Some(bytes) };
    let draft = app.intake().new_job(new_id(), FrontDoor::Cli, source, Options::default(), None).unwrap();
    app.intake().submit(draft).unwrap().id
}

fn wait(app: &App, job: &str) -> JobState {
    let seen = app.intake().queue.wake().seen();
    let state = app.intake().queue.progress(job).unwrap().0;
    if !state.is_terminal() {
        app.intake().queue.wake().wait(seen, LOOK);
    }
    state
}

/// Seconds from claim to finish of every chunk done.
fn chunk_times(app: &App) -> Vec<f64> {
    let sql = "select took_ms from chunks where kind = 'transcribe' and outcome = 'done'";
    let times = app.intake().queue.db().read(|conn| {
        let mut statement = conn.prepare(sql)?;
        let times = statement.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
        Ok(times)
    });
    times.unwrap().into_iter().map(|ms| ms as f64 / 1000.0).collect()
}
