//! A consistent copy of a database while it is in use.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use rusqlite::Connection;

use crate::error::{Error, Result};

/// Of a copy that is not complete.
const PARTIAL: &str = "part";

/// Writes what `connection` sees at this moment to a new file, which only its owner can read and any SQLite can open.
///
/// # Errors
/// `Config` where there is such a file already or its folder cannot be written.
pub(super) fn copy(connection: &Connection, target: &Path) -> Result<()> {
    if target.exists() {
        return Err(Error::Config(format!("{} is there already: remove it or choose another name", target.display())));
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{PARTIAL}", std::process::id()));
    let partial = target.with_file_name(name);
    let written = write(connection, &partial).and_then(|()| finish(&partial, target));
    if written.is_err() {
        // What cannot be removed either can at least be told from a complete copy by its name.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

fn write(connection: &Connection, partial: &Path) -> Result<()> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial);
    created
        .map_err(|error| Error::Config(format!("cannot write {}: {error}; choose another place", partial.display())))?;
    let name = partial.to_str().with_context(|| format!("{} is not a name in UTF-8", partial.display()))?;
    connection.execute("vacuum into ?1", [name])?;
    Ok(())
}

/// The name is given to a copy that would survive a loss of power.
fn finish(partial: &Path, target: &Path) -> Result<()> {
    File::open(partial).and_then(|file| file.sync_all()).context("cannot write the copy to disk")?;
    // Unlike a new name given by rename, a link takes no place that someone else has taken meanwhile.
    let named = std::fs::hard_link(partial, target).and_then(|()| std::fs::remove_file(partial));
    named.with_context(|| format!("cannot name the copy {}", target.display()))?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(File::open(folder).and_then(|folder| folder.sync_all()).context("cannot write the copy to disk")?)
}
