//! Decoded audio on disk between `prepare` and the last chunk: one file of raw 32-bit samples per job, so that a chunk is
//! one read at an offset and a killed process decodes nothing twice. A file counts only once it has its final name.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::error::Result;

const BYTES_PER_SAMPLE: u64 = 4;
const EXTENSION: &str = "f32";
const UNFINISHED: &str = "part";

/// The folder of one DATA_DIR; clones share it.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
}

impl Spool {
    pub fn open(folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Starts the file of a job; nobody sees it before `finish`.
    pub fn create(&self, job_id: &str, attempt: i64) -> Result<SpoolWriter> {
        // Named by attempt too: an earlier one that lost its lease may still be writing.
        let unfinished = self.folder.join(format!("{job_id}.{attempt}.{UNFINISHED}"));
        let file = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
        Ok(SpoolWriter { file: BufWriter::new(file), unfinished, path: self.path(job_id) })
    }

    /// Samples `from..to` of a job, or `None` where its audio is not here (any more).
    pub fn read(&self, job_id: &str, from: u64, to: u64) -> Result<Option<Vec<f32>>> {
        let path = self.path(job_id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(anyhow::Error::new(error).context("cannot read the spool").into()),
        };
        let mut bytes = vec![0; ((to - from) * BYTES_PER_SAMPLE) as usize];
        match file.read_exact_at(&mut bytes, from * BYTES_PER_SAMPLE) {
            // Cut short by a full disk or a loss of power: as good as gone.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            read => read.context("cannot read the spool")?,
        }
        let (samples, _) = bytes.as_chunks::<4>();
        Ok(Some(samples.iter().map(|&sample| f32::from_le_bytes(sample)).collect()))
    }

    /// The jobs that have files here, finished or not.
    pub fn jobs(&self) -> Result<Vec<String>> {
        let mut jobs = Vec::new();
        for entry in std::fs::read_dir(&self.folder).context("cannot list the spool")? {
            let name = entry.context("cannot list the spool")?.file_name();
            jobs.extend(name.to_string_lossy().split('.').next().map(str::to_owned));
        }
        jobs.dedup();
        Ok(jobs)
    }

    /// Removes everything of a job. What is gone already is fine.
    pub fn remove(&self, job_id: &str) -> Result<()> {
        for entry in std::fs::read_dir(&self.folder).context("cannot list the spool")?.flatten() {
            if entry.file_name().to_string_lossy().split('.').next() == Some(job_id) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn path(&self, job_id: &str) -> PathBuf {
        self.folder.join(format!("{job_id}.{EXTENSION}"))
    }
}

/// A file being written. Dropping it without `finish` removes it.
pub struct SpoolWriter {
    file: BufWriter<File>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl SpoolWriter {
    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        for sample in samples {
            self.file.write_all(&sample.to_le_bytes()).context("cannot write the spool; is the disk full?")?;
        }
        Ok(())
    }

    /// Gives the file its final name, in place of an earlier one.
    pub fn finish(mut self) -> Result<()> {
        self.file.flush().context("cannot write the spool; is the disk full?")?;
        // The plan that follows survives a loss of power, so what it speaks of must too.
        self.file.get_ref().sync_data().context("cannot write the spool; is the disk full?")?;
        rename(&self.unfinished, &self.path)
    }
}

impl Drop for SpoolWriter {
    fn drop(&mut self) {
        // After `finish` there is nothing of that name.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    Ok(std::fs::rename(from, to).with_context(|| format!("cannot rename {}", from.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_by_position_and_only_after_the_file_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("spool")).unwrap();
        let mut writer = spool.create("job", 1).unwrap();
        writer.write(&[0.0, 0.25, -0.5, 1.0]).unwrap();
        assert_eq!(spool.read("job", 0, 1).unwrap(), None, "not finished yet");
        writer.finish().unwrap();
        assert_eq!(spool.read("job", 1, 3).unwrap(), Some(vec![0.25, -0.5]));
        assert_eq!(spool.read("job", 3, 5).unwrap(), None, "beyond the end");
        assert_eq!(spool.jobs().unwrap(), ["job"]);
        spool.remove("job").unwrap();
        assert_eq!(spool.read("job", 1, 3).unwrap(), None);
    }

    #[test]
    fn an_unfinished_file_is_removed_with_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().to_owned()).unwrap();
        drop(spool.create("job", 1).unwrap());
        assert!(spool.jobs().unwrap().is_empty());
    }
}
