//! The step from a submitted file to chunks in the queue and samples on disk, with the real queue, the real decoder and,
//! where a decoder must misbehave, a script in its place.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use whisperq::audio::{Decoder, Limits, Sound};
use whisperq::db::Db;
use whisperq::error::Error;
use whisperq::job::{FrontDoor, Job, JobState, NewJob, Options};
use whisperq::prepare::{Prepare, file_version};
use whisperq::queue::{self, ChunkResult, Claim, Queue, Work, unix_now_ms};
use whisperq::shutdown::Shutdown;
use whisperq::spool::Spool;
use whisperq::storage::{Settings, Storage};
use whisperq::turns::Turns;
use whisperq::worker::{Outcome, Slot, Worker};

use crate::support::{fixture, long_recording};

const MODEL: &str = "tiny";

struct House {
    folder: TempDir,
    queue: Queue,
    spool: Spool,
    prepare: Prepare,
}

impl House {
    fn new() -> Self {
        Self::decoding_with(PathBuf::from(env!("CARGO_BIN_EXE_whisperq")))
    }

    fn decoding_with(program: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = queue::Limits {
            lease_ms: 30_000,
            max_attempts: 3,
            max_queued: 100,
            job_ttl_ms: 600_000,
            execution_timeout_ms: 600_000,
        };
        let db = Arc::new(Db::open(&folder.path().join("queue.db")).unwrap());
        let queue = Queue::new(db, limits, folder.path().join("proc"));
        let spool = Spool::open(folder.path().join("spool"), 1 << 30).unwrap();
        let decoder =
            Decoder { stall_limit: Duration::from_secs(5), ..Decoder::new(program, Limits { max_audio_ms: 100_000 }) };
        let prepare = preparing(&queue, &spool, decoder);
        Self { folder, queue, spool, prepare }
    }

    fn submit(&self, path: &Path, options: Options) -> String {
        let (version, bytes) = file_version(path).unwrap();
        let job = NewJob {
            id: queue::new_id(),
            idempotency_key: None,
            front_door: FrontDoor::Cli,
            source: path.to_str().unwrap().to_owned(),
            source_version: Some(version),
            source_bytes: Some(bytes),
            model: MODEL.to_owned(),
            language: Some("en".to_owned()),
            options,
            owner: None,
        };
        self.queue.submit(job, unix_now_ms()).unwrap().id
    }

    fn work(&self) {
        assert_eq!(self.prepare.step().unwrap(), Outcome::Worked);
    }

    fn job(&self, id: &str) -> Job {
        self.queue.job(id, unix_now_ms()).unwrap()
    }

    fn claim(&self) -> Option<Claim> {
        self.queue.claim("transcribe", MODEL, "me", "gpu-0", unix_now_ms()).unwrap()
    }

    /// Start and end of the chunks that wait, and their samples.
    fn chunks(&self, job: &str) -> Vec<(u64, u64, Option<Vec<f32>>)> {
        let chunk = |claim: Claim| {
            let Work::Transcribe { start_sample, end_sample, .. } = claim.work else { panic!("{claim:?}") };
            (
                start_sample,
                end_sample,
                self.spool.read(job, start_sample, end_sample).unwrap().map(|sound| sound.samples),
            )
        };
        std::iter::from_fn(|| self.claim()).map(chunk).collect()
    }
}

fn preparing(queue: &Queue, spool: &Spool, decoder: Decoder) -> Prepare {
    let worker = Worker {
        queue: queue.clone(),
        slot: Slot::new("prepare-0".to_owned()),
        process_id: "me".to_owned(),
        shutdown: Shutdown::default(),
    };
    Prepare {
        worker,
        spool: spool.clone(),
        storage: Storage::open(&Settings::new(queue.db().path().parent().unwrap().to_owned())).unwrap(),
        lane: queue::prepare_lane(true, MODEL, None),
        decoder,
        turns: Turns::new(1),
        max_audio_bytes: 1 << 30,
    }
}

