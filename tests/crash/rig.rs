//! Rig: a job as a simulation over files in memory, where every operation can be counted, failed and looked at.

use crate::output::{Files, in_memory, verify};
use crate::shapes::Shape;
use mainstem::base::config::Settings;
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, Keep, MemVfs, SharedVfs, Vfs, VfsFile};
use mainstem::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// A job that runs longer hangs.
const TIME_LIMIT: Duration = Duration::from_secs(60);
pub const OUT: &str = "/out";
pub const JOB: &str = "/job";

/// A job without threads and without a real clock or disk.
#[derive(Clone, Debug)]
pub struct Rig {
    pub shape: Shape,
    pub records: u64,
    pub parallelism: usize,
    pub options: Vec<String>,
}

impl Rig {
    /// Half a second of virtual time.
    pub fn new(shape: Shape) -> Rig {
        let options = match shape {
            Shape::Batch => vec![],
            _ => vec!["--checkpoint-interval".to_string(), "20ms".to_string()],
        };
        Rig { shape, records: 2_000, parallelism: 2, options }
    }

    pub fn options(mut self, options: &[&str]) -> Rig {
        self.options.extend(options.iter().map(|option| option.to_string()));
        self
    }

    /// A disk with the directories that a machine has.
    pub fn disk() -> MemVfs {
        let disk = MemVfs::new();
        for dir in [OUT, "/tmp"] {
            disk.create_dir_all(Path::new(dir)).unwrap();
        }
        disk.sync_dir(Path::new("/")).unwrap();
        disk
    }

    /// One process of the job.
    ///
    /// # Panics
    /// When it does not end.
    pub fn process(&self, vfs: SharedVfs, seed: u64, restore: bool) -> mainstem::Result<JobResult> {
        let rig = self.clone();
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let ended = match rig.here(vfs.clone(), seed, restore) {
                Err(e) if restore && never_began(&e) => rig.here(vfs, seed, false),
                ended => ended,
            };
            drop(send.send(ended))
        });
        receive.recv_timeout(TIME_LIMIT).unwrap_or_else(|_| panic!("{self:?} with seed {seed} hangs"))
    }

    fn here(&self, vfs: SharedVfs, seed: u64, restore: bool) -> mainstem::Result<JobResult> {
        let mut args: Vec<String> =
            ["rig", "--progress", "never", "--temp-dir", "/tmp"].map(String::from).into();
        let mut add = |option: &str, value: &str| args.extend([option.to_string(), value.to_string()]);
        add("--parallelism", &self.parallelism.to_string());
        // Few key groups, so that each has keys.
        add("--max-parallelism", "16");
        add("--seed", &seed.to_string());
        if self.shape != Shape::Batch {
            // A failure ends the process: the next one goes on.
            add("--restart-strategy", "none");
        }
        match (self.shape, restore) {
            (Shape::Batch, true) => add("--resume", JOB),
            (_, restore) => {
                add("--job-dir", JOB);
                if restore {
                    add("--restore", "latest");
                }
            }
        }
        args.extend(self.options.clone());
        let (settings, _) = Settings::from_args_iter(args)?;
        let env = Environment::with_settings(settings).execution_mode(self.shape.mode()).vfs(vfs);
        self.shape.build(&env, self.records, Some(4_000.0), Path::new(OUT), || ());
        env.execute("rig")
    }

    /// Runs a job that was interrupted to its end, with nothing in its way. Its output must be exact.
    pub fn completes(&self, disk: &MemVfs, seed: u64) -> Result<(), String> {
        self.process(Arc::new(disk.clone()), seed, true).map_err(|e| format!("does not go on: {e}"))?;
        self.verify(disk)
    }

    pub fn verify(&self, disk: &MemVfs) -> Result<(), String> {
        verify(self.shape, self.records, &self.output(disk))
    }

    /// The same behind faults. Where the disk fails when all is done, the lock of the output stays; nobody holds it.
    pub fn verify_after_faults(&self, disk: &MemVfs) -> Result<(), String> {
        let mut files = self.output(disk);
        files.retain(|path, _| !path.ends_with(".mainstem-lock"));
        verify(self.shape, self.records, &files)
    }

    pub fn output(&self, disk: &MemVfs) -> Files {
        in_memory(disk, Path::new(OUT))
    }

    /// Runs until the `k`-th operation on files, from which on none succeeds: what `kill -9` leaves. False if the job came
    /// to its end before.
    pub fn killed_at(&self, disk: &MemVfs, seed: u64, restore: bool, k: u64) -> bool {
        let plan = FaultPlan::fail_at(k, Fault::Io).and_from_then_on();
        let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
        let ended = self.process(faulty.clone(), seed, restore);
        assert!(ended.is_err() || faulty.failures() == 0, "{self:?}: succeeds with a dead disk from {k} on");
        // A new machine: nobody holds a lock any more.
        faulty.failures() > 0
    }

    /// Operations on files of an undisturbed run.
    pub fn operations(&self, seed: u64) -> u64 {
        self.operations_of(seed, FaultPlan::none())
    }

    /// Operations that a plan looks at.
    pub fn operations_of(&self, seed: u64, plan: FaultPlan) -> u64 {
        let disk = Rig::disk();
        let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
        self.process(faulty.clone(), seed, false).unwrap_or_else(|e| panic!("{self:?}, seed {seed}: {e}"));
        self.verify(&disk).unwrap_or_else(|e| panic!("{self:?}, seed {seed}: {e}"));
        faulty.operations()
    }
}

