//! Every setting, read once from the environment and checked; nothing else in the crate reads the environment. An empty
//! variable counts as unset, and a wrong one stops the start with its name, its value and what is allowed.

mod lambda;
mod runpod;
mod secret;
mod values;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
pub use lambda::Lambda;
pub use runpod::Runpod;
pub use secret::Secret;
use values::{GIB, KIB, bytes, cors_origins, list, refused, seconds, truth, whole};

/// More threads than this is a typing error: one GPU serves about eight.
const MAX_WORKERS: u64 = 64;
/// A day: no wait or limit of one piece of work is longer.
const DAY_SECONDS: u64 = 86_400;
const MIN_SPOOL_BYTES: u64 = 16 * KIB * KIB;
const DEFAULT_MODEL: &str = "turbo";
const DEFAULT_HF_ENDPOINT: &str = "https://huggingface.co";

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// The settings as the program uses them. Names and defaults are those of the table in the README.
#[derive(Clone, Debug)]
pub struct Config {
    pub worker_count: usize,
    pub model_instances: usize,
    /// A name, a path or `owner/repo/file`.
    pub model_name: String,
    pub model_dir: PathBuf,
    pub hf_endpoint: String,
    pub hf_token: Option<Secret>,
    /// Holds the database, the spool and the process locks.
    pub data_dir: PathBuf,
    /// Where transcripts go that name no other place, as `s3://bucket/prefix`.
    pub output_uri: Option<String>,
    /// The bucket, perhaps with a prefix, that presigned uploads go to.
    pub upload_bucket: Option<String>,
    /// The only buckets that users may name; all, where there is none.
    pub s3_allowed_buckets: Vec<String>,
    pub s3_force_path_style: bool,
    /// Whether users may name addresses of the operator's own network.
    pub allow_private_urls: bool,
    /// `whsec_` and the key in base64 that webhooks are signed with.
    pub webhook_secret: Option<Secret>,
    pub max_audio_bytes: u64,
    pub max_audio_seconds: u64,
    pub max_queued: u64,
    pub spool_max_bytes: u64,
    pub lease: Duration,
    pub max_attempts: u32,
    pub chunk_timeout: Duration,
    pub job_ttl: Duration,
    pub execution_timeout: Duration,
    /// How long jobs are kept after their end; `None`: for ever.
    pub retention: Option<Duration>,
    /// One of these is asked for at every request but a health check; none: everyone may do everything.
    pub api_keys: Vec<Secret>,
    pub host: IpAddr,
    pub port: u16,
    /// Web pages from here may call the service; `*` for all.
    pub cors_origins: Vec<String>,
    /// How long running work may take after the request to stop.
    pub shutdown: Duration,
    pub log_format: LogFormat,
    /// Filter directives such as `info,whisperq=debug`.
    pub rust_log: Option<String>,
    pub runpod: Runpod,
    pub lambda: Lambda,
}

/// The environment as envy hands it over: everything is text here, and parsed below so that each error can name the
/// variable and what it allows.
#[derive(Default, Deserialize)]
struct Environment {
    worker_count: Option<String>,
    model_instances: Option<String>,
    model_name: Option<String>,
    model_dir: Option<String>,
    hf_endpoint: Option<String>,
    hf_token: Option<String>,
    data_dir: Option<String>,
    output_uri: Option<String>,
    upload_bucket: Option<String>,
    s3_allowed_buckets: Option<String>,
    s3_force_path_style: Option<String>,
    allow_private_urls: Option<String>,
    webhook_secret: Option<String>,
    max_audio_bytes: Option<String>,
    max_audio_seconds: Option<String>,
    max_queued: Option<String>,
    spool_max_bytes: Option<String>,
    lease_seconds: Option<String>,
    max_attempts: Option<String>,
    chunk_timeout_seconds: Option<String>,
    job_ttl_seconds: Option<String>,
    execution_timeout_seconds: Option<String>,
    retention_days: Option<String>,
    api_key: Option<String>,
    host: Option<String>,
    port: Option<String>,
    cors_origins: Option<String>,
    shutdown_seconds: Option<String>,
    log_format: Option<String>,
    rust_log: Option<String>,
    home: Option<String>,
}

/// Where programs and libraries (those of a GPU build) are found: no settings of ours, but what a child process needs.
const SYSTEM_PATHS: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// The part of the environment that a child process may see: no settings, no secrets.
pub fn system_paths() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| SYSTEM_PATHS.iter().any(|path| name == path))
}

/// Whether the process's environment has one of these, for variables that are not ours.
pub fn has_any(names: &[&str]) -> bool {
    std::env::vars_os().any(|(set, _)| names.iter().any(|name| set == *name))
}

