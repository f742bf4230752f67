//! Decoded audio on disk between `prepare` and the engine: one file for each chunk that is still to be transcribed, with
//! its samples and then its probabilities of speech as raw 32-bit numbers, so that a killed process decodes nothing twice,
//! the engine's thread listens for no speech, and a recording takes room only as far as it is ahead of the workers. A file
//! counts only once it has its final name.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

use crate::audio::{Sound, VAD_FRAME_SAMPLES};
use crate::error::Result;

const BYTES_PER_NUMBER: u64 = 4;
/// How often room is looked for while there is none: other processes make some without a word.
const LOOK: Duration = Duration::from_millis(250);
/// After this long without room, and every so often again, the log says why nothing is decoded.
const REMIND: Duration = Duration::from_secs(60);

/// The folder of one DATA_DIR; clones share it.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    room: Arc<Room>,
}

/// Held from the look at the files to the end of the write, so that two writers never take the same room.
#[derive(Debug, Default)]
struct Room {
    lock: Mutex<()>,
    made: Condvar,
    /// Whether a writer waits.
    is_short: AtomicBool,
}

impl Spool {
    /// `max_bytes`: the most that all files together may take.
    pub fn open(folder: PathBuf, max_bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let spool = Self { folder, max_bytes, room: Arc::default() };
        spool.clear_strays()?;
        Ok(spool)
    }

