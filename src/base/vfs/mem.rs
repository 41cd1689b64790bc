//! MemVfs: a file system in memory that knows what a power loss would leave of it.
//!
//! Place: tests and simulations, ours and the user's, in the place of [`OsVfs`](super::OsVfs).
//! Method: a file has its bytes and how much of them was synced. A change of a directory (create, rename, remove)
//! is visible at once and pending until one of the directories it touches is synced; a rename is atomic.
//! [`MemVfs::crash`] builds a new file system from what is durable and a seeded choice of what is pending. The
//! model is stricter than common file systems: syncing a file does not make its name durable, and pending changes
//! survive in any order that does not contradict itself.
//! Invariants: the same calls and the same seed give the same bytes. Modification times count changes, not time.
//! Costs and limits: one lock for the tree. Files removed from a directory that is never synced stay in memory.

use super::{Metadata, Vfs, VfsFile};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

/// What a power loss keeps of the changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None of them.
    Nothing,
    /// Each change of a directory or not, and each file's bytes all or not, by the seed.
    Random,
    /// As `Random`, but a file may also end in the middle of what was written or in zeros never overwritten.
    Torn,
}

/// A file system in memory. Clones share it. The root directory exists from the start; relative paths start there.
#[derive(Clone)]
pub struct MemVfs {
    tree: Arc<Mutex<Tree>>,
    /// Number of changes so far: the modification time in milliseconds.
    ticks: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Entry {
    File(FileRef),
    Dir(usize),
}

type FileRef = Arc<Mutex<Content>>;
type Entries = BTreeMap<OsString, Entry>;

struct Content {
    data: Vec<u8>,
    durable: Durable,
    locked: bool,
    modified: u64,
}

/// What was synced of a file.
enum Durable {
    /// The first bytes of the data as they are now.
    Prefix(usize),
    /// Bytes that have been cut off since.
    Copy(Vec<u8>),
}

/// One directory, by its index in [`Tree::dirs`] (0 is the root): as it is seen and as it is on the disk.
#[derive(Default)]
struct Dir {
    entries: Entries,
    durable: Entries,
    modified: u64,
}

struct Tree {
    dirs: Vec<Dir>,
    pending: Vec<Change>,
}

/// One atomic change of one or two directory entries.
type Change = Vec<Edit>;

struct Edit {
    dir: usize,
    name: OsString,
    entry: Option<Entry>,
}

impl Default for MemVfs {
    fn default() -> Self {
        MemVfs::new()
    }
}

impl MemVfs {
    /// An empty file system.
    pub fn new() -> Self {
        let tree = Tree { dirs: vec![Dir::default()], pending: Vec::new() };
        MemVfs { tree: Arc::new(Mutex::new(tree)), ticks: Arc::default() }
    }

    /// The file system after a power loss at this moment. This one stays as it is, so that one run can be looked
    /// at with many seeds. Nobody holds a lock in the new one, and everything in it is durable.
    pub fn crash(&self, seed: u64, keep: Keep) -> MemVfs {
        let tree = self.tree();
        let mut random = SplitMix(seed);
        let kept: Vec<bool> = tree.pending.iter().map(|_| keep != Keep::Nothing && random.coin()).collect();
        let kept = with_dependencies(&tree.pending, kept);
        let mut durable: Vec<Entries> = tree.dirs.iter().map(|d| d.durable.clone()).collect();
        for (change, _) in tree.pending.iter().zip(kept).filter(|(_, kept)| *kept) {
            for edit in change {
                set(&mut durable[edit.dir], &edit.name, edit.entry.clone());
            }
        }
        let mut after = Tree { dirs: vec![Dir::default()], pending: Vec::new() };
        let mut seen = BTreeSet::from([0]);
        let mut todo = vec![(0, 0)];
        while let Some((old, new)) = todo.pop() {
            for (name, entry) in std::mem::take(&mut durable[old]) {
                let entry = match entry {
                    Entry::File(file) => Entry::File(lock(&file).crashed(keep, &mut random)),
                    Entry::Dir(id) if seen.insert(id) => {
                        after.dirs.push(Dir::default());
                        todo.push((id, after.dirs.len() - 1));
                        Entry::Dir(after.dirs.len() - 1)
                    }
                    Entry::Dir(_) => continue,
                };
                after.dirs[new].entries.insert(name.clone(), entry.clone());
                after.dirs[new].durable.insert(name, entry);
            }
        }
        MemVfs { tree: Arc::new(Mutex::new(after)), ticks: Arc::default() }
    }