impl Config {
    /// Reads the process's own environment.
    pub fn from_env() -> Result<Self> {
        let vars = std::env::vars_os();
        Self::from_vars(vars.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))))
    }

    /// Reads the given `(name, value)` pairs instead.
    pub fn from_vars(vars: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let set: Vec<_> = vars.filter(|(_, value)| !value.trim().is_empty()).collect();
        let wrong = |error: envy::Error| Error::Config(error.to_string());
        let runpod = Runpod::read(envy::from_iter(set.iter().cloned()).map_err(wrong)?)?;
        let lambda = Lambda::read(envy::from_iter(set.iter().cloned()).map_err(wrong)?)?;
        let env: Environment = envy::from_iter(set).map_err(wrong)?;
        let worker_count =
            whole("WORKER_COUNT", env.worker_count.as_deref(), 1..=MAX_WORKERS, lambda.worker_count().unwrap_or(4))?;
        // On Lambda there is no GPU that another copy could be on, and memory is what is paid for.
        let instances = if lambda.runtime_api.is_some() { 1 } else { worker_count };
        let model_instances = whole("MODEL_INSTANCES", env.model_instances.as_deref(), 1..=MAX_WORKERS, instances)?;
        if model_instances > worker_count {
            return Err(Error::Config(format!(
                "MODEL_INSTANCES={model_instances} is more than WORKER_COUNT={worker_count}: \
                 a model without a worker would never run; lower MODEL_INSTANCES or raise WORKER_COUNT"
            )));
        }
        let (model_dir, data_dir) = directories(&env, &lambda)?;
        let api_keys = api_keys(env.api_key.as_deref())?;
        Ok(Self {
            worker_count: worker_count as usize,
            model_instances: model_instances as usize,
            model_name: env.model_name.unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
            model_dir,
            hf_endpoint: env.hf_endpoint.unwrap_or_else(|| DEFAULT_HF_ENDPOINT.to_owned()),
            hf_token: env.hf_token.map(Secret::new),
            data_dir,
            output_uri: bucket("OUTPUT_URI", env.output_uri, "s3://bucket/prefix")?,
            upload_bucket: bucket("UPLOAD_BUCKET", env.upload_bucket, "bucket or s3://bucket/prefix")?,
            s3_allowed_buckets: list(env.s3_allowed_buckets.as_deref()),
            s3_force_path_style: truth("S3_FORCE_PATH_STYLE", env.s3_force_path_style.as_deref())?,
            allow_private_urls: truth("ALLOW_PRIVATE_URLS", env.allow_private_urls.as_deref())?,
            webhook_secret: env.webhook_secret.map(Secret::new),
            max_audio_bytes: bytes("MAX_AUDIO_BYTES", env.max_audio_bytes.as_deref(), 2 * GIB)?,
            max_audio_seconds: whole("MAX_AUDIO_SECONDS", env.max_audio_seconds.as_deref(), 1..=DAY_SECONDS, 43_200)?,
            max_queued: whole("MAX_QUEUED", env.max_queued.as_deref(), 1..=10_000_000, 10_000)?,
            spool_max_bytes: spool_max_bytes(env.spool_max_bytes.as_deref())?,
            lease: seconds("LEASE_SECONDS", env.lease_seconds.as_deref(), 3..=3600, 30)?,
            max_attempts: whole("MAX_ATTEMPTS", env.max_attempts.as_deref(), 1..=100, 3)? as u32,
            chunk_timeout: seconds("CHUNK_TIMEOUT_SECONDS", env.chunk_timeout_seconds.as_deref(), 1..=3600, 300)?,
            job_ttl: seconds("JOB_TTL_SECONDS", env.job_ttl_seconds.as_deref(), 1..=365 * DAY_SECONDS, DAY_SECONDS)?,
            retention: retention(env.retention_days.as_deref())?,
            execution_timeout: seconds(
                "EXECUTION_TIMEOUT_SECONDS",
                env.execution_timeout_seconds.as_deref(),
                1..=7 * DAY_SECONDS,
                3600,
            )?,
            host: host(env.host.as_deref(), !api_keys.is_empty())?,
            api_keys,
            port: whole("PORT", env.port.as_deref(), 0..=65_535, 8080)? as u16,
            cors_origins: cors_origins(env.cors_origins.as_deref())?,
            shutdown: seconds("SHUTDOWN_SECONDS", env.shutdown_seconds.as_deref(), 1..=3600, 25)?,
            log_format: log_format(env.log_format.as_deref(), runpod.endpoint_id.is_some())?,
            rust_log: env.rust_log,
            runpod,
            lambda,
        })
    }

    pub fn database(&self) -> PathBuf {
        self.data_dir.join("whisperq.db")
    }

    /// Decoded audio between `prepare` and the last chunk.
    pub fn spool_dir(&self) -> PathBuf {
        self.data_dir.join("spool")
    }

    /// One lock file per running process.
    pub fn process_dir(&self) -> PathBuf {
        self.data_dir.join("proc")
    }
}

