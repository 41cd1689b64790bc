//! Parts: files that become visible in a directory one by one, each with the checkpoint that holds it.
//!
//! Place: the protocol behind [`FileSink`](super::FileSink) in jobs with checkpoints; runs on the job's thread.
//! Method: writers write under hidden names beside the final ones, sync, and hand over names, sizes and checksums. Once the
//! checkpoint is durable a file is renamed. After a crash the files that the checkpoint names, those that were still written
//! to as well, are cut to the size they had at its barrier, and finished; all other hidden ones are removed.
//!
//! Invariants: a finished file never changes and nothing is ever put in its place. What to do next follows from the
//! checkpoint and the file system alone, so that recovery may be cut short and repeated. The numbers of the files of an attempt
//! are above those of all attempts before it that count; so a finished file whose number is above those in a checkpoint was
//! made after it. Going back to such a checkpoint is refused: its records would come again. If the user has allowed it, they
//! are removed, but only after all that the checkpoint names was found and finished.
//! A savepoint names no files that are written to, and all that it names were finished: those that are not there any more are
//! somewhere else by now.
//! Costs and limits: a rename for each file, and a sync of each directory with new files, for each checkpoint.

use super::content::check_content;
use super::io::{check_size, create_dirs, exists, found, io, is_missing, remove_dirs, remove_file};
use super::lock::DirectoryLock;
use super::names::is_part_path;
use super::scan::scan;
use super::staging::{StagedFile, Staging};
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::vfs::{SharedVfs, Vfs, VfsFile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a writer keeps in a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WriterState {
    /// The number of its next file.
    pub(super) next: u64,
    /// Files that are written to, with their sizes at the barrier.
    pub(super) open: Vec<StagedFile>,
}

/// How to go back to a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct GoingBack {
    /// What was finished after it may be taken back.
    pub(super) rollback: bool,
    /// What was prepared for it was finished, here or elsewhere.
    pub(super) committed: bool,
}

/// An output directory.
pub(super) struct Parts {
    dir: PathBuf,
    held: Mutex<Held>,
}

/// What this process holds between `prepare` and the end of the job.
#[derive(Default)]
struct Held {
    lock: Option<DirectoryLock>,
    /// Directories that did not exist, outermost first.
    created: Vec<PathBuf>,
    /// The number of the first file of the writers of this attempt.
    first: u64,
}

