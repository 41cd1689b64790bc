//! Store: the directory of a job's checkpoints.
//!
//! ```text
//! checkpoints/chk-7/metadata          there when checkpoint 7 is complete: written under another name, synced, renamed
//! checkpoints/chk-7/3-0.state         state of subtask 0 of operator 3, if it is not in the metadata
//! checkpoints/ended-ab12-1/3-0.state  what a subtask kept when it had finished, in attempt 1 of job ab12
//! ```
//!
//! Invariants: what a completed checkpoint refers to is durable before its metadata has its name, and is not removed as
//! long as the checkpoint is kept. The newest `retained` completed checkpoints are kept.
//! A store may also be in memory, with the same files in a file system that lives there.

use super::copies::Copies;
use super::metadata::{JobTag, Metadata, StateHandle};
use super::origin::{ORIGIN, ORIGIN_KIND, Origin};
use super::state_file::{self, Scratch, StateWriter};
use crate::base::batch::CheckpointId;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::vfs::{MemVfs, SharedVfs};
use crate::services::job_dir::{Durability, FileKind, JobDirectory, read_small, write_small};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const METADATA: &str = "metadata";
const METADATA_KIND: FileKind = FileKind(*b"CHKP");
const CHECKPOINT: &str = "chk-";

/// The directory of a checkpoint below that of all.
pub fn checkpoint_dir(id: CheckpointId) -> String {
    format!("{CHECKPOINT}{id}")
}

pub(super) fn id_of(dir: &Path) -> Option<CheckpointId> {
    dir.file_name()?.to_str()?.strip_prefix(CHECKPOINT)?.parse().ok()
}

/// Where state files are written. Cloning gives another handle to the same place.
#[derive(Clone)]
pub struct StateDir {
    vfs: SharedVfs,
    root: PathBuf,
    job: JobTag,
    copies: Option<Copies>,
    scratch: Scratch,
}

impl StateDir {
    /// For the state that a subtask of an operator has at the barrier of a checkpoint.
    pub fn at_barrier(&self, checkpoint: CheckpointId, operator: usize, subtask: usize) -> StateWriter {
        let path = format!("{}/{operator}-{subtask}.state", checkpoint_dir(checkpoint));
        StateWriter::new(self.vfs.clone(), &self.root, path, &self.job, checkpoint)
            .with_copy(self.copies.as_ref())
            .with(&self.scratch)
    }

    /// For the state that a subtask of an operator keeps when it has finished, and another one for when that `is_committed`.
    pub fn at_end(&self, operator: usize, subtask: usize, is_committed: bool) -> StateWriter {
        let kind = if is_committed { "-committed" } else { "" };
        let path = format!("ended-{}-{}/{operator}-{subtask}{kind}.state", self.job.id, self.job.attempt);
        StateWriter::new(self.vfs.clone(), &self.root, path, &self.job, 0).with_copy(self.copies.as_ref())
    }

    /// Removes what was written of a checkpoint that is given up. What cannot be removed is removed by a later process.
    pub fn discard(&self, checkpoint: CheckpointId) {
        let dir = self.root.join(checkpoint_dir(checkpoint));
        match self.vfs.remove_dir_all(&dir) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                tracing::warn!(dir = %dir.display(), error = %e, "files of a checkpoint that was given up remain");
            }
            _ => {}
        }
    }
}

/// Checkpoints that somebody reads: they are kept longer. Cloning gives another handle.
#[derive(Clone, Default)]
pub struct Pins(Arc<Mutex<BTreeSet<CheckpointId>>>);

impl Pins {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<CheckpointId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a checkpoint until it is released.
    pub fn pin(&self, id: CheckpointId) {
        self.lock().insert(id);
    }

    /// Nobody reads a checkpoint any more. It goes with the next one that is completed, if it is old enough.
    pub fn release(&self, id: CheckpointId) {
        self.lock().remove(&id);
    }
}

/// The checkpoints of a job.
pub struct Store {
    vfs: SharedVfs,
    root: PathBuf,
    retained: usize,
    /// Those that are complete, with the state files that they refer to.
    completed: BTreeMap<CheckpointId, BTreeSet<String>>,
    /// The highest number that has ever been given.
    last_id: CheckpointId,
    job_dir: Option<Arc<JobDirectory>>,
    /// What the job was started from, if that is not one of its own checkpoints.
    origin: Option<Origin>,
    /// Those of the newest checkpoint, if this directory is not that of the job.
    copies: Option<Copies>,
    pins: Pins,
}