    /// Earlier versions kept one file for each job, beside where the folders of jobs are now.
    fn clear_strays(&self) -> Result<()> {
        let entries = std::fs::read_dir(&self.folder).context("cannot list the spool")?.flatten();
        let ours = |path: &Path| path.extension().is_some_and(|extension| extension == "f32" || extension == "part");
        for path in entries.map(|entry| entry.path()).filter(|path| path.is_file() && ours(path)) {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes the sound of a job that begins at sample `start`, waiting while the spool is full; `wait` is called again and
    /// again meanwhile and ends the wait with an error.
    pub fn write(&self, job_id: &str, start: u64, sound: &Sound, wait: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.write_within(self.max_bytes, job_id, start, sound, wait)
    }

    /// The same, without waiting for room: for one chunk of each job, so that a short one gets through a full spool.
    pub fn write_first(&self, job_id: &str, start: u64, sound: &Sound) -> Result<()> {
        self.write_within(u64::MAX, job_id, start, sound, &mut || Ok(()))
    }

    fn write_within(
        &self,
        max_bytes: u64,
        job_id: &str,
        start: u64,
        sound: &Sound,
        wait: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        let samples = sound.samples.len() as u64;
        let bytes = file_bytes(samples);
        let mut room = self.room.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waited = Duration::ZERO;
        while max_bytes < u64::MAX && self.used_bytes()? + bytes > max_bytes {
            self.room.is_short.store(true, Ordering::Relaxed);
            wait()?;
            room = self.room.made.wait_timeout(room, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            waited += LOOK;
            if waited >= REMIND {
                tracing::warn!(job = job_id, "SPOOL_MAX_BYTES={} is full: waiting for the workers", self.max_bytes);
                waited = Duration::ZERO;
            }
        }
        if max_bytes < u64::MAX {
            self.room.is_short.store(false, Ordering::Relaxed);
        }
        let path = self.path(job_id, start, start + samples);
        write_whole(&path, sound).with_context(|| format!("cannot write {}; is the disk full?", path.display()))?;
        Ok(())
    }

    /// Samples `start..end` of a job, as they were written; `None` where they are not here (any more).
    pub fn read(&self, job_id: &str, start: u64, end: u64) -> Result<Option<Sound>> {
        let mut file = match File::open(self.path(job_id, start, end)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(anyhow::Error::new(error).context("cannot read the spool").into()),
        };
        let expected_bytes = file_bytes(end - start);
        let mut bytes = Vec::with_capacity(expected_bytes as usize);
        file.read_to_end(&mut bytes).context("cannot read the spool")?;
        if bytes.len() as u64 != expected_bytes {
            return Ok(None);
        }
        let (numbers, _) = bytes.as_chunks::<4>();
        let mut samples: Vec<f32> = numbers.iter().map(|&number| f32::from_le_bytes(number)).collect();
        let speech_probs = samples.split_off((end - start) as usize);
        Ok(Some(Sound { samples, speech_probs }))
    }

    pub fn holds(&self, job_id: &str, start: u64, end: u64) -> bool {
        self.path(job_id, start, end).metadata().is_ok_and(|file| file.len() == file_bytes(end - start))
    }

    /// Removes from a job's folder all but these chunks: what a killed process had half written, or done and not removed.
    pub fn keep_only(&self, job_id: &str, chunks: &[(u64, u64)]) {
        let kept: Vec<PathBuf> = chunks.iter().map(|&(start, end)| self.path(job_id, start, end)).collect();
        let files = std::fs::read_dir(self.folder.join(job_id)).into_iter().flatten().flatten();
        for path in files.map(|file| file.path()).filter(|path| !kept.contains(path)) {
            // What cannot be removed only takes room.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Removes one chunk. What is gone already is fine.
    pub fn remove_chunk(&self, job_id: &str, start: u64, end: u64) {
        let _ = std::fs::remove_file(self.path(job_id, start, end));
        self.room.made.notify_all();
    }

    /// Removes everything of a job. What is gone already is fine.
    pub fn remove(&self, job_id: &str) -> Result<()> {
        match std::fs::remove_dir_all(self.folder.join(job_id)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(anyhow::Error::new(error).context("cannot clear the spool").into());
            }
            _ => {}
        }
        self.room.made.notify_all();
        Ok(())
    }

    /// Whether somebody waited for room when this was last looked at.
    pub fn is_short(&self) -> bool {
        self.room.is_short.load(Ordering::Relaxed)
    }

    /// The jobs that have files here, finished or not. What else lies here is not ours.
    pub fn jobs(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.folder).context("cannot list the spool")?.flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        Ok(folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// What all files take, those of other processes and unfinished ones too.
    fn used_bytes(&self) -> Result<u64> {
        let mut used = 0;
        for job in std::fs::read_dir(&self.folder).context("cannot list the spool")?.flatten() {
            // A folder or a file that has just gone takes no room.
            let Ok(files) = std::fs::read_dir(job.path()) else { continue };
            used += files.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>();
        }
        Ok(used)
    }

    fn path(&self, job_id: &str, start: u64, end: u64) -> PathBuf {
        self.folder.join(job_id).join(format!("{start}-{end}.f32"))
    }
}

/// What a chunk of so many samples takes.
fn file_bytes(samples: u64) -> u64 {
    (samples + samples.div_ceil(VAD_FRAME_SAMPLES as u64)) * BYTES_PER_NUMBER
}

fn write_whole(path: &Path, sound: &Sound) -> anyhow::Result<()> {
    let folder = path.parent().context("no folder")?;
    std::fs::create_dir_all(folder)?;
    // A name of its own: an earlier attempt that lost its lease may still be writing the same chunk.
    let file = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer = BufWriter::new(file.as_file());
    for number in sound.samples.iter().chain(&sound.speech_probs) {
        writer.write_all(&number.to_le_bytes())?;
    }
    writer.flush()?;
    drop(writer);
    // The plan that follows survives a loss of power, so what it speaks of must too.
    file.as_file().sync_data()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn sound(samples: &[f32]) -> Sound {
        let speech_probs = samples.chunks(VAD_FRAME_SAMPLES).map(|frame| frame[0].abs()).collect();
        Sound { samples: samples.to_vec(), speech_probs }
    }

    fn no_wait() -> Result<()> {
        panic!("there is room")
    }

    fn spool(max_bytes: u64) -> (tempfile::TempDir, Spool) {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path().join("spool"), max_bytes).unwrap();
        (folder, spool)
    }

    #[test]
    fn chunks_come_back_by_position_until_they_are_removed() {
        let (_folder, spool) = spool(10_000);
        spool.write("job", 10, &sound(&[0.0, 0.25, -0.5]), &mut no_wait).unwrap();
        spool.write("job", 20, &sound(&[1.0; 513]), &mut no_wait).unwrap();
        assert_eq!(spool.read("job", 10, 13).unwrap(), Some(sound(&[0.0, 0.25, -0.5])));
        assert_eq!(spool.read("job", 20, 533).unwrap(), Some(sound(&[1.0; 513])));
        assert!(spool.holds("job", 10, 13));
        assert_eq!(spool.read("job", 10, 14).unwrap(), None, "another chunk");
        assert_eq!(spool.jobs().unwrap(), ["job"]);
        spool.remove_chunk("job", 10, 13);
        assert_eq!(spool.read("job", 10, 13).unwrap(), None);
        assert!(!spool.holds("job", 10, 13));
        spool.remove("job").unwrap();
        spool.remove("job").unwrap();
        assert_eq!(spool.read("job", 20, 533).unwrap(), None);
        assert!(spool.jobs().unwrap().is_empty());
    }

    #[test]
    fn a_file_that_was_cut_short_counts_as_gone() {
        let (_folder, spool) = spool(1000);
        spool.write("job", 0, &sound(&[1.0, 2.0]), &mut no_wait).unwrap();
        File::options().write(true).open(spool.path("job", 0, 2)).unwrap().set_len(11).unwrap();
        assert_eq!(spool.read("job", 0, 2).unwrap(), None);
        assert!(!spool.holds("job", 0, 2));
    }

    #[test]
    fn a_full_spool_takes_more_only_when_room_was_made() {
        let (_folder, spool) = spool(12);
        spool.write("one", 0, &sound(&[1.0, 2.0]), &mut no_wait).unwrap();
        let mut give_up = || Err(Error::Aborted);
        assert!(matches!(spool.write("two", 0, &sound(&[3.0]), &mut give_up), Err(Error::Aborted)));
        assert_eq!(spool.read("two", 0, 1).unwrap(), None);
        assert!(spool.is_short());
        let mut make_room = || {
            spool.remove_chunk("one", 0, 2);
            Ok(())
        };
        spool.write("two", 0, &sound(&[3.0]), &mut make_room).unwrap();
        assert_eq!(spool.read("two", 0, 1).unwrap(), Some(sound(&[3.0])));
        assert!(!spool.is_short());
    }

    #[test]
    fn files_of_an_earlier_layout_are_removed() {
        let (folder, first) = spool(1000);
        for name in ["job.f32", "job.part", "README"] {
            std::fs::write(folder.path().join("spool").join(name), "x").unwrap();
        }
        Spool::open(first.folder.clone(), 1000).unwrap();
        let left: Vec<_> = std::fs::read_dir(&first.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["README"]);
    }

    #[test]
    fn what_is_no_folder_of_a_job_is_left_alone() {
        let (folder, spool) = spool(1000);
        std::fs::write(folder.path().join("spool/.DS_Store"), "x").unwrap();
        spool.write("job", 0, &sound(&[1.0]), &mut no_wait).unwrap();
        assert_eq!(spool.jobs().unwrap(), ["job"]);
    }
}
