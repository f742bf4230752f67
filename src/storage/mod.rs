//! Where recordings come from and transcripts go: files of this machine, uploads, objects in S3, addresses on the network. What
//! a job is, and when it wants what, is known above.

mod failure;
mod location;
mod notification;
mod remote;
mod s3;
mod secrets;
mod uploads;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::http_client::{Answer, Outbound, Patience, Target, Url, Wait};
use location::{Location, bucket_and_prefix, is_remote, no_address, not_allowed, shown_text, shown_url};
pub use notification::{Created, Notification};
pub use remote::{Recording, Version, Wanted};
use s3::{Object, S3};
use secrets::Vault;
pub use secrets::{S3Config, Secrets};
pub use uploads::{Incoming, Uploads};

/// How the source of a job begins that was sent to the service; its file's own name follows.
const UPLOAD: &str = "upload:";
/// What follows the prefix in the key of a result: a slash, the id of its job and the longest extension.
const MAX_RESULT_NAME_BYTES: usize = "/00000000-0000-0000-0000-000000000000.output.json".len();
/// How long a delivery of our own may take with one signed address.
const OWN_PUT: Duration = Duration::from_secs(3600);

/// What the operator permits and prefers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Uploads, recordings being fetched and secrets lie below it.
    pub data_dir: PathBuf,
    /// `https://endpoint/bucket/key` instead of `https://bucket.endpoint/key`.
    pub path_style: bool,
    /// Whether users may name addresses of the operator's own network.
    pub allow_private: bool,
    /// The only buckets that users may name; all, where there is none.
    pub allowed_buckets: Vec<String>,
    pub patience: Patience,
}

impl Settings {
    /// The strictest, for one data directory.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            path_style: false,
            allow_private: false,
            allowed_buckets: Vec::new(),
            patience: Patience::default(),
        }
    }
}

/// The way to all of them; clones share connections and credentials.
#[derive(Clone)]
pub struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    uploads: Uploads,
    fetched: PathBuf,
    vault: Vault,
    outbound: Outbound,
    s3: S3,
    allowed_buckets: Vec<String>,
}