/// Whether a batch died before it had written down that it is one: then it is started, not resumed.
pub fn never_began(error: &mainstem::Error) -> bool {
    error.to_string().contains("there is no job to resume")
}

/// Calls a function before each operation that changes something.
pub struct Watched<F> {
    inner: SharedVfs,
    watch: Arc<F>,
}

impl<F: Fn(FileOp, &Path) + Send + Sync + 'static> Watched<F> {
    pub fn new(inner: SharedVfs, watch: F) -> Arc<Watched<F>> {
        Arc::new(Watched { inner, watch: Arc::new(watch) })
    }
    fn file(&self, path: &Path, inner: Box<dyn VfsFile>) -> Box<dyn VfsFile> {
        Box::new(WatchedFile { inner, path: path.to_path_buf(), watch: self.watch.clone() })
    }
}

struct WatchedFile<F> {
    inner: Box<dyn VfsFile>,
    path: PathBuf,
    watch: Arc<F>,
}

impl<F: Fn(FileOp, &Path) + Send + Sync + 'static> VfsFile for WatchedFile<F> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }
    fn append(&mut self, buf: &[u8]) -> io::Result<()> {
        (self.watch)(FileOp::Append, &self.path);
        self.inner.append(buf)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        (self.watch)(FileOp::SyncData, &self.path);
        self.inner.sync_data()
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        (self.watch)(FileOp::SetLen, &self.path);
        self.inner.set_len(len)
    }
    fn try_lock(&mut self) -> io::Result<bool> {
        self.inner.try_lock()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

impl<F: Fn(FileOp, &Path) + Send + Sync + 'static> Vfs for Watched<F> {
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(self.file(path, self.inner.open(path)?))
    }
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(self.file(path, self.inner.open_append(path)?))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        (self.watch)(FileOp::Create, path);
        Ok(self.file(path, self.inner.create(path)?))
    }
    fn create_unnamed(&self, dir: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.inner.create_unnamed(dir)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        (self.watch)(FileOp::SyncDir, path);
        self.inner.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.watch)(FileOp::Rename, to);
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        (self.watch)(FileOp::RemoveFile, path);
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        (self.watch)(FileOp::RemoveDir, path);
        self.inner.remove_dir(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        (self.watch)(FileOp::RemoveDirAll, path);
        self.inner.remove_dir_all(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        (self.watch)(FileOp::CreateDirAll, path);
        self.inner.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.list(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<mainstem::base::vfs::Metadata> {
        self.inner.metadata(path)
    }
}

/// What a power loss may keep.
pub const KEEPS: [Keep; 3] = [Keep::Nothing, Keep::Random, Keep::Torn];
