//! Whether the files on disk are what they should be, by checksum: a damaged weight loads without complaint and
//! transcribes nonsense. It changes nothing on disk.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ModelFile, catalog, file, find, list, staged};
use crate::error::Result;

/// One file's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    pub name: String,
    pub path: PathBuf,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The SHA-1 is the one that was published, or noted when the file was made.
    Matches,
    /// The file is well formed, but nobody noted a sum for it.
    NoSum,
    /// Why the file must not be used.
    Broken(String),
}

/// Checks one model, or all of the folder; reads every byte, about a second per gigabyte.
///
/// # Errors
/// `Config` when the named model is missing or malformed, `Internal` when a file cannot be read.
pub fn verify(model_dir: &Path, name: Option<&str>) -> Result<Vec<Verified>> {
    let named = match name {
        Some(name) => {
            let ModelFile { name, path, .. } = find(model_dir, name)?;
            vec![(name, path)]
        }
        None => list(model_dir)?.into_iter().map(|model| (model.name, model.path)).collect(),
    };
    let check = |(name, path): (String, PathBuf)| Ok(Verified { verdict: verdict(&name, &path)?, name, path });
    named.into_iter().map(check).collect()
}

pub(super) fn verdict(name: &str, path: &Path) -> Result<Verdict> {
    if let Err(reason) = file::read_header(path) {
        return Ok(Verdict::Broken(format!("{reason:#}")));
    }
    let Some(expected) = expected_sha1(name, path) else { return Ok(Verdict::NoSum) };
    let sha1 = staged::sum_of_file(path)?;
    if sha1 == expected {
        return Ok(Verdict::Matches);
    }
    Ok(Verdict::Broken(format!("its SHA-1 is {sha1}, not {expected}")))
}

/// The sum noted beside the file comes first: an imported `tiny.en` has other bytes than the published one.
fn expected_sha1(name: &str, path: &Path) -> Option<String> {
    let noted = fs::read_to_string(staged::sum_path(path)).ok();
    if let Some(sum) = noted.as_deref().and_then(|line| line.split_whitespace().next()) {
        return Some(sum.to_string());
    }
    catalog::find(name).and_then(|model| model.sha1).map(str::to_string)
}