#[test]
fn a_recording_becomes_chunks_with_their_samples() {
    let house = House::new();
    let path = house.folder.path().join("long.wav");
    long_recording(&path, 60);
    let id = house.submit(&path, Options::default());
    house.work();
    assert!(house.job(&id).audio_seconds >= Some(60.0));
    let chunks = house.chunks(&id);
    assert!(chunks.len() > 3, "{} chunks of at most 14 s", chunks.len());
    for (start, end, samples) in chunks {
        assert_eq!(samples.unwrap().len() as u64, end - start);
    }
}

#[test]
fn a_short_recording_is_decoded_between_the_chunks_of_a_long_one() {
    let house = House::new();
    let path = house.folder.path().join("long.wav");
    long_recording(&path, 90);
    // With one turn for both.
    let turn = house.prepare.turns.take((0, 0), &mut || Ok(())).unwrap();
    let second = preparing(&house.queue, &house.spool, house.prepare.decoder.clone());
    let second = Prepare { turns: house.prepare.turns.clone(), ..second };
    let at_work = |count: i64| {
        let running = "select count(*) from tasks where kind = 'prepare' and state = 'running'";
        while house.queue.db().read(|conn| Ok(conn.query_row(running, [], |row| row.get::<_, i64>(0))?)).unwrap()
            < count
        {
            std::thread::yield_now();
        }
    };
    let long = house.submit(&path, Options::default());
    std::thread::scope(|scope| {
        scope.spawn(|| house.work());
        at_work(1);
        let short = house.submit(&fixture("sample.wav"), Options::default());
        let shorter = scope.spawn(|| {
            assert_eq!(second.step().unwrap(), Outcome::Worked);
            house.job(&long).audio_seconds
        });
        at_work(2);
        drop(turn);
        assert_eq!(shorter.join().unwrap(), None, "the long one is not done");
        assert!(house.job(&short).audio_seconds.is_some());
    });
}

#[test]
fn what_holds_no_speech_is_left_out_unless_all_is_wanted() {
    let house = House::new();
    let path = house.folder.path().join("silence.wav");
    crate::support::write_wav(&path, &[0.0; 80_000]);
    let id = house.submit(&path, Options::default());
    house.work();
    let job = house.job(&id);
    assert_eq!(
        (job.status, job.warnings),
        (JobState::Completed, vec!["no speech was found in the recording".to_owned()])
    );

    let id = house.submit(&path, Options { vad: Some(false), ..Options::default() });
    house.work();
    let spans: Vec<_> = house.chunks(&id).iter().map(|&(start, end, _)| (start, end)).collect();
    assert_eq!(spans, [(0, 80_000)]);
}

#[test]
fn samples_that_are_gone_are_cut_out_of_the_recording_again() {
    let house = House::new();
    let path = house.folder.path().join("long.wav");
    long_recording(&path, 40);
    let id = house.submit(&path, Options::default());
    house.work();
    let claims: Vec<Claim> = std::iter::from_fn(|| house.claim()).collect();
    let before: Vec<_> = claims.iter().map(|claim| samples_of(&house, claim)).collect();
    house.spool.remove(&id).unwrap();
    for claim in &claims {
        house.queue.prepare_again(claim.task, unix_now_ms()).unwrap();
    }
    house.work();
    let again: Vec<Claim> = std::iter::from_fn(|| house.claim()).collect();
    let after: Vec<_> = again.iter().map(|claim| samples_of(&house, claim)).collect();
    assert!(before.iter().all(Option::is_some));
    assert!(before == after, "the same chunks with the same samples");
}

#[test]
fn chunks_go_on_as_their_samples_come_back_so_that_a_small_spool_is_enough() {
    let house = House::new();
    let path = house.folder.path().join("long.wav");
    long_recording(&path, 60);
    let id = house.submit(&path, Options::default());
    house.work();
    let claims: Vec<Claim> = std::iter::from_fn(|| house.claim()).collect();
    house.spool.remove(&id).unwrap();
    for claim in &claims {
        house.queue.prepare_again(claim.task, unix_now_ms()).unwrap();
    }
    // Room for one chunk of 14 s, not for two.
    let spool = Spool::open(house.folder.path().join("spool"), 1 << 20).unwrap();
    let prepare = preparing(&house.queue, &spool, house.prepare.decoder.clone());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| prepare.step().unwrap());
        while !house.job(&id).status.is_terminal() {
            if begun.elapsed() > Duration::from_secs(60) {
                prepare.worker.slot.control().abort();
                panic!("stuck");
            }
            let Some(claim) = house.claim() else { continue };
            let Work::Transcribe { start_sample, end_sample, .. } = claim.work else { panic!("{claim:?}") };
            assert!(samples_of(&house, &claim).is_some());
            let nothing = ChunkResult {
                language: "en".to_owned(),
                language_probability: None,
                segments: Vec::new(),
                engine_ms: 0,
            };
            house.queue.finish_chunk(claim.task, nothing, unix_now_ms()).unwrap();
            spool.remove_chunk(&id, start_sample, end_sample);
        }
    });
    assert_eq!(house.job(&id).status, JobState::Completed);
}

