//! Brings a database to the schema this binary was built with; see migrations/README.md for the rules.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::{Error, Result};

/// In order; the version of a database is how many of them were applied.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../migrations/0001_queue.sql"),
    include_str!("../../migrations/0002_views.sql"),
    include_str!("../../migrations/0003_streams.sql"),
    include_str!("../../migrations/0004_status.sql"),
    include_str!("../../migrations/0005_history.sql"),
];

/// Applies what is missing, each file in its own transaction. Several processes may do this at once: the version is read
/// again under the write lock.
pub(super) fn to_latest(connection: &mut Connection) -> Result<()> {
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

    #[test]
    fn migrating_twice_changes_nothing_and_a_newer_database_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        to_latest(&mut connection).unwrap();
        to_latest(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", MIGRATIONS.len() as u32 + 1).unwrap();
        let refusal = to_latest(&mut connection).expect_err("newer").to_string();
        assert!(refusal.contains("use the newer whisperq"), "{refusal}");
    }
}
