//! The database file: opening it with checked settings, one writer thread, a pool of read-only connections, one point of
//! truth for SQLite's errors. It knows no table; `queue` and `system` do.

mod backup;
mod filesystem;
mod migrate;
mod pragmas;
mod readers;
mod statement;
#[cfg(test)]
pub(crate) mod weaken;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::anyhow;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{Error, Result};
pub use filesystem::free_bytes;
pub use readers::Readers;
pub use statement::Statements;
pub use writer::Durability;

/// Below this version two connections that write and checkpoint at the same instant can corrupt a WAL database.
const MIN_SQLITE_VERSION: i32 = 3_051_003;
/// Front doors, progress displays and the keeper read at once; each read is short.
const READERS: u32 = 4;
/// A reader waits this long for a connection before it reports an overload.
const READER_WAIT: Duration = Duration::from_secs(10);
/// Kept for what comes next: 4 MiB that need not be asked for again.
const SPARE_PAGES: u32 = 1024;
/// Users' own questions are answered two at a time, apart from all other reading.
const STRANGERS: u32 = 2;

/// A handle to the open database. Dropping it closes the writer thread after the work already handed in.
pub struct Db {
    // Dropped in this order: only a writing connection that is the last to close folds the write-ahead log back in.
    readers: Readers,
    writer: writer::Writer,
    path: PathBuf,
}

impl Db {
    /// Opens or creates the database, brings its schema up to date and starts the writer thread.
    ///
    /// # Errors
    /// `Config` where the folder cannot be written or the file is newer than this binary.
    pub fn open(path: &Path) -> Result<Self> {
        let version = rusqlite::version_number();
        if version < MIN_SQLITE_VERSION {
            return Err(Error::Config(format!("SQLite {version} can corrupt the queue: build with the bundled one")));
        }
        filesystem::check(path.parent().unwrap_or(path))?;
        let mut connection = open_writable(path)
            .map_err(|error| Error::Config(format!("cannot open {}: {error}; check DATA_DIR", path.display())))?;
        migrate::to_latest(&mut connection, path)?;
        pragmas::defend(&connection)?;
        let readers = Readers::open(path, READERS, READER_WAIT, pragmas::for_reader)?;
        let writer = writer::Writer::start(connection, path.with_extension("db-wal"))?;
        Ok(Self { readers, writer, path: path.to_owned() })
    }

    /// Runs `work` inside a savepoint of the writer's next transaction and returns after that was committed. An error
    /// from `work` undoes only its own changes.
    pub fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.write(durability, false, work)
    }

    /// As [`Db::write`], for work that refuses, if it does, before it has changed anything. It needs no savepoint, which costs
    /// more than a small row; an error after a change undoes all writes of its transaction.
    pub fn write_or_refuse<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writer.write(durability, true, work)
    }

    /// Runs `work` in one read transaction, so that all it sees is of one moment.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.readers.transaction(work)
    }

    /// Copies the database as it is at this moment to a new file; others go on meanwhile.
    ///
    /// # Errors
    /// `Config` where there is such a file already or its folder cannot be written.
    pub fn backup(&self, target: &Path) -> Result<()> {
        // Not one of the readers: those may not write anywhere.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        pragmas::wait_fairly(&connection)?;
        backup::copy(&connection, target)
    }

    /// Gives up to `pages` unused pages back to the file system, where there are many.
    pub fn shrink(&self, pages: u32) -> Result<()> {
        self.write(Durability::Normal, move |connection| {
            let free: u32 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            if free > SPARE_PAGES {
                let pages = pages.min(free - SPARE_PAGES);
                // One page is given back with each step of the statement.
                let mut vacuum = connection.prepare(&format!("pragma incremental_vacuum({pages})"))?;
                let mut steps = vacuum.query([])?;
                while steps.next()?.is_some() {}
            }
            Ok(())
        })
    }

    /// Connections for SQL that a stranger wrote: read-only, and bounded in what a statement may take.
    pub fn for_strangers(&self) -> Result<Readers> {
        Readers::open(&self.path, STRANGERS, READER_WAIT, pragmas::for_stranger)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open_writable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    pragmas::wait_fairly(&connection)?;
    // The file is only touched here, so this is where a folder that cannot be written shows.
    pragmas::prepare_file(&connection)?;
    Ok(connection)
}

/// Whether a write failed for the state of the machine (disk full, file locked), so that the same one may succeed later.
pub fn may_pass(error: &Error) -> bool {
    let Error::Internal(cause) = error else { return false };
    let code = cause.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    cause.is::<writer::NotCommitted>()
        || code.is_some_and(|code| {
            matches!(
                code,
                ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::CannotOpen
                    | ErrorCode::ReadOnly
                    | ErrorCode::OutOfMemory
            )
        })
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Internal(anyhow!(error).context("the database refused"))
    }
}
