//! A model file being written: under a temporary name beside its place, summed as it grows, moved there only when it is
//! whole. A reader of the model folder never meets half a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use sha1::{Digest, Sha1};

use super::file;
use crate::error::{Error, Result};

/// Few system calls, little memory.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Removes what it wrote unless it is committed.
pub(super) struct Staged {
    target: PathBuf,
    partial: PathBuf,
    out: BufWriter<File>,
    hasher: Sha1,
}

impl Staged {
    /// Starts a file that will replace `target`; makes the folder where it is missing.
    pub(super) fn create(target: PathBuf) -> Result<Self> {
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("Failed to make the folder {}", folder.display()))?;
        let file_name = target.file_name().unwrap_or_default().to_string_lossy();
        // A name of its own for each writer: two processes may fetch the same model at once.
        let partial = folder.join(format!(".{file_name}.{:08x}.part", fastrand::u32(..)));
        let file = File::create_new(&partial).with_context(|| format!("Failed to create {}", partial.display()))?;
        Ok(Self { target, partial, out: BufWriter::with_capacity(BUFFER_BYTES, file), hasher: Sha1::new() })
    }

    /// Checks the file against the sum, where there is a published one, and its own header, and puts it in place. Without
    /// a published sum its own is kept beside it for `verify`.
    ///
    /// # Errors
    /// `Internal` for a wrong sum or a full disk, `Config` for a file that is no model. Nothing is left behind.
    pub(super) fn commit(mut self, published_sha1: Option<&str>) -> Result<PathBuf> {
        self.out.flush().context("Failed to write the model")?;
        let sha1 = hex(self.hasher.clone());
        if let Some(published) = published_sha1.filter(|published| *published != sha1) {
            return Err(anyhow!("the file is damaged: its SHA-1 is {sha1}, not {published}").into());
        }
        file::read_header(&self.partial).map_err(|reason| Error::Config(format!("{reason:#}")))?;
        self.out.get_ref().sync_all().context("Failed to write the model")?;
        self.move_into_place(published_sha1.is_none().then_some(sha1.as_str()))?;
        Ok(self.target.clone())
    }

    /// In this order a crash leaves at worst a good file without a sum, never one beside another file's sum.
    fn move_into_place(&self, kept_sha1: Option<&str>) -> Result<()> {
        let sum_path = sum_path(&self.target);
        if sum_path.exists() {
            fs::remove_file(&sum_path).context("Failed to remove the old model's sum")?;
        }
        fs::rename(&self.partial, &self.target).context("Failed to move the model into place")?;
        if let Some(sha1) = kept_sha1 {
            let file_name = self.target.file_name().unwrap_or_default().to_string_lossy();
            fs::write(&sum_path, format!("{sha1}  {file_name}\n")).context("Failed to write the model's sum")?;
        }
        let folder = self.target.parent().unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).context("Failed to write the model folder")?;
        Ok(())
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a commit there is nothing under this name any more.
        let _ = fs::remove_file(&self.partial);
    }
}

/// Where a file's own sum is kept, in the form that `sha1sum --check` reads.
pub(super) fn sum_path(model: &Path) -> PathBuf {
    let mut path = model.as_os_str().to_os_string();
    path.push(".sha1");
    path.into()
}

/// The SHA-1 of a file, in lower-case hex.
pub(super) fn sum_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).context("Failed to open the model")?;
    let mut hasher = Sha1::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match file.read(&mut buffer).context("Failed to read the model")? {
            0 => return Ok(hex(hasher)),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn hex(hasher: Sha1) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::header::{F16, Header, tests::tiny_en};
    use crate::models::layout;

    /// A file with all the parts of a model, its weights and filters zero.
    fn model() -> Vec<u8> {
        let header = Header { n_audio_state: 64, n_audio_head: 1, n_text_state: 64, n_text_head: 1, ..tiny_en() };
        let (no_filters, one_empty_token) = (vec![0; 80 * 201 * 4], [1, 0]);
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        bytes.extend([80_u32, 201].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(no_filters);
        bytes.extend(one_empty_token.into_iter().flat_map(u32::to_le_bytes));
        for tensor in layout::tensors(&header, &F16) {
            let head = [tensor.dims.len() as u32, tensor.name.len() as u32, tensor.weights.tensor_type];
            bytes.extend(head.into_iter().chain(tensor.dims.clone()).flat_map(u32::to_le_bytes));
            bytes.extend(tensor.name.as_bytes());
            bytes.resize(bytes.len() + tensor.weights.bytes_of(tensor.elements()).unwrap() as usize, 0);
        }
        bytes
    }

    #[test]
    fn a_published_sum_takes_the_place_of_a_noted_one() {
        let folder = tempfile::TempDir::new().unwrap();
        let target = folder.path().join("new/ggml-tiny.en.bin");
        let write = |published: Option<&str>| {
            let mut staged = Staged::create(target.clone()).unwrap();
            staged.write_all(&model()).unwrap();
            staged.commit(published).unwrap()
        };
        write(None);
        let sha1 = sum_of_file(&target).unwrap();
        assert_eq!(fs::read_to_string(sum_path(&target)).unwrap(), format!("{sha1}  ggml-tiny.en.bin\n"));
        write(Some(&sha1));
        assert!(target.exists() && !sum_path(&target).exists());
    }
}