impl Storage {
    pub fn open(settings: &Settings) -> Result<Self> {
        let below = |name| settings.data_dir.join(name);
        let inner = Inner {
            uploads: Uploads::open(below("uploads"))?,
            fetched: remote::open_folder(below("fetched"))?,
            vault: Vault::open(below("secrets"))?,
            outbound: Outbound::new(settings.allow_private, settings.patience),
            s3: S3::new(settings.path_style),
            allowed_buckets: settings.allowed_buckets.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn uploads(&self) -> &Uploads {
        &self.inner.uploads
    }

    /// Checks an address that a user gave for his audio or his results; returns what may be shown of it. `own_keys`: he
    /// brought the keys to his bucket himself.
    ///
    /// # Errors
    /// `InvalidInput` with `address_not_allowed`.
    pub fn check(&self, address: &str, own_keys: bool) -> Result<String> {
        let location = Location::parse(address)?;
        let shown = location.shown();
        match &location {
            Location::Http(url) => {
                let forbidden = |reason| not_allowed(format!("{shown}: {reason}"));
                self.inner.outbound.check(url).map_err(forbidden)?;
            }
            Location::S3 { bucket, .. } if !own_keys => self.check_bucket(bucket, &shown)?,
            Location::S3 { .. } => {}
        }
        Ok(shown)
    }

    /// The same for where documents go, which in S3 is a bucket with or without a prefix.
    ///
    /// # Errors
    /// `InvalidInput` with `address_not_allowed`.
    pub fn check_output(&self, address: &str, own_keys: bool) -> Result<String> {
        if !address.starts_with("s3://") {
            return self.check(address, own_keys);
        }
        let (bucket, prefix) = bucket_and_prefix(address)
            .filter(|(_, prefix)| location::is_key(prefix))
            .ok_or_else(|| not_allowed("output_uri: allowed are s3://bucket/prefix and an address that takes a PUT"))?;
        if prefix.len() + MAX_RESULT_NAME_BYTES > location::MAX_KEY_BYTES {
            return Err(not_allowed(format!(
                "output_uri: the prefix in {bucket} leaves no room for the names of results"
            )));
        }
        if !own_keys {
            self.check_bucket(bucket, address)?;
        }
        Ok(address.to_owned())
    }

    /// The same for a webhook.
    ///
    /// # Errors
    /// `InvalidInput` with `address_not_allowed`.
    pub fn check_webhook(&self, address: &str) -> Result<String> {
        match Location::parse(address) {
            Ok(Location::Http(_)) => self.check(address, false),
            _ => Err(no_webhook(address)),
        }
    }

    fn check_bucket(&self, bucket: &str, shown: &str) -> Result<()> {
        let allowed = &self.inner.allowed_buckets;
        if allowed.is_empty() || allowed.iter().any(|name| name == bucket) {
            return Ok(());
        }
        let list = allowed.join(", ");
        Err(not_allowed(format!("{shown}: the bucket may not be used here: S3_ALLOWED_BUCKETS allows {list}")))
    }

    /// Stores what a job about to be submitted needs and its row must not have.
    pub fn keep_secrets(&self, job_id: &str, secrets: &Secrets) -> Result<()> {
        self.inner.vault.write(job_id, secrets)
    }

    /// The secrets that the audio of a job needs.
    ///
    /// # Errors
    /// `InvalidInput` where one is gone that `sealed` names: the open part alone may lead elsewhere, and the operator's keys
    /// are not the user's.
    fn secrets_of_audio(&self, job_id: &str, sealed: &[String]) -> Result<Secrets> {
        self.secrets(job_id, sealed, &[secrets::AUDIO, secrets::KEYS])
    }

    /// The same for where its documents go.
    pub fn secrets_of_output(&self, job_id: &str, sealed: &[String]) -> Result<Secrets> {
        // The keys count only for what the user named himself.
        let own = sealed.iter().any(|part| part == secrets::OUTPUT);
        self.secrets(job_id, sealed, if own { &[secrets::OUTPUT, secrets::KEYS] } else { &[] })
    }

    /// The same for a result that goes to the user's own bucket, whatever else does.
    pub fn secrets_of_result(&self, job_id: &str, sealed: &[String]) -> Result<Secrets> {
        self.secrets(job_id, sealed, &[secrets::OUTPUT, secrets::KEYS])
    }

    /// The same for its webhook.
    pub fn secrets_of_webhook(&self, job_id: &str, sealed: &[String]) -> Result<Secrets> {
        self.secrets(job_id, sealed, &[secrets::WEBHOOK])
    }

    fn secrets(&self, job_id: &str, sealed: &[String], wanted: &[&str]) -> Result<Secrets> {
        let secrets = self.inner.vault.read(job_id)?;
        let there = secrets.parts();
        let is_gone =
            |part: &&&str| sealed.iter().any(|name| name == **part) && !there.iter().any(|name| name == **part);
        let Some(gone) = wanted.iter().find(is_gone) else { return Ok(secrets) };
        Err(Error::invalid("expired", format!("what is secret of {gone} is kept no more: submit the job again")))
    }

    /// Whether a user's own bucket can be asked for at all.
    ///
    /// # Errors
    /// `InvalidInput` with `address_not_allowed`.
    pub fn check_keys(&self, keys: &S3Config) -> Result<()> {
        let shown = shown_text(&keys.endpoint_url);
        let wrong = || {
            not_allowed(format!(
                "s3Config: endpointUrl: {shown} is no S3 server: allowed is such as https://s3.example.org"
            ))
        };
        let Ok(Location::Http(url)) = Location::parse(&keys.endpoint_url) else { return Err(wrong()) };
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(wrong());
        }
        self.inner.outbound.check(&url).map_err(|reason| not_allowed(format!("s3Config: {shown}: {reason}")))
    }

    /// The jobs that have secrets here other than the address of their webhook, and whether each is so old that a job must
    /// have come of it.
    pub fn jobs_with_secrets(&self) -> Result<Vec<(String, bool)>> {
        self.inner.vault.jobs()
    }

    /// The same for the addresses of webhooks.
    pub fn jobs_with_webhooks(&self) -> Result<Vec<(String, bool)>> {
        self.inner.vault.webhooks()
    }

    /// Forgets everything but the address of the job's webhook.
    pub fn forget_secrets(&self, job_id: &str) -> Result<()> {
        self.inner.vault.remove(job_id)
    }

    pub fn forget_webhook(&self, job_id: &str) -> Result<()> {
        self.inner.vault.remove_webhook(job_id)
    }

    /// An address to which a file can be sent with PUT within `valid`, and the `s3://` name that it then has.
    ///
    /// # Errors
    /// `InvalidInput` with `denied` where there are no credentials.
    pub fn presigned_upload(&self, bucket: &str, key: &str, valid: Duration) -> Result<(Url, String)> {
        let object = Object { bucket, key, keys: None };
        Ok((self.inner.s3.put(&object, valid)?.url, format!("s3://{bucket}/{key}")))
    }

    /// An address from which a document in S3 can be fetched within `valid`, by anyone who has it.
    ///
    /// # Errors
    /// `InvalidInput` with `denied` where there are no credentials, or where it is not in S3.
    pub fn presigned_download(&self, from: &Output<'_>, valid: Duration) -> Result<Url> {
        match &Location::parse(from.address)? {
            Location::S3 { bucket, key } => {
                Ok(self.inner.s3.get_within(&Object { bucket, key, keys: from.keys }, valid)?.url)
            }
            Location::Http(_) => Err(Error::invalid("denied", "an address outside S3 cannot be signed")),
        }
    }

    /// Puts a document where it is wanted.
    ///
    /// # Errors
    /// `InvalidInput` or `Transient` with the codes of [`Storage::recording`]; whatever `wait` returns.
    pub fn write(&self, to: &Output<'_>, document: Vec<u8>, wait: &mut Wait) -> Result<()> {
        let (target, shown, is_own) = self.output(to)?;
        let answer =
            self.inner.outbound.put(&target, document, wait).map_err(|error| failure::explain(&shown, error))?;
        match answer.is_success() {
            true => Ok(()),
            false if is_own => Err(failure::own_keys(&shown, failure::unwritten(&shown, &answer))),
            false => Err(failure::unwritten(&shown, &answer)),
        }
    }

    /// Posts a message to an address that a user named.
    ///
    /// # Errors
    /// As [`Storage::write`]; only an address that is gone for good (410) or not allowed is `InvalidInput`.
    pub fn post(&self, address: &str, headers: Vec<(String, String)>, body: Vec<u8>, wait: &mut Wait) -> Result<()> {
        let Location::Http(url) = Location::parse(address)? else { return Err(no_webhook(address)) };
        let shown = shown_url(&url);
        let target = Target { headers, ..remote::users_address(&url) };
        let answer = self.inner.outbound.post(&target, body, wait).map_err(|error| failure::explain(&shown, error))?;
        if answer.is_success() { Ok(()) } else { Err(failure::unheard(&shown, &answer)) }
    }

    /// Where to put it, what to call that, and whether the keys for it are the operator's.
    fn output(&self, to: &Output<'_>) -> Result<(Target, String, bool)> {
        let location = Location::parse(to.address)?;
        let shown = location.shown();
        let target = match &location {
            Location::Http(url) => remote::users_address(url),
            Location::S3 { bucket, key } => self.inner.s3.put(&Object { bucket, key, keys: to.keys }, OWN_PUT)?,
        };
        Ok((target, shown, remote::is_own(&location, to.keys)))
    }
}

/// Why a server did not take what was sent to a place of this name, and whether trying again helps.
pub fn refusal(shown: &str, answer: &Answer) -> Error {
    failure::refused(shown, answer)
}

/// Where a document of a job goes.
pub struct Output<'a> {
    pub address: &'a str,
    /// Of the user's own bucket.
    pub keys: Option<&'a S3Config>,
}

