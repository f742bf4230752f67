//! Fetches a model from the hub into the model folder. It never picks a model by itself and never fetches one that is
//! already there and whole.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::reference::Reference;
use super::staged::Staged;
use super::verify::{Verdict, verdict};
use super::{catalog, find};
use crate::error::{Error, Result};
use crate::http_client::{self, DownloadError, Progress};

/// Where models are fetched from. Not `Debug`, so that the token stays out of logs.
#[derive(Clone, Copy)]
pub struct Hub<'a> {
    /// Scheme and host, as in `HF_ENDPOINT`.
    pub endpoint: &'a str,
    /// Needed for private and gated repositories only.
    pub token: Option<&'a str>,
}

/// What to fetch, and the published sum where there is one.
struct Remote {
    url: String,
    sha1: Option<&'static str>,
}

/// Brings a published model, or `owner/repo/file.bin`, into `model_dir` and returns its path.
///
/// # Errors
/// `Config` for an unknown name, a file that is no model or an answer such as 404; `Internal` when the transfer fails or
/// the sum is wrong. A failed pull leaves nothing behind.
pub fn pull(model_dir: &Path, name: &str, hub: Hub, progress: &mut Progress) -> Result<PathBuf> {
    let reference = Reference::parse(name)?;
    let Some(remote) = remote(&reference, hub.endpoint)? else {
        return find(model_dir, name).map(|model| model.path);
    };
    let name = reference.name();
    let target = reference.path(model_dir);
    if target.is_file() && !matches!(verdict(&name, &target)?, Verdict::Broken(_)) {
        return Ok(target);
    }
    let mut staged = Staged::create(target)?;
    http_client::download(&remote.url, hub.token, &mut staged, progress).map_err(|error| failed(&name, &error))?;
    staged.commit(remote.sha1).map_err(|error| unusable(&name, error))
}

/// Nothing for a path or a whole repository, are not fetched from anywhere.
fn remote(reference: &Reference, endpoint: &str) -> Result<Option<Remote>> {
    let endpoint = endpoint.trim_end_matches('/');
    Ok(match reference {
        Reference::Path(_) | Reference::Repo { .. } => None,
        Reference::Hub { owner, repo, file } => {
            Some(Remote { url: format!("{endpoint}/{owner}/{repo}/resolve/main/{file}"), sha1: None })
        }
        Reference::Name(name) => {
            let model = catalog::find(name).ok_or_else(|| Error::Config(catalog::unknown(name)))?;
            Some(Remote { url: format!("{endpoint}/{}", model.url_path()), sha1: model.sha1 })
        }
    })
}

fn failed(name: &str, error: &DownloadError) -> Error {
    let elsewhere = "set HF_ENDPOINT to a mirror that can be reached, or use `whisperq models import`";
    match error {
        DownloadError::Status(401 | 403) => {
            Error::Config(format!("cannot pull {name}: {error}; set HF_TOKEN to a token that may read it"))
        }
        DownloadError::Status(404) => Error::Config(format!(
            "cannot pull {name}: {error}; check the name, or set HF_ENDPOINT to a hub that has it"
        )),
        DownloadError::Status(_) | DownloadError::Transfer(_) => {
            anyhow!("cannot pull {name}: {error}; {elsewhere}").into()
        }
        DownloadError::Write(_) => anyhow!("cannot pull {name}: {error}; free some space in MODEL_DIR").into(),
    }
}

fn unusable(name: &str, error: Error) -> Error {
    match error {
        Error::Config(reason) => Error::Config(format!("cannot use {name}, which was fetched whole: {reason}")),
        Error::Internal(reason) => reason.context(format!("cannot pull {name}")).into(),
        other => other,
    }
}
