//! Turns at computing: more threads hold a chunk than compute, and who computes next is decided by the claim order.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use whisperq::audio::Sound;
use whisperq::error::{Error, Result};
use whisperq::queue::Order;
use whisperq::spool::Spool;
use whisperq::transcribe::Transcribe;
use whisperq::transcript::{ChunkRequest, ChunkText, Control, Transcriber};
use whisperq::turns::{Rank, Turns};
use whisperq::worker::Outcome;

use super::support::{Bench, MODEL};

const FIRST: Rank = (0, 0);
/// A thread that does not wait for a turn computes within this.
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

/// A bench with one chunk that waits, a thread for it, what tells when it computes, and the one turn.
fn bench(then: fn() -> Result<ChunkText>) -> (Bench, Transcribe<'static>, Receiver<()>, Arc<Turns>) {
    let bench = Bench::new();
    let id = bench.planned(1);
    let spool = Spool::open(bench.folder().join("spool"), 1 << 30).unwrap();
    spool.write_first(&id, 0, &Sound::heard(vec![0.0; 16_000])).unwrap();
    let (computes, computing) = channel();
    let turns = Turns::new(1);
    let engine = Box::new(Told { computes, then });
    let (worker, lane) = (bench.worker(), MODEL.to_owned());
    let transcribe = Transcribe { worker, spool, lane, turns: turns.clone(), turn: None, engine };
    (bench, transcribe, computing, turns)
}

fn held(bench: &Bench) -> i64 {
    bench.number("select count(*) from tasks where kind = 'transcribe' and state = 'running'")
}

fn free(turns: &Arc<Turns>) -> bool {
    turns.take(FIRST, &mut || Err(Error::Aborted)).is_ok()
}

#[test]
fn a_thread_holds_its_chunk_while_it_waits_for_a_turn() {
    let (bench, mut transcribe, computing, turns) = bench(nothing_heard);
    let turn = turns.take(FIRST, &mut || Ok(())).unwrap();
    std::thread::scope(|scope| {
        let bench = &bench;
        scope.spawn(move || {
            let ends = Instant::now() + PATIENCE;
            while held(bench) == 0 && Instant::now() < ends {
                std::thread::yield_now();
            }
            assert!(computing.recv_timeout(RASH).is_err());
            assert_eq!(held(bench), 1);
            drop(turn);
            computing.recv_timeout(PATIENCE).unwrap();
        });
        assert_eq!(transcribe.step().unwrap(), Outcome::Worked);
    });
    assert_eq!(held(&bench), 0);
}

#[test]
fn a_chunk_whose_turn_never_comes_is_given_back_on_request() {
    let (bench, mut transcribe, _computing, turns) = bench(nothing_heard);
    let _turn = turns.take(FIRST, &mut || Ok(())).unwrap();
    let slot = transcribe.worker.slot.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ends = Instant::now() + PATIENCE;
            while slot.held().is_none() && Instant::now() < ends {
                std::thread::yield_now();
            }
            slot.abort(slot.held().unwrap());
        });
        assert_eq!(transcribe.step().unwrap(), Outcome::Worked);
    });
    assert_eq!(bench.text("select outcome from attempts order by started_at_ms desc limit 1"), "released");
}

#[test]
fn a_chunk_that_waits_for_its_turn_when_the_process_is_to_end_is_given_back_unbegun() {
    for taken in [true, false] {
        let (bench, mut transcribe, computing, turns) = bench(nothing_heard);
        let _turn = taken.then(|| turns.take(FIRST, &mut || Ok(())).unwrap());
        transcribe.worker.shutdown.trigger();
        assert_eq!(transcribe.step().unwrap(), Outcome::Worked);
        assert_eq!(bench.text("select outcome from attempts order by started_at_ms desc limit 1"), "released");
        assert!(computing.try_recv().is_err());
    }
}

#[test]
fn a_turn_is_kept_for_the_next_chunk_and_given_back_where_there_is_none_however_the_last_one_ended() {
    let ends: [fn() -> Result<ChunkText>; 3] =
        [nothing_heard, || Err(anyhow::anyhow!("out of memory").into()), || panic!("index out of bounds")];
    for then in ends {
        let (bench, mut transcribe, _computing, turns) = bench(then);
        assert_eq!(transcribe.step().unwrap(), Outcome::Worked);
        assert!(!free(&turns));
        assert_eq!(transcribe.step().unwrap(), Outcome::Idle, "one chunk was there");
        assert!(free(&turns));
        assert_eq!(held(&bench), 0);
    }
}

#[test]
fn a_short_recording_comes_before_the_waiting_chunks_of_a_long_one_and_what_is_urgent_before_all() {
    let bench = Bench::new();
    bench.planned(40);
    let long: Vec<Rank> = (0..35).map(|_| bench.claim().rank).skip(31).collect();
    assert!(long.is_sorted(), "{long:?}");
    bench.planned(1);
    let short = bench.claim().rank;
    assert!(short < long[0], "{short:?} {long:?}");
    bench.submit_as(|job| job.options.priority = Some(1));
    bench.prepare(1, Order::Free);
    assert!(bench.claim().rank < short);
}
