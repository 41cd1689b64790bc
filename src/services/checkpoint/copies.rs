//! Copies: the state files of the newest checkpoint a second time, in the directory of the job, where checkpoints are kept
//! somewhere else: a restore on the same machine need not fetch them.
//!
//! Place: beside a [`Store`](super::Store) whose directory is not that of the job.
//! Invariants: a copy is never needed. It is not synced, what goes wrong with it is a warning, and it is used only if all of it
//! is what the handle of the file says: blocks, checksums, length and digest.
//! Costs: each state file is written twice; one that is restored is read twice from the copy, first to verify it.

use super::state_file;
use super::store::id_of;
use super::{StateHandle, state_file::FileHandle};
use crate::base::batch::CheckpointId;
use crate::base::error::Result;
use crate::base::vfs::{Vfs, VfsFile};
use crate::services::job_dir::JobDirectory;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module. Cloning gives another handle to the same copies.
#[derive(Clone)]
pub struct Copies {
    /// Locked as long as anybody uses the copies.
    dir: Arc<JobDirectory>,
}

impl Copies {
    /// The copies in the directory of a job.
    pub fn in_directory(dir: Arc<JobDirectory>) -> Copies {
        Copies { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.copies()
    }

    /// A new file for the copy of the state file at a path; none, with a warning, if it cannot be made.
    pub(super) fn create(&self, path: &str) -> Option<CopyFile> {
        let path = self.root().join(path);
        let vfs = &**self.dir.vfs();
        let made = path.parent().map_or(Ok(()), |dir| vfs.create_dir_all(dir));
        // Of an attempt that was given up.
        let made = made.and_then(|()| match vfs.remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => vfs.create(&path),
        });
        made.inspect_err(|e| without(&path, e)).ok().map(|file| CopyFile { path, file: Some(file) })
    }

    /// Calls `take` with each piece of a state file, if its copy is whole. False if there is none, or none that is.
    ///
    /// # Errors
    /// What `take` says, and what happens to a copy that was whole a moment ago.
    pub(super) fn read(
        &self,
        file: &FileHandle,
        take: impl FnMut(&str, u64, &[u8]) -> Result<()>,
    ) -> Result<bool> {
        let (vfs, root) = (&**self.dir.vfs(), self.root());
        match vfs.metadata(&root.join(&file.path)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            _ => {}
        }
        let handle = StateHandle::File(file.clone());
        if let Err(error) = state_file::read(vfs, &root, &handle, |_, _, _| Ok(())) {
            tracing::warn!(%error, "the copy of a state file is not what was written; the file itself is read");
            return Ok(false);
        }
        state_file::read(vfs, &root, &handle, take).map(|()| true)
    }

    /// Removes the copies of checkpoints up to `newest`, but for those of `files`; and, if `all`, whatever else is not one
    /// of these.
    pub(super) fn keep_only(&self, files: &BTreeSet<String>, newest: CheckpointId, all: bool) {
        let (vfs, root) = (&**self.dir.vfs(), self.root());
        let dirs = match vfs.list(&root) {
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            listed => listed.unwrap_or_default(),
        };
        for dir in dirs.iter().filter(|dir| all || id_of(dir).is_some_and(|id| id <= newest)) {
            if let Err(e) = clean(vfs, &root, dir, files) {
                tracing::warn!(dir = %dir.display(), error = %e, "copies of state files that nobody needs remain");
            }
        }
    }
}

fn clean(vfs: &dyn Vfs, root: &Path, dir: &Path, files: &BTreeSet<String>) -> io::Result<()> {
    let mut left = false;
    for file in vfs.list(dir)? {
        let name = file.strip_prefix(root).map(|name| name.to_string_lossy().into_owned());
        match name.is_ok_and(|name| files.contains(&name)) {
            true => left = true,
            false => vfs.remove_file(&file)?,
        }
    }
    if left { Ok(()) } else { vfs.remove_dir(dir) }
}

#[cold]
fn without(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "a state file goes without a copy");
}

/// A copy that is being written.
pub(super) struct CopyFile {
    path: PathBuf,
    /// None after a failure.
    file: Option<Box<dyn VfsFile>>,
}

impl CopyFile {
    /// Appends what was appended to the state file.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if let Err(e) = file.append(bytes) {
            without(&self.path, &e);
            self.file = None;
        }
    }
}
