//! The settings of a SQLite connection. SQLite ignores a pragma it does not know and silently refuses some that come
//! too late, so each one is set, read back and compared.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
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
/// What one statement of a stranger may have; the first one is the longest text or blob, in bytes.
const STRANGER_LIMITS: [(Limit, i32); 11] = [
    (Limit::SQLITE_LIMIT_LENGTH, 300_000),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 100_000),
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 10),
    (Limit::SQLITE_LIMIT_VDBE_OP, 25_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 16),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];
/// The write-ahead log shrinks to this after a checkpoint.
pub(super) const JOURNAL_BYTES: i64 = 64 << 20;

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
    defend(connection)?;
    for_any(connection)
}

/// Sets up a connection for SQL that a stranger wrote: no single step of it may take much memory or time, because only
/// between steps it can be stopped.
pub(super) fn for_stranger(connection: &Connection) -> rusqlite::Result<()> {
    for_reader(connection)?;
    // A sort of anything by anything goes to the disk, which has more room.
    set(connection, "temp_store", 1)?;
    for (limit, most) in STRANGER_LIMITS {
        connection.set_limit(limit, most)?;
        let found = connection.limit(limit)?;
        if found != most {
            return Err(stayed("a limit", found.into(), most.into()));
        }
    }
    Ok(())
}

fn for_any(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // Otherwise a value that is compared with what a partial index names has the statement compiled anew at every run.
    enable(connection, DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, "stable plans")?;
    set(connection, "cell_size_check", 1)?;
    set(connection, "trusted_schema", 0)?;
    set(connection, "temp_store", 2)
}

/// Folds the whole write-ahead log into the database and begins it anew, waiting up to `limit` for readers; false where one
/// stayed.
pub(super) fn checkpoint_all(connection: &Connection, limit: Duration) -> rusqlite::Result<bool> {
    connection.busy_timeout(limit)?;
    let busy = connection.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get::<_, bool>(0));
    wait_fairly(connection)?;
    Ok(!busy?)
}

/// From now on no statement may rewrite the schema by hand or damage the file on purpose, as a migration may.
pub(super) fn defend(connection: &Connection) -> rusqlite::Result<()> {
    enable(connection, DbConfig::SQLITE_DBCONFIG_DEFENSIVE, "defensive")
}

fn enable(connection: &Connection, option: DbConfig, name: &str) -> rusqlite::Result<()> {
    if connection.set_db_config(option, true)? { Ok(()) } else { Err(stayed(name, 0.into(), 1.into())) }
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
    if found == wanted { Ok(()) } else { Err(stayed(&format!("pragma {name}"), found, wanted)) }
}

fn stayed(name: &str, found: Value, wanted: Value) -> rusqlite::Error {
    let message = format!("{name} stayed {found:?} instead of {wanted:?}");
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_MISUSE), Some(message))
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
