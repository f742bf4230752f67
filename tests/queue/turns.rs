//! Turns at computing: a thread without one claims nothing, and one that has computed gives it back however that ended.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use whisperq::audio::Sound;
use whisperq::error::{Error, Result};
use whisperq::queue::{Order, prepare_lane, unix_now_ms};
use whisperq::shutdown::Shutdown;
use whisperq::spool::Spool;
use whisperq::transcribe::Transcribe;
use whisperq::transcript::{ChunkRequest, ChunkText, Control, Transcriber};
use whisperq::turns::Turns;
use whisperq::worker::{Outcome, Slot, Worker};

use super::support::{Bench, ME, MODEL, finish_plan, new_job};

/// A thread that does not wait for a turn claims within this.
const RASH: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Says that it computes, then does what it is told.
struct Told {
    computes: Sender<()>,
    then: fn() -> Result<ChunkText>,
}

impl Transcriber for Told {
    fn transcribe(&mut self, _: &ChunkRequest<'_>, _: &Control) -> Result<ChunkText> {
        self.computes.send(()).unwrap();
        (self.then)()
    }
}

fn nothing_heard() -> Result<ChunkText> {
    Ok(ChunkText { language: "en".to_owned(), language_probability: None, segments: Vec::new() })
}

/// A bench with `chunks` that wait, a thread for them, what tells when it computes, and the one turn.
fn bench(chunks: u64, then: fn() -> Result<ChunkText>) -> (Bench, Transcribe<'static>, Receiver<()>, Arc<Turns>) {
    let bench = Bench::new();
    let now_ms = unix_now_ms();
    let id = bench.queue.submit(new_job(), now_ms).unwrap().id;
    let prepare = bench.queue.claim("prepare", &prepare_lane(false, MODEL, None), ME, "p", now_ms);
    finish_plan(&bench.queue, prepare.unwrap().unwrap().task, chunks, Order::Free, now_ms);
    let spool = Spool::open(bench.folder().join("spool"), 1 << 30).unwrap();
    for second in 0..chunks {
        spool.write_first(&id, second * 16_000, &Sound::heard(vec![0.0; 16_000])).unwrap();
    }
    let (computes, computing) = channel();
    let turns = Arc::new(Turns::new(1));
    let worker = Worker {
        queue: bench.queue.clone(),
        slot: Slot::new("gpu-0".to_owned()),
        process_id: ME.to_owned(),
        shutdown: Shutdown::default(),
    };
    let engine = Box::new(Told { computes, then });
    let transcribe = Transcribe { worker, spool, lane: MODEL.to_owned(), turns: turns.clone(), engine };
    (bench, transcribe, computing, turns)
}

fn claims(bench: &Bench) -> i64 {
    bench.number("select count(*) from attempts join tasks on tasks.id = task_id where kind = 'transcribe'")
}

#[test]
fn a_thread_claims_no_chunk_before_it_has_a_turn() {
    let (bench, mut transcribe, computing, turns) = bench(1, nothing_heard);
    let turn = turns.take(&mut || Ok(())).unwrap();
    std::thread::scope(|scope| {
        let bench = &bench;
        scope.spawn(move || {
            assert!(computing.recv_timeout(RASH).is_err());
            assert_eq!(claims(bench), 0, "by the time of its turn another chunk may be more urgent");
            drop(turn);
            computing.recv_timeout(PATIENCE).unwrap();
        });
        assert_eq!(transcribe.step().unwrap(), Outcome::Worked);
    });
    assert_eq!(claims(&bench), 1);
}

#[test]
fn a_thread_that_waits_for_a_turn_ends_with_the_process() {
    let (bench, mut transcribe, _computing, turns) = bench(1, nothing_heard);
    let _turn = turns.take(&mut || Ok(())).unwrap();
    transcribe.worker.shutdown.trigger();
    assert_eq!(transcribe.step().unwrap(), Outcome::Idle);
    assert_eq!(claims(&bench), 0);
}

#[test]
fn a_turn_is_given_back_after_nothing_a_result_an_error_and_a_panic() {
    let ends: [fn() -> Result<ChunkText>; 3] =
        [nothing_heard, || Err(anyhow::anyhow!("out of memory").into()), || panic!("index out of bounds")];
    for then in ends {
        let (bench, mut transcribe, _computing, turns) = bench(1, then);
        let free = || turns.take(&mut || Err(Error::Aborted)).is_ok();
        assert_eq!(transcribe.step().unwrap(), Outcome::Worked);
        assert!(free());
        assert_eq!(transcribe.step().unwrap(), Outcome::Idle, "one chunk was there");
        assert!(free());
        assert_eq!(claims(&bench), 1);
    }
}
