//! Recordings that are fetched: into a file of their own, checked, and gone again when the work on them is over.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::location::Location;
use super::s3::Object;
use super::uploads::remove;
use super::{S3Config, Secrets, Storage, UPLOAD, failure, is_remote, verify};
use crate::error::Result;
use crate::http_client::{Fetched, Reach, Target, Url, Wait};

/// Transfers of one recording that may end in a wrong checksum.
const MAX_DAMAGED: u32 = 3;

/// The recording of a job, and what is known of it.
pub struct Wanted<'a> {
    pub job_id: &'a str,
    /// Of the task that wants it: an attempt that was given up may still be writing.
    pub attempt: i64,
    pub source: &'a str,
    /// The secrets that belong to the job.
    pub sealed: &'a [String],
    /// The version that earlier work was done on.
    pub version: Option<&'a str>,
    pub max_bytes: u64,
}

/// A file on this machine; one that was fetched goes when this is dropped.
pub struct Recording {
    path: PathBuf,
    /// Present where it was fetched.
    pub fetched: Option<Version>,
}

/// What tells one version of a remote file from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub tag: Option<String>,
    pub bytes: u64,
}

impl Recording {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.fetched.is_some() {
            // What is left after a failure here is removed when the job has ended.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Storage {
    /// The file behind the `source` of a job, fetched where it is elsewhere.
    ///
    /// # Errors
    /// `InvalidInput` or `Transient` with one of the codes `not_found`, `denied`, `expired`, `unreachable`, `not_audio`,
    /// `too_large`, `transfer_failed`, `address_not_allowed` and `source_changed`; whatever `wait` returns.
    pub fn recording(&self, wanted: &Wanted<'_>, wait: &mut Wait) -> Result<Recording> {
        if is_remote(wanted.source) {
            return self.fetch(wanted, wait);
        }
        let uploaded = wanted.source.starts_with(UPLOAD);
        let path = if uploaded { self.inner.uploads.path(wanted.job_id) } else { PathBuf::from(wanted.source) };
        Ok(Recording { path, fetched: None })
    }

    /// The jobs for which a file is being fetched, or was when a process died.
    pub fn fetching(&self) -> Result<Vec<String>> {
        let files = std::fs::read_dir(&self.inner.fetched).context("cannot list what is being fetched")?;
        let names = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
        Ok(names.filter_map(|name| Some(name.rsplit_once('.')?.0.to_owned())).collect())
    }

    /// Removes what was fetched for a job, but for one attempt at it.
    pub fn remove_fetched(&self, job_id: &str, but: Option<i64>) -> Result<()> {
        let files = std::fs::read_dir(&self.inner.fetched).context("cannot list what is being fetched")?;
        for file in files.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let Some((job, attempt)) = name.rsplit_once('.') else { continue };
            if job == job_id && but.is_none_or(|but| attempt != but.to_string()) {
                remove(&file.path())?;
            }
        }
        Ok(())
    }

    fn fetch(&self, wanted: &Wanted<'_>, wait: &mut Wait) -> Result<Recording> {
        let secrets = self.secrets_of_audio(wanted.job_id, wanted.sealed)?;
        let location = Location::parse(secrets.audio.as_deref().unwrap_or(wanted.source))?;
        self.remove_fetched(wanted.job_id, Some(wanted.attempt))?;
        let path = self.inner.fetched.join(format!("{}.{}", wanted.job_id, wanted.attempt));
        // From here on it is removed whatever happens.
        let mut recording = Recording { path, fetched: Some(Version { tag: None, bytes: 0 }) };
        let fetched = self.fetch_intact(&location, &secrets, &recording.path, wanted.max_bytes, wait)?;
        let shown = location.shown();
        if fetched.bytes == 0 {
            return Err(failure::invalid("not_audio", &shown, "is empty (0 bytes)"));
        }
        let version = version(&fetched);
        if let (Some(known), Some(found)) = (wanted.version, &version.tag)
            && known != found
        {
            return Err(failure::invalid(
                "source_changed",
                &shown,
                "was changed after it was submitted: submit it again",
            ));
        }
        recording.fetched = Some(version);
        Ok(recording)
    }

    fn fetch_intact(
        &self,
        location: &Location,
        secrets: &Secrets,
        path: &Path,
        max_bytes: u64,
        wait: &mut Wait,
    ) -> Result<Fetched> {
        let shown = location.shown();
        for _ in 0..MAX_DAMAGED {
            let target = match location {
                Location::Http(url) => users_address(url),
                Location::S3 { bucket, key } => {
                    self.inner.s3.get(&Object { bucket, key, keys: secrets.s3_config.as_ref() })?
                }
            };
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            let mut file = file.context("cannot write the recording to DATA_DIR")?;
            let fetched = self.inner.outbound.fetch(&target, &mut file, max_bytes, wait);
            let fetched = fetched.map_err(|error| match failure::explain(&shown, error) {
                error if is_own(location, secrets.s3_config.as_ref()) => failure::own_keys(&shown, error),
                error => error,
            })?;
            if verify::is_intact(path, &fetched)? {
                return Ok(fetched);
            }
            tracing::warn!(source = shown, "a recording arrived damaged; fetching it again");
        }
        Err(failure::damaged(&shown))
    }
}

pub(super) fn open_folder(folder: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Whether it is opened with the operator's keys.
pub(super) fn is_own(location: &Location, keys: Option<&S3Config>) -> bool {
    matches!(location, Location::S3 { .. }) && keys.is_none()
}

/// An address that a user named.
pub(super) fn users_address(url: &Url) -> Target {
    Target { url: url.clone(), headers: Vec::new(), reach: Reach::Public }
}

fn version(fetched: &Fetched) -> Version {
    let tag = fetched.header("etag").or_else(|| fetched.header("last-modified"));
    Version { tag: tag.map(|tag| tag.trim_matches('"').to_owned()), bytes: fetched.bytes }
}
