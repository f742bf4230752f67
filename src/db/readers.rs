//! A pool of connections that cannot write.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::{Error, Result};

/// Read-only connections to one database.
pub struct Readers(r2d2::Pool<SqliteConnectionManager>);

impl Readers {
    /// At most `size` of them, opened when they are needed; `wait` is how long a caller stands in line for one.
    pub(super) fn open(
        path: &Path,
        size: u32,
        wait: Duration,
        set_up: fn(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Self> {
        let manager = SqliteConnectionManager::file(path)
            .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .with_init(move |connection| set_up(connection));
        // The defaults of r2d2 are for servers across a network: a local file needs no lifetimes and no test queries.
        let pool = r2d2::Pool::builder()
            .max_size(size)
            .min_idle(Some(1))
            .max_lifetime(None)
            .idle_timeout(None)
            .test_on_check_out(false)
            .connection_timeout(wait)
            .build(manager);
        Ok(Self(pool.map_err(|error| anyhow!(error).context("cannot open the reading connections"))?))
    }

    /// Runs `work` in one read transaction, so that all it sees is of one moment.
    ///
    /// # Errors
    /// `Overloaded` when no connection came free in time.
    pub(super) fn transaction<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let transaction = &mut *self.connection()?;
        let transaction = transaction.transaction_with_behavior(TransactionBehavior::Deferred)?;
        work(&transaction)
    }

    /// Runs `work`, whose statements are each a read transaction of their own.
    ///
    /// # Errors
    /// `Overloaded` when no connection came free in time.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        work(&*self.connection()?)
    }

    fn connection(&self) -> Result<r2d2::PooledConnection<SqliteConnectionManager>> {
        self.0.get().map_err(|error| Error::Overloaded(format!("the database is busy ({error}): try again")))
    }
}
