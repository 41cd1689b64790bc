//! FaultVfs: wraps a file system and makes chosen operations fail.
//!
//! Place: tests, ours and the user's. A sweep runs the same job with `fail_at(0)`, `fail_at(1)`, ... until
//! [`FaultVfs::failures`] stays 0.
//! Invariants: the count of operations depends on nothing but the calls, so that a failure can be replayed.

use super::{Metadata, SharedVfs, Vfs, VfsFile, no_space};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Kind of a file operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named like the methods of Vfs and VfsFile
pub enum FileOp {
    Open,
    Create,
    CreateUnnamed,
    SyncDir,
    Rename,
    RemoveFile,
    RemoveDir,
    RemoveDirAll,
    CreateDirAll,
    List,
    Metadata,
    Read,
    Append,
    SyncData,
    SetLen,
    TryLock,
    Len,
}

impl FileOp {
    /// The operations that fail when the disk is full.
    pub const NEEDS_SPACE: &[FileOp] = &[
        FileOp::Create,
        FileOp::CreateUnnamed,
        FileOp::CreateDirAll,
        FileOp::Append,
        FileOp::SetLen,
        FileOp::SyncData,
    ];
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space is left on the device (ENOSPC); nothing was done.
    NoSpace,
    /// The device failed (EIO); nothing was done.
    Io,
    /// An append writes the first half of its bytes and then finds no space; others fail as with `NoSpace`.
    ShortWrite,
    /// Any error number of the operating system; nothing was done.
    Os(i32),
}

impl Fault {
    fn error(self) -> io::Error {
        const EIO: i32 = 5;
        const ENOSPC: i32 = 28;
        io::Error::from_raw_os_error(match self {
            Fault::NoSpace | Fault::ShortWrite => ENOSPC,
            Fault::Io => EIO,
            Fault::Os(code) => code,
        })
    }
}

/// Which operations fail, and which bits are flipped on the way in.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    failure: Option<(u64, Fault)>,
    lasting: bool,
    kinds: Option<Vec<FileOp>>,
    path_part: Option<String>,
    flips: Vec<Flip>,
}

#[derive(Clone, Debug)]
struct Flip {
    path_part: String,
    offset: u64,
    bit: u8,
}

impl FaultPlan {
    /// Nothing fails.
    pub fn none() -> Self {
        FaultPlan::default()
    }
    /// The `k`-th operation fails, counted from 0 over the operations the plan looks at: all, unless
    /// [`only`](Self::only) or [`on_path`](Self::on_path) narrow them.
    pub fn fail_at(k: u64, fault: Fault) -> Self {
        FaultPlan { failure: Some((k, fault)), ..FaultPlan::default() }
    }
    /// All later operations fail, too.
    pub fn and_from_then_on(mut self) -> Self {
        self.lasting = true;
        self
    }
    /// Counts and fails operations of these kinds only.
    pub fn only(mut self, kinds: &[FileOp]) -> Self {
        self.kinds = Some(kinds.to_vec());
        self
    }
    /// Counts and fails operations on paths that contain this text only.
    pub fn on_path(mut self, part: impl Into<String>) -> Self {
        self.path_part = Some(part.into());
        self
    }
    /// Flips one bit (0 to 7) of the byte at `offset` whenever a file whose path contains `path_part` is read.
    pub fn flip_bit(mut self, path_part: impl Into<String>, offset: u64, bit: u8) -> Self {
        self.flips.push(Flip { path_part: path_part.into(), offset, bit: bit & 7 });
        self
    }
    fn looks_at(&self, op: FileOp, paths: &[&Path]) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&op))
            && self.path_part.as_ref().is_none_or(|part| paths.iter().any(|p| contains(p, part)))
    }
}

fn contains(path: &Path, part: &str) -> bool {
    path.to_string_lossy().contains(part)
}

/// A file system whose operations fail as planned.
pub struct FaultVfs {
    inner: SharedVfs,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Default)]
struct Faults {
    plan: FaultPlan,
    operations: u64,
    failures: u64,
}

