//! Staging: files that become visible in a directory all at once, or not at all.
//!
//! Place: the protocol behind [`FileSink`](super::FileSink); runs on the client's thread before and after the job.
//! Method: files are written and synced under hidden names in a staging directory of the job, locked by the
//! process while it lives.
//!
//! ```text
//! out/ does not exist:  .out.mainstem-JOB/            made final inside, then one rename:  -> out/
//! out/ exists:          out/.mainstem-JOB/            1. out/.mainstem-JOB/commit lists what comes and goes
//!                                                     2. files renamed into out/, replaced ones removed
//!                                                     3. .mainstem-JOB -> .mainstem-JOB.done, which is removed
//! ```
//!
//! Invariants: what to do next can be read from the file system alone, so a commit may be repeated by another
//! process after a crash at any point. The rename of the directory, or of the manifest to `commit`, is the point
//! behind which a commit is only ever completed, by `abort` and by the next job, too.
//! Costs and limits: two syncs per file, two per bucket and up to five per commit.

use super::content::check_content;
use super::io::{check_size, create_dirs, exists, found, io, name_of, parent, remove_dirs, remove_file};
use super::lock::{DirectoryLock, LOCK_FILE, in_use};
use super::names::{finished_part, is_part_path};
use super::parts::create_bucket;
use super::scan::scan;
use crate::base::error::{Error, Result};
use crate::base::vfs::{Vfs, VfsFile, write_renamed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Hidden, since buckets of any other name may stand beside it.
const LOCK: &str = ".lock";
const MANIFEST: &str = "commit";
const MANIFEST_UNFINISHED: &str = "commit.unfinished";
const DONE: &str = ".done";
/// Larger than the manifest of a million files; what is larger is not ours.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// A finished file in the staging directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Its hidden name there.
    pub staged: String,
    /// Its name once it is committed.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The XXH3 of its bytes, where they may have to be read again after a crash.
    #[serde(default)]
    pub checksum: Option<u64>,
}

/// What a commit into an existing directory does.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    files: Vec<StagedFile>,
    replaced: Vec<String>,
}

/// An output directory.
pub(super) struct Staging {
    dir: PathBuf,
    pub(super) overwrite: bool,
    /// Whether files have buckets, which are directories below the output directory.
    pub(super) buckets: bool,
    held: Mutex<Held>,
}

/// What this process holds between `prepare` and the end of the job.
#[derive(Default)]
struct Held {
    lock: Option<Box<dyn VfsFile>>,
    /// Directories above the output that did not exist, outermost first.
    created: Vec<PathBuf>,
}

/// The names of one job.
struct Places {
    /// In the output directory.
    inside: PathBuf,
    /// Next to it.
    beside: PathBuf,
    done: PathBuf,
    parent: PathBuf,
}

impl Staging {
    pub(super) fn new(dir: PathBuf) -> Self {
        Staging { dir, overwrite: false, buckets: false, held: Mutex::default() }
    }
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn places(&self, job_id: &str) -> Places {
        let parent = parent(&self.dir).to_path_buf();
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        Places {
            inside: self.dir.join(format!(".mainstem-{job_id}")),
            beside: parent.join(format!(".{name}.mainstem-{job_id}")),
            done: self.dir.join(format!(".mainstem-{job_id}{DONE}")),
            parent,
        }
    }

    /// Checks the output directory and creates the staging directory. Undoes what it did if it fails.
    pub(super) fn prepare(&self, vfs: &dyn Vfs, job_id: &str) -> Result<()> {
        let prepared = self.try_prepare(vfs, job_id);
        if prepared.is_err() {
            // The error at hand says more than one of cleaning up.
            let _ = self.abort_unless_foreign(vfs, job_id);
        }
        prepared
    }

    fn try_prepare(&self, vfs: &dyn Vfs, job_id: &str) -> Result<()> {
        let places = self.places(job_id);
        self.held().lock = None;
        match found(vfs.metadata(&self.dir)) {
            Ok(Some(meta)) if meta.is_dir => {
                if DirectoryLock::is_taken(vfs, &self.dir)? {
                    return Err(in_use(&self.dir));
                }
                for entry in io("list", &self.dir, vfs.list(&self.dir))? {
                    if is_staging(&entry) && entry != places.inside {
                        self.reclaim(vfs, &entry)?;
                    }
                }
                let entries = io("list", &self.dir, vfs.list(&self.dir))?;
                // A job that is resumed after a crash in its commit finds its own output.
                let resumed = entries.contains(&places.inside);
                let mut content = entries.iter().filter(|e| !name_of(e).starts_with(".mainstem-"));
                if !self.overwrite && !resumed && content.next().is_some() {
                    return Err(Error::config(format!(
                        "output directory '{}' is not empty; give --overwrite to replace its part files",
                        self.dir.display()
                    )));
                }
                self.take(vfs, &places.inside, &self.dir)
            }
            Ok(Some(_)) => Err(self.not_a_directory()),
            Ok(None) if self.dir.file_name().is_none() => Err(self.without_a_name()),
            Ok(None) => {
                create_dirs(vfs, &places.parent, &mut self.held().created)?;
                let prefix = format!(".{}.mainstem-", name_of(&self.dir));
                for entry in io("list", &places.parent, vfs.list(&places.parent))? {
                    if name_of(&entry).starts_with(&prefix) && entry != places.beside {
                        self.reclaim(vfs, &entry)?;
                    }
                }
                self.take(vfs, &places.beside, &places.parent)
            }
            Err(e) => Err(Error::io("open", &self.dir, e)),
        }
    }

