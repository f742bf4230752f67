//! Where the recordings of jobs are: files of this machine, by path, and what was sent to the service, under DATA_DIR until
//! no job needs it. A job's `source` names either.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;

use crate::error::{Error, Result};

/// How the source of a job begins that was sent to the service; its file's own name follows.
const UPLOAD: &str = "upload:";
/// A file without a job this old was left by a process that died while receiving it.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);
/// Of a file that is still being received.
const PARTIAL: &str = "part";

/// The recordings below one DATA_DIR.
#[derive(Clone, Debug)]
pub struct Storage {
    uploads: PathBuf,
}

/// A file about to be received; it is gone again unless it is kept.
#[derive(Debug)]
pub struct Incoming {
    /// Empty once the file belongs to its job.
    path: PathBuf,
}

impl Storage {
    pub fn open(uploads: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&uploads).with_context(|| format!("cannot create {}", uploads.display()))?;
        Ok(Self { uploads })
    }

    /// The file behind the `source` of a job.
    pub fn locate(&self, job_id: &str, source: &str) -> PathBuf {
        if source.starts_with(UPLOAD) { self.uploads.join(job_id) } else { PathBuf::from(source) }
    }

    /// Where the recording of a job can be written while it arrives.
    pub fn receive(&self, job_id: &str) -> Incoming {
        Incoming { path: self.uploads.join(job_id).with_extension(PARTIAL) }
    }

    /// The jobs whose recordings lie here, and whether each is so old that a job must have come of it; nothing of what is
    /// still being received.
    pub fn jobs(&self) -> Result<Vec<(String, bool)>> {
        let mut jobs = Vec::new();
        for file in std::fs::read_dir(&self.uploads).context("cannot list the uploads")?.flatten() {
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
        remove(&self.uploads.join(job_id))
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

/// The `source` of a job for a file that was sent under this name.
pub fn upload_source(file_name: &str) -> String {
    format!("{UPLOAD}{file_name}")
}

/// The name that a recording's transcript gets, without folders and extension.
pub fn base_name(source: &str) -> &str {
    let name = source.strip_prefix(UPLOAD).unwrap_or(source);
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn sync(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

fn is_old(path: &Path) -> bool {
    let modified = path.metadata().and_then(|file| file.modified());
    modified.is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > ABANDONED))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::Internal(anyhow::Error::new(error).context("cannot remove an upload")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage() -> (tempfile::TempDir, Storage) {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(folder.path().join("uploads")).unwrap();
        (folder, storage)
    }

    #[test]
    fn an_upload_is_there_once_it_is_complete_and_stays_once_it_is_kept() {
        let (_folder, storage) = storage();
        for kept in [false, true] {
            let mut incoming = storage.receive("job");
            std::fs::write(incoming.path(), "sound").unwrap();
            assert!(storage.jobs().unwrap().is_empty());
            incoming.complete().unwrap();
            let path = storage.locate("job", &upload_source("talk.mp3"));
            assert_eq!(std::fs::read(&path).unwrap(), b"sound");
            if kept {
                incoming.keep();
            } else {
                drop(incoming);
            }
            assert_eq!(path.exists(), kept);
        }
        assert_eq!(storage.jobs().unwrap(), [("job".to_owned(), false)]);
        storage.remove("job").unwrap();
        storage.remove("job").unwrap();
        assert!(storage.jobs().unwrap().is_empty());
    }

    #[test]
    fn an_upload_that_broke_off_is_gone() {
        let (_folder, storage) = storage();
        let incoming = storage.receive("job");
        std::fs::write(incoming.path(), "so").unwrap();
        let path = incoming.path().to_owned();
        drop(incoming);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_is_a_path() {
        let (_folder, storage) = storage();
        assert_eq!(storage.locate("job", "/audio/a.wav"), Path::new("/audio/a.wav"));
    }

    #[test]
    fn a_transcript_is_named_after_its_recording() {
        for (source, name) in
            [("/a/b.c/talk.mp3", "talk"), ("upload:my talk.tar.mp3", "my talk.tar"), ("upload:x", "x")]
        {
            assert_eq!(base_name(source), name);
        }
    }
}
