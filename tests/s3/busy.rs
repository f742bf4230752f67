//! An engine behind a network: recordings are fetched and decoded while it works on earlier ones, so that it never waits
//! for them. The engine is one that only takes its time; everything before it is real.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use whisperq::audio::{self, Decoder, SAMPLE_RATE};
use whisperq::db::Db;
use whisperq::error::Result;
use whisperq::job::{FrontDoor, NewJob, Options};
use whisperq::prepare::Prepare;
use whisperq::queue::{self, Limits, Queue, unix_now_ms};
use whisperq::shutdown::Shutdown;
use whisperq::spool::Spool;
use whisperq::storage::{Secrets, Settings, Storage};
use whisperq::transcribe::Transcribe;
use whisperq::transcript::{ChunkRequest, ChunkText, Control, Transcriber};
use whisperq::turns::Turns;
use whisperq::worker::{Slot, Worker};

use super::boto::Boto;
use super::proxy::{Fault, Proxy};
use super::site::keys_to;
use super::weed::Weed;
use crate::support::long_recording;

const MODEL: &str = "tiny";
const BUCKET: &str = "busy";
/// How many recordings of a minute; SOAK_FILES has another number.
const FILES: usize = 8;
/// How much faster than speech the engine is.
const SPEED: f64 = 20.0;
/// A recording takes longer to fetch than the engine takes for it: one fetcher alone could not keep up.
const BYTES_PER_SECOND: u64 = 500_000;
/// As many as the app has, and as many of them decode at the same time.
const FETCHERS: usize = 4;
const DECODERS: usize = 2;
/// Of the time from the first chunk to the last.
const MOST_IDLE: f64 = 0.05;
const PATIENCE: Duration = Duration::from_secs(600);

/// Takes the time of an engine, and hears nothing.
struct Slow;

impl Transcriber for Slow {
    fn transcribe(&mut self, request: &ChunkRequest<'_>, _: &Control) -> Result<ChunkText> {
        let seconds = request.samples.len() as f64 / f64::from(SAMPLE_RATE) / SPEED;
        // Nobody asks this one to stop.
        Shutdown::default().wait(Duration::from_secs_f64(seconds));
        Ok(ChunkText { language: "en".to_owned(), language_probability: None, segments: Vec::new() })
    }
}

