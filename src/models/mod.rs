//! Model files on disk, in whisper.cpp's ggml format: which are there, where they come from and whether they are whole.
//! It never loads one into the engine; it makes sure that what it names will load, because whisper.cpp ends the process
//! on a file that it does not like.

mod catalog;
mod file;
mod header;
mod import;
mod layout;
mod places;
mod pull;
mod reference;
mod staged;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::error::{Error, Result};
use reference::Reference;

pub use header::Header;
pub use import::import;
pub use places::{Places, locate, locate_or_pull};
pub use pull::{Hub, pull};
pub use reference::canonical_name;
pub use verify::{Verdict, Verified, verify};

/// A model that is on disk and fit to load.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelFile {
    /// The canonical name, which is also the queue lane of its work.
    pub name: String,
    pub path: PathBuf,
    pub header: Header,
}

/// One file of the model folder, usable or not.
#[derive(Clone, Debug)]
pub struct Installed {
    /// What `find` takes for this file.
    pub name: String,
    pub path: PathBuf,
    pub file_bytes: u64,
    /// What the file holds, or why it cannot be used.
    pub header: Result<Header, String>,
}

/// Finds a model by name (`turbo`), by the path of a `.bin` file, or by `owner/repo/file.bin` once that is pulled.
///
/// # Errors
/// `Config`, saying what to run, when there is no such model or its file is broken.
pub fn find(model_dir: &Path, name: &str) -> Result<ModelFile> {
    let reference = Reference::parse(name)?;
    let path = reference.path(model_dir);
    if !path.is_file() {
        return Err(missing(&reference, model_dir));
    }
    let header = file::read_header(&path).map_err(|reason| broken(&path, &reason))?;
    Ok(ModelFile { name: reference.name(), path, header })
}

/// Every model file in `model_dir` by name, broken ones with the reason. No folder means no models.
///
/// # Errors
/// `Internal` when the folder cannot be read.
pub fn list(model_dir: &Path) -> Result<Vec<Installed>> {
    let mut models = Vec::new();
    if !model_dir.exists() {
        return Ok(models);
    }
    for entry in fs::read_dir(model_dir).context("Failed to read the model folder")? {
        let path = entry.context("Failed to read the model folder")?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "bin") {
            models.push(inspect(path)?);
        }
    }
    models.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(models)
}

fn inspect(path: PathBuf) -> Result<Installed> {
    let file_bytes = fs::metadata(&path).context("Failed to read the size of a model")?.len();
    let header = file::read_header(&path).map_err(|reason| format!("{reason:#}"));
    Ok(Installed { name: reference::name_of_file(&path), path, file_bytes, header })
}

fn missing(reference: &Reference, model_dir: &Path) -> Error {
    let name = reference.name();
    Error::Config(match reference {
        Reference::Path(path) => format!("there is no model file {}", path.display()),
        Reference::Repo { .. } => format!(
            "the repository {name} is not in RunPod's cache: choose it as the endpoint's model there, or set MODEL_NAME to \
             {name}/FILE.bin"
        ),
        Reference::Name(_) if catalog::find(&name).is_none() => catalog::unknown(&name),
        _ => format!("model {name} is not in {}: run `whisperq models pull {name}`", model_dir.display()),
    })
}

fn broken(path: &Path, reason: &anyhow::Error) -> Error {
    Error::Config(format!(
        "the model file {} cannot be used ({reason:#}): remove it, then pull or import it again",
        path.display()
    ))
}
