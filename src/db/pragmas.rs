//! The settings of a SQLite connection. SQLite ignores a pragma it does not know and silently refuses some that come
//! too late, so each one is set, read back and compared.

use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, ffi};

/// Retry pause of a connection that finds the file locked by another process. SQLite's own back-off grows to 100 ms, so
/// that old waiters lose to new ones; a short pause with jitter measured a twelfth of its worst wait.
const BUSY_PAUSE_US: std::ops::Range<u64> = 500..1_500;
/// About ten seconds of such pauses: a writer that is still locked out then reports it.
const BUSY_RETRIES: i32 = 10_000;
/// How often a connection tries again to turn a new file into a WAL database while others do the same.
const SETUP_TRIES: u32 = 1_000;
/// More than the statements that the queue runs in turn; rusqlite's 16 would compile them anew at most claims.
const CACHED_STATEMENTS: usize = 128;
/// The write-ahead log shrinks to this after a checkpoint.
const JOURNAL_BYTES: i64 = 64 << 20;

/// Sets up the writing connection, and the file itself where it is new.
pub(super) fn prepare_file(connection: &Connection) -> rusqlite::Result<()> {
    // Ignored without a word once the file is in WAL mode, so it comes first.
    patiently(|| set(connection, "auto_vacuum", 2))?;
    patiently(|| set(connection, "journal_mode", "wal".to_owned()))?;
    set(connection, "journal_size_limit", JOURNAL_BYTES)?;
    set(connection, "foreign_keys", 1)?;
    set(connection, "recursive_triggers", 0)?;
    set(connection, "cache_size", -64_000)?;
    for_any(connection)
}

/// Two connections that turn a new file into a WAL database hold what the other needs; SQLite refuses one of them at
/// once, without asking the busy handler.
fn patiently(set: impl Fn() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    for _ in 1..SETUP_TRIES {
        match set() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                std::thread::sleep(Duration::from_micros(fastrand::u64(BUSY_PAUSE_US)));
            }
            result => return result,
        }
    }
    set()
}

/// Sets up a connection that must not write.
pub(super) fn for_reader(connection: &Connection) -> rusqlite::Result<()> {
    wait_fairly(connection)?;
    set(connection, "query_only", 1)?;
    set(connection, "cache_size", -16_000)?;
    for_any(connection)
}

fn for_any(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    set(connection, "cell_size_check", 1)?;
    set(connection, "trusted_schema", 0)?;
    set(connection, "temp_store", 2)
}

/// Whether a commit waits for the disk (2, FULL) or only for the operating system (1, NORMAL).
pub(super) fn set_synchronous(connection: &Connection, level: i64) -> rusqlite::Result<()> {
    set(connection, "synchronous", level)
}

/// How a connection waits for a lock that another process holds.
pub(super) fn wait_fairly(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_handler(Some(|tries| {
        std::thread::sleep(Duration::from_micros(fastrand::u64(BUSY_PAUSE_US)));
        tries < BUSY_RETRIES
    }))
}

fn set(connection: &Connection, name: &str, wanted: impl Into<Value>) -> rusqlite::Result<()> {
    let wanted = wanted.into();
    connection.pragma_update(None, name, &wanted)?;
    let found: Value = connection.pragma_query_value(None, name, |row| row.get(0))?;
    if found == wanted {
        return Ok(());
    }
    let message = format!("pragma {name} stayed {found:?} instead of {wanted:?}");
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_MISUSE), Some(message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pragma_that_does_not_exist_or_comes_too_late_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open_with_flags(folder.path().join("a.db"), Default::default()).unwrap();
        assert!(set(&connection, "journal", "wal".to_owned()).is_err(), "the name of no pragma");
        set(&connection, "journal_mode", "wal".to_owned()).unwrap();
        assert!(set(&connection, "auto_vacuum", 2).is_err(), "too late: the file is in WAL mode");
    }
}
