//! Directory lock: one job at a time writes to an output directory, whatever happens to its process.
//!
//! Method: a file in the directory, locked for as long as the process lives and removed when the job ends. Who has locked a
//! file writes a random number into it and reads that by its name: another one may have taken its place meanwhile.

use super::io::{io, is_missing};
use crate::base::error::{Error, Result};
use crate::base::vfs::{SharedVfs, Vfs, VfsFile};
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Name of the file.
pub(super) const LOCK_FILE: &str = ".mainstem-lock";
/// Times to begin again when a job that ends takes its file away under our hands.
const TRIES_MAX: usize = 100;

/// The lock of an output directory, until it is dropped.
pub(super) struct DirectoryLock {
    vfs: SharedVfs,
    path: PathBuf,
    _file: Box<dyn VfsFile>,
}

impl DirectoryLock {
    /// Takes the lock of a directory.
    ///
    /// # Errors
    /// If another job has it.
    pub(super) fn take(vfs: &SharedVfs, dir: &Path) -> Result<DirectoryLock> {
        let path = dir.join(LOCK_FILE);
        for _ in 0..TRIES_MAX {
            let mut file = match vfs.open_append(&path) {
                Err(e) if is_missing(&e) => match vfs.create(&path) {
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                    created => io("create", &path, created)?,
                },
                opened => io("open", &path, opened)?,
            };
            match file.try_lock() {
                Ok(true) => {}
                Ok(false) => return Err(in_use(dir)),
                // Some network file systems know no locks: nobody is kept out there.
                Err(e) if e.kind() == ErrorKind::Unsupported => {
                    tracing::warn!(path = %path.display(), "the file system knows no locks: see that no other job writes here");
                    return Ok(DirectoryLock { vfs: vfs.clone(), path, _file: file });
                }
                Err(e) => return Err(Error::io("lock", &path, e)),
            }
            let mark = RandomState::new().hash_one(dir).to_le_bytes();
            io("write", &path, file.set_len(0).and_then(|()| file.append(&mark)))?;
            let mut found = [0; 8];
            let is_ours = match vfs.open(&path).and_then(|file| file.read_exact_at(&mut found, 0)) {
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => false,
                read => io("read", &path, read).map(|()| found == mark)?,
            };
            if is_ours {
                return Ok(DirectoryLock { vfs: vfs.clone(), path, _file: file });
            }
        }
        Err(in_use(dir))
    }

    /// Whether a job that lives has the lock of a directory.
    pub(super) fn is_taken(vfs: &dyn Vfs, dir: &Path) -> Result<bool> {
        let path = dir.join(LOCK_FILE);
        match vfs.open_append(&path) {
            Err(e) if is_missing(&e) => Ok(false),
            opened => match io("open", &path, opened)?.try_lock() {
                Err(e) if e.kind() == ErrorKind::Unsupported => Ok(false),
                locked => Ok(!io("lock", &path, locked)?),
            },
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // A file that stays does no harm: its lock ends with the process.
        let _ = self.vfs.remove_file(&self.path);
    }
}

#[cold]
pub(super) fn in_use(dir: &Path) -> Error {
    Error::config(format!(
        "output directory '{}' is in use by another job or by another sink of this one; give each its own",
        dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::{Keep, MemVfs, Metadata, OsVfs};
    use std::io;
    use std::sync::{Arc, Mutex, mpsc};

    /// T19: a directory has one writer, and a dead one leaves it free.
    #[test]
    fn a_directory_is_locked_once_and_free_again_afterwards() {
        let root = tempfile::tempdir().unwrap();
        let mem = MemVfs::new();
        mem.create_dir_all(Path::new("/out")).unwrap();
        mem.sync_dir(Path::new("/")).unwrap();
        for (vfs, dir) in
            [(OsVfs::shared(), root.path()), (Arc::new(mem.clone()) as SharedVfs, Path::new("/out"))]
        {
            assert!(!DirectoryLock::is_taken(&*vfs, dir).unwrap());
            let lock = DirectoryLock::take(&vfs, dir).unwrap();
            assert!(DirectoryLock::is_taken(&*vfs, dir).unwrap());
            let error = DirectoryLock::take(&vfs, dir).err().unwrap();
            assert!(error.to_string().contains("in use by another job"), "{error}");
            drop(lock);
            assert!(vfs.list(dir).unwrap().is_empty());
            drop(DirectoryLock::take(&vfs, dir).unwrap());
        }
        let vfs: SharedVfs = Arc::new(mem.clone());
        let _lock = DirectoryLock::take(&vfs, Path::new("/out")).unwrap();
        mem.sync_dir(Path::new("/out")).unwrap();
        let after: SharedVfs = Arc::new(mem.crash(0, Keep::Nothing));
        drop(DirectoryLock::take(&after, Path::new("/out")).unwrap());
    }

    /// Calls once, when the file has been opened and is not locked yet.
    struct Meanwhile<F>(SharedVfs, Mutex<Option<F>>);

    impl<F: FnOnce() + Send + 'static> Vfs for Meanwhile<F> {
        fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
            let file = self.0.open_append(path);
            if let Some(call) = self.1.lock().unwrap().take() {
                call();
            }
            file
        }
        fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
            self.0.open(path)
        }
        fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
            self.0.create(path)
        }
        fn create_unnamed(&self, dir: &Path) -> io::Result<Box<dyn VfsFile>> {
            self.0.create_unnamed(dir)
        }
        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            self.0.sync_dir(dir)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn remove_file(&self, path: &Path) -> io::Result<()> {
            self.0.remove_file(path)
        }
        fn remove_dir(&self, path: &Path) -> io::Result<()> {
            self.0.remove_dir(path)
        }
        fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
            self.0.remove_dir_all(path)
        }
        fn create_dir_all(&self, path: &Path) -> io::Result<()> {
            self.0.create_dir_all(path)
        }
        fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
            self.0.list(dir)
        }
        fn metadata(&self, path: &Path) -> io::Result<Metadata> {
            self.0.metadata(path)
        }
    }

    /// T19: a job ends and another one begins while a third has the old file open, but not yet locked.
    #[test]
    fn the_lock_of_a_file_that_is_gone_is_none() {
        let root = tempfile::tempdir().unwrap();
        let (vfs, dir) = (OsVfs::shared(), root.path().to_path_buf());
        let first = DirectoryLock::take(&vfs, &dir).unwrap();
        let (sender, second) = mpsc::channel();
        let change = {
            let (vfs, dir) = (vfs.clone(), dir.clone());
            move || {
                drop(first);
                sender.send(DirectoryLock::take(&vfs, &dir).unwrap()).unwrap();
            }
        };
        let third: SharedVfs = Arc::new(Meanwhile(vfs, Mutex::new(Some(change))));
        let error = DirectoryLock::take(&third, &dir).err().expect("two jobs have the directory");
        assert!(error.to_string().contains("in use"), "{error}");
        drop(second.recv().unwrap());
        drop(DirectoryLock::take(&third, &dir).unwrap());
    }
}
