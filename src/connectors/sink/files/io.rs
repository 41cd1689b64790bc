//! What the protocols of output directories share: operations on files with errors that name them.

use crate::base::error::{Error, Result};
use crate::base::vfs::Vfs;
pub(super) use crate::base::vfs::{create_dirs, parent};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

pub(super) fn io<T>(action: &'static str, path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|e| Error::io(action, path, e))
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(super) fn exists(vfs: &dyn Vfs, path: &Path) -> Result<bool> {
    Ok(io("open", path, found(vfs.metadata(path)))?.is_some())
}

/// Removes a file if it is there.
pub(super) fn remove_file(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    io("remove", path, found(vfs.remove_file(path))).map(drop)
}

pub(super) fn check_size(vfs: &dyn Vfs, path: &Path, bytes: u64) -> Result<()> {
    let len = io("open", path, vfs.metadata(path))?.len;
    if len != bytes {
        let message = format!("expected {bytes} bytes of committed output, found {len}");
        return Err(Error::Corrupt { path: path.to_path_buf(), offset: len.min(bytes), message });
    }
    Ok(())
}

pub(super) fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Removes directories that were created, innermost first, unless somebody has put something there.
pub(super) fn remove_dirs(vfs: &dyn Vfs, created: &mut Vec<PathBuf>) -> Result<()> {
    while let Some(dir) = created.last() {
        match vfs.remove_dir(dir) {
            Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                return Err(Error::io("remove", dir, e));
            }
            _ => drop(created.pop()),
        }
    }
    Ok(())
}