impl Store {
    /// The store in the directory of a job. Removes what processes before this one have left unfinished.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn in_directory(job_dir: Arc<JobDirectory>, retained: usize) -> Result<Store> {
        let (vfs, root) = (job_dir.vfs().clone(), job_dir.checkpoints());
        Store::open(vfs, root, retained, Some(job_dir))
    }

    /// Writes copies of state files from now on, and reads those that are there.
    #[must_use]
    pub fn with_copies(mut self, copies: Copies) -> Store {
        match self.completed.last_key_value() {
            Some((newest, files)) => copies.keep_only(files, *newest, true),
            None => copies.keep_only(&BTreeSet::new(), 0, true),
        }
        self.copies = Some(copies);
        self
    }

    /// A store that ends with the process.
    ///
    /// # Errors
    /// None that are to be expected.
    pub fn in_memory(retained: usize) -> Result<Store> {
        Store::open(Arc::new(MemVfs::new()), PathBuf::from("/checkpoints"), retained, None)
    }

    fn open(
        vfs: SharedVfs,
        root: PathBuf,
        retained: usize,
        job_dir: Option<Arc<JobDirectory>>,
    ) -> Result<Store> {
        vfs.create_dir_all(&root).map_err(|e| Error::io("create", &root, e))?;
        if let Some(above) = root.parent() {
            vfs.sync_dir(above).map_err(|e| Error::io("sync", above, e))?;
        }
        let mut store = Store {
            vfs,
            root,
            retained,
            completed: BTreeMap::new(),
            last_id: 0,
            job_dir,
            origin: None,
            copies: None,
            pins: Pins::default(),
        };
        store.look()?;
        Ok(store)
    }

    /// Notes that a number was given to a checkpoint: no other one gets it, whatever becomes of this one.
    pub fn given(&mut self, id: CheckpointId) {
        self.last_id = self.last_id.max(id);
    }

    /// What the job in this directory was started from, as a process before this one has noted it.
    ///
    /// # Errors
    /// When the note is damaged or cannot be read.
    pub fn find_origin(&mut self) -> Result<Option<&Origin>> {
        if let Some(dir) = &self.job_dir {
            self.origin = dir.read(ORIGIN, ORIGIN_KIND)?;
        }
        Ok(self.origin.as_ref())
    }

    /// Notes durably that the job is started from the checkpoint or savepoint at a path. Checkpoints that the directory
    /// holds already are not those of the job from then on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_from(&mut self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
        let origin = Origin { path, first: self.next_id() };
        if let Some(dir) = &self.job_dir {
            dir.write(ORIGIN, ORIGIN_KIND, &origin, Durability::Synced)?;
        }
        self.origin = Some(origin);
        Ok(())
    }

    /// What the job was started from, if that is known and is not one of its own checkpoints.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Before another attempt: removes what the one before has left unfinished, whose threads must have ended.
    pub fn begin_attempt(&mut self) {
        if let Err(error) = self.look() {
            tracing::warn!(%error, "files of checkpoints that nobody needs remain");
        }
    }

    /// Finds the completed checkpoints and removes what belongs to none.
    fn look(&mut self) -> Result<()> {
        let dirs = self.vfs.list(&self.root).map_err(|e| Error::io("list", &self.root, e))?;
        let mut all_known = true;
        for dir in &dirs {
            let Some(id) = id_of(dir) else { continue };
            self.last_id = self.last_id.max(id);
            match read_small::<Metadata>(&*self.vfs, &dir.join(METADATA), METADATA_KIND) {
                Ok(Some(metadata)) => {
                    // Whoever wrote it may have died, or its disk, between the name and its sync: what goes on from it must
                    // not be there while a power loss can still take it.
                    for dir in [&self.root, dir] {
                        self.vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
                    }
                    self.completed.insert(id, files_of(&metadata));
                }
                Ok(None) => {}
                // Still a checkpoint: who restores learns what is wrong with it.
                Err(_) => {
                    all_known = false;
                    self.completed.insert(id, BTreeSet::new());
                }
            }
        }
        // Without knowing what a damaged checkpoint refers to nothing can be said to belong to none.
        if all_known {
            for dir in dirs {
                self.clean(&dir);
            }
        }
        Ok(())
    }

    /// Removes the files of a directory that no completed checkpoint refers to, and the directory if it is empty then.
    fn clean(&self, dir: &Path) {
        let Some(name) = dir.file_name().map(|name| name.to_string_lossy().into_owned()) else { return };
        let kept = |file: &Path| {
            let Some(file) = file.file_name() else { return true };
            let is_metadata =
                file == METADATA && id_of(dir).is_some_and(|id| self.completed.contains_key(&id));
            let path = format!("{name}/{}", file.to_string_lossy());
            is_metadata || self.completed.values().any(|files| files.contains(&path))
        };
        let removed = self.vfs.list(dir).and_then(|files| {
            let mut left = false;
            for file in files {
                match kept(&file) {
                    true => left = true,
                    false => self.vfs.remove_file(&file)?,
                }
            }
            if left { Ok(()) } else { self.vfs.remove_dir(dir) }
        });
        if let Err(e) = removed {
            tracing::warn!(dir = %dir.display(), error = %e, "files of checkpoints that nobody needs remain");
        }
    }

    /// Where the state files of an attempt are written.
    pub fn state_dir(&self, job: JobTag) -> StateDir {
        StateDir {
            vfs: self.vfs.clone(),
            root: self.root.clone(),
            job,
            copies: self.copies.clone(),
            scratch: Scratch::default(),
        }
    }

    /// The directory of all checkpoints.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The checkpoints, for somebody who reads them on another thread.
    pub fn reader(&self) -> Foreign {
        Foreign { vfs: self.vfs.clone(), root: self.root.clone() }
    }

    /// What keeps checkpoints longer than they would be.
    pub fn pins(&self) -> Pins {
        self.pins.clone()
    }

    /// The number that the next checkpoint may have.
    pub fn next_id(&self) -> CheckpointId {
        self.last_id + 1
    }

    /// The completed checkpoints of the job itself, newest first: not those of runs before it was started from elsewhere.
    pub fn own(&self) -> Vec<CheckpointId> {
        let first = self.origin.as_ref().map_or(0, |origin| origin.first);
        self.completed.range(first..).rev().map(|(id, _)| *id).collect()
    }

    /// The completed checkpoints, newest first.
    pub fn completed(&self) -> Vec<CheckpointId> {
        self.completed.keys().rev().copied().collect()
    }

    /// A completed checkpoint.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn load(&self, id: CheckpointId) -> Result<Metadata> {
        load(&self.vfs, &self.root.join(checkpoint_dir(id)))
    }

    /// Calls `take` with each piece of a snapshot: from the copy of its file, if there is one that is whole.
    ///
    /// # Errors
    /// As [`state_file::read`].
    pub fn read(
        &self,
        handle: &StateHandle,
        mut take: impl FnMut(&str, u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        if let (StateHandle::File(file), Some(copies)) = (handle, &self.copies)
            && copies.read(file, &mut take)?
        {
            return Ok(());
        }
        state_file::read(&*self.vfs, &self.root, handle, take)
    }

    /// Checks that the directory still belongs to this process: a process that slept while another took over must not
    /// complete anything.
    ///
    /// # Errors
    /// When another process has it.
    pub fn check_owner(&self) -> Result<()> {
        self.job_dir.as_ref().map_or(Ok(()), |dir| dir.check_owner())
    }

    /// Makes a checkpoint durable, whose state files are, and removes the oldest ones that need not be kept.
    ///
    /// # Errors
    /// When it cannot be written, or the directory belongs to another process; then it is not complete.
    pub fn complete(&mut self, metadata: &Metadata) -> Result<()> {
        let id = metadata.checkpoint;
        self.last_id = self.last_id.max(id);
        let dir = self.root.join(checkpoint_dir(id));
        self.vfs.create_dir_all(&dir).map_err(|e| Error::io("create", &dir, e))?;
        // The entry of the directory first: what has a name below it is there then.
        self.vfs.sync_dir(&self.root).map_err(|e| Error::io("sync", &self.root, e))?;
        self.check_owner()?;
        let path = dir.join(METADATA);
        if let Err(e) = write_small(&*self.vfs, &path, METADATA_KIND, metadata, Durability::Synced) {
            // It may have its name and lose it in a power loss, so it is none; as far as can be told.
            let _ = self.vfs.remove_file(&path);
            return Err(e);
        }
        failpoint::check("checkpoint.durable")?;
        let files = files_of(metadata);
        self.copies.iter().for_each(|copies| copies.keep_only(&files, id, false));
        self.completed.insert(id, files);
        self.prune();
        Ok(())
    }

    fn prune(&mut self) {
        loop {
            let pins = self.pins.lock();
            let old = self.completed.len().saturating_sub(self.retained);
            let next = self.completed.keys().take(old).find(|id| !pins.contains(id)).copied();
            drop(pins);
            let Some((id, files)) = next.and_then(|id| self.completed.remove_entry(&id)) else { return };
            let dir = self.root.join(checkpoint_dir(id));
            failpoint::pass("checkpoint.prune");
            // The metadata first: a checkpoint that lacks files is none.
            if let Err(e) = self.vfs.remove_file(&dir.join(METADATA)) {
                tracing::warn!(dir = %dir.display(), error = %e, "a checkpoint that nobody needs remains");
                continue;
            }
            failpoint::pass("checkpoint.pruned");
            let mut dirs: BTreeSet<PathBuf> = BTreeSet::from([dir]);
            let folder = |file: &String| Some(self.root.join(Path::new(file).parent()?));
            dirs.extend(files.iter().filter_map(folder));
            for dir in dirs {
                // A newer checkpoint of the directory is complete, so it is known what it refers to.
                if id_of(&dir).is_none_or(|id| !self.completed.contains_key(&id)) {
                    self.clean_ended_or_checkpoint(&dir, &files);
                }
            }
        }
    }

    /// Removes those of `files` that are in `dir` and that no completed checkpoint refers to.
    fn clean_ended_or_checkpoint(&self, dir: &Path, files: &BTreeSet<String>) {
        if id_of(dir).is_some() {
            return self.clean(dir);
        }
        // Subtasks that have finished since may have left more there.
        for file in files.iter().filter(|file| self.root.join(file).parent() == Some(dir)) {
            if !self.completed.values().any(|files| files.contains(file)) {
                let _ = self.vfs.remove_file(&self.root.join(file));
            }
        }
    }
}