    /// Creates and locks the staging directory, or goes on with the one a process before this left for the job.
    fn take(&self, vfs: &dyn Vfs, staging: &Path, above: &Path) -> Result<()> {
        io("create", staging, vfs.create_dir_all(staging))?;
        let path = staging.join(LOCK);
        let mut lock = match vfs.create(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => io("open", &path, vfs.open(&path))?,
            created => io("create", &path, created)?,
        };
        match lock.try_lock() {
            Ok(true) => {}
            Ok(false) => {
                return Err(Error::config(format!(
                    "output directory '{}' is in use by another sink or process of the same job; give each its own",
                    self.dir.display()
                )));
            }
            // Some network file systems know no locks: leftovers there stay until somebody removes them.
            Err(e) if e.kind() == ErrorKind::Unsupported => {}
            Err(e) => return Err(Error::io("lock", &path, e)),
        }
        self.held().lock = Some(lock);
        io("sync", above, vfs.sync_dir(above))
    }

    /// Removes the staging directories in the output directory whose jobs have ended, or completes their commits; one of a
    /// job that may live.
    pub(super) fn reclaim_inside(&self, vfs: &dyn Vfs) -> Result<Option<PathBuf>> {
        for entry in io("list", &self.dir, vfs.list(&self.dir))? {
            if is_staging(&entry) {
                self.reclaim(vfs, &entry)?;
            }
        }
        Ok(io("list", &self.dir, vfs.list(&self.dir))?.into_iter().find(|entry| is_staging(entry)))
    }

    #[cold]
    pub(super) fn not_a_directory(&self) -> Error {
        Error::config(format!(
            "output '{}' is a file, and a directory is needed; choose another path or remove the file",
            self.dir.display()
        ))
    }

    #[cold]
    pub(super) fn without_a_name(&self) -> Error {
        Error::config(format!(
            "output '{}' does not exist and does not end in a name; give the path of a directory",
            self.dir.display()
        ))
    }

    /// Removes the staging directory of a job whose process has ended, or completes its commit. One that is
    /// locked, or that has no lock yet, may belong to a job that lives: it stays.
    fn reclaim(&self, vfs: &dyn Vfs, staging: &Path) -> Result<()> {
        if !name_of(staging).ends_with(DONE) {
            let Ok(mut lock) = vfs.open(&staging.join(LOCK)) else { return Ok(()) };
            if !lock.try_lock().unwrap_or(false) {
                return Ok(());
            }
            if let Some(manifest) = read_manifest(vfs, staging)? {
                let done = PathBuf::from(format!("{}{DONE}", staging.display()));
                return self.roll_forward(vfs, staging, &done, &manifest);
            }
        }
        tracing::info!(path = %staging.display(), "removing what a job that died has left");
        io("remove", staging, vfs.remove_dir_all(staging))
    }

    /// The staging directory of the job, which `prepare` has created.
    pub(super) fn staging(&self, vfs: &dyn Vfs, job_id: &str) -> Result<PathBuf> {
        let Places { inside, beside, .. } = self.places(job_id);
        for staging in [inside, beside] {
            if exists(vfs, &staging)? {
                return Ok(staging);
            }
        }
        Err(Error::config(format!(
            "the staging directory of output '{}' has vanished; was it removed while the job ran?",
            self.dir.display()
        )))
    }

    /// Makes the files visible. May be repeated, by another process too.
    pub(super) fn commit(&self, vfs: &dyn Vfs, job_id: &str, files: Vec<StagedFile>) -> Result<()> {
        let names: BTreeSet<&str> = files.iter().map(|f| f.name.as_str()).collect();
        if names.len() != files.len() {
            return Err(Error::Internal("two committed files have the same name".to_string()));
        }
        let places = self.places(job_id);
        if exists(vfs, &places.inside)? {
            let manifest = match read_manifest(vfs, &places.inside)? {
                Some(manifest) => manifest,
                None => self.write_manifest(vfs, &places.inside, files)?,
            };
            self.roll_forward(vfs, &places.inside, &places.done, &manifest)?;
        } else if exists(vfs, &places.beside)? {
            self.commit_new(vfs, &places, &files)?;
        } else {
            self.check_committed(vfs, &files)?;
            io("sync", &places.parent, vfs.sync_dir(&places.parent))?;
            remove_all(vfs, &places.done)?;
        }
        *self.held() = Held::default();
        Ok(())
    }