impl Parts {
    pub(super) fn new(dir: PathBuf) -> Self {
        Parts { dir, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the first file of the writers of this attempt.
    pub(super) fn first(&self) -> u64 {
        self.held().first
    }

    /// Creates, locks and checks the output directory. Undoes what it did if it fails.
    pub(super) fn prepare(&self, vfs: &SharedVfs, staging: &Staging, restored: bool) -> Result<()> {
        let prepared = self.try_prepare(vfs, staging, restored);
        if prepared.is_err() {
            let mut held = self.held();
            held.lock = None;
            // The error at hand says more than one of cleaning up.
            let _ = remove_dirs(&**vfs, &mut held.created);
        }
        prepared
    }

    fn try_prepare(&self, vfs: &SharedVfs, staging: &Staging, restored: bool) -> Result<()> {
        *self.held() = Held::default();
        match io("open", &self.dir, found(vfs.metadata(&self.dir)))? {
            Some(meta) if !meta.is_dir => return Err(staging.not_a_directory()),
            None if self.dir.file_name().is_none() => return Err(staging.without_a_name()),
            _ => create_dirs(&**vfs, &self.dir, &mut self.held().created)?,
        }
        let lock = DirectoryLock::take(vfs, &self.dir)?;
        self.held().lock = Some(lock);
        if let Some(job) = staging.reclaim_inside(&**vfs)? {
            return Err(Error::config(format!(
                "output directory '{}' is in use by another job, whose files are in '{}'; give each its own",
                self.dir.display(),
                job.display()
            )));
        }
        if !restored {
            self.check_empty(&**vfs, staging.overwrite)?;
        }
        Ok(())
    }

    /// A new job finds no part files: they are in its way or, with `overwrite`, removed.
    fn check_empty(&self, vfs: &dyn Vfs, overwrite: bool) -> Result<()> {
        let scan = scan(vfs, &self.dir)?;
        if !overwrite && (scan.others || !scan.finished.is_empty()) {
            return Err(Error::config(format!(
                "output directory '{}' is not empty; give --overwrite to remove its part files when the job starts, or \
                 restore the job that wrote them",
                self.dir.display()
            )));
        }
        let old = || scan.finished.keys().chain(&scan.in_progress);
        old().try_for_each(|path| remove_file(vfs, &self.dir.join(path)))?;
        self.sync_dirs(vfs, old().map(String::as_str))
    }

    /// Makes files visible. May be repeated, by another process too.
    pub(super) fn commit(&self, vfs: &dyn Vfs, files: &[StagedFile]) -> Result<()> {
        files.iter().try_for_each(|file| self.finish_part(vfs, file))?;
        io("sync", &self.dir, failpoint::reach("file_sink.sync_dir"))?;
        self.sync_dirs(vfs, files.iter().map(|file| file.name.as_str()))
    }

    /// Renames one file to its final name, unless that has been done.
    fn finish_part(&self, vfs: &dyn Vfs, file: &StagedFile) -> Result<()> {
        let (from, to) = (self.dir.join(&file.staged), self.dir.join(&file.name));
        if !exists(vfs, &to)? {
            io("rename", &to, failpoint::reach("file_sink.rename"))?;
            return match vfs.rename(&from, &to) {
                Err(e) if is_missing(&e) => Err(self.vanished(&from)),
                renamed => io("rename", &to, renamed),
            };
        }
        match exists(vfs, &from)? {
            true => Err(Error::config(format!(
                "'{}' is there already, and nothing is put in the place of a finished file; move it away so that '{}' can \
                 take its name",
                to.display(),
                from.display()
            ))),
            false => check_size(vfs, &to, file.bytes),
        }
    }

    fn sync_dirs<'a>(&self, vfs: &dyn Vfs, paths: impl Iterator<Item = &'a str>) -> Result<()> {
        let dirs: BTreeSet<&str> =
            paths.map(|path| path.rsplit_once('/').map_or("", |(dir, _)| dir)).collect();
        for dir in dirs {
            let dir = self.dir.join(dir);
            io("sync", &dir, vfs.sync_dir(&dir))?;
        }
        Ok(())
    }

    /// Goes back to a checkpoint: what was written before its barrier is finished, what came later is gone. `states` are
    /// those of the writers, with their subtasks.
    pub(super) fn recover(
        &self,
        vfs: &dyn Vfs,
        prepared: Vec<StagedFile>,
        states: Vec<(usize, WriterState)>,
        how: GoingBack,
    ) -> Result<()> {
        let is_anything = !states.is_empty() || !prepared.is_empty();
        let next: BTreeMap<usize, u64> =
            states.iter().map(|(subtask, state)| (*subtask, state.next)).collect();
        let first = next.values().copied().max().unwrap_or(0);
        let open = states.into_iter().flat_map(|(_, state)| state.open);
        let scan = scan(vfs, &self.dir)?;
        let is_there = |file: &StagedFile| {
            scan.finished.contains_key(&file.name) || scan.in_progress.contains(&file.staged)
        };
        let prepared = prepared.into_iter().filter(|file| !how.committed || is_there(file));
        let files: BTreeMap<String, StagedFile> =
            prepared.chain(open).map(|file| (file.name.clone(), file)).collect();
        if let Some(file) =
            files.values().find(|f| !is_part_path(&f.name, false) || !is_part_path(&f.staged, true))
        {
            return Err(Error::Corrupt {
                path: self.dir.join(&file.name),
                offset: 0,
                message: "the checkpoint names a file that no sink of this version writes".to_string(),
            });
        }
        let (mut younger_files, mut grown_files) = (Vec::new(), Vec::new());
        for (name, id) in &scan.finished {
            // Subtasks that the checkpoint does not know are of attempts before it, or of later ones.
            let younger = id.n >= next.get(&id.subtask).copied().unwrap_or(first);
            match files.get(name) {
                Some(file) => {
                    let path = self.dir.join(name);
                    if file.bytes != io("open", &path, vfs.metadata(&path))?.len {
                        grown_files.push(file);
                    }
                }
                None if younger => younger_files.push(name),
                None => {}
            }
        }
        let since = grown_files.iter().map(|file| &file.name).chain(younger_files.iter().copied()).next();
        if let Some(name) = since.filter(|_| !how.rollback || !is_anything) {
            return Err(self.committed_since(name, is_anything));
        }
        if since.is_some() {
            // Nothing goes unless all that is to stay is there.
            files.values().try_for_each(|file| self.find_part(vfs, file).map(drop))?;
        }
        for file in grown_files {
            self.take_back(vfs, file)?;
        }
        for file in files.values() {
            self.restore_part(vfs, file)?;
        }
        for path in scan.in_progress.iter().filter(|path| !files.values().any(|file| file.staged == **path)) {
            tracing::info!(path = %self.dir.join(path).display(), "removing what was written after the checkpoint");
            io("remove", &self.dir, failpoint::reach("file_sink.clean_up"))?;
            remove_file(vfs, &self.dir.join(path))?;
        }
        for name in &younger_files {
            let path = self.dir.join(name);
            tracing::warn!(path = %path.display(), "removing a file that was finished after the checkpoint, as is allowed");
            remove_file(vfs, &path)?;
        }
        self.sync_dirs(
            vfs,
            scan.finished.keys().chain(files.keys()).chain(&scan.in_progress).map(String::as_str),
        )?;
        // Finished files of subtasks that no checkpoint names any more have numbers, too.
        let taken = scan.finished.values().map(|id| id.n.saturating_add(1)).max().unwrap_or(0);
        self.held().first = first.max(taken);
        Ok(())
    }

    /// Makes a finished file one that is written to again.
    fn take_back(&self, vfs: &dyn Vfs, file: &StagedFile) -> Result<()> {
        let (from, to) = (self.dir.join(&file.name), self.dir.join(&file.staged));
        tracing::warn!(path = %from.display(), "cutting a file that was finished after the checkpoint, as is allowed");
        io("rename", &to, vfs.rename(&from, &to))
    }

    /// Finishes one file as it was at the barrier.
    fn restore_part(&self, vfs: &dyn Vfs, file: &StagedFile) -> Result<()> {
        if let Some(mut opened) = self.find_part(vfs, file)? {
            let path = self.dir.join(&file.staged);
            if io("read", &path, opened.len())? > file.bytes {
                io("cut", &path, failpoint::reach("file_sink.cut"))?;
                io("cut", &path, opened.set_len(file.bytes))?;
            }
            // Even if nothing is left to be cut: a process that died behind the cut has not synced it.
            io("sync", &path, opened.sync_data())?;
        }
        self.finish_part(vfs, file)
    }

    /// Checks that what was written to a file before the barrier is there; the file, if it is not finished.
    fn find_part(&self, vfs: &dyn Vfs, file: &StagedFile) -> Result<Option<Box<dyn VfsFile>>> {
        let (from, to) = (self.dir.join(&file.staged), self.dir.join(&file.name));
        if let Some(opened) = io("open", &from, found(vfs.open_append(&from)))? {
            check_content(&*opened, &from, file)?;
            return Ok(Some(opened));
        }
        match io("open", &to, found(vfs.open(&to)))? {
            Some(opened) => check_content(&*opened, &to, file).map(|()| None),
            None => Err(self.vanished(&from)),
        }
    }

    #[cold]
    fn vanished(&self, path: &Path) -> Error {
        Error::config(format!(
            "'{}' is neither there nor finished, and the checkpoint has records in it; was it removed, or the finished file \
             moved before the checkpoint after it? Bring it back, or restore a savepoint into another output directory",
            path.display()
        ))
    }

    #[cold]
    fn committed_since(&self, name: &str, is_anything: bool) -> Error {
        let path = self.dir.join(name);
        Error::config(match is_anything {
            true => format!(
                "'{}' was finished after the checkpoint that is restored, and its records would come again; restore a \
                 later checkpoint, or a savepoint into another output directory, or, if nobody has read what was \
                 finished since, let it be removed with allow-output-rollback",
                path.display()
            ),
            false => format!(
                "'{}' is there, and the job begins at the beginning, so that its records would come again; restore a \
                 checkpoint, or give another output directory",
                path.display()
            ),
        })
    }

    /// The job has ended, and nothing is left to be committed; or it may go on from a checkpoint.
    pub(super) fn release(&self) {
        *self.held() = Held::default();
    }

    /// Removes what is not finished.
    pub(super) fn abort(&self, vfs: &dyn Vfs) -> Result<()> {
        if exists(vfs, &self.dir)? {
            let scan = scan(vfs, &self.dir)?;
            scan.in_progress.iter().try_for_each(|path| remove_file(vfs, &self.dir.join(path)))?;
            if self.held().created.contains(&self.dir) {
                let mut dirs = scan.dirs.iter().map(|dir| self.dir.join(dir)).collect();
                remove_dirs(vfs, &mut dirs)?;
            }
        }
        let mut held = self.held();
        held.lock = None;
        remove_dirs(vfs, &mut held.created)
    }
}

/// Creates the directory of a bucket, and notes the directories to be synced so that a file in it is found after a crash.
pub(super) fn create_bucket(
    vfs: &dyn Vfs,
    output: &Path,
    bucket_dir: &str,
    unsynced: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    unsynced.insert(output.to_path_buf());
    for (end, _) in bucket_dir.match_indices('/') {
        let dir = output.join(&bucket_dir[..end]);
        if io("open", &dir, vfs.is_link(&dir))? {
            return Err(Error::config(format!(
                "'{}' is a symbolic link, and buckets are directories below the output directory; remove the link",
                dir.display()
            )));
        }
        io("create", &dir, vfs.create_dir_all(&dir))?;
        unsynced.insert(dir);
    }
    Ok(())
}
