//! Corruption: what a job has left is damaged before it goes on: bits flipped, ends cut off, blocks swapped, files of
//! other jobs and other checkpoints in the place of its own.

use crate::output::is_committed;
use crate::rig::{JOB, OUT, Rig};
use crate::shapes::Shape;
use crate::size::{Random, random, seed, size};
use mainstem::ErrorKind;
use mainstem::base::vfs::{MemVfs, Vfs};
use mainstem::services::checkpoint::{Foreign, StateHandle};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    FlippedBit,
    CutOff,
    SwappedBlocks,
    /// The file of the same name of another job.
    OtherJob,
    /// The file of the same name of another checkpoint of the same job.
    OtherCheckpoint,
    Missing,
}

/// How often each is tried with each kind of file: in CI, and in full.
const DAMAGES: [(Damage, u64, u64); 6] = [
    (Damage::FlippedBit, 50, 500),
    (Damage::CutOff, 10, 100),
    (Damage::SwappedBlocks, 5, 20),
    (Damage::OtherJob, 3, 20),
    (Damage::OtherCheckpoint, 3, 20),
    (Damage::Missing, 3, 20),
];

/// Kinds of files that a job of a shape leaves, of which each is damaged.
fn expected_kinds(shape: Shape) -> &'static [&'static str] {
    match shape {
        Shape::Files => &["metadata", "pending sink file"],
        Shape::Timers => &["metadata", "pending sink file", FULL, CHANGES],
        _ => &["stage output"],
    }
}

/// State of everything.
const FULL: &str = "full state";
/// State that has changed since.
const CHANGES: &str = "changed state";

/// The state files that checkpoints refer to, told apart by what they hold.
fn state_kinds(disk: &MemVfs) -> BTreeMap<PathBuf, &'static str> {
    let mut kinds = BTreeMap::new();
    let Ok((checkpoints, dirs)) = Foreign::find(Arc::new(disk.clone()), Path::new(JOB)) else { return kinds };
    for metadata in dirs.iter().map(|dir| checkpoints.load(dir).unwrap()) {
        for subtask in metadata.operators.iter().flat_map(|operator| &operator.subtasks) {
            for (place, state) in subtask.states.iter().enumerate() {
                if let StateHandle::File(file) = state {
                    let path = Path::new(JOB).join("checkpoints").join(&file.path);
                    kinds.insert(path, if place == 0 { FULL } else { CHANGES });
                }
            }
        }
    }
    kinds
}

/// The kind of a file that a job has left, if it matters to it.
fn kind(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy();
    let text = path.to_string_lossy();
    match () {
        _ if text.contains("/checkpoints/") && name == "metadata" => Some("metadata"),
        _ if text.contains("/checkpoints/") && name.ends_with(".state") => Some("state"),
        _ if path.starts_with(JOB) && text.contains("/stages/") => Some("stage output"),
        _ if path.starts_with(OUT) && !is_committed(path) => Some("pending sink file"),
        _ => None,
    }
}

fn files(disk: &MemVfs) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.snapshot().into_iter().filter_map(|(path, content)| Some((path, content?))).collect()
}

fn put(disk: &MemVfs, path: &Path, content: Option<&[u8]>) {
    disk.remove_file(path).unwrap();
    if let Some(content) = content {
        disk.create(path).unwrap().append(content).unwrap();
    }
}

/// The damaged content, or none if the damage would change nothing. `Some(None)`: the file is gone.
fn damaged(
    damage: Damage,
    path: &Path,
    content: &[u8],
    own: &BTreeMap<PathBuf, Vec<u8>>,
    other: &BTreeMap<PathBuf, Vec<u8>>,
    random: &mut Random,
) -> Option<Option<Vec<u8>>> {
    let mut bad = content.to_vec();
    let same_name = |p: &Path| p.file_name() == path.file_name() && kind(p) == kind(path);
    match damage {
        Damage::FlippedBit if !bad.is_empty() => {
            let at = random.below(bad.len());
            bad[at] ^= 1 << random.below(8);
        }
        Damage::CutOff => bad.truncate(random.below(bad.len())),
        Damage::SwappedBlocks => {
            let block = (bad.len() / 8).clamp(1, 4096);
            let blocks = bad.len() / block;
            let (a, b) = (random.below(blocks), random.below(blocks));
            (0..block.min(bad.len())).for_each(|i| bad.swap(a * block + i, b * block + i));
        }
        Damage::OtherJob => bad = other.iter().filter(|(p, _)| same_name(p)).nth(random.below(3))?.1.clone(),
        Damage::OtherCheckpoint => {
            let others: Vec<_> = own.iter().filter(|(p, _)| same_name(p) && *p != path).collect();
            bad = others.get(random.below(others.len()))?.1.clone();
        }
        Damage::Missing => return Some(None),
        Damage::FlippedBit => {}
    }
    (bad != content).then_some(Some(bad))
}

