//! What was sent to the service: files under DATA_DIR until no job needs them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::error::{Error, Result};

/// A file without a job this old was left by a process that died while receiving it.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// Of a file that is still being received.
const PARTIAL: &str = "part";

/// The recordings that were sent.
#[derive(Clone, Debug)]
pub struct Uploads {
    folder: PathBuf,
}

/// A file about to be received; it is gone again unless it is kept.
#[derive(Debug)]
pub struct Incoming {
    /// Empty once the file belongs to its job.
    path: PathBuf,
}

impl Uploads {
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self, job_id: &str) -> PathBuf {
        self.folder.join(job_id)
    }

    /// Where the recording of a job can be written while it arrives.
    pub fn receive(&self, job_id: &str) -> Incoming {
        Incoming { path: self.folder.join(job_id).with_extension(PARTIAL) }
    }

    /// The jobs whose recordings lie here, and whether each is so old that a job must have come of it; nothing of what is
    /// still being received.
    pub fn jobs(&self) -> Result<Vec<(String, bool)>> {
        let mut jobs = Vec::new();
        for file in std::fs::read_dir(&self.folder).context("cannot list the uploads")?.flatten() {
            let path = file.path();
            if path.extension().is_none_or(|extension| extension != PARTIAL) {
                jobs.push((file.file_name().to_string_lossy().into_owned(), is_old(&path)));
            } else if is_old(&path) {
                remove(&path)?;
            }
        }
        Ok(jobs)
    }

    /// Removes a job's recording. What is gone already is fine.
    pub fn remove(&self, job_id: &str) -> Result<()> {
        remove(&self.folder.join(job_id))
    }
}

impl Incoming {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes what was written the job's recording, so that it survives a loss of power; still gone unless it is kept.
    pub fn complete(&mut self) -> Result<()> {
        let path = self.path.with_extension("");
        let folder = path.parent().unwrap_or(Path::new("."));
        let stored = sync(&self.path).and_then(|()| std::fs::rename(&self.path, &path)).and_then(|()| sync(folder));
        stored.context("cannot store the upload")?;
        self.path = path;
        Ok(())
    }

    /// Leaves the file to its job.
    pub fn keep(mut self) {
        self.path.clear();
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // What is left after a failure here is removed as abandoned.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(super) fn sync(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

pub(super) fn is_old(path: &Path) -> bool {
    let modified = path.metadata().and_then(|file| file.modified());
    modified.is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > ABANDONED))
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::Internal(anyhow::Error::new(error).context("cannot remove a file of a job")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uploads() -> (tempfile::TempDir, Uploads) {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path().join("uploads")).unwrap();
        (folder, uploads)
    }

    #[test]
    fn an_upload_is_there_once_it_is_complete_and_stays_once_it_is_kept() {
        let (_folder, uploads) = uploads();
        for kept in [false, true] {
            let mut incoming = uploads.receive("job");
            std::fs::write(incoming.path(), "sound").unwrap();
            assert!(uploads.jobs().unwrap().is_empty());
            incoming.complete().unwrap();
            let path = uploads.path("job");
            assert_eq!(std::fs::read(&path).unwrap(), b"sound");
            if kept {
                incoming.keep();
            } else {
                drop(incoming);
            }
            assert_eq!(path.exists(), kept);
        }
        assert_eq!(uploads.jobs().unwrap(), [("job".to_owned(), false)]);
        uploads.remove("job").unwrap();
        uploads.remove("job").unwrap();
        assert!(uploads.jobs().unwrap().is_empty());
    }

    #[test]
    fn an_upload_that_broke_off_is_gone() {
        let (_folder, uploads) = uploads();
        let incoming = uploads.receive("job");
        std::fs::write(incoming.path(), "so").unwrap();
        let path = incoming.path().to_owned();
        drop(incoming);
        assert!(!path.exists());
    }
}
