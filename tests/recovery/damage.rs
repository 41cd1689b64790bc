//! Outputs that are damaged or gone: their producers make them again.

use super::support::{Files, Log, Place, SPILLING, SPLITS, Trouble, build, no_trouble, undisturbed};
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, MemVfs, Metadata, SharedVfs, Vfs, VfsFile};
use mainstem::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// What happens to a file between the last write and the first read.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    /// One bit, at so many 65536ths of the file.
    Flip(u64),
    /// Cut at so many 65536ths of the file.
    Cut(u64),
    /// Two of its blocks have changed places.
    Swap,
    /// It is a file that was written before: of another unit or attempt.
    Foreign,
    /// It cannot be read: the disk reports an error.
    Unreadable,
}

impl Damage {
    fn apply(self, mut bytes: Vec<u8>, before: &[Vec<u8>]) -> Option<Vec<u8>> {
        let at = |part: u64, len: usize| ((len as u64 * part) >> 16) as usize;
        match self {
            Damage::Flip(part) => {
                let at = at(part, bytes.len());
                bytes[at] ^= 1 << (part % 8);
            }
            Damage::Cut(part) => bytes.truncate(at(part, bytes.len())),
            Damage::Swap => {
                let blocks = blocks(&bytes);
                let (first, last) = (blocks.first()?.clone(), blocks.last()?.clone());
                let mut swapped = bytes[last.clone()].to_vec();
                swapped.extend_from_slice(&bytes[first.end..last.start]);
                swapped.extend_from_slice(&bytes[first]);
                bytes = swapped;
            }
            Damage::Foreign => bytes = before.last().cloned().unwrap_or_default(),
            Damage::Unreadable => return None,
        }
        Some(bytes)
    }
}

/// Where the blocks of a shuffle file are: a header of 56 bytes ends with the stored length and the checksum.
fn blocks(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut all = Vec::new();
    let mut at = 0;
    while at + 56 <= bytes.len() {
        let stored = u32::from_le_bytes(bytes[at + 44..at + 48].try_into().unwrap()) as usize;
        all.push(at..at + 56 + stored);
        at += 56 + stored;
    }
    all
}

