//! Submits that survive a loss of power, many at a time, against one after the other.

use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use whisperq::job::Options;
use whisperq::queue::{new_id, prepare_lane, unix_now_ms};

use crate::crew::{Crew, Threads};
use crate::ground::{Ground, MODEL};
use crate::quantile;
use crate::step::Step;

const ROUNDS: usize = 9;
const COMMITS: u64 = 400;
/// Threads that submit, and how many times as fast as single commits they have to be.
const CREWS: [(usize, f64); 2] = [(4, 2.5), (64, 10.0)];

/// Single commits and the queue take turns, so that a moment in which the disk is slow meets both.
pub(crate) fn report() {
    let (single, ground) = (Single::new(), Ground::new());
    let mut rates = Vec::new();
    let mut ratios = CREWS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        let alone = single.rate();
        rates.push(alone);
        for (ratios, (threads, _)) in ratios.iter_mut().zip(CREWS) {
            ratios.push(rate(&ground, threads) / alone);
        }
    }
    println!("durable submits; single FULL commits: median {:.0} per second", quantile(&mut rates, 0.5));
    for (ratios, (threads, bound)) in ratios.iter_mut().zip(CREWS) {
        let (median, least, most) = (quantile(ratios, 0.5), quantile(ratios, 0.0), quantile(ratios, 1.0));
        println!("  {threads} threads: {median:.2} times as many ({least:.2} to {most:.2}), the bound is {bound}");
    }
}

fn rate(ground: &Ground, threads: usize) -> f64 {
    let count = COMMITS * threads.min(16) as u64;
    count as f64 / Threads(threads).run(ground, Step::Submit, count).as_secs_f64()
}

/// A plain connection that writes the rows of a job, commit by commit.
struct Single {
    connection: Connection,
    _folder: TempDir,
}

impl Single {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        // Only for its tables and triggers.
        drop(whisperq::db::Db::open(&path).unwrap());
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        connection
            .execute_batch("pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on")
            .unwrap();
        Self { connection, _folder: folder }
    }

    fn rate(&self) -> f64 {
        let began = Instant::now();
        (0..COMMITS).for_each(|_| self.submit().unwrap());
        COMMITS as f64 / began.elapsed().as_secs_f64()
    }

    fn submit(&self) -> rusqlite::Result<()> {
        let now = unix_now_ms();
        let options = serde_json::to_string(&Options::default()).unwrap();
        self.connection.execute_batch("begin immediate")?;
        self.connection
            .prepare_cached(
                "insert into jobs (id, front_door, source, options, model, created_at_ms, ttl_ms, ttl_deadline_ms,
                     execution_timeout_ms)
                 values (?1, 'http', '/audio/a.wav', ?2, ?3, ?4, 600000, ?4 + 600000, 600000)",
            )?
            .execute((new_id(), options, MODEL, now))?;
        self.connection
            .prepare_cached(
                "insert into tasks (job_pk, kind, lane, priority, key, state) values (?1, 'prepare', ?2, 0, ?3, 'queued')",
            )?
            .execute((self.connection.last_insert_rowid(), prepare_lane(false, MODEL, None), now / 20))?;
        self.connection.execute_batch("commit")
    }
}
