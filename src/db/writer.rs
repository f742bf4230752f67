//! The one thread that writes. It takes closures from a bounded channel, runs as many as are waiting inside one
//! transaction, each in its own savepoint, and answers all of them after the commit: one disk flush pays for many.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rusqlite::{Connection, ffi};

use super::pragmas;
use crate::error::{Error, Result};

/// Callers past this many wait in line: a limit on memory, not on speed.
const CHANNEL_LENGTH: usize = 256;
/// Keeps one commit, and so the wait of the first caller in it, short.
const MAX_BATCH: usize = 64;

/// About what a commit takes on a fast disk.
const MOMENT: Duration = Duration::from_micros(150);
/// The length of the write-ahead log is looked at this often.
const COMMITS_BETWEEN_LOOKS: u32 = 64;
/// How long all writing may wait for readers to end, so that the log can begin anew.
const READERS_MOMENT: Duration = Duration::from_millis(200);
const WARNING_PAUSE: Duration = Duration::from_secs(60);

/// What must be true when a write returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It survives a crash of the process; after a loss of power the last ones may be missing. For claims and
    /// heartbeats, which are made again.
    Normal,
    /// It survives a loss of power. For what a user was told.
    Full,
}

/// One unit of work on its way through the thread.
trait Operation: Send {
    fn durability(&self) -> Durability;
    /// Whether it refuses, if it does, before it has changed anything.
    fn refuses_first(&self) -> bool;
    /// Runs the work and says whether its changes are to be kept.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells the caller; `commit` is how the shared transaction ended.
    fn answer(self: Box<Self>, commit: Result<(), &str>);
}

/// The shared transaction did not reach the disk; what was in it is undone, whatever it was.
#[derive(Debug, thiserror::Error)]
#[error("the write was not committed: {0}")]
pub(super) struct NotCommitted(String);

struct Write<F, T> {
    durability: Durability,
    refuses_first: bool,
    work: Option<F>,
    result: Option<Result<T>>,
    reply: SyncSender<Result<T>>,
}

impl<F, T> Operation for Write<F, T>
where
    F: FnOnce(&Connection) -> Result<T> + Send,
    T: Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn refuses_first(&self) -> bool {
        self.refuses_first
    }

    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        // A panic in one closure must not take the queue of everyone with it.
        let result = catch_unwind(AssertUnwindSafe(|| work(connection))).unwrap_or_else(|panic| Err(panicked(&*panic)));
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn answer(self: Box<Self>, commit: Result<(), &str>) {
        let result = match (commit, self.result) {
            (Err(reason), Some(Ok(_)) | None) => Err(anyhow!(NotCommitted(reason.to_owned())).into()),
            (_, Some(result)) => result,
            (Ok(()), None) => Err(anyhow!("the write was not run").into()),
        };
        // The caller may have gone; what it wrote stands all the same.
        let _ = self.reply.send(result);
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    anyhow!("a write panicked: {}", text.unwrap_or("no message")).into()
}