/// MODEL_DIR and DATA_DIR, by default under the home directory, and on Lambda where there is something and can be something.
fn directories(env: &Environment, lambda: &Lambda) -> Result<(PathBuf, PathBuf)> {
    let place =
        |name: &str, set: Option<&String>, lambda: Option<PathBuf>, default: &str| match (set, lambda, &env.home) {
            (Some(path), ..) => Ok(PathBuf::from(path)),
            (None, Some(path), _) => Ok(path),
            (None, None, Some(home)) => Ok(Path::new(home).join(default)),
            (None, None, None) => {
                Err(Error::Config(format!("set {name}: HOME is not set, so there is no default for it")))
            }
        };
    Ok((
        place("MODEL_DIR", env.model_dir.as_ref(), lambda.model_dir(), ".cache/whisperq/models")?,
        place("DATA_DIR", env.data_dir.as_ref(), lambda.data_dir(), ".local/share/whisperq")?,
    ))
}

/// Every recording that is being decoded needs room for a chunk to get on.
fn spool_max_bytes(value: Option<&str>) -> Result<u64> {
    let name = "SPOOL_MAX_BYTES";
    let size = bytes(name, value, 10 * GIB)?;
    if size < MIN_SPOOL_BYTES {
        return Err(refused(name, value.unwrap_or_default(), "16 MiB or more"));
    }
    Ok(size)
}

/// A bucket and what comes before the keys in it; the setting of the same shape is never an address, which may be signed.
fn bucket(name: &str, value: Option<String>, allowed: &str) -> Result<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    let object = value.strip_prefix("s3://").unwrap_or(&value);
    let needs_scheme = allowed.starts_with("s3://");
    let bucket = object.split('/').next().unwrap_or_default();
    let is_name = !bucket.is_empty() && bucket.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_".contains(&c));
    if is_name && (!needs_scheme || value.starts_with("s3://")) {
        return Ok(Some(value));
    }
    // The query of an address may be a signature, and what is before its host a password.
    let shown = value.split('?').next().unwrap_or_default();
    Err(refused(name, if shown.contains('@') { "(an address)" } else { shown }, allowed))
}

/// None are for ever.
fn retention(value: Option<&str>) -> Result<Option<Duration>> {
    let days = whole("RETENTION_DAYS", value, 0..=36_500, 30)?;
    Ok((days > 0).then(|| Duration::from_secs(days * DAY_SECONDS)))
}

/// A list that holds no key was meant to hold one.
fn api_keys(value: Option<&str>) -> Result<Vec<Secret>> {
    let keys: Vec<Secret> = list(value).into_iter().map(Secret::new).collect();
    if value.is_some() && keys.is_empty() {
        return Err(Error::Config("API_KEY holds no key: allowed is a list between commas, or nothing".to_owned()));
    }
    Ok(keys)
}