    /// Every file with its content and every directory (with `None`), by path: for comparisons in tests.
    pub fn snapshot(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let tree = self.tree();
        let mut all = BTreeMap::new();
        let mut todo = vec![(0, PathBuf::from("/"))];
        while let Some((dir, path)) = todo.pop() {
            for (name, entry) in &tree.dirs[dir].entries {
                let path = path.join(name);
                match entry {
                    Entry::File(file) => all.insert(path, Some(lock(file).data.clone())),
                    Entry::Dir(id) => {
                        todo.push((*id, path.clone()));
                        all.insert(path, None)
                    }
                };
            }
        }
        all
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }
    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }
    fn new_file(&self) -> FileRef {
        let durable = Durable::Prefix(0);
        Arc::new(Mutex::new(Content { data: Vec::new(), durable, locked: false, modified: self.tick() }))
    }
    fn handle(&self, content: FileRef, writable: bool) -> Box<dyn VfsFile> {
        Box::new(MemFile { content, writable, holds_lock: false, ticks: self.ticks.clone() })
    }
    /// The place of a path in its directory, and what is there.
    fn entry(&self, tree: &Tree, path: &Path) -> io::Result<(usize, OsString, Option<Entry>)> {
        let mut names = components(path);
        let name = names.pop().ok_or(ErrorKind::InvalidInput)?;
        let dir = tree.dir(&names)?;
        let entry = tree.dirs[dir].entries.get(&name).cloned();
        Ok((dir, name, entry))
    }
}

impl Tree {
    fn lookup(&self, names: &[OsString]) -> io::Result<Entry> {
        let mut at = Entry::Dir(0);
        for name in names {
            let Entry::Dir(dir) = at else { return Err(ErrorKind::NotADirectory.into()) };
            at = self.dirs[dir].entries.get(name).cloned().ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }
    fn dir(&self, names: &[OsString]) -> io::Result<usize> {
        match self.lookup(names)? {
            Entry::Dir(id) => Ok(id),
            Entry::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }
    fn change(&mut self, edits: Change, tick: u64) {
        for edit in &edits {
            let dir = &mut self.dirs[edit.dir];
            dir.modified = tick;
            set(&mut dir.entries, &edit.name, edit.entry.clone());
        }
        self.pending.push(edits);
    }
    fn remove_below(&mut self, dir: usize, tick: u64) {
        for (name, entry) in self.dirs[dir].entries.clone() {
            if let Entry::Dir(id) = entry {
                self.remove_below(id, tick);
            }
            self.change(vec![Edit { dir, name, entry: None }], tick);
        }
    }
    fn is_below(&self, dir: usize, ancestor: usize) -> bool {
        dir == ancestor
            || self.dirs[ancestor]
                .entries
                .values()
                .any(|e| matches!(e, Entry::Dir(id) if self.is_below(dir, *id)))
    }
}

fn set(entries: &mut Entries, name: &OsStr, entry: Option<Entry>) {
    match entry {
        Some(entry) => entries.insert(name.to_os_string(), entry),
        None => entries.remove(name),
    };
}

/// A change drags along the earlier changes of the same names: without them it could not have happened.
fn with_dependencies(pending: &[Change], mut chosen: Vec<bool>) -> Vec<bool> {
    let mut touched = BTreeSet::new();
    for (i, change) in pending.iter().enumerate().rev() {
        chosen[i] = chosen[i] || change.iter().any(|e| touched.contains(&(e.dir, e.name.as_os_str())));
        if chosen[i] {
            touched.extend(change.iter().map(|e| (e.dir, e.name.as_os_str())));
        }
    }
    chosen
}

/// The names of a path from the root on. `..` takes away the name before it.
fn components(path: &Path) -> Vec<OsString> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_os_string()),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}