impl FaultVfs {
    /// Wraps `inner`.
    pub fn new(inner: SharedVfs, plan: FaultPlan) -> Arc<FaultVfs> {
        Arc::new(FaultVfs { inner, faults: Arc::new(Mutex::new(Faults { plan, ..Faults::default() })) })
    }
    /// Replaces the plan and counts from 0 again. Files that are open obey the new plan, too.
    pub fn set_plan(&self, plan: FaultPlan) {
        *lock(&self.faults) = Faults { plan, ..Faults::default() };
    }
    /// Operations the plan looked at so far, failed ones included.
    pub fn operations(&self) -> u64 {
        lock(&self.faults).operations
    }
    /// Operations that failed as planned so far.
    pub fn failures(&self) -> u64 {
        lock(&self.faults).failures
    }
    fn check(&self, op: FileOp, path: &Path) -> io::Result<()> {
        check(&self.faults, op, &[path])
    }
    fn wrap(&self, path: &Path, inner: Box<dyn VfsFile>) -> Box<dyn VfsFile> {
        Box::new(FaultFile { inner, path: path.to_path_buf(), faults: self.faults.clone() })
    }
}

fn lock(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(|e| e.into_inner())
}

/// Counts the operation; the fault, if it is its turn.
fn due(faults: &Mutex<Faults>, op: FileOp, paths: &[&Path]) -> Option<Fault> {
    let mut faults = lock(faults);
    if !faults.plan.looks_at(op, paths) {
        return None;
    }
    let index = faults.operations;
    faults.operations += 1;
    let (k, fault) = faults.plan.failure?;
    if index == k || (faults.plan.lasting && index > k) {
        faults.failures += 1;
        return Some(fault);
    }
    None
}

fn check(faults: &Mutex<Faults>, op: FileOp, paths: &[&Path]) -> io::Result<()> {
    due(faults, op, paths).map_or(Ok(()), |fault| Err(fault.error()))
}

struct FaultFile {
    inner: Box<dyn VfsFile>,
    path: PathBuf,
    faults: Arc<Mutex<Faults>>,
}

impl FaultFile {
    fn check(&self, op: FileOp) -> io::Result<()> {
        check(&self.faults, op, &[&self.path])
    }
}

impl VfsFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check(FileOp::Read)?;
        let read = self.inner.read_at(buf, offset)?;
        for flip in &lock(&self.faults).plan.flips {
            if contains(&self.path, &flip.path_part)
                && let Some(at) = flip.offset.checked_sub(offset).and_then(|at| usize::try_from(at).ok())
                && let Some(byte) = buf[..read].get_mut(at)
            {
                *byte ^= 1 << flip.bit;
            }
        }
        Ok(read)
    }
    fn append(&mut self, buf: &[u8]) -> io::Result<()> {
        let Some(fault) = due(&self.faults, FileOp::Append, &[&self.path]) else {
            return self.inner.append(buf);
        };
        let behind = self.inner.len()?;
        if fault == Fault::ShortWrite {
            self.inner.append(&buf[..buf.len() / 2])?;
        }
        Err(no_space(fault.error(), buf.len(), behind))
    }
    fn sync_data(&mut self) -> io::Result<()> {
        self.check(FileOp::SyncData)?;
        self.inner.sync_data()
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.check(FileOp::SetLen)?;
        self.inner.set_len(len)
    }
    fn try_lock(&mut self) -> io::Result<bool> {
        self.check(FileOp::TryLock)?;
        self.inner.try_lock()
    }
    fn len(&self) -> io::Result<u64> {
        self.check(FileOp::Len)?;
        self.inner.len()
    }
}