/// Without keys the service is for this machine only.
fn host(value: Option<&str>, has_keys: bool) -> Result<IpAddr> {
    let default = if has_keys { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    let Some(value) = value else { return Ok(default.into()) };
    match value.trim() {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        address => {
            address.parse().map_err(|_| refused("HOST", value, "an IP address of this machine, or 0.0.0.0 for all"))
        }
    }
}

/// RunPod's console reads JSON.
fn log_format(value: Option<&str>, on_runpod: bool) -> Result<LogFormat> {
    match value {
        None if on_runpod => Ok(LogFormat::Json),
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(refused("LOG_FORMAT", other, "text or json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Config> {
        let home = ("HOME".to_owned(), "/home/u".to_owned());
        Config::from_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).chain([home]))
    }

    fn refusal(vars: &[(&str, &str)]) -> String {
        read(vars).expect_err("should be refused").to_string()
    }

    #[test]
    fn an_empty_environment_gives_the_documented_defaults() {
        let config = read(&[]).unwrap();
        assert_eq!((config.worker_count, config.model_instances), (4, 4));
        assert_eq!(config.model_name, "turbo");
        assert_eq!(config.model_dir, Path::new("/home/u/.cache/whisperq/models"));
        assert_eq!(config.database(), Path::new("/home/u/.local/share/whisperq/whisperq.db"));
        assert_eq!((config.max_audio_bytes, config.max_audio_seconds), (2_147_483_648, 43_200));
        assert_eq!(config.lease, Duration::from_secs(30));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        assert_eq!(read(&[("WORKER_COUNT", ""), ("MODEL_NAME", " ")]).unwrap().worker_count, 4);
    }

    #[test]
    fn model_instances_follow_the_workers_unless_set() {
        assert_eq!(read(&[("WORKER_COUNT", "2")]).unwrap().model_instances, 2);
        assert_eq!(read(&[("WORKER_COUNT", "2"), ("MODEL_INSTANCES", "1")]).unwrap().model_instances, 1);
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_name_its_value_and_what_is_allowed() {
        assert_eq!(
            refusal(&[("WORKER_COUNT", "abc")]),
            "WORKER_COUNT=abc is not understood: allowed is a whole number from 1 to 64"
        );
        assert!(refusal(&[("WORKER_COUNT", "0")]).contains("from 1 to 64"));
        assert!(refusal(&[("LOG_FORMAT", "xml")]).contains("text or json"));
        assert!(refusal(&[("MAX_AUDIO_BYTES", "2 apples")]).contains("2 GiB"));
        assert!(refusal(&[("MAX_AUDIO_BYTES", "99999999999 GiB")]).contains("2 GiB"));
        assert!(refusal(&[("SPOOL_MAX_BYTES", "15 MiB")]).contains("16 MiB or more"));
    }

    #[test]
    fn more_model_instances_than_workers_are_refused() {
        assert!(refusal(&[("WORKER_COUNT", "2"), ("MODEL_INSTANCES", "3")]).contains("MODEL_INSTANCES=3"));
    }

    #[test]
    fn secrets_are_not_shown_with_the_rest() {
        let config = read(&[("HF_TOKEN", "hf_0123")]).unwrap();
        assert_eq!(config.hf_token.as_ref().map(Secret::reveal), Some("hf_0123"));
        assert!(!format!("{config:?}").contains("0123"));
    }

    #[test]
    fn buckets_are_named_and_never_signed_for() {
        let config = read(&[("OUTPUT_URI", "s3://talks/out"), ("UPLOAD_BUCKET", "talks/in")]).unwrap();
        assert_eq!(config.output_uri.as_deref(), Some("s3://talks/out"));
        assert_eq!(config.upload_bucket.as_deref(), Some("talks/in"));
        assert!(refusal(&[("OUTPUT_URI", "talks")]).contains("s3://bucket/prefix"));
        let refused = refusal(&[("OUTPUT_URI", "https://a/b?X-Amz-Signature=0123")]);
        assert!(refused.contains("https://a/b is not") && !refused.contains("0123"), "{refused}");
        assert!(!refusal(&[("OUTPUT_URI", "https://user:0123@a/b")]).contains("0123"));
        assert!(read(&[("ALLOW_PRIVATE_URLS", "true")]).unwrap().allow_private_urls);
        assert!(refusal(&[("S3_FORCE_PATH_STYLE", "yes")]).contains("true or false"));
    }

    #[test]
    fn without_keys_only_this_machine_is_served() {
        assert_eq!(read(&[]).unwrap().host.to_string(), "127.0.0.1");
        let config = read(&[("API_KEY", "one, two,")]).unwrap();
        assert_eq!(config.host.to_string(), "0.0.0.0");
        assert_eq!(config.api_keys.iter().map(Secret::reveal).collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(read(&[("API_KEY", "k"), ("HOST", "localhost")]).unwrap().host.to_string(), "127.0.0.1");
        assert!(refusal(&[("API_KEY", " , ")]).contains("holds no key"));
        assert!(refusal(&[("HOST", "example.org")]).contains("an IP address"));
    }

    #[test]
    fn pages_are_named_by_their_origin() {
        assert_eq!(read(&[("CORS_ORIGINS", "https://a.org, *")]).unwrap().cors_origins, ["https://a.org", "*"]);
        assert!(refusal(&[("CORS_ORIGINS", "a.org")]).contains("https://example.org"));
        assert!(refusal(&[("CORS_ORIGINS", "https://a.org/page")]).contains("https://example.org"));
    }

    #[test]
    fn sizes_take_binary_units() {
        assert_eq!(read(&[("MAX_AUDIO_BYTES", "500 MiB")]).unwrap().max_audio_bytes, 524_288_000);
        assert_eq!(read(&[("MAX_AUDIO_BYTES", "2GiB")]).unwrap().max_audio_bytes, 2 * GIB);
    }

    #[test]
    fn without_a_home_the_folders_must_be_named() {
        let error = Config::from_vars(std::iter::empty()).expect_err("no default").to_string();
        assert!(error.contains("set MODEL_DIR"));
    }
}
