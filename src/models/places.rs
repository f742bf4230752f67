//! Where a model is looked for: what the platform has put into its cache of the hub, the model folder, and the network
//! volume. It only looks; what is found is checked like any model.

use std::fs;
use std::path::{Path, PathBuf};

use super::pull::{Hub, pull};
use super::reference::{Reference, is_safe};
use super::{ModelFile, broken, file, find, missing};
use crate::error::{Error, Result};

/// RunPod's cache of Hugging Face repositories, below the volume.
const HUB_CACHE: &str = "huggingface-cache/hub";
/// Where on the volume people put models of their own.
const VOLUME_FOLDERS: [&str; 2] = ["models", ""];

/// The folders to look in.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    pub model_dir: &'a Path,
    /// Where the network volume is mounted, if there is one.
    pub volume: &'a Path,
}

/// A file that may be the model, and the name that it is served under.
struct Candidate {
    name: String,
    path: PathBuf,
}

/// Finds a model as [`super::find`] does, and in more places: first in the cache of the volume, where `owner/repo` is
/// enough if that holds one ggml file, then in the model folder, then on the volume. A broken file is told of and passed
/// over as long as another place has a whole one.
///
/// # Errors
/// `Config`, saying what to do, when there is no whole one anywhere.
pub fn locate(places: Places<'_>, name: &str) -> Result<ModelFile> {
    let reference = Reference::parse(name)?;
    let mut refusal = None;
    for Candidate { name, path } in candidates(places, &reference)? {
        match file::read_header(&path) {
            Ok(header) => return Ok(ModelFile { name, path, header }),
            Err(reason) => {
                let error = broken(&path, &reason);
                tracing::warn!(%error, "looking for the model elsewhere");
                refusal.get_or_insert(error);
            }
        }
    }
    Err(refusal.unwrap_or_else(|| missing(&reference, places.model_dir)))
}

/// As [`locate`], and fetches into the model folder what is nowhere whole.
///
/// # Errors
/// As [`locate`] and [`pull`].
pub fn locate_or_pull(places: Places<'_>, name: &str, hub: Hub<'_>) -> Result<ModelFile> {
    let refusal = match locate(places, name) {
        Ok(model) => return Ok(model),
        Err(refusal) => refusal,
    };
    match Reference::parse(name)? {
        Reference::Name(_) | Reference::Hub { .. } => {
            tracing::warn!(
                model = name,
                "fetching the model, at every start of a new machine unless one is baked or cached"
            );
            pull(places.model_dir, name, hub, &mut |_, _| {})?;
            find(places.model_dir, name)
        }
        Reference::Repo { .. } | Reference::Path(_) => Err(refusal),
    }
}

/// In the order in which they are tried.
fn candidates(places: Places<'_>, reference: &Reference) -> Result<Vec<Candidate>> {
    let mut found = cached(&places.volume.join(HUB_CACHE), reference)?;
    // A repository is no file, and a path leads to the same file from everywhere.
    let folders: Vec<PathBuf> = match reference {
        Reference::Repo { .. } => Vec::new(),
        Reference::Path(_) => vec![PathBuf::new()],
        _ => [places.model_dir.to_owned()]
            .into_iter()
            .chain(VOLUME_FOLDERS.map(|folder| places.volume.join(folder)))
            .collect(),
    };
    let in_folder = |folder: PathBuf| Candidate { name: reference.name(), path: reference.path(&folder) };
    found.extend(folders.into_iter().map(in_folder).filter(|candidate| candidate.path.is_file()));
    Ok(found)
}

/// What the cache has for a reference.
fn cached(cache: &Path, reference: &Reference) -> Result<Vec<Candidate>> {
    let of = |owner: &str, repo: &str| snapshot(cache, &format!("models--{owner}--{repo}"));
    let named = |file: PathBuf| Candidate { name: reference.name(), path: file };
    match reference {
        Reference::Path(_) => Ok(Vec::new()),
        Reference::Hub { owner, repo, file } => {
            let path = of(owner, repo).map(|snapshot| snapshot.join(file));
            Ok(path.filter(|path| path.is_file()).map(named).into_iter().collect())
        }
        Reference::Repo { owner, repo } => match of(owner, repo) {
            Some(snapshot) => only_model(owner, repo, &snapshot).map(|candidate| vec![candidate]),
            None => Ok(Vec::new()),
        },
        Reference::Name(name) => {
            let snapshots = repositories(cache).into_iter().filter_map(|repository| snapshot(cache, &repository));
            let files = snapshots.map(|snapshot| snapshot.join(format!("ggml-{name}.bin")));
            Ok(files.filter(|path| path.is_file()).map(named).collect())
        }
    }
}

/// The one ggml file of a repository.
fn only_model(owner: &str, repo: &str, snapshot: &Path) -> Result<Candidate> {
    let mut files = names(snapshot);
    files.retain(|file| file.starts_with("ggml") && file.ends_with(".bin") && snapshot.join(file).is_file());
    let [file] = &files[..] else {
        let found = if files.is_empty() { "no ggml-….bin file".to_owned() } else { files.join(", ") };
        return Err(Error::Config(format!(
            "the cached repository {owner}/{repo} has {found}: set MODEL_NAME to {owner}/{repo}/FILE, or to a repository \
             with one ggml-….bin file"
        )));
    };
    Ok(Candidate { name: format!("{owner}/{repo}/{file}"), path: snapshot.join(file) })
}

/// The files of a cached repository: those of its main branch, else of the first revision. The hub takes its names for the
/// same in upper and lower case.
fn snapshot(cache: &Path, repository: &str) -> Option<PathBuf> {
    let folder = repositories(cache).into_iter().find(|name| name.eq_ignore_ascii_case(repository))?;
    let folder = cache.join(folder);
    let snapshots = folder.join("snapshots");
    let main = fs::read_to_string(folder.join("refs/main")).unwrap_or_default();
    let main = Some(main.trim()).filter(|revision| is_safe(revision)).map(|revision| snapshots.join(revision));
    let first = || names(&snapshots).into_iter().next().map(|revision| snapshots.join(revision));
    main.filter(|path| path.is_dir()).or_else(first)
}

fn repositories(cache: &Path) -> Vec<String> {
    let mut names = names(cache);
    names.retain(|name| name.starts_with("models--"));
    names
}

/// What is in a folder, sorted; nothing where there is none.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