    /// One rename of the whole directory.
    fn commit_new(&self, vfs: &dyn Vfs, places: &Places, files: &[StagedFile]) -> Result<()> {
        self.place_all(vfs, &places.beside, &places.beside, files)?;
        let stays: BTreeSet<&str> = files.iter().filter_map(|f| f.name.split('/').next()).collect();
        for entry in io("list", &places.beside, vfs.list(&places.beside))? {
            if !stays.contains(name_of(&entry).as_str()) {
                io("remove", &entry, vfs.remove_file(&entry))?;
            }
        }
        io("sync", &places.beside, vfs.sync_dir(&places.beside))?;
        match vfs.rename(&places.beside, &self.dir) {
            Err(e) if matches!(e.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                return Err(Error::config(format!(
                    "output directory '{}' did not exist when the job started, and is not empty now; the \
                     output of this job is dropped",
                    self.dir.display()
                )));
            }
            renamed => io("rename", &self.dir, renamed)?,
        }
        io("sync", &places.parent, vfs.sync_dir(&places.parent))
    }

    /// Decides what a commit into the existing directory does. From the rename on it cannot be taken back.
    fn write_manifest(&self, vfs: &dyn Vfs, staging: &Path, files: Vec<StagedFile>) -> Result<Manifest> {
        for file in &files {
            let path = staging.join(&file.staged);
            io("find", &path, vfs.metadata(&path))?;
        }
        let replaced: Vec<String> = match self.buckets {
            true => scan(vfs, &self.dir)?.finished.into_keys().collect(),
            // What is below belongs to somebody else.
            false => {
                let present = io("list", &self.dir, vfs.list(&self.dir))?;
                present.iter().map(|p| name_of(p)).filter(|n| finished_part(n).is_some()).collect()
            }
        };
        if let (false, Some(name)) = (self.overwrite, replaced.first()) {
            return Err(Error::config(format!(
                "output directory '{}' was empty when the job started, and has '{name}' now; the output of \
                 this job is dropped",
                self.dir.display()
            )));
        }
        let manifest = Manifest { version: 1, files, replaced };
        let bytes = serde_json::to_vec(&manifest)
            .map_err(|e| Error::Internal(format!("a commit manifest cannot be written: {e}")))?;
        let (unfinished, path) = (staging.join(MANIFEST_UNFINISHED), staging.join(MANIFEST));
        write_renamed(vfs, &path, &unfinished, &bytes, true)?;
        Ok(manifest)
    }

    fn roll_forward(&self, vfs: &dyn Vfs, staging: &Path, done: &Path, manifest: &Manifest) -> Result<()> {
        self.place_all(vfs, staging, &self.dir, &manifest.files)?;
        let placed: BTreeSet<&str> = manifest.files.iter().map(|f| f.name.as_str()).collect();
        for name in manifest.replaced.iter().filter(|name| !placed.contains(name.as_str())) {
            remove_file(vfs, &self.dir.join(name))?;
        }
        let buckets: BTreeSet<&str> =
            manifest.replaced.iter().filter_map(|name| Some(name.rsplit_once('/')?.0)).collect();
        for dir in buckets.into_iter().map(|bucket| self.dir.join(bucket)) {
            // It may have been removed when this was done before.
            if exists(vfs, &dir)? {
                io("sync", &dir, vfs.sync_dir(&dir))?;
            }
        }
        io("sync", &self.dir, vfs.sync_dir(&self.dir))?;
        remove_all(vfs, done)?;
        io("rename", staging, vfs.rename(staging, done))?;
        io("sync", &self.dir, vfs.sync_dir(&self.dir))?;
        remove_all(vfs, done)
    }

    /// Renames files to their final names, and makes the directories of their buckets durable.
    fn place_all(&self, vfs: &dyn Vfs, staging: &Path, into: &Path, files: &[StagedFile]) -> Result<()> {
        let buckets: BTreeSet<&str> =
            files.iter().filter_map(|f| Some(&f.name[..=f.name.rfind('/')?])).collect();
        let mut dirs = BTreeSet::new();
        buckets.into_iter().try_for_each(|bucket| create_bucket(vfs, into, bucket, &mut dirs))?;
        let sync = || dirs.iter().try_for_each(|dir| io("sync", dir, vfs.sync_dir(dir)));
        // A file that is renamed into a directory that is not there after a crash would be nowhere.
        sync()?;
        files.iter().try_for_each(|file| self.place(vfs, staging, into, file))?;
        sync()
    }

