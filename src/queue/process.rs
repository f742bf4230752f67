//! The processes that share a database. Each holds a lock on a file of its own while it lives; the kernel frees it at any
//! death, kill -9 included, so a free lock means dead and its tasks return at once, without waiting for a lease. Beside
//! the lock a process can leave which task killed it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use uuid::Uuid;

use super::Queue;
use crate::crash;
use crate::db::{Durability, Statements};
use crate::error::Result;

/// This process as others see it. Dropping it frees the lock.
pub struct Process {
    id: String,
    lock: File,
    crash_file: PathBuf,
}

impl Process {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the process has to leave which task killed it, for [`crash::watch`].
    pub fn crash_file(&self) -> &Path {
        &self.crash_file
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A program that is started at this moment has a copy of the file until it runs, and the lock would be its too.
        let _ = self.lock.unlock();
    }
}

/// What a transcribing thread is doing, apart from its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    Loading,
    Ready,
    Failed,
    Stopped,
}

impl WorkerState {
    fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// A transcribing thread as the views show it.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    pub process_id: String,
    pub worker_id: String,
    pub model: String,
    pub model_instance: usize,
    pub device: String,
    pub state: WorkerState,
    pub error: Option<String>,
}

impl Queue {
    /// Writes or updates a worker's row.
    pub fn report_worker(&self, worker: WorkerRow) -> Result<()> {
        self.db.write(Durability::Normal, move |conn| {
            conn.statement(
                "insert into worker_threads (process_id, worker_id, model, model_instance, device, state, error)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 on conflict do update set state = excluded.state, error = excluded.error",
            )?
            .execute((
                worker.process_id,
                worker.worker_id,
                worker.model,
                worker.model_instance as i64,
                worker.device,
                worker.state.name(),
                worker.error,
            ))?;
            Ok(())
        })
    }

    /// Takes the lock, then writes the row: whoever sees the row can trust the lock.
    pub fn register(&self, command: &'static str, now_ms: i64) -> Result<Process> {
        std::fs::create_dir_all(&self.process_dir)
            .with_context(|| format!("cannot create {}", self.process_dir.display()))?;
        let id = Uuid::now_v7().simple().to_string();
        let path = lock_path(&self.process_dir, &id);
        let lock = File::create_new(&path).with_context(|| format!("cannot create {}", path.display()))?;
        lock.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        let crash_file = crash_path(&self.process_dir, &id);
        let process = Process { id, lock, crash_file };
        let row_id = process.id.clone();
        self.db.write(Durability::Normal, move |conn| {
            conn.execute(
                "insert into processes (id, pid, command, version, started_at_ms, heartbeat_at_ms)
                 values (?1, ?2, ?3, ?4, ?5, ?5)",
                (row_id, std::process::id(), command, env!("CARGO_PKG_VERSION"), now_ms),
            )?;
            Ok(())
        })?;
        Ok(process)
    }

    /// Takes back the tasks of every process whose lock is free; returns how many tasks that were. The one that a process
    /// says has killed it is blamed, the others are not.
    pub fn recover_dead(&self, own_process: &str, now_ms: i64) -> Result<usize> {
        let mut recovered = 0;
        for id in self.others(own_process)? {
            let path = lock_path(&self.process_dir, &id);
            if is_free(&path) {
                let crash_file = crash_path(&self.process_dir, &id);
                let culprit = crash::read(&crash_file);
                recovered += self.recover(&id, culprit, now_ms)?;
                // Another process may have been quicker.
                let _ = std::fs::remove_file(&crash_file);
                let _ = std::fs::remove_file(&path);
                tracing::info!(process = id, ?culprit, "took over from a process that died");
            }
        }
        Ok(recovered)
    }

    /// Signs the process off: its jobs are everyone's again, its row is closed, its lock gone.
    pub fn sign_off(&self, process: Process, now_ms: i64) -> Result<()> {
        let path = lock_path(&self.process_dir, &process.id);
        self.recover(&process.id, None, now_ms)?;
        // Not every process has had one.
        let _ = std::fs::remove_file(&process.crash_file);
        // While the lock is held nobody else removes the file.
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        drop(process);
        Ok(())
    }

    fn others(&self, own_process: &str) -> Result<Vec<String>> {
        self.db.read(|conn| {
            let mut statement = conn.statement("select id from processes where ended_at_ms is null and id <> ?1")?;
            let ids = statement.query_map([own_process], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(ids)
        })
    }
}

fn lock_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.lock"))
}

fn crash_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.crash"))
}

/// A lock file that is gone was removed by whoever recovered the process first.
fn is_free(path: &Path) -> bool {
    match File::open(path) {
        Ok(file) => file.try_lock().is_ok(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
