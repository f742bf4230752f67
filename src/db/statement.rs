//! How every statement of the queue is compiled: once per connection.

use rusqlite::{CachedStatement, Connection};

/// What the queue asks of a connection.
pub trait Statements {
    /// The compiled statement, ready to run. The crate's own tests can take a guard out of it, see `weaken`.
    fn statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>>;
}

impl Statements for Connection {
    fn statement(&self, sql: &str) -> rusqlite::Result<CachedStatement<'_>> {
        #[cfg(test)]
        let sql = &*super::weaken::apply(sql);
        self.prepare_cached(sql)
    }
}
