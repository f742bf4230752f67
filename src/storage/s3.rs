//! S3: who we are there (the standard chain of credentials, or a user's own), and requests signed in advance. The bytes go over
//! the same client as those of any other address.

use std::sync::OnceLock;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_smithy_http_client::tls;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::failure;
use super::secrets::S3Config;
use crate::error::{Error, Result};
use crate::http_client::{Reach, Target, Url, block_on};

/// For our own use: a recording may be as slow to fetch as it is long. Credentials that end sooner end it sooner.
const OWN_SECONDS: u64 = 12 * 3600;
/// What S3-compatible servers of one's own do not care about.
const DEFAULT_REGION: &str = "us-east-1";

/// The operator's access; made at the first use, which may ask the cloud machine for its credentials.
#[derive(Debug, Default)]
pub(super) struct S3 {
    path_style: bool,
    client: OnceLock<Client>,
}

/// An object, and whose keys open it.
pub(super) struct Object<'a> {
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) keys: Option<&'a S3Config>,
}

impl Object<'_> {
    fn shown(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }
}

impl S3 {
    pub(super) fn new(path_style: bool) -> Self {
        Self { path_style, client: OnceLock::new() }
    }

    /// How to read an object.
    pub(super) fn get(&self, object: &Object<'_>) -> Result<Target> {
        self.get_within(object, Duration::from_secs(OWN_SECONDS))
    }

    /// The same, within `valid`.
    pub(super) fn get_within(&self, object: &Object<'_>, valid: Duration) -> Result<Target> {
        let (client, reach) = self.client(object)?;
        // Asking for S3's own checksums takes a header that the SDK leaves unsigned here, which servers refuse.
        let request = client.get_object().bucket(object.bucket).key(object.key);
        let signed = block_on(request.presigned(expiry(valid)?))?;
        target(signed, reach, object)
    }

    /// How to write one, within `valid`.
    pub(super) fn put(&self, object: &Object<'_>, valid: Duration) -> Result<Target> {
        let (client, reach) = self.client(object)?;
        let request = client.put_object().bucket(object.bucket).key(object.key);
        let signed = block_on(request.presigned(expiry(valid)?))?;
        target(signed, reach, object)
    }

    /// A user's own endpoint is as little trusted as any address of his; the operator's is his own business.
    fn client(&self, object: &Object<'_>) -> Result<(Client, Reach)> {
        if let Some(keys) = object.keys {
            return Ok((users_own(keys), Reach::Public));
        }
        if let Some(client) = self.client.get() {
            return Ok((client.clone(), Reach::Anywhere));
        }
        let client = block_on(operators(self.path_style))?;
        Ok((self.client.get_or_init(|| client).clone(), Reach::Anywhere))
    }
}

async fn operators(path_style: bool) -> Client {
    let http =
        aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build_https();
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let region = config.region().cloned().unwrap_or(Region::from_static(DEFAULT_REGION));
    let builder = Builder::from(&config).region(region).force_path_style(path_style);
    Client::from_conf(without_checksums(builder).build())
}

fn users_own(keys: &S3Config) -> Client {
    // As the address guard reads it: the SDK understands fewer ways to write one.
    let endpoint = Url::parse(&keys.endpoint_url).map_or_else(|_| keys.endpoint_url.clone(), Url::into);
    let credentials = Credentials::new(&keys.access_id, &keys.access_secret, None, None, "s3Config");
    let builder = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region_of(&endpoint).to_owned()))
        .endpoint_url(&endpoint)
        .force_path_style(true)
        // The SDK would ask for a session over the network, which is for the guarded client alone; it has none here.
        .disable_s3_express_session_auth(true)
        .credentials_provider(credentials);
    Client::from_conf(without_checksums(builder).build())
}

/// As most providers write it: `s3.REGION.example.org`.
fn region_of(endpoint_url: &str) -> &str {
    let host = endpoint_url.split("://").nth(1).unwrap_or_default();
    let labels: Vec<&str> = host.split(['.', '/', ':']).collect();
    match labels.as_slice() {
        ["s3", region, _, second, ..] if !second.is_empty() => region,
        _ => DEFAULT_REGION,
    }
}

/// A checksum in a signed address would be that of an empty body.
fn without_checksums(builder: Builder) -> Builder {
    builder.request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
}

fn expiry(valid: Duration) -> Result<PresigningConfig> {
    Ok(PresigningConfig::expires_in(valid).map_err(anyhow::Error::from)?)
}

fn target<E: std::error::Error + 'static>(
    signed: Result<PresignedRequest, SdkError<E>>,
    reach: Reach,
    object: &Object<'_>,
) -> Result<Target> {
    let shown = object.shown();
    let signed = signed.map_err(|error| unsigned(&error, &shown))?;
    let wrong = |_| failure::invalid("unreachable", &shown, "AWS_ENDPOINT_URL_S3 is not an address");
    let headers = signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Ok(Target { url: Url::parse(signed.uri()).map_err(wrong)?, headers, reach })
}

/// Nothing was sent yet: there are no credentials, or whoever hands them out did not answer.
fn unsigned<E: std::error::Error + 'static>(error: &SdkError<E>, shown: &str) -> Error {
    let reason = DisplayErrorContext(error).to_string();
    tracing::debug!(object = shown, error = reason, "cannot sign a request to S3");
    if !reason.contains("no credentials") && !reason.contains("CredentialsNotLoaded") {
        return failure::transient("unreachable", shown, "the credentials for S3 could not be had just now");
    }
    let message = format!(
        "{shown}: no credentials for S3 were found here: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine \
         a role, then submit it again; trying again as it is does not help"
    );
    Error::invalid("denied", message)
}

#[cfg(test)]
mod tests {
    use super::region_of;

    #[test]
    fn the_region_of_a_users_bucket_is_in_its_endpoint_where_it_is_anywhere() {
        for (endpoint, region) in [
            ("https://s3.eu-west-3.amazonaws.com", "eu-west-3"),
            ("https://s3.us-west-004.backblazeb2.com/", "us-west-004"),
            ("https://s3.amazonaws.com", "us-east-1"),
            ("https://s3.amazonaws.com/", "us-east-1"),
            ("http://127.0.0.1:8333", "us-east-1"),
        ] {
            assert_eq!(region_of(endpoint), region);
        }
    }
}
