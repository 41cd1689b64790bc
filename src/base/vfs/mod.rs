//! Vfs: the file system behind a trait, so that faults can be injected and runs simulated.
//!
//! Place: everything that reads or writes a file of the engine or a local input goes through [`Vfs`].
//! Invariants: paths are relative to the root the `Vfs` was opened on, or absolute for user inputs and outputs.
//! After a failed sync a file is abandoned, never retried.
//!
//! [`OsVfs`] is the real one. [`MemVfs`] lives in memory and can show what a power loss would leave behind;
//! [`FaultVfs`] wraps any other and makes chosen operations fail. Both are meant for the tests of users, too.

pub mod fault;
pub mod mem;
pub mod names;
pub mod os;

pub use fault::{Fault, FaultPlan, FaultVfs, FileOp};
pub use mem::{Keep, MemVfs};
pub use names::{create_anew, create_dirs, parent, write_renamed};
pub use os::OsVfs;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What is known of a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Size in bytes.
    pub len: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a regular file: not a directory, and no pipe, socket or device, which opening could block.
    pub is_file: bool,
    /// Last modification.
    pub modified: SystemTime,
}

/// An open file: positioned reads, appending writes. Dropping it closes it.
#[allow(clippy::len_without_is_empty)] // a size on disk, not a collection
pub trait VfsFile: Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; 0 means the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Appends all of `buf`.
    fn append(&mut self, buf: &[u8]) -> io::Result<()>;
    /// Makes the content durable.
    fn sync_data(&mut self) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// Takes the exclusive lock of the file for as long as this handle is open. False if another handle has
    /// it, in this process or another. The lock ends with the process that holds it, however that ends.
    fn try_lock(&mut self) -> io::Result<bool>;
    /// The size now.
    fn len(&self) -> io::Result<u64>;

    /// Whether there is no content.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset` on, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// A file system.
pub trait Vfs: Send + Sync + 'static {
    /// Opens an existing file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Opens an existing file for reading, appending and cutting.
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Creates a file that must not exist yet, for reading and appending.
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Creates a file without a name in `dir`: it is gone when it is closed, even after kill -9.
    fn create_unnamed(&self, dir: &Path) -> io::Result<Box<dyn VfsFile>>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames, replacing the target if it is a file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory that is empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory, sorted by name.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Whether a path is a symbolic link. A file system without links has none.
    fn is_link(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }
    /// Size, kind and time of a path; follows links.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
}

/// What an append that found no space says: how many bytes it needed, behind how many.
pub(crate) fn no_space(error: io::Error, bytes: usize, behind: u64) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::StorageFull => {
            io::Error::new(kind, format!("{error}: {bytes} bytes are needed after {behind}"))
        }
        _ => error,
    }
}

/// A shared file system.
pub type SharedVfs = Arc<dyn Vfs>;

#[cfg(test)]
mod tests;
