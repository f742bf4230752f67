//! The client of a whisperq server: JSON answers, uploads streamed from the disk, errors in the server's own words.
//!
//! A runtime of its own instead of reqwest's blocking client: that one loses an answer that comes before the upload ended,
//! and so every refusal of a large file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::multipart::{Form, Part};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use super::{CONNECT_TIMEOUT, USER_AGENT, innermost, install_provider};
use crate::error::{Error, Result};

/// The longest wait for a whole answer; the server needs milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A file may take as long as a line of half a megabit per second needs for it.
const SLOWEST_UPLOAD_BYTES_PER_SECOND: u64 = 64 * 1024;
/// A page of jobs is far smaller, and a server that is none of ours must not fill the memory.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A server and the key for it; clones share its connections. Not `Debug`, so that the key stays out of logs.
#[derive(Clone)]
pub struct Api {
    runtime: Arc<Runtime>,
    client: Client,
    base: Url,
    authorization: Option<HeaderValue>,
}

/// Why a request to a server came to nothing. No variant shows the key, or more of the address than its host.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server said no, in its own words.
    #[error("{message}")]
    Refused { status: u16, code: String, message: String, retry_after: Option<Duration> },
    /// No connection, or no answer in time.
    #[error("cannot reach {server}: {reason}")]
    Unreachable { server: String, reason: String },
    /// The connection ended before the answer was here.
    #[error("the connection to {server} broke off: {reason}")]
    BrokenOff { server: String, reason: String },
    /// An answer that no whisperq gives.
    #[error("{server} gave an answer that was not understood ({reason})")]
    NotUnderstood { server: String, reason: String },
    #[error("cannot read {file}: {source}")]
    File { file: String, source: io::Error },
}

impl ApiError {
    /// The stable name of this kind of error: the server's own where it gave one.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. } => code,
            Self::Unreachable { .. } => "unreachable",
            Self::BrokenOff { .. } => "broken_off",
            Self::NotUnderstood { .. } => "not_understood",
            Self::File { .. } => "unreadable_file",
        }
    }

    /// How the server answered, if it did.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same request may succeed in a while: the server is busy, starting again or out of reach.
    pub fn is_passing(&self) -> bool {
        let out_of_reach = matches!(self, Self::Unreachable { .. } | Self::BrokenOff { .. });
        out_of_reach || matches!(self, Self::Refused { status: 429 | 502..=504, .. })
    }
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        let text = error.to_string();
        match error {
            ApiError::Refused { status: 400, .. } => Self::Config(text),
            ApiError::Refused { status: 401 | 403, .. } => {
                Self::Config(format!("{text}; give one of the server's keys with --api-key or in API_KEY"))
            }
            ApiError::Refused { status: 404, .. } => Self::NotFound(text),
            ApiError::Refused { status: 409, .. } => Self::Conflict(text),
            ApiError::Refused { status: 429, retry_after, .. } => Self::Overloaded(match retry_after {
                Some(wait) => format!("{text}; try again in {} s", wait.as_secs()),
                None => format!("{text}; try again later"),
            }),
            ApiError::Refused { .. } => anyhow!(text).into(),
            ApiError::Unreachable { .. } => {
                anyhow!("{text}; start it there with whisperq serve, or name another with --server").into()
            }
            ApiError::BrokenOff { .. } => anyhow!("{text}; the server's log says why").into(),
            ApiError::NotUnderstood { .. } => anyhow!("{text}; check that --server names a whisperq").into(),
            ApiError::File { .. } => anyhow!("{text}; check the path").into(),
        }
    }
}

impl Api {
    /// # Errors
    /// `Config` for an address or a key that no request could carry.
    pub fn new(server_url: &str, api_key: Option<&str>) -> Result<Self> {
        install_provider();
        let client = Client::builder().user_agent(USER_AGENT).connect_timeout(CONNECT_TIMEOUT);
        Ok(Self {
            runtime: Arc::new(runtime()?),
            client: client.redirect(Policy::none()).build().context("cannot make an HTTP client")?,
            base: address(server_url)?,
            authorization: api_key.map(bearer).transpose()?,
        })
    }

    /// Asks for what is at `path`, given as its segments.
    pub fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, ApiError> {
        self.runtime.block_on(self.send(self.request(Method::GET, path, query)))
    }

