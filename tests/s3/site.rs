//! A storage with little patience, as the tests of transfers need it: every fetch must leave nothing behind, however it
//! ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use whisperq::error::{Error, Result};
use whisperq::http_client::Patience;
use whisperq::storage::{S3Config, Secrets, Settings, Storage, Version, Wanted};

use super::boto::Boto;
use super::proxy::Proxy;
use super::weed::{ACCESS_KEY, SECRET_KEY, Weed};

pub(super) const JOB: &str = "job";
pub(super) const KEY: &str = "talk 1.wav";
/// Of the object; boto3 sends it in one piece.
pub(super) const SIZE: u64 = 4 << 20;
/// Long enough that only what stands still is taken for silent, also on a busy machine.
const LONG: Duration = Duration::from_secs(100);

/// The storage of one test.
pub(super) struct Site {
    folder: TempDir,
    pub(super) storage: Storage,
}

/// An object in a bucket of its own behind a proxy.
pub(super) struct Object {
    pub(super) proxy: Proxy,
    pub(super) bucket: &'static str,
    pub(super) content: Vec<u8>,
}

impl Site {
    pub(super) fn new() -> Self {
        Self::with_silence(LONG)
    }

    /// One that gives a connection up on which nothing comes for so long.
    pub(super) fn with_silence(silence: Duration) -> Self {
        Self::with(Patience { silence, pause: Duration::from_millis(5), ..Patience::default() })
    }

    pub(super) fn with(patience: Patience) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { allow_private: true, patience, ..Settings::new(folder.path().to_owned()) };
        let storage = Storage::open(&settings).unwrap();
        Self { folder, storage }
    }

    /// What is at an address.
    pub(super) fn fetch(&self, source: &str) -> Result<Vec<u8>> {
        self.fetch_within(source, u64::MAX, &mut || Ok(()))
    }

    pub(super) fn fetch_within(
        &self,
        source: &str,
        max_bytes: u64,
        wait: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<u8>> {
        let wanted = Wanted { job_id: JOB, attempt: 1, source, sealed: &[], version: None, max_bytes };
        let recording = self.storage.recording(&wanted, wait);
        let content = recording.map(|recording| {
            let content = std::fs::read(recording.path()).unwrap();
            assert!(matches!(recording.fetched, Some(Version { bytes, .. }) if bytes == content.len() as u64));
            content
        });
        let left = files(&self.folder.path().join("fetched"));
        assert!(left.is_empty(), "{left:?} was left behind");
        content
    }

    /// The `s3://` address of an object, whose keys its job has from now on.
    pub(super) fn with_keys(&self, object: &Object) -> String {
        let keys = keys_to(&object.proxy);
        self.storage.keep_secrets(JOB, &Secrets { s3_config: Some(keys), ..Secrets::default() }).unwrap();
        format!("s3://{}/{KEY}", object.bucket)
    }
}

impl Object {
    pub(super) fn new(bucket: &'static str) -> Self {
        let object = Self { proxy: Proxy::start(&Weed::shared().address), bucket, content: noise(1) };
        Boto::shared().create(bucket);
        object.put(&object.content);
        object
    }

    /// Puts something else in its place.
    pub(super) fn put(&self, content: &[u8]) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("object");
        std::fs::write(&file, content).unwrap();
        Boto::shared().put(self.bucket, KEY, &file);
    }

    /// An address that opens it.
    pub(super) fn url(&self) -> String {
        Boto::at(self.proxy.url()).presign_get(self.bucket, KEY, 600)
    }

    pub(super) fn let_through(&self) -> u64 {
        self.proxy.let_through(self.bucket)
    }

    /// The bytes that were sent for what is here, over its length.
    pub(super) fn ratio(&self) -> f64 {
        self.let_through() as f64 / self.content.len() as f64
    }
}

/// The keys that a user gives who has his bucket behind this proxy.
pub(super) fn keys_to(proxy: &Proxy) -> S3Config {
    S3Config {
        access_id: ACCESS_KEY.to_owned(),
        access_secret: SECRET_KEY.to_owned(),
        bucket_name: None,
        endpoint_url: proxy.url(),
    }
}

/// Bytes of which no two parts are alike: another one for each seed.
pub(super) fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let word = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // The low bits of such a generator repeat soon.
        Some((state >> 24) as u8)
    };
    std::iter::from_fn(word).take(SIZE as usize).collect()
}

pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect()
}

/// A failure of the network, which another attempt may not meet.
#[track_caller]
pub(super) fn assert_may_pass(result: Result<Vec<u8>>, code: &str) -> String {
    let Err(error) = result else { panic!("it came") };
    assert!(matches!(error, Error::Transient { .. }) && error.is_retryable(), "{error:?}");
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}

#[track_caller]
pub(super) fn assert_refused(result: Result<Vec<u8>>, code: &str) -> String {
    let Err(error) = result else { panic!("it came") };
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}