/// A panic of user code while a test holds the lock leaves the tree whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn time(ticks: u64) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_millis(ticks)
}

/// The generator SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
    /// A number from `low` to `high`, both included.
    fn within(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high.saturating_sub(low) as u64 + 1)) as usize
    }
}

impl Content {
    fn crashed(&self, keep: Keep, random: &mut SplitMix) -> FileRef {
        let mut data = match &self.durable {
            _ if keep != Keep::Nothing && random.coin() => self.data.clone(),
            Durable::Prefix(len) => self.data[..*len].to_vec(),
            Durable::Copy(bytes) => bytes.clone(),
        };
        if keep == Keep::Torn {
            let safe = match &self.durable {
                Durable::Prefix(len) => *len,
                Durable::Copy(bytes) => bytes.len(),
            };
            let end = random.within(safe.min(data.len()), data.len());
            data.truncate(end);
            if random.coin() {
                let zeros_from = random.within(safe.min(end), end);
                data[zeros_from..].fill(0);
            }
        }
        let durable = Durable::Prefix(data.len());
        Arc::new(Mutex::new(Content { data, durable, locked: false, modified: 0 }))
    }
}

struct MemFile {
    content: FileRef,
    writable: bool,
    holds_lock: bool,
    ticks: Arc<AtomicU64>,
}

impl MemFile {
    fn writable(&self) -> io::Result<MutexGuard<'_, Content>> {
        if !self.writable {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let mut content = lock(&self.content);
        content.modified = self.ticks.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(content)
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        if self.holds_lock {
            lock(&self.content).locked = false;
        }
    }
}

impl VfsFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = lock(&self.content);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.data.len());
        let len = buf.len().min(content.data.len() - start);
        buf[..len].copy_from_slice(&content.data[start..start + len]);
        Ok(len)
    }
    fn append(&mut self, buf: &[u8]) -> io::Result<()> {
        self.writable()?.data.extend_from_slice(buf);
        Ok(())
    }
    fn sync_data(&mut self) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.durable = Durable::Prefix(content.data.len());
        Ok(())
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
        let mut content = self.writable()?;
        if let Durable::Prefix(synced) = content.durable
            && len < synced
        {
            content.durable = Durable::Copy(content.data[..synced].to_vec());
        }
        content.data.resize(len, 0);
        Ok(())
    }
    fn try_lock(&mut self) -> io::Result<bool> {
        let mut content = lock(&self.content);
        let free = !content.locked || self.holds_lock;
        content.locked = true;
        self.holds_lock |= free;
        Ok(free)
    }
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).data.len() as u64)
    }
}

