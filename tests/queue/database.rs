//! The database under the queue: its settings as they are after opening, readers that cannot write, and many that open a
//! new file at once.

use std::sync::Barrier;

use rusqlite::types::Value;
use whisperq::db::{Db, Durability};
use whisperq::error::{Error, Result};

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