/// What came of the damages of one kind of file.
#[derive(Debug, Default)]
struct Tally {
    /// The job went on and its output is exact: it did not need the file, or took an older checkpoint.
    exact: u64,
    /// It ended with an error that names a file.
    refused: u64,
}

/// A disk that a job has left when it was killed in the middle, from which it would go on.
fn left_behind(rig: &Rig, seed: u64) -> MemVfs {
    let operations = rig.operations(seed);
    let from = operations * 3 / 5;
    for k in from..operations {
        let disk = Rig::disk();
        assert!(rig.killed_at(&disk, seed, false, k), "killed at {k} of {operations}");
        let of_states = state_kinds(&disk);
        let mut kinds: Vec<_> = files(&disk).keys().filter_map(|path| kind(path)).collect();
        kinds.extend(of_states.values());
        if expected_kinds(rig.shape).iter().all(|wanted| kinds.contains(wanted)) {
            return disk;
        }
    }
    panic!("{rig:?}, seed {seed}: no moment has something to damage")
}

fn damage_all(shape: Shape, rig: Rig) {
    let seed = seed(4);
    let disk = left_behind(&rig, seed);
    rig.completes(&disk.clone_now(), seed + 1).expect("an undamaged job goes on");
    let mut elsewhere = rig.clone();
    elsewhere.records += 64;
    let other = files(&left_behind(&elsewhere, seed + 2));
    let own = files(&disk);
    let mut by_kind: BTreeMap<&str, Vec<&PathBuf>> = BTreeMap::new();
    let of_states = state_kinds(&disk);
    for path in own.keys() {
        // State that no checkpoint refers to any more does not matter.
        let kind = kind(path).filter(|kind| *kind != "state").or(of_states.get(path).copied());
        kind.into_iter().for_each(|kind| by_kind.entry(kind).or_default().push(path));
    }
    let mut tallies: BTreeMap<(&str, Damage), Tally> = BTreeMap::new();
    for (kind, paths) in &by_kind {
        for (damage, short, long) in DAMAGES {
            for n in 0..size(short, long) {
                let mut random = random(seed ^ ((damage as u64) << 32), n);
                let path = random.pick(paths);
                let Some(bad) = damaged(damage, path, &own[path], &own, &other, &mut random) else {
                    continue;
                };
                let disk = disk.clone_now();
                put(&disk, path, bad.as_deref());
                let what = format!("T4, {shape:?}, seed {seed}, {damage:?} number {n} in {}", path.display());
                let tally = tallies.entry((kind, damage)).or_default();
                match rig.process(Arc::new(disk.clone()), seed + 3, true) {
                    Ok(_) => {
                        rig.verify(&disk).unwrap_or_else(|e| panic!("{what}: wrong output: {e}"));
                        tally.exact += 1;
                    }
                    Err(e) => {
                        let text = e.to_string();
                        let kind = e.kind();
                        assert!(
                            kind != ErrorKind::Internal && text.contains("'/"),
                            "{what}: {kind:?} {text}"
                        );
                        assert!(!text.contains("panic"), "{what}: {text}");
                        tally.refused += 1;
                    }
                }
            }
        }
    }
    for ((kind, damage), Tally { exact, refused }) in &tallies {
        println!("T4, {shape:?}: {kind}, {damage:?}: {exact} exact, {refused} refused");
    }
    for kind in expected_kinds(shape) {
        for damage in [Damage::FlippedBit, Damage::CutOff, Damage::SwappedBlocks, Damage::Missing] {
            let tally = tallies.get(&(kind, damage));
            assert!(tally.is_some_and(|t| t.exact + t.refused > 0), "no {kind} was damaged by {damage:?}");
        }
    }
}

/// A copy that shares nothing.
trait CloneNow {
    fn clone_now(&self) -> MemVfs;
}

impl CloneNow for MemVfs {
    fn clone_now(&self) -> MemVfs {
        let copy = MemVfs::new();
        for (path, content) in self.snapshot() {
            match content {
                None => copy.create_dir_all(&path).unwrap(),
                Some(content) => {
                    copy.create_dir_all(path.parent().unwrap()).unwrap();
                    let mut file = copy.create(&path).unwrap();
                    file.append(&content).unwrap();
                    file.sync_data().unwrap();
                }
            }
        }
        copy
    }
}

/// T4: damaged files of a streaming job are found when they are read: the job goes on exactly, or says which file.
#[test]
fn t4_damaged_checkpoints_and_pending_files_are_never_taken_for_good() {
    for shape in [Shape::Files, Shape::Timers] {
        damage_all(shape, Rig::new(shape).options(&["--checkpoint-retained", "3"]));
    }
}

/// T4: damaged outputs of finished stages are found when they are read.
#[test]
fn t4_damaged_stage_outputs_are_never_taken_for_good() {
    damage_all(Shape::Batch, Rig::new(Shape::Batch));
}