impl Vfs for MemVfs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        match self.tree().lookup(&components(path))? {
            Entry::File(file) => Ok(self.handle(file, false)),
            Entry::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        match self.tree().lookup(&components(path))? {
            Entry::File(file) => Ok(self.handle(file, true)),
            Entry::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let mut tree = self.tree();
        let (dir, name, old) = self.entry(&tree, path)?;
        if old.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = self.new_file();
        tree.change(vec![Edit { dir, name, entry: Some(Entry::File(file.clone())) }], self.tick());
        Ok(self.handle(file, true))
    }
    fn create_unnamed(&self, dir: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.tree().dir(&components(dir))?;
        Ok(self.handle(self.new_file(), true))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let synced = tree.dir(&components(path))?;
        let chosen = tree.pending.iter().map(|c| c.iter().any(|e| e.dir == synced)).collect();
        let chosen = with_dependencies(&tree.pending, chosen);
        for (change, chosen) in std::mem::take(&mut tree.pending).into_iter().zip(chosen) {
            if !chosen {
                tree.pending.push(change);
                continue;
            }
            for edit in change {
                set(&mut tree.dirs[edit.dir].durable, &edit.name, edit.entry);
            }
        }
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let (from_dir, from_name, moved) = self.entry(&tree, from)?;
        let moved = moved.ok_or(ErrorKind::NotFound)?;
        let (to_dir, to_name, replaced) = self.entry(&tree, to)?;
        if from_dir == to_dir && from_name == to_name {
            return Ok(());
        }
        match (&moved, &replaced) {
            (Entry::Dir(id), _) if tree.is_below(to_dir, *id) => return Err(ErrorKind::InvalidInput.into()),
            (Entry::File(_), None | Some(Entry::File(_))) | (Entry::Dir(_), None) => {}
            (Entry::File(_), Some(Entry::Dir(_))) => return Err(ErrorKind::IsADirectory.into()),
            (Entry::Dir(_), Some(Entry::File(_))) => return Err(ErrorKind::NotADirectory.into()),
            (Entry::Dir(_), Some(Entry::Dir(id))) if tree.dirs[*id].entries.is_empty() => {}
            (Entry::Dir(_), Some(Entry::Dir(_))) => return Err(ErrorKind::DirectoryNotEmpty.into()),
        }
        let edits = vec![
            Edit { dir: from_dir, name: from_name, entry: None },
            Edit { dir: to_dir, name: to_name, entry: Some(moved) },
        ];
        tree.change(edits, self.tick());
        Ok(())
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        match self.entry(&tree, path)? {
            (dir, name, Some(Entry::File(_))) => {
                tree.change(vec![Edit { dir, name, entry: None }], self.tick());
                Ok(())
            }
            (_, _, Some(Entry::Dir(_))) => Err(ErrorKind::IsADirectory.into()),
            (_, _, None) => Err(ErrorKind::NotFound.into()),
        }
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        match self.entry(&tree, path)? {
            (_, _, Some(Entry::Dir(id))) if !tree.dirs[id].entries.is_empty() => {
                Err(ErrorKind::DirectoryNotEmpty.into())
            }
            (dir, name, Some(Entry::Dir(_))) => {
                tree.change(vec![Edit { dir, name, entry: None }], self.tick());
                Ok(())
            }
            (_, _, Some(Entry::File(_))) => Err(ErrorKind::NotADirectory.into()),
            (_, _, None) => Err(ErrorKind::NotFound.into()),
        }
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        match self.entry(&tree, path)? {
            (dir, name, Some(Entry::Dir(id))) => {
                let tick = self.tick();
                tree.remove_below(id, tick);
                tree.change(vec![Edit { dir, name, entry: None }], tick);
                Ok(())
            }
            (_, _, Some(Entry::File(_))) => Err(ErrorKind::NotADirectory.into()),
            (_, _, None) => Err(ErrorKind::NotFound.into()),
        }
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let mut dir = 0;
        for name in components(path) {
            dir = match tree.dirs[dir].entries.get(&name) {
                Some(Entry::Dir(id)) => *id,
                Some(Entry::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                None => {
                    let tick = self.tick();
                    tree.dirs.push(Dir { modified: tick, ..Dir::default() });
                    let id = tree.dirs.len() - 1;
                    tree.change(vec![Edit { dir, name, entry: Some(Entry::Dir(id)) }], tick);
                    id
                }
            };
        }
        Ok(())
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let tree = self.tree();
        let dir = tree.dir(&components(path))?;
        Ok(tree.dirs[dir].entries.keys().map(|name| path.join(name)).collect())
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let tree = self.tree();
        Ok(match tree.lookup(&components(path))? {
            Entry::File(file) => {
                let content = lock(&file);
                let len = content.data.len() as u64;
                Metadata { len, is_dir: false, is_file: true, modified: time(content.modified) }
            }
            Entry::Dir(id) => {
                Metadata { len: 0, is_dir: true, is_file: false, modified: time(tree.dirs[id].modified) }
            }
        })
    }
}
