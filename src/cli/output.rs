//! Where the transcripts of `whisperq transcribe` go: standard output, or one file for each recording.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::progress::Bars;
use super::{report, say};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::queue::{Queue, unix_now_ms};
use crate::transcript::Format;

pub(super) struct Output {
    format: Format,
    folder: Option<PathBuf>,
    /// Several texts on standard output are told apart by a line with the file's name; JSON documents tell themselves.
    titled: bool,
    taken: HashSet<PathBuf>,
}

impl Output {
    /// Makes sure now that there is a place to write to, and not after hours of work.
    pub(super) fn new(format: Format, folder: Option<PathBuf>, recordings: usize) -> Result<Self> {
        if let Some(folder) = &folder {
            let probe = folder.join(format!(".whisperq-{}", std::process::id()));
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::write(&probe, ""))
                .and_then(|()| std::fs::remove_file(&probe))
                .map_err(|error| {
                    Error::Config(format!(
                        "cannot write into --output-dir {}: {error}; choose another",
                        folder.display()
                    ))
                })?;
        }
        let titled = recordings > 1 && folder.is_none() && !matches!(format, Format::Json | Format::VerboseJson);
        Ok(Self { format, folder, titled, taken: HashSet::new() })
    }

    /// Whether the format shows the times of words.
    pub(super) fn has_words(&self) -> bool {
        self.format == Format::VerboseJson
    }

    /// Hands out the transcript of a completed job, and notes in the queue that this was done.
    pub(super) fn write(&mut self, queue: &Queue, file: &str, job: &Job, bars: &Bars) -> Result<()> {
        for warning in &job.warnings {
            bars.suspend(|| report(&format!("{file}: warning: {warning}")));
        }
        let text = queue.transcript(&job.id)?.render(self.format);
        match &self.folder {
            Some(folder) => {
                let path = self.free_path(folder, file);
                write_whole(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
                self.taken.insert(path);
            }
            None => {
                let title = if self.titled { format!("==> {file} <==\n") } else { String::new() };
                bars.suspend(|| say(&format!("{title}{text}")))?;
            }
        }
        queue.hand_out(&job.id, unix_now_ms())
    }

    /// `talk.srt` for `talk.mp3`, and `talk-2.srt` for a second `talk` of this run.
    fn free_path(&self, folder: &Path, file: &str) -> PathBuf {
        let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension = self.format.extension();
        let mut path = folder.join(format!("{stem}.{extension}"));
        let mut n = 1;
        while self.taken.contains(&path) {
            n += 1;
            path = folder.join(format!("{stem}-{n}.{extension}"));
        }
        path
    }
}

/// Nobody finds half a file, not even after a crash.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    std::fs::write(&unfinished, text)?;
    std::fs::rename(&unfinished, path)
}