/// The handle to the thread. Dropping it lets the thread finish what was handed in and waits for it.
pub(super) struct Writer {
    operations: Option<SyncSender<Box<dyn Operation>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// `wal` is the file of the write-ahead log.
    pub(super) fn start(connection: Connection, wal: PathBuf) -> Result<Self> {
        let (operations, incoming) = sync_channel(CHANNEL_LENGTH);
        #[cfg(test)]
        let weakened = super::weaken::current();
        let thread = std::thread::Builder::new()
            .name("db-writer".to_owned())
            .spawn(move || {
                #[cfg(test)]
                super::weaken::set(weakened);
                run(connection, &wal, &incoming);
            })
            .context("cannot start the database thread")?;
        Ok(Self { operations: Some(operations), thread: Some(thread) })
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        durability: Durability,
        refuses_first: bool,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = sync_channel(1);
        let operation = Write { durability, refuses_first, work: Some(work), result: None, reply };
        let operations = self.operations.as_ref().context("the database is closed")?;
        operations.send(Box::new(operation)).map_err(|_| anyhow!("the database thread has ended"))?;
        answer.recv().context("the database thread has ended")?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.operations.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(connection: Connection, wal: &Path, incoming: &Receiver<Box<dyn Operation>>) {
    let mut level = None;
    let mut log = Log { path: wal, commits: 0, warned: None };
    let mut last = 1;
    while let Ok(first) = incoming.recv() {
        let mut batch = gather(first, incoming, last);
        last = batch.len();
        let result = commit(&connection, &mut batch, &mut level);
        let reason = result.map_err(|error| {
            tracing::error!(%error, writes = batch.len(), "a transaction was not committed");
            format!("{error} ({:?})", error.sqlite_error().map(|error| error.extended_code))
        });
        for operation in batch {
            operation.answer(reason.as_ref().map(|&()| ()).map_err(String::as_str));
        }
        log.keep_short(&connection);
    }
    // Leaves one file behind where no other process has it open.
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

/// Everything that waits. Those who were answered together come back together: where the last batch was of several, the
/// next one waits a moment for as many, which costs less than a commit for the first of them alone.
fn gather(first: Box<dyn Operation>, incoming: &Receiver<Box<dyn Operation>>, last: usize) -> Vec<Box<dyn Operation>> {
    let mut batch = vec![first];
    let until = Instant::now() + MOMENT;
    while batch.len() < MAX_BATCH {
        let next = incoming.try_recv().ok().or_else(|| {
            let left = until.saturating_duration_since(Instant::now());
            (batch.len() < last && !left.is_zero()).then(|| incoming.recv_timeout(left).ok()).flatten()
        });
        let Some(next) = next else { break };
        batch.push(next);
    }
    batch
}

/// The write-ahead log. SQLite folds it into the database every 1,000 pages, without waiting for anyone; but it begins the
/// log anew only in a moment without readers, and where one read always begins before the last one ends there is none.
struct Log<'a> {
    path: &'a Path,
    commits: u32,
    warned: Option<Instant>,
}

impl Log<'_> {
    /// Waits for the readers, for a moment, where the log has become long.
    fn keep_short(&mut self, connection: &Connection) {
        self.commits += 1;
        if self.commits < COMMITS_BETWEEN_LOOKS {
            return;
        }
        self.commits = 0;
        // Its length alone is asked for: closing the file would free SQLite's locks on it.
        let bytes = std::fs::metadata(self.path).map_or(0, |file| file.len());
        if bytes <= pragmas::JOURNAL_BYTES.unsigned_abs() {
            return;
        }
        let shortened = pragmas::checkpoint_all(connection, READERS_MOMENT);
        let is_news = self.warned.is_none_or(|warned| warned.elapsed() >= WARNING_PAUSE);
        if is_news && !shortened.as_ref().is_ok_and(|done| *done) {
            self.warned = Some(Instant::now());
            let why = shortened.err().map_or_else(|| "a reader stays open".to_owned(), |error| error.to_string());
            tracing::warn!(bytes, why, "the write-ahead log cannot be begun anew and grows");
        }
    }
}

/// Runs the batch in one transaction of the strongest durability that any of it asks for.
fn commit(
    connection: &Connection,
    batch: &mut [Box<dyn Operation>],
    level: &mut Option<Durability>,
) -> rusqlite::Result<()> {
    if !connection.is_autocommit() {
        // An earlier roll-back failed; without this one nothing could ever be written again.
        connection.execute_batch("rollback")?;
    }
    let full = batch.iter().any(|operation| operation.durability() == Durability::Full);
    let wanted = if full { Durability::Full } else { Durability::Normal };
    if *level != Some(wanted) {
        pragmas::set_synchronous(connection, if full { 2 } else { 1 })?;
        *level = Some(wanted);
    }
    connection.execute_batch("begin immediate")?;
    let result = run_all(connection, batch).and_then(|()| connection.execute_batch("commit"));
    if result.is_err() && !connection.is_autocommit() {
        connection.execute_batch("rollback")?;
    }
    result
}

fn run_all(connection: &Connection, batch: &mut [Box<dyn Operation>]) -> rusqlite::Result<()> {
    for operation in batch {
        if operation.refuses_first() {
            let before = connection.total_changes();
            let changed = !operation.run(connection) && connection.total_changes() != before;
            // Without a savepoint nothing less than all can be undone; after some errors SQLite has done so by itself.
            if changed || connection.is_autocommit() {
                let why = "a write failed that had already changed something".to_owned();
                return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT), Some(why)));
            }
            continue;
        }
        connection.execute_batch("savepoint operation")?;
        if operation.run(connection) {
            connection.execute_batch("release operation")?;
        } else {
            connection.execute_batch("rollback to operation; release operation")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer() -> (tempfile::TempDir, Writer) {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open_with_flags(folder.path().join("w.db"), Default::default()).unwrap();
        connection.execute_batch("create table t (n integer unique)").unwrap();
        let wal = folder.path().join("w.db-wal");
        (folder, Writer::start(connection, wal).unwrap())
    }

    fn insert(writer: &Writer, n: i64) -> Result<()> {
        writer.write(Durability::Full, false, move |connection| {
            connection.execute("insert into t values (?1)", [n])?;
            Ok(())
        })
    }

    fn count(writer: &Writer) -> i64 {
        writer
            .write(Durability::Normal, false, |c| Ok(c.query_row("select count(*) from t", [], |r| r.get(0))?))
            .unwrap()
    }

    #[test]
    fn a_failed_write_undoes_only_itself_even_inside_a_shared_transaction() {
        let (_folder, writer) = writer();
        std::thread::scope(|scope| {
            for n in 0..40 {
                let writer = &writer;
                // Twenty pairs: the second of each pair breaks the unique rule.
                scope.spawn(move || drop(insert(writer, n / 2)));
            }
        });
        assert_eq!(count(&writer), 20);
    }

    #[test]
    fn writes_that_wait_together_share_one_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.db");
        let open = || Connection::open_with_flags(&path, Default::default()).unwrap();
        open().execute_batch("pragma journal_mode = wal; create table t (n integer)").unwrap();
        let (operations, incoming) = sync_channel::<Box<dyn Operation>>(CHANNEL_LENGTH);
        let answers: Vec<Receiver<Result<i64>>> = (0..=MAX_BATCH)
            .map(|n| {
                let (reply, answer) = sync_channel(1);
                let neighbor = open();
                let work = move |connection: &Connection| -> Result<i64> {
                    connection.execute("insert into t values (?1)", [n as i64])?;
                    Ok(neighbor.query_row("select count(*) from t", [], |row| row.get(0))?)
                };
                let write = Write {
                    durability: Durability::Full,
                    refuses_first: n % 2 == 0,
                    work: Some(work),
                    result: None,
                    reply,
                };
                operations.send(Box::new(write)).unwrap();
                answer
            })
            .collect();
        drop(operations);
        run(open(), &path.with_extension("db-wal"), &incoming);
        let seen: Vec<i64> = answers.into_iter().map(|answer| answer.recv().unwrap().unwrap()).collect();
        // Nobody else saw any of the first batch before all of it was there.
        assert_eq!(seen[..MAX_BATCH], [0; MAX_BATCH]);
        assert_eq!(seen[MAX_BATCH], MAX_BATCH as i64);
    }

    #[test]
    fn a_panic_in_a_write_is_an_error_for_its_caller_alone() {
        let (_folder, writer) = writer();
        let error = writer
            .write(Durability::Normal, false, |c| -> Result<()> {
                c.execute("insert into t values (1)", [])?;
                panic!("on purpose")
            })
            .expect_err("panicked");
        assert!(error.to_string().contains("on purpose"), "{error}");
        insert(&writer, 2).unwrap();
        assert_eq!(count(&writer), 1, "the panicking write left nothing behind");
    }

    #[test]
    fn a_commit_that_fails_fails_every_write_in_it() {
        let (_folder, writer) = writer();
        let error = writer
            .write(Durability::Full, false, |c| {
                // Ends the shared transaction behind the writer's back, so that its commit cannot succeed.
                c.execute_batch("insert into t values (7); release operation; rollback")?;
                Ok(())
            })
            .expect_err("not committed");
        assert!(error.to_string().contains("not committed"), "{error}");
        insert(&writer, 8).unwrap();
        assert_eq!(count(&writer), 1);
    }
    #[test]
    fn a_write_that_refuses_first_disturbs_nobody_and_one_that_breaks_its_word_is_undone_with_all_beside_it() {
        let (_folder, writer) = writer();
        let refused = writer.write(Durability::Full, true, |_| -> Result<()> { Err(Error::ClaimLost) });
        assert!(matches!(refused, Err(Error::ClaimLost)));
        let broken = writer.write(Durability::Full, true, |c| -> Result<()> {
            c.execute("insert into t values (1)", [])?;
            Err(Error::ClaimLost)
        });
        assert!(broken.is_err());
        insert(&writer, 2).unwrap();
        assert_eq!(count(&writer), 1);
    }
}
