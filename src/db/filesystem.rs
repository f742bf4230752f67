//! Where a database may lie: write-ahead logs share memory between processes, so SQLite loses data on a network file system.

use std::path::Path;

use anyhow::Context;

use crate::error::{Error, Result};

/// File systems that several machines may share, or that hand every call to a program: their numbers from statfs(2). FUSE is
/// among them because the shared volumes of GPU clouds are mounted with it.
const SHARED: [(u32, &str); 12] = [
    (0x6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x517b, "smb"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x0bd0_0bd0, "lustre"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x564c, "ncp"),
];

/// What may still be written below `folder`.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// # Errors
/// `Config` where `folder` is on a file system that a database would not survive on.
#[cfg(target_os = "linux")]
pub(super) fn check(folder: &Path) -> Result<()> {
    // A folder that cannot be looked at shows when the file is opened.
    let Ok(found) = rustix::fs::statfs(folder) else { return Ok(()) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 bits of it are the number")]
    let number = found.f_type as u32;
    refuse(number, folder)
}

/// Elsewhere it cannot be told by number, and 0 is none.
#[cfg(not(target_os = "linux"))]
pub(super) fn check(folder: &Path) -> Result<()> {
    refuse(0, folder)
}

fn refuse(number: u32, folder: &Path) -> Result<()> {
    let Some((_, name)) = SHARED.iter().find(|(shared, _)| *shared == number) else { return Ok(()) };
    Err(Error::Config(format!(
        "{} is on a network file system ({name}), where the database would be damaged: set DATA_DIR to a folder on a local \
         disk, and keep only the results on the shared volume",
        folder.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_on_a_network_file_system_is_refused_and_on_a_local_disk_is_not() {
        const EXT4: u32 = 0xef53;
        const OVERLAY: u32 = 0x794c_7630;
        const TMPFS: u32 = 0x0102_1994;
        let folder = Path::new("/runpod-volume");
        for local in [EXT4, OVERLAY, TMPFS] {
            refuse(local, folder).unwrap();
        }
        for (number, name) in SHARED {
            let refusal = refuse(number, folder).expect_err(name).to_string();
            assert!(
                refusal.contains("/runpod-volume is on a network file system") && refusal.contains(name),
                "{refusal}"
            );
        }
        check(&std::env::temp_dir()).unwrap();
    }
}