fn files_of(metadata: &Metadata) -> BTreeSet<String> {
    let subtasks = metadata.operators.iter().flat_map(|operator| &operator.subtasks);
    let handles = subtasks.flat_map(|subtask| &subtask.states);
    let files = handles.filter_map(|handle| match handle {
        StateHandle::File(file) => Some(file.path.clone()),
        StateHandle::Inline(_) => None,
    });
    files.collect()
}

fn load(vfs: &SharedVfs, dir: &Path) -> Result<Metadata> {
    let path = dir.join(METADATA);
    let metadata: Option<Metadata> = read_small(&**vfs, &path, METADATA_KIND)?;
    let metadata = metadata.ok_or_else(|| {
        Error::config(format!(
            "'{}' is not a checkpoint: it has no file '{METADATA}'; give the directory of a checkpoint that was completed",
            dir.display()
        ))
    })?;
    if id_of(dir).is_some_and(|id| id != metadata.checkpoint) {
        return Err(Error::Corrupt {
            path,
            offset: 0,
            message: format!("it is the metadata of checkpoint {}", metadata.checkpoint),
        });
    }
    Ok(metadata)
}

/// A checkpoint somewhere else, which is only read.
pub struct Foreign {
    vfs: SharedVfs,
    root: PathBuf,
}

