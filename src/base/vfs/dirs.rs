//! Directories whose names survive a power loss.

use super::Vfs;
use crate::base::error::{Error, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The directory above; the current one above a relative name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a directory and what is missing above it, durably, and notes what it creates, outermost first: before it
/// does, so that after an error nothing is forgotten.
///
/// # Errors
/// If one cannot be looked up, created or synced; they name it.
pub fn create_dirs(vfs: &dyn Vfs, dir: &Path, created: &mut Vec<PathBuf>) -> Result<()> {
    let mut missing = Vec::new();
    for dir in dir.ancestors().take_while(|path| !path.as_os_str().is_empty()) {
        match vfs.metadata(dir) {
            Ok(_) => break,
            Err(e) if e.kind() == ErrorKind::NotFound => missing.push(dir.to_path_buf()),
            Err(e) => return Err(Error::io("open", dir, e)),
        }
    }
    missing.reverse();
    for dir in missing {
        created.push(dir.clone());
        vfs.create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
        vfs.sync_dir(parent(&dir)).map_err(|e| Error::io("sync", parent(&dir), e))?;
    }
    Ok(())
}