impl Vfs for FaultVfs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.check(FileOp::Open, path)?;
        Ok(self.wrap(path, self.inner.open(path)?))
    }
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.check(FileOp::Open, path)?;
        Ok(self.wrap(path, self.inner.open_append(path)?))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.check(FileOp::Create, path)?;
        Ok(self.wrap(path, self.inner.create(path)?))
    }
    fn create_unnamed(&self, dir: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.check(FileOp::CreateUnnamed, dir)?;
        Ok(self.wrap(dir, self.inner.create_unnamed(dir)?))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.check(FileOp::SyncDir, path)?;
        self.inner.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        check(&self.faults, FileOp::Rename, &[from, to])?;
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(FileOp::RemoveFile, path)?;
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.check(FileOp::RemoveDir, path)?;
        self.inner.remove_dir(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check(FileOp::RemoveDirAll, path)?;
        self.inner.remove_dir_all(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check(FileOp::CreateDirAll, path)?;
        self.inner.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.check(FileOp::List, path)?;
        self.inner.list(path)
    }
    fn is_link(&self, path: &Path) -> io::Result<bool> {
        self.check(FileOp::Metadata, path)?;
        self.inner.is_link(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.check(FileOp::Metadata, path)?;
        self.inner.metadata(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::vfs::MemVfs;

    fn write(vfs: &dyn Vfs, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = vfs.create(Path::new(path))?;
        file.append(bytes)?;
        file.sync_data()
    }

    #[test]
    fn the_kth_operation_fails_once() {
        for k in 0..3 {
            let vfs = FaultVfs::new(Arc::new(MemVfs::new()), FaultPlan::fail_at(k, Fault::NoSpace));
            let error = write(&*vfs, "a", b"x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!((vfs.operations(), vfs.failures()), (k + 1, 1));
            write(&*vfs, "b", b"x").unwrap();
        }
    }

    #[test]
    fn from_then_on_every_operation_fails_until_the_plan_changes() {
        let plan = FaultPlan::fail_at(1, Fault::Io).and_from_then_on();
        let vfs = FaultVfs::new(Arc::new(MemVfs::new()), plan);
        assert!(write(&*vfs, "a", b"x").is_err());
        assert_eq!(vfs.remove_file(Path::new("a")).unwrap_err().raw_os_error(), Some(5));
        vfs.set_plan(FaultPlan::none());
        vfs.remove_file(Path::new("a")).unwrap();
        assert_eq!(vfs.failures(), 0);
    }

    #[test]
    fn kinds_and_paths_narrow_what_is_counted() {
        let plan = FaultPlan::fail_at(0, Fault::Os(13)).only(&[FileOp::Append]).on_path("b");
        let vfs = FaultVfs::new(Arc::new(MemVfs::new()), plan);
        write(&*vfs, "a", b"x").unwrap();
        assert_eq!(write(&*vfs, "b", b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(vfs.operations(), 1);
        vfs.set_plan(FaultPlan::fail_at(0, Fault::Io).on_path("target"));
        assert!(vfs.rename(Path::new("a"), Path::new("target")).is_err());
    }

    #[test]
    fn a_short_write_leaves_half_of_the_bytes() {
        let mem = MemVfs::new();
        let plan = FaultPlan::fail_at(0, Fault::ShortWrite).only(&[FileOp::Append]);
        let vfs = FaultVfs::new(Arc::new(mem.clone()), plan);
        let error = write(&*vfs, "a", b"12345").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().ends_with("5 bytes are needed after 0"), "{error}");
        assert_eq!(mem.snapshot()[Path::new("/a")].as_deref(), Some(&b"12"[..]));
    }

    #[test]
    fn a_flipped_bit_is_seen_by_every_read_that_covers_it() {
        let vfs = FaultVfs::new(Arc::new(MemVfs::new()), FaultPlan::none().flip_bit("a", 2, 0));
        write(&*vfs, "a", b"0000").unwrap();
        let file = vfs.open(Path::new("a")).unwrap();
        let mut buf = [0; 4];
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"0010");
        assert_eq!(file.read_at(&mut buf, 2).unwrap(), 2);
        assert_eq!(&buf[..2], b"10");
        assert_eq!(file.read_at(&mut buf, 3).unwrap(), 1);
        assert_eq!(&buf[..1], b"0");
    }
}
