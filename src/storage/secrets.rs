//! What a job needs and nobody may read in the database: signed addresses and the keys to a user's own bucket. One file for
//! each job, readable by the owner of the process alone, and one more for its webhook, which a redelivery needs much later.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::uploads::{is_old, remove, sync};
use crate::error::Result;

const WEBHOOKS: &str = "webhooks";
pub(super) const AUDIO: &str = "audio";
pub(super) const OUTPUT: &str = "output_uri";
pub(super) const KEYS: &str = "s3Config";
pub(super) const WEBHOOK: &str = "webhook";
const PARTIAL: &str = "part";

/// The keys to a user's own bucket, under the names that RunPod's clients send.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct S3Config {
    pub access_id: String,
    pub access_secret: String,
    #[serde(default)]
    pub bucket_name: Option<String>,
    pub endpoint_url: String,
}

/// The addresses of a job as they came, with their queries. Each is absent where the job's row says it all.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Secrets {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_uri: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3_config: Option<S3Config>,
    #[serde(skip)]
    pub webhook: Option<String>,
}

impl Secrets {
    /// The names of those that there are.
    pub fn parts(&self) -> Vec<String> {
        let parts = [
            (AUDIO, self.audio.is_some()),
            (OUTPUT, self.output_uri.is_some()),
            (KEYS, self.s3_config.is_some()),
            (WEBHOOK, self.webhook.is_some()),
        ];
        parts.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned()).collect()
    }
}

/// The folder of secrets below one DATA_DIR.
#[derive(Clone, Debug)]
pub(super) struct Vault {
    folder: PathBuf,
    /// Apart, because they are kept as long as their jobs and become many.
    webhooks: PathBuf,
}

impl Vault {
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        let webhooks = folder.join(WEBHOOKS);
        let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&webhooks);
        created.with_context(|| format!("cannot create {}", webhooks.display()))?;
        Ok(Self { folder, webhooks })
    }

    /// Stores the secrets of a job that is about to be submitted, so that they survive a loss of power; nothing where there
    /// are none.
    pub(super) fn write(&self, job_id: &str, secrets: &Secrets) -> Result<()> {
        if secrets.audio.is_some() || secrets.output_uri.is_some() || secrets.s3_config.is_some() {
            let text = serde_json::to_string(secrets).context("cannot write the secrets of a job")?;
            self.store(&self.folder.join(job_id), &text)?;
        }
        secrets.webhook.as_ref().map_or(Ok(()), |webhook| self.store(&self.webhooks.join(job_id), webhook))
    }

    pub(super) fn read(&self, job_id: &str) -> Result<Secrets> {
        let text = read(&self.folder.join(job_id))?;
        let secrets = text.map(|text| serde_json::from_str(&text)).transpose();
        let mut secrets: Secrets = secrets.context("the secrets of the job cannot be read")?.unwrap_or_default();
        secrets.webhook = read(&self.webhooks.join(job_id))?;
        Ok(secrets)
    }

    /// The jobs that have secrets here other than the address of their webhook, and whether each is so old that a job must
    /// have come of it.
    pub(super) fn jobs(&self) -> Result<Vec<(String, bool)>> {
        list(&self.folder)
    }

    /// The same for the addresses of webhooks.
    pub(super) fn webhooks(&self) -> Result<Vec<(String, bool)>> {
        list(&self.webhooks)
    }

    /// Removes everything but the address of the webhook.
    pub(super) fn remove(&self, job_id: &str) -> Result<()> {
        remove(&self.folder.join(job_id))
    }

    pub(super) fn remove_webhook(&self, job_id: &str) -> Result<()> {
        remove(&self.webhooks.join(job_id))
    }

    fn store(&self, path: &Path, text: &str) -> Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{PARTIAL}"));
        let partial = PathBuf::from(name);
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&partial, path)?;
            sync(path.parent().unwrap_or(&self.folder))
        };
        Ok(write().context("cannot store the secrets of a job")?)
    }
}

fn list(folder: &Path) -> Result<Vec<(String, bool)>> {
    let mut jobs = Vec::new();
    for file in std::fs::read_dir(folder).context("cannot list the secrets")?.flatten() {
        let (path, name) = (file.path(), file.file_name().to_string_lossy().into_owned());
        let partial = path.extension().is_some_and(|extension| extension == PARTIAL);
        if partial && is_old(&path) {
            remove(&path)?;
        } else if !partial && name != WEBHOOKS {
            jobs.push((name, is_old(&path)));
        }
    }
    Ok(jobs)
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow::Error::new(error).context("the secrets of the job cannot be read").into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_for_their_owner_alone_and_the_webhook_outlives_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path().join("secrets")).unwrap();
        let secrets = Secrets {
            audio: Some("https://a/?s=1".into()),
            webhook: Some("https://w/?s=2".into()),
            ..Secrets::default()
        };
        vault.write("job", &secrets).unwrap();
        for name in ["job", "webhooks/job"] {
            let mode = std::fs::metadata(folder.path().join("secrets").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let folder_mode = std::fs::metadata(folder.path().join("secrets")).unwrap().permissions().mode();
        assert_eq!(folder_mode & 0o777, 0o700);
        assert_eq!(vault.read("job").unwrap().audio, secrets.audio);
        vault.remove("job").unwrap();
        let left = vault.read("job").unwrap();
        assert_eq!((left.audio, left.webhook), (None, secrets.webhook));
        assert_eq!((vault.jobs().unwrap(), vault.webhooks().unwrap()), (Vec::new(), vec![("job".to_owned(), false)]));
        vault.remove_webhook("job").unwrap();
        assert!(vault.read("job").unwrap().webhook.is_none());
    }
}