/// A file system in memory in which the n-th unnamed file, and as many after it as wanted, is damaged.
pub struct Damaging {
    inner: MemVfs,
    from: u64,
    count: u64,
    damage: Damage,
    created: AtomicU64,
    /// Whether a damaged file was read.
    pub hit: Arc<AtomicU64>,
    contents: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Damaging {
    pub fn new(inner: MemVfs, from: u64, count: u64, damage: Damage) -> Arc<Damaging> {
        let (created, hit, contents) = Default::default();
        Arc::new(Damaging { inner, from, count, damage, created, hit, contents })
    }
}

struct DamagedFile {
    inner: Box<dyn VfsFile>,
    damage: Option<Damage>,
    hit: Arc<AtomicU64>,
    contents: Arc<Mutex<Vec<Vec<u8>>>>,
    damaged: OnceLock<Option<Vec<u8>>>,
}

impl DamagedFile {
    fn whole(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.inner.len().unwrap() as usize];
        self.inner.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

impl VfsFile for DamagedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(damage) = self.damage else { return self.inner.read_at(buf, offset) };
        let damaged = self.damaged.get_or_init(|| {
            self.hit.fetch_add(1, Ordering::Relaxed);
            damage.apply(self.whole(), &self.contents.lock().unwrap())
        });
        let Some(bytes) = damaged else { return Err(io::Error::from_raw_os_error(5)) };
        let from = (offset as usize).min(bytes.len());
        let len = buf.len().min(bytes.len() - from);
        buf[..len].copy_from_slice(&bytes[from..from + len]);
        Ok(len)
    }
    fn append(&mut self, buf: &[u8]) -> io::Result<()> {
        self.inner.append(buf)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        self.inner.sync_data()
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn try_lock(&mut self) -> io::Result<bool> {
        self.inner.try_lock()
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

impl Drop for DamagedFile {
    fn drop(&mut self) {
        if self.damage.is_none() {
            self.contents.lock().unwrap().push(self.whole());
        }
    }
}

impl Vfs for Damaging {
    fn create_unnamed(&self, dir: &Path) -> io::Result<Box<dyn VfsFile>> {
        let index = self.created.fetch_add(1, Ordering::Relaxed);
        let damage = (self.from..self.from + self.count).contains(&index).then_some(self.damage);
        let (hit, contents) = (self.hit.clone(), self.contents.clone());
        let inner = self.inner.create_unnamed(dir)?;
        Ok(Box::new(DamagedFile { inner, damage, hit, contents, damaged: OnceLock::new() }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.inner.open(path)
    }
    fn open_append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.inner.open_append(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        self.inner.create(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_dir_all(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.list(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.inner.metadata(path)
    }
}

struct Outcome {
    result: mainstem::Result<JobResult>,
    log: Log,
    files: Files,
}

fn run(disk: MemVfs, vfs: SharedVfs, driver: Driver, trouble: &Trouble) -> Outcome {
    let (place, log) = (Place::on(disk, vfs), Log::default());
    let env = place.environment(driver);
    build(&env, SPILLING, &log, trouble, Path::new("/out/rows"));
    let result = env.execute("damage");
    Outcome { result, log, files: place.output() }
}

fn damaged(from: u64, count: u64, damage: Damage, driver: Driver) -> (Outcome, u64) {
    let disk = MemVfs::new();
    let vfs = Damaging::new(disk.clone(), from, count, damage);
    let hit = vfs.hit.clone();
    let outcome = run(disk, vfs, driver, &no_trouble());
    (outcome, hit.load(Ordering::Relaxed))
}

/// Whether everything is tried that can be, and not only what fits into a minute.
fn is_long() -> bool {
    std::env::var("MAINSTEM_LONG").is_ok()
}

/// Files that an undisturbed run makes.
fn file_count(driver: Driver) -> u64 {
    let disk = MemVfs::new();
    let vfs = Damaging::new(disk.clone(), 0, 0, Damage::Swap);
    run(disk, vfs.clone(), driver, &no_trouble()).result.unwrap();
    let count = vfs.created.load(Ordering::Relaxed);
    assert!(count >= 12, "only {count} files: the job does not spill in all stages");
    count
}

/// T4: flipped bits, cuts, swapped blocks, foreign files and files that cannot be read: found and repaired, wherever they
/// are, and the output is that of an undisturbed run.
#[test]
fn any_damage_is_found_and_repaired() {
    let expected = undisturbed(SPILLING);
    let driver = Driver::Simulation { seed: 1 };
    let files = file_count(driver);
    let long = is_long();
    let parts: &[u64] = if long { &[0, 9, 1_000, 20_000, 40_001, 65_535] } else { &[3, 40_001] };
    let mut kinds: Vec<Damage> = parts.iter().flat_map(|&p| [Damage::Flip(p), Damage::Cut(p)]).collect();
    kinds.extend([Damage::Swap, Damage::Foreign, Damage::Unreadable]);
    let (mut hits, mut retries) = (0, 0);
    for (i, damage) in kinds.into_iter().enumerate() {
        for file in (i as u64 % 3..files).step_by(if long { 1 } else { files as usize / 3 }) {
            let (outcome, hit) = damaged(file, 1, damage, driver);
            let result = outcome.result.unwrap_or_else(|e| panic!("file {file}, {damage:?}: {e}"));
            assert_eq!(outcome.files, expected, "file {file}, {damage:?}");
            let again: usize = result.stages.iter().map(|stage| stage.retries()).sum();
            assert!(hit == 0 || again > 0, "file {file}, {damage:?} was read and nobody noticed");
            hits += hit;
            retries += again as u64;
        }
    }
    assert!(hits > 9 && retries >= hits, "{hits} {retries}");
}

/// C13, M10: damage runs one unit of the stage before it again, and what that one needs because it is gone. Of the first
/// stage only the unit that has made it reads its splits again.
#[test]
fn damage_runs_no_more_again_than_must() {
    let driver = Driver::Simulation { seed: 1 };
    let files = file_count(driver);
    let expected = undisturbed(SPILLING);
    let mut spared = 0;
    for file in (0..files).step_by(if is_long() { 1 } else { 3 }) {
        let (outcome, hit) = damaged(file, 1, Damage::Flip(30_000), driver);
        let result = outcome.result.unwrap();
        assert_eq!(outcome.files, expected);
        let retries: Vec<_> = result.stages.iter().map(|stage| stage.retries()).collect();
        let units: Vec<_> = result.stages.iter().map(|stage| stage.units).collect();
        assert_eq!(units, [2, 2, 16, 16]);
        if hit == 0 {
            assert_eq!(retries, [0; 4]);
            continue;
        }
        // One unit of the stage that reads it fails, and one of that which has made it runs again.
        assert!(retries[2] <= 1 && retries[3] <= 1, "file {file}: {retries:?}");
        assert!(outcome.log.opened() <= 2 * SPLITS, "file {file}: {}", outcome.log.opened());
        spared += u64::from(outcome.log.opened() == SPLITS + SPLITS / 2);
    }
    assert!(spared > 0);
}

/// T4: what is damaged again each time is given up after three times, with the file and the operator.
#[test]
fn damage_without_end_is_an_error() {
    for driver in [Driver::Simulation { seed: 1 }, Driver::Threads] {
        let (outcome, hit) = damaged(0, u64::MAX, Damage::Flip(60_000), driver);
        let error = outcome.result.unwrap_err();
        let text = error.to_string();
        assert!(hit >= 2 && text.contains("damaged") && text.contains("'/tmp/"), "{text}");
        assert_eq!(error.kind(), mainstem::ErrorKind::Environment);
        assert!(error.operator().is_some(), "{text}");
        assert!(outcome.files.is_empty());
    }
}

/// Failures inside recovery: the producer that runs again fails, too, or what it makes is damaged once more.
#[test]
fn recovery_may_be_disturbed() {
    let expected = undisturbed(SPILLING);
    let driver = Driver::Simulation { seed: 1 };
    let files = file_count(driver);
    for file in (0..files).step_by(3) {
        // The next files that are made are those of the repair.
        let (outcome, _) = damaged(file, 2, Damage::Cut(50_000), driver);
        outcome.result.unwrap();
        assert_eq!(outcome.files, expected, "file {file}");
    }
    let disk = MemVfs::new();
    let faulty =
        FaultVfs::new(Arc::new(disk.clone()), FaultPlan::none().only(&[FileOp::Read]).on_path("/tmp"));
    run(disk, faulty.clone(), driver, &no_trouble()).result.unwrap();
    let reads = faulty.operations();
    for k in (0..reads).step_by(reads as usize / 6) {
        let disk = MemVfs::new();
        let plan = FaultPlan::fail_at(k, Fault::Io).only(&[FileOp::Read]).on_path("/tmp");
        let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
        // The first attempt after the first of each unit fails as well.
        let trouble: Trouble = Arc::new(|_, _, ctx| match ctx.attempt() {
            1 => Err(mainstem::Error::io("read", "/elsewhere", io::Error::other("more trouble")).into()),
            _ => Ok(()),
        });
        let (place, log) = (Place::on(disk.clone(), faulty), Log::default());
        let env = place.environment(driver).restart_strategy("fixed-delay:50:1ms".parse().unwrap());
        build(&env, SPILLING, &log, &trouble, Path::new("/out/rows"));
        env.execute("disturbed").unwrap_or_else(|e| panic!("read {k}: {e}"));
        assert_eq!(place.output(), expected, "read {k}");
    }
}

/// C13: a function that is not deterministic: all that has read what has become something else runs again, so that the
/// output fits together.
#[test]
fn consumers_of_what_became_something_else_run_again() {
    let driver = Driver::Simulation { seed: 1 };
    let files = file_count(driver);
    let mut differed = 0;
    for file in (0..files).step_by(if is_long() { 1 } else { 3 }) {
        let disk = MemVfs::new();
        let vfs = Damaging::new(disk.clone(), file, 1, Damage::Flip(30_000));
        let (place, log) = (Place::on(disk, vfs), Log::default());
        let env = place.environment(driver);
        let numbers = env
            .read(super::support::Numbers { count: SPILLING, log: log.clone() })
            .map(|n| (n, 0u64, format!("payload {:040}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15))));
        let attempts = Attempts::default();
        numbers
            .process(attempts)
            .key_by(|row| row.0 % 1009)
            .process(|_: &mut States| Pass)
            .key_by(|row| row.0 % 499)
            .process(|_: &mut States| Pass)
            .sink_to(CsvSink::csv("/out/rows"));
        let result = env.execute("not deterministic").unwrap();
        // The second field is the attempt that has read the record: one for each subtask, in the whole output.
        let mut seen = std::collections::BTreeMap::new();
        let mut rows = 0;
        for line in place.output().values().flat_map(|content| std::str::from_utf8(content).unwrap().lines())
        {
            let fields: Vec<u64> = line.split(',').take(2).map(|field| field.parse().unwrap()).collect();
            let subtask = fields[1] / 1000;
            let attempt = seen.entry(subtask).or_insert(fields[1]);
            assert_eq!(*attempt, fields[1], "file {file}: records of two attempts of subtask {subtask}");
            rows += 1;
        }
        assert_eq!(rows, SPILLING, "file {file}");
        if seen.values().any(|attempt| attempt % 1000 > 0) {
            differed += 1;
            assert!(result.stages[1].retries() > 1, "file {file}: {result}");
        }
    }
    assert!(differed > 0);
}

/// Writes subtask and attempt into each record.
#[derive(Clone, Default)]
struct Attempts(u64);

impl ProcessFunction<super::support::Row, super::support::Row> for Attempts {
    fn open(&mut self, ctx: &RuntimeContext) -> UserResult {
        self.0 = ctx.subtask_index() as u64 * 1000 + ctx.attempt() as u64;
        Ok(())
    }
    fn process(
        &mut self,
        row: super::support::Row,
        _ctx: &ProcessContext<'_>,
        out: &mut Collector<'_, super::support::Row>,
    ) -> UserResult {
        out.emit((row.0, self.0, row.2));
        Ok(())
    }
}

/// Needs its input sorted by key, and changes nothing.
#[derive(Clone)]
struct Pass;

impl KeyedProcessFunction<u64, super::support::Row, super::support::Row> for Pass {
    fn process(
        &mut self,
        row: super::support::Row,
        _ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, super::support::Row>,
    ) -> UserResult {
        out.emit(row);
        Ok(())
    }
}