impl Foreign {
    /// The checkpoints to try at a path, best first: the path is that of a checkpoint, of a directory of checkpoints, or
    /// of a job.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(vfs: SharedVfs, path: &Path) -> Result<(Foreign, Vec<PathBuf>)> {
        let none = |why: &str| {
            Error::config(format!(
                "'{}' {why}; give the directory of a checkpoint, such as JOB_DIR/checkpoints/chk-7, or of a savepoint that is complete",
                path.display()
            ))
        };
        let is_dir = |path: &Path| vfs.metadata(path).is_ok_and(|meta| meta.is_dir);
        if !is_dir(path) {
            return Err(none("is not a directory"));
        }
        if vfs.metadata(&path.join(METADATA)).is_ok() {
            let root = path.parent().unwrap_or(path).to_path_buf();
            return Ok((Foreign { vfs, root }, vec![path.to_path_buf()]));
        }
        let below = path.join("checkpoints");
        let root = if is_dir(&below) { below } else { path.to_path_buf() };
        let dirs = vfs.list(&root).map_err(|e| Error::io("list", &root, e))?;
        let mut dirs: Vec<(CheckpointId, PathBuf)> = dirs
            .into_iter()
            .filter_map(|dir| Some((id_of(&dir)?, dir)))
            .filter(|(_, dir)| vfs.metadata(&dir.join(METADATA)).is_ok())
            .collect();
        dirs.sort();
        if dirs.is_empty() {
            return Err(none("holds no completed checkpoint"));
        }
        Ok((Foreign { vfs, root }, dirs.into_iter().rev().map(|(_, dir)| dir).collect()))
    }

    /// The checkpoint of a number.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn load_id(&self, id: CheckpointId) -> Result<Metadata> {
        load(&self.vfs, &self.root.join(checkpoint_dir(id)))
    }

    /// The checkpoint in a directory.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn load(&self, dir: &Path) -> Result<Metadata> {
        load(&self.vfs, dir)
    }

    /// Calls `take` with each piece of a snapshot.
    ///
    /// # Errors
    /// As [`state_file::read`].
    pub fn read(&self, handle: &StateHandle, take: impl FnMut(&str, u64, &[u8]) -> Result<()>) -> Result<()> {
        state_file::read(&*self.vfs, &self.root, handle, take)
    }
}
