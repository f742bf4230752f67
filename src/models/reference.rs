//! How a user names a model, and how that becomes a file name and back. Pure rules, but for one look whether a path
//! exists.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Room for every published name several times over, and well under what file systems take.
const MAX_NAME_CHARS: usize = 100;
/// Joins the parts of a hub name in a file name: the hub itself forbids two dashes in a row in owner and repository.
const HUB_SEPARATOR: &str = "--";

/// A parsed model name.
#[derive(Debug, PartialEq)]
pub(super) enum Reference {
    /// A canonical name: `ggml-NAME.bin` in the model folder.
    Name(String),
    /// A file in a repository of the hub.
    Hub { owner: String, repo: String, file: String },
    /// A repository of the hub, in which the platform's cache may have one file.
    Repo { owner: String, repo: String },
    /// A file that is already here.
    Path(PathBuf),
}

/// The name that a model is filed and queued under: the short names become the ones they stand for.
pub fn canonical_name(name: &str) -> String {
    match name {
        "turbo" => "large-v3-turbo",
        "large" => "large-v3",
        other => other,
    }
    .to_string()
}

impl Reference {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let looks_like_a_file = text.contains('/') || text.ends_with(".bin");
        if !looks_like_a_file {
            return local_name(text).map(Self::Name);
        }
        if Path::new(text).is_file() {
            return Ok(Self::Path(text.into()));
        }
        match *text.split('/').collect::<Vec<_>>() {
            [owner, repo, file] if [owner, repo, file].into_iter().all(is_safe) => hub_file(owner, repo, file),
            [owner, repo] if is_safe(owner) && is_safe(repo) && !repo.ends_with(".bin") => {
                Ok(Self::Repo { owner: owner.into(), repo: repo.into() })
            }
            _ => Ok(Self::Path(text.into())),
        }
    }

    /// The name that the queue and the lists show.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Hub { owner, repo, file } => format!("{owner}/{repo}/{file}"),
            Self::Repo { owner, repo } => format!("{owner}/{repo}"),
            Self::Path(path) => name_of_file(path),
        }
    }

    pub(super) fn path(&self, model_dir: &Path) -> PathBuf {
        match self {
            Self::Name(name) => model_dir.join(format!("ggml-{name}.bin")),
            Self::Hub { owner, repo, file } => model_dir.join([owner.as_str(), repo, file].join(HUB_SEPARATOR)),
            // Only the cache holds whole repositories.
            Self::Repo { owner, repo } => model_dir.join([owner.as_str(), repo].join(HUB_SEPARATOR)),
            Self::Path(path) => path.clone(),
        }
    }
}

/// A canonical name that is safe inside a file name.
pub(super) fn local_name(text: &str) -> Result<String> {
    if is_safe(text) {
        return Ok(canonical_name(text));
    }
    Err(Error::Config(format!(
        "{text:?} cannot name a model: use up to {MAX_NAME_CHARS} letters, digits, dots, dashes and underscores, \
         not starting with a dot"
    )))
}

/// The name that leads back to a file of the model folder; for any other file its stem without `ggml-`.
pub(super) fn name_of_file(path: &Path) -> String {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file_name.strip_suffix(".bin").unwrap_or(&file_name);
    if let Some(name) = stem.strip_prefix("ggml-") {
        return name.to_string();
    }
    match *file_name.splitn(3, HUB_SEPARATOR).collect::<Vec<_>>() {
        [owner, repo, file] => format!("{owner}/{repo}/{file}"),
        _ => stem.to_string(),
    }
}

fn hub_file(owner: &str, repo: &str, file: &str) -> Result<Reference> {
    if !file.ends_with(".bin") {
        return Err(Error::Config(format!("{owner}/{repo}/{file} is not a ggml model: its name must end in .bin")));
    }
    Ok(Reference::Hub { owner: owner.into(), repo: repo.into(), file: file.into() })
}

pub(super) fn is_safe(part: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !part.is_empty() && part.len() <= MAX_NAME_CHARS && !part.starts_with('.') && part.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, name: &str, path: &str) {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.name(), name);
        assert_eq!(reference.path(Path::new("/models")), Path::new(path));
    }

    #[test]
    fn a_model_can_be_named_in_three_ways() {
        check("tiny.en", "tiny.en", "/models/ggml-tiny.en.bin");
        check("turbo", "large-v3-turbo", "/models/ggml-large-v3-turbo.bin");
        check("large", "large-v3", "/models/ggml-large-v3.bin");
        check("/srv/ggml-mine.bin", "mine", "/srv/ggml-mine.bin");
        check("o/r/ggml-a.bin", "o/r/ggml-a.bin", "/models/o--r--ggml-a.bin");
    }

    #[test]
    fn the_name_of_a_file_in_the_model_folder_leads_back_to_it() {
        for name in ["tiny.en", "a--b--c", "owner/repo/ggml-model--2.bin"] {
            let path = Reference::parse(name).unwrap().path(Path::new("/models"));
            assert_eq!(name_of_file(&path), name);
        }
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for name in ["", "..", ".hidden", "a b", "a\\b", "é", &"x".repeat(MAX_NAME_CHARS + 1)] {
            assert!(matches!(Reference::parse(name), Err(Error::Config(_))), "{name:?}");
        }
        assert_eq!(Reference::parse("../../etc/x.bin").unwrap(), Reference::Path("../../etc/x.bin".into()));
        assert_eq!(Reference::parse("../r/x.bin").unwrap(), Reference::Path("../r/x.bin".into()));
    }

    #[test]
    fn a_hub_file_must_be_a_ggml_file() {
        let error = Reference::parse("openai/whisper-tiny/model.safetensors").unwrap_err();
        assert!(error.to_string().contains("must end in .bin"), "{error}");
    }
}