#[test]
fn chunks_that_kept_their_samples_go_on_before_the_recording_is_decoded_again() {
    let house = House::new();
    let path = house.folder.path().join("long.wav");
    long_recording(&path, 60);
    let id = house.submit(&path, Options::default());
    house.work();
    house.queue.fail(house.claim().unwrap().task, &Error::invalid("broken", "no"), 0.0, unix_now_ms()).unwrap();
    house.queue.retry(&id, unix_now_ms()).unwrap();
    assert!(house.claim().is_none(), "they wait for the preparation");
    // Nothing fits into this spool: whatever goes on has kept its samples.
    let spool = Spool::open(house.folder.path().join("spool"), 1).unwrap();
    let prepare = preparing(&house.queue, &spool, Decoder::new("/bin/false".into(), Limits { max_audio_ms: 1 }));
    prepare.step().unwrap();
    assert!(house.claim().is_some());
}

#[test]
fn the_first_chunk_of_a_recording_gets_through_a_full_spool() {
    let house = House::new();
    let spool = Spool::open(house.folder.path().join("spool"), 1).unwrap();
    let id = house.submit(&fixture("sample.mp3"), Options::default());
    preparing(&house.queue, &spool, house.prepare.decoder.clone()).step().unwrap();
    let claim = house.claim().unwrap();
    assert_eq!(claim.job_id, id);
    assert!(samples_of(&house, &claim).is_some());
}

#[test]
fn what_a_killed_process_left_in_the_spool_is_cleared_when_its_job_goes_on() {
    let house = House::new();
    let id = house.submit(&fixture("sample.mp3"), Options::default());
    house.spool.write(&id, 5, &Sound::heard(vec![1.0]), &mut || Ok(())).unwrap();
    house.work();
    assert!(!house.spool.holds(&id, 5, 6));
    assert_eq!(house.chunks(&id).len(), 1);
}

fn samples_of(house: &House, claim: &Claim) -> Option<Vec<f32>> {
    let Work::Transcribe { start_sample, end_sample, .. } = claim.work else { panic!("{claim:?}") };
    house.spool.read(&claim.job_id, start_sample, end_sample).unwrap().map(|sound| sound.samples)
}

#[test]
fn a_recording_that_crashes_hangs_or_never_ends_is_one_failed_job_and_the_next_one_is_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("decoder.sh");
    let script = format!(
        "#!/bin/sh\nfor file; do :; done\ncase \"$file\" in\n*crash) kill -SEGV $$ ;;\n*hang) exec sleep 1000 ;;\n\
         *endless) exec cat /dev/zero ;;\n*) exec {} \"$@\" ;;\nesac\n",
        env!("CARGO_BIN_EXE_whisperq")
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let house = House::decoding_with(program);
    for (name, code, says) in
        [("crash", "undecodable", "signal 11"), ("hang", "undecodable", "nothing"), ("endless", "too_long", "longer")]
    {
        let path = folder.path().join(name);
        std::fs::copy(fixture("sample.mp3"), &path).unwrap();
        let bad = house.submit(&path, Options::default());
        let good = house.submit(&fixture("sample.mp3"), Options::default());
        house.work();
        let job = house.job(&bad);
        assert_eq!(job.status, JobState::Failed, "{name}");
        let error = job.error.unwrap();
        assert_eq!(error.code, code, "{name}: {}", error.message);
        assert!(error.message.contains(says), "{name}: {}", error.message);
        house.work();
        assert_eq!(house.chunks(&good).len(), 1, "after {name}");
    }
}
