//! The database under the queue: its settings as they are after opening, readers that cannot write, and many that open a
//! new file at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::types::Value;
use whisperq::db::{Db, Durability};
use whisperq::error::{Error, Result};
use whisperq::system::VIEWS;

use super::support::Bench;

fn pragma(conn: &rusqlite::Connection, name: &str) -> Result<Value> {
    Ok(conn.pragma_query_value(None, name, |row| row.get(0))?)
}

#[test]
fn every_setting_is_in_force_after_opening() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("a.db")).unwrap();
    let of_writer = |name, durability| db.write(durability, move |conn| pragma(conn, name)).unwrap();
    let of_reader = |name| db.read(|conn| pragma(conn, name)).unwrap();
    for (name, value) in [("auto_vacuum", 2), ("foreign_keys", 1), ("recursive_triggers", 0), ("trusted_schema", 0)] {
        assert_eq!(of_writer(name, Durability::Normal), Value::Integer(value), "{name}");
    }
    assert_eq!(of_writer("journal_mode", Durability::Normal), Value::Text("wal".to_owned()));
    for (durability, level) in [(Durability::Full, 2), (Durability::Normal, 1), (Durability::Full, 2)] {
        assert_eq!(of_writer("synchronous", durability), Value::Integer(level));
    }
    for (name, value) in [("query_only", 1), ("trusted_schema", 0), ("cell_size_check", 1)] {
        assert_eq!(of_reader(name), Value::Integer(value), "{name}");
    }
}

#[test]
fn a_reader_cannot_write_even_if_it_asks_to() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("a.db")).unwrap();
    for sql in ["delete from job_counts", "pragma query_only = off; delete from job_counts"] {
        let refusal = db.read(|conn| Ok(conn.execute_batch(sql)?)).expect_err(sql).to_string();
        assert!(refusal.contains("readonly") || refusal.contains("read-only"), "{refusal}");
    }
}

#[test]
fn a_read_sees_one_moment_whatever_is_written_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(&folder.path().join("a.db")).unwrap();
    let sum = |conn: &rusqlite::Connection| Ok(conn.query_row("select sum(jobs) from job_counts", [], |r| r.get(0))?);
    let seen: (i64, i64) = db
        .read(|conn| {
            let before = sum(conn)?;
            db.write(Durability::Full, |conn| Ok(conn.execute_batch("update job_counts set jobs = 5")?))?;
            Ok((before, sum(conn)?))
        })
        .unwrap();
    assert_eq!(seen, (0, 0));
    assert_eq!(db.read(sum).unwrap(), 30);
}

#[test]
fn many_can_open_a_new_database_at_once() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let start = Barrier::new(8);
        let opened: Vec<Result<Db>> = std::thread::scope(|scope| {
            let openers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        Db::open(&path)
                    })
                })
                .collect();
            openers.into_iter().map(|opener| opener.join().unwrap()).collect()
        });
        for db in opened {
            let jobs: i64 =
                db.unwrap().read(|c| Ok(c.query_row("select count(*) from jobs", [], |r| r.get(0))?)).unwrap();
            assert_eq!(jobs, 0);
        }
    }
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_the_setting() {
    let refusal = Db::open("/nowhere/a.db".as_ref()).err().unwrap();
    assert!(matches!(refusal, Error::Config(_)), "{refusal}");
    assert!(refusal.to_string().contains("check DATA_DIR"), "{refusal}");
}

#[test]
fn the_log_stays_bounded_while_one_reader_always_follows_another() {
    const WRITES: usize = 400;
    const HALF_MIB: i64 = 512 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let db = Db::open(&path).unwrap();
    db.write(Durability::Normal, |conn| Ok(conn.execute_batch("create table t (b blob) strict")?)).unwrap();
    let stop = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // Longer than a write, so that there is never a moment without a reader.
                    let slow = "with recursive n(i) as (select 1 union all select i + 1 from n limit 40000)
                                select count(*) + (select count(*) from t) from n";
                    db.read(|conn| Ok(conn.query_row(slow, [], |_| Ok(()))?)).unwrap();
                }
            });
        }
        let write = |_| {
            let insert = |conn: &rusqlite::Connection| {
                conn.execute("delete from t", [])?;
                Ok(conn.execute("insert into t values (zeroblob(?1))", [HALF_MIB])?)
            };
            db.write(Durability::Normal, insert).unwrap();
            std::fs::metadata(path.with_extension("db-wal")).unwrap().len()
        };
        let longest = (0..WRITES).map(write).max().unwrap();
        stop.store(true, Ordering::Relaxed);
        longest
    });
    // 64 MiB, and what comes until it is looked at again; a try may fail on a busy machine.
    assert!(longest < 140 << 20, "{} MiB of {} written", longest >> 20, WRITES / 2);
}

#[test]
fn a_copy_is_whole_private_and_readable_by_a_stock_sqlite() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    bench.planned(2);
    bench.finish(&bench.claim());
    let copy = bench.folder().join("copy.db");
    bench.queue.db().backup(&copy).unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    let refusal = bench.queue.db().backup(&copy).unwrap_err();
    assert!(matches!(&refusal, Error::Config(_)) && refusal.to_string().contains("is there already"), "{refusal}");
    let nowhere = bench.queue.db().backup(&bench.folder().join("no/copy.db")).unwrap_err();
    assert!(matches!(&nowhere, Error::Config(_)), "{nowhere}");
    assert!(!bench.folder().join("copy.db.part").exists());
    // Python's own SQLite, whatever its version: the oldest one that users are promised is 3.40.
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n\
                  print(c.execute('pragma integrity_check').fetchone()[0])\n\
                  for v in sys.argv[2:]: c.execute('select * from ' + v).fetchall()\n\
                  print(c.execute('select state, chunks from job_history, throughput_hourly').fetchone())";
    let mut python = std::process::Command::new("python3");
    let output = python.args(["-c", script]).arg(&copy).args(VIEWS).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "ok\n('running', 1)\n", "{}", String::from_utf8_lossy(&output.stderr));
}