/// What the app puts together, on a folder of its own.
struct House {
    _folder: TempDir,
    queue: Queue,
    spool: Spool,
    storage: Storage,
    shutdown: Shutdown,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let limits = Limits {
            lease_ms: 600_000,
            max_attempts: 3,
            max_queued: 1000,
            job_ttl_ms: 3_600_000,
            execution_timeout_ms: 3_600_000,
        };
        let queue = Queue::new(Arc::new(Db::open(&path.join("queue.db")).unwrap()), limits, path.join("proc"));
        let spool = Spool::open(path.join("spool"), 1 << 30).unwrap();
        let settings = Settings { allow_private: true, ..Settings::new(path.to_owned()) };
        let storage = Storage::open(&settings).unwrap();
        Self { queue, spool, storage, shutdown: Shutdown::default(), _folder: folder }
    }

    /// A job for an object in a user's own bucket.
    fn submit(&self, proxy: &Proxy, key: &str) {
        let id = queue::new_id();
        let keys = Secrets { s3_config: Some(keys_to(proxy)), ..Secrets::default() };
        self.storage.keep_secrets(&id, &keys).unwrap();
        let job = NewJob {
            id,
            idempotency_key: None,
            front_door: FrontDoor::Http,
            source: format!("s3://{BUCKET}/{key}"),
            source_version: None,
            source_bytes: None,
            model: MODEL.to_owned(),
            language: Some("en".to_owned()),
            options: Options::default(),
            owner: None,
        };
        self.queue.submit(job, unix_now_ms()).unwrap();
    }

    fn worker(&self, name: String) -> Worker {
        let (queue, shutdown) = (self.queue.clone(), self.shutdown.clone());
        Worker { queue, slot: Slot::new(name), process_id: "me".to_owned(), shutdown }
    }

    fn prepare(&self, number: usize, turns: &Arc<Turns>) {
        let limits = audio::Limits { max_audio_ms: 100_000 };
        let prepare = Prepare {
            worker: self.worker(format!("prepare-{number}")),
            spool: self.spool.clone(),
            storage: self.storage.clone(),
            lane: queue::prepare_lane(false, MODEL, None),
            decoder: Decoder::new(PathBuf::from(env!("CARGO_BIN_EXE_whisperq")), limits),
            turns: turns.clone(),
            max_audio_bytes: 1 << 30,
        };
        prepare.worker.run(|| prepare.step());
    }

    fn transcribe(&self) {
        let mut transcribe = Transcribe {
            worker: self.worker("gpu-0".to_owned()),
            spool: self.spool.clone(),
            lane: queue::transcribe_lane(MODEL, None),
            turns: Turns::new(1),
            turn: None,
            engine: Box::new(Slow),
        };
        transcribe.worker.clone().run(|| transcribe.step());
    }

    /// Works until all jobs have ended.
    fn work(&self) {
        let turns = Turns::new(DECODERS);
        std::thread::scope(|scope| {
            for number in 0..FETCHERS {
                let turns = turns.clone();
                scope.spawn(move || self.prepare(number, &turns));
            }
            scope.spawn(|| self.transcribe());
            let ended = self.wait_for_the_end();
            self.shutdown.trigger();
            self.queue.wake().notify();
            assert!(ended, "they take too long");
        });
    }

    fn wait_for_the_end(&self) -> bool {
        let until = Instant::now() + PATIENCE;
        loop {
            let seen = self.queue.wake().seen();
            if self.number("select count(*) from jobs where finished_at_ms is null") == 0 {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            self.queue.wake().wait(seen, Duration::from_secs(1));
        }
    }

    fn number(&self, sql: &str) -> i64 {
        self.queue.db().read(|conn| Ok(conn.query_row(sql, [], |row| row.get(0))?)).unwrap()
    }

    /// In ms: the pauses between the engine's chunks; how long the next one had not been there in them, which is the
    /// recordings' fault and not the machine's; and all the time from the first chunk to the last.
    fn idle(&self) -> (i64, i64, i64) {
        let pauses = "select chunk.started_at_ms as until_ms, prepare.finished_at_ms as there_ms,
                 lag(chunk.finished_at_ms) over (order by chunk.started_at_ms) as since_ms
             from chunks chunk join chunks prepare on prepare.job_id = chunk.job_id and prepare.kind = 'prepare'
             where chunk.kind = 'transcribe'";
        let all = "select max(finished_at_ms) - min(started_at_ms) from chunks where kind = 'transcribe'";
        let sum = |what: &str| self.number(&format!("select coalesce(sum({what}), 0) from ({pauses})"));
        (sum("until_ms - since_ms"), sum("max(0, min(until_ms, there_ms) - since_ms)"), self.number(all))
    }
}

#[test]
fn the_engine_does_not_wait_for_recordings_to_be_fetched() {
    let soak =
        std::env::vars().find(|(name, _)| name == "SOAK_FILES").map(|(_, files)| files.parse::<usize>().unwrap());
    let files = soak.unwrap_or(FILES);
    let (house, proxy) = (House::new(), Proxy::start(&Weed::shared().address));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("minute.wav");
    long_recording(&file, 60);
    Boto::shared().create(BUCKET);
    proxy.sometimes(BUCKET, 1.0, 1, Fault::Slow(BYTES_PER_SECOND));
    for n in 0..files {
        Boto::shared().put(BUCKET, &format!("{n}.wav"), &file);
        house.submit(&proxy, &format!("{n}.wav"));
    }
    house.work();

    assert_eq!(house.number("select count(*) from jobs where state = 'completed'"), files as i64);
    let chunks = house.number("select count(*) from chunks where kind = 'transcribe'");
    let (pauses, waited, all) = house.idle();
    // Alone on a machine all pauses count; beside other tests, those in which there was nothing to do.
    let idle = if soak.is_some() { pauses } else { waited };
    let share = idle as f64 / all as f64;
    let said = format!(
        "{chunks} chunks of {files} files in {all} ms: {pauses} ms between them, {waited} of it without a chunk, {:.2} %",
        100.0 * share
    );
    eprintln!("{said}");
    assert!(all as f64 / 1000.0 > files as f64 * 60.0 / SPEED / 2.0, "the engine takes its time: {said}");
    assert!(share < MOST_IDLE, "{said}");
}