fn no_webhook(address: &str) -> Error {
    let shown = shown_text(address);
    not_allowed(format!("{shown} cannot be a webhook: allowed is an https:// or http:// address"))
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

/// The bucket and the beginning of each key, from a setting such as `s3://bucket/prefix` or a bucket's name.
pub fn parse_bucket(setting: &str) -> Option<(&str, &str)> {
    bucket_and_prefix(setting)
}

/// Whether a job's audio is outside this machine.
pub fn is_address(source: &str) -> bool {
    is_remote(source)
}

/// What to say to a user whose text is none.
pub fn not_an_address(text: &str) -> Error {
    no_address(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_named_after_its_recording() {
        for (source, name) in [
            ("/a/b.c/talk.mp3", "talk"),
            ("upload:my talk.tar.mp3", "my talk.tar"),
            ("upload:x", "x"),
            ("s3://talks/2026/a.mp3", "a"),
        ] {
            assert_eq!(base_name(source), name);
        }
    }

    #[test]
    fn only_the_buckets_that_are_listed_may_be_named_but_with_keys_of_ones_own_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(folder.path().to_owned());
        let open = Storage::open(&settings).unwrap();
        assert_eq!(open.check("s3://mine/a.mp3", false).unwrap(), "s3://mine/a.mp3");
        settings.allowed_buckets = vec!["talks".to_owned()];
        let closed = Storage::open(&settings).unwrap();
        let error = closed.check("s3://mine/a.mp3", false).expect_err("not listed");
        assert!(error.code() == "address_not_allowed" && error.to_string().contains("S3_ALLOWED_BUCKETS allows talks"));
        closed.check("s3://talks/a.mp3", false).unwrap();
        closed.check("s3://mine/a.mp3", true).unwrap();
    }
}