    pub fn post<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        self.runtime.block_on(self.send(self.request(Method::POST, path, &[])))
    }

    /// The same with a body.
    pub fn post_json<T: DeserializeOwned>(&self, path: &[&str], body: &serde_json::Value) -> Result<T, ApiError> {
        let request = self.request(Method::POST, path, &[]).header(CONTENT_TYPE, "application/json");
        self.runtime.block_on(self.send(request.body(body.to_string())))
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        self.runtime.block_on(self.send(self.request(Method::DELETE, path, &[])))
    }

    /// Posts a file as the field `file` of a form, read from the disk as it is sent.
    pub fn upload<T: DeserializeOwned>(&self, path: &[&str], file: &Path) -> Result<T, ApiError> {
        let unreadable = |source| ApiError::File { file: file.display().to_string(), source };
        self.runtime.block_on(async {
            let file_bytes = std::fs::metadata(file).map_err(unreadable)?.len();
            let form = Form::new().part("file", Part::file(file).await.map_err(unreadable)?);
            let timeout = ANSWER_TIMEOUT + Duration::from_secs(file_bytes / SLOWEST_UPLOAD_BYTES_PER_SECOND);
            self.send(self.request(Method::POST, path, &[]).timeout(timeout).multipart(form)).await
        })
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.client.request(method, url).timeout(ANSWER_TIMEOUT);
        match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let body = self.body(response).await?;
        if !status.is_success() {
            return Err(refused(status, retry_after, &body));
        }
        // Nothing at all is an answer too, to a request that only does something.
        let json = if body.is_empty() { b"null" } else { body.as_slice() };
        serde_json::from_slice(json).map_err(|error| self.not_understood(&error.to_string()))
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.unanswered(&error))? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(self.not_understood("it is too long"));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn unanswered(&self, error: &reqwest::Error) -> ApiError {
        let server = self.server();
        if error.is_timeout() {
            ApiError::Unreachable { server, reason: "no answer in time".to_owned() }
        } else if error.is_connect() {
            ApiError::Unreachable { server, reason: innermost(error) }
        } else {
            ApiError::BrokenOff { server, reason: innermost(error) }
        }
    }

    fn not_understood(&self, reason: &str) -> ApiError {
        ApiError::NotUnderstood { server: self.server(), reason: reason.to_owned() }
    }

    /// What may be shown of the address.
    fn server(&self) -> String {
        self.base.origin().ascii_serialization()
    }
}

/// One thread moves the bytes of all clients; whoever asks waits on a thread of its own.
fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("http-client").enable_all().build();
    Ok(runtime.context("cannot start the thread of the HTTP client")?)
}

/// The address is not repeated: it may hold a password.
fn address(server_url: &str) -> Result<Url> {
    let url = Url::parse(server_url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none() && url.query().is_none();
    url.filter(plain).ok_or_else(|| {
        Error::Config("--server is not understood: allowed is an address such as http://127.0.0.1:8080".to_owned())
    })
}

fn bearer(key: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
        .map_err(|_| Error::Config("--api-key is not understood: allowed is one line of ASCII text".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Whole seconds; servers of ours give no dates.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The one shape of every error.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorText,
}

#[derive(Deserialize)]
struct ErrorText {
    code: String,
    message: String,
}

fn refused(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> ApiError {
    let text = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => ErrorText {
            code: format!("http_{}", status.as_u16()),
            message: format!("the server answered {status}; check that --server names a whisperq"),
        },
    };
    ApiError::Refused { status: status.as_u16(), code: text.code, message: text.message, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_a_request_can_go_to_and_shows_no_password() {
        for wrong in ["", "127.0.0.1:8080", "localhost:8080", "ftp://a", "http://u:p@a", "http://a/?key=1"] {
            let refusal = address(wrong).expect_err(wrong).to_string();
            assert!(refusal.contains("http://127.0.0.1:8080") && !refusal.contains("u:p"), "{wrong}: {refusal}");
        }
        assert!(address("https://whisper.example/behind/a/prefix/").is_ok());
    }

    #[test]
    fn segments_of_a_path_cannot_leave_it() {
        let api = Api::new("http://a/v2/x/", None).unwrap();
        let url = |path: &[&str], query: &[(&str, &str)]| {
            api.request(Method::GET, path, query).build().unwrap().url().as_str().to_owned()
        };
        assert_eq!(url(&["jobs"], &[]), "http://a/v2/x/jobs");
        assert_eq!(url(&["jobs", "a/b?c"], &[("status", "a&b")]), "http://a/v2/x/jobs/a%2Fb%3Fc?status=a%26b");
    }

    #[test]
    fn a_key_is_carried_and_not_shown() {
        let api = Api::new("http://a", Some("sesame")).unwrap();
        let request = api.request(Method::GET, &["jobs"], &[]).build().unwrap();
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer sesame");
        assert!(!format!("{request:?}").contains("sesame"));
        let refusal = Api::new("http://a", Some("ses\name")).err().unwrap().to_string();
        assert!(refusal.contains("--api-key") && !refusal.contains("ame\""), "{refusal}");
    }
}
