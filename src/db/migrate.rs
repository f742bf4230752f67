//! Brings a database to the schema this binary was built with; see migrations/README.md for the rules.

use std::fs::File;
use std::path::Path;

use anyhow::Context;
use rusqlite::{Connection, TransactionBehavior};

use super::backup;
use crate::error::{Error, Result};

/// In order; the version of a database is how many of them were applied.
const MIGRATIONS: [&str; 9] = [
    include_str!("../../migrations/0001_queue.sql"),
    include_str!("../../migrations/0002_views.sql"),
    include_str!("../../migrations/0003_streams.sql"),
    include_str!("../../migrations/0004_status.sql"),
    include_str!("../../migrations/0005_history.sql"),
    include_str!("../../migrations/0006_checks.sql"),
    include_str!("../../migrations/0007_deliveries.sql"),
    include_str!("../../migrations/0008_language_probability.sql"),
    include_str!("../../migrations/0009_runpod.sql"),
];

/// Brings the database at `path` up to date, one process at a time, and leaves a copy of what it was in
/// `NAME.before-vN`.
pub(super) fn to_latest(connection: &mut Connection, path: &Path) -> Result<()> {
    if version(connection)? == MIGRATIONS.len() {
        return Ok(());
    }
    let lock_path = path.with_extension("migrating");
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
    let found = version(connection)?;
    if found > 0 && found < MIGRATIONS.len() {
        let copy = path.with_extension(format!("db.before-v{}", MIGRATIONS.len()));
        // One from an upgrade that did not get to its end is of the same database.
        if !copy.exists() {
            tracing::info!(copy = %copy.display(), "keeping a copy of the database as it was");
            backup::copy(connection, &copy)?;
        }
    }
    apply(connection)
}

fn version(connection: &Connection) -> Result<usize> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize)
}

/// Applies what is missing, each file in its own transaction.
fn apply(connection: &mut Connection) -> Result<()> {
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version as usize > MIGRATIONS.len() {
            return Err(Error::Config(format!(
                "the database has schema version {version}, this whisperq knows {}: use the newer whisperq, or another \
                 DATA_DIR",
                MIGRATIONS.len()
            )));
        }
        let Some(migration) = MIGRATIONS.get(version as usize) else { return Ok(()) };
        #[cfg(test)]
        let migration = &*super::weaken::apply(migration);
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::OpenFlags;

    #[test]
    fn migrating_twice_changes_nothing_and_a_newer_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let mut connection = Connection::open_with_flags(&path, OpenFlags::default()).unwrap();
        to_latest(&mut connection, &path).unwrap();
        to_latest(&mut connection, &path).unwrap();
        assert!(
            !path.with_extension(format!("db.before-v{}", MIGRATIONS.len())).exists(),
            "a new database needs no copy"
        );
        connection.pragma_update(None, "user_version", MIGRATIONS.len() as u32 + 1).unwrap();
        let refusal = to_latest(&mut connection, &path).expect_err("newer").to_string();
        assert!(refusal.contains("use the newer whisperq"), "{refusal}");
    }
    #[test]
    fn several_processes_upgrade_a_database_once_and_keep_a_copy_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let old = Connection::open_with_flags(&path, OpenFlags::default()).unwrap();
        old.execute_batch("pragma journal_mode = wal").unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute_batch("pragma user_version = 1").unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut connection = Connection::open_with_flags(&path, OpenFlags::default()).unwrap();
                    super::super::pragmas::wait_fairly(&connection).unwrap();
                    to_latest(&mut connection, &path).unwrap();
                });
            }
        });
        assert_eq!(version(&old).unwrap(), MIGRATIONS.len());
        let copy = Connection::open_with_flags(
            path.with_extension(format!("db.before-v{}", MIGRATIONS.len())),
            OpenFlags::default(),
        )
        .unwrap();
        assert_eq!(version(&copy).unwrap(), 1);
    }
}