    /// Renames one file to its final name, unless an earlier try has.
    fn place(&self, vfs: &dyn Vfs, staging: &Path, into: &Path, file: &StagedFile) -> Result<()> {
        let (from, to) = (staging.join(&file.staged), into.join(&file.name));
        match vfs.rename(&from, &to) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                check_size(vfs, &to, file.bytes).map_err(|_| Error::io("rename", &from, e))
            }
            renamed => io("rename", &to, renamed),
        }
    }

    /// Whether a finished file is still there under its hidden name, or already under its final one, with what was written into it.
    pub(super) fn is_intact(&self, vfs: &dyn Vfs, job_id: &str, file: &StagedFile) -> Result<bool> {
        let Places { inside, beside, .. } = self.places(job_id);
        let places = [
            inside.join(&file.staged),
            beside.join(&file.staged),
            beside.join(&file.name),
            self.dir.join(&file.name),
        ];
        for path in places {
            match vfs.metadata(&path) {
                Ok(meta) if meta.is_file && meta.len == file.bytes => {
                    let opened = io("open", &path, vfs.open(&path))?;
                    match check_content(&*opened, &path, file) {
                        Ok(()) => return Ok(true),
                        Err(error @ Error::Corrupt { .. }) => {
                            tracing::warn!(%error, "a staged file is damaged")
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Err(Error::io("open", &path, e));
                }
                _ => {}
            }
        }
        Ok(false)
    }

    fn check_committed(&self, vfs: &dyn Vfs, files: &[StagedFile]) -> Result<()> {
        io("open", &self.dir, vfs.metadata(&self.dir))?;
        files.iter().try_for_each(|f| check_size(vfs, &self.dir.join(&f.name), f.bytes))
    }

    /// Lets another process take the staging directory over.
    pub(super) fn let_go(&self) {
        *self.held() = Held::default();
    }

    /// Removes what the job has left, or completes a commit that can no longer be taken back.
    pub(super) fn abort(&self, vfs: &dyn Vfs, job_id: &str) -> Result<()> {
        let Places { inside, beside, done, .. } = self.places(job_id);
        match read_manifest(vfs, &inside)? {
            Some(manifest) => self.roll_forward(vfs, &inside, &done, &manifest)?,
            None => remove_all(vfs, &inside)?,
        }
        remove_all(vfs, &done)?;
        remove_all(vfs, &beside)?;
        let mut held = self.held();
        held.lock = None;
        remove_dirs(vfs, &mut held.created)
    }

    /// After a failed `prepare` the staging directory is ours only if we hold its lock.
    fn abort_unless_foreign(&self, vfs: &dyn Vfs, job_id: &str) -> Result<()> {
        let Places { inside, beside, .. } = self.places(job_id);
        for staging in [inside, beside] {
            if let Ok(mut lock) = vfs.open(&staging.join(LOCK))
                && self.held().lock.is_none()
                && matches!(lock.try_lock(), Ok(false))
            {
                return Ok(());
            }
        }
        self.abort(vfs, job_id)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn remove_all(vfs: &dyn Vfs, path: &Path) -> Result<()> {
    match vfs.remove_dir_all(path) {
        // Below a path that is no directory there is nothing of ours either.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        removed => io("remove", path, removed),
    }
}

/// Whether an entry of the output directory is the staging directory of a job.
fn is_staging(entry: &Path) -> bool {
    let name = name_of(entry);
    name.starts_with(".mainstem-") && name != LOCK_FILE
}

fn read_manifest(vfs: &dyn Vfs, staging: &Path) -> Result<Option<Manifest>> {
    let path = staging.join(MANIFEST);
    let file = match vfs.open(&path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        opened => io("open", &path, opened)?,
    };
    let corrupt = |message: String| Error::Corrupt { path: path.clone(), offset: 0, message };
    let len = io("read", &path, file.len())?;
    if len > MANIFEST_BYTES_MAX {
        return Err(corrupt(format!("expected at most {MANIFEST_BYTES_MAX} bytes, found {len}")));
    }
    let mut bytes = vec![0; len as usize];
    io("read", &path, file.read_exact_at(&mut bytes, 0))?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|e| corrupt(format!("expected the manifest of a commit, found something else: {e}")))?;
    let harmless = manifest.files.iter().all(|f| is_part_path(&f.name, false) && !f.staged.contains('/'));
    if manifest.version != 1 || !harmless || !manifest.replaced.iter().all(|n| is_part_path(n, false)) {
        return Err(corrupt("it names files that no sink of this version writes".to_string()));
    }
    Ok(Some(manifest))
}
