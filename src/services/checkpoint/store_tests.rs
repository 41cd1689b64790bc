//! What is written is read back or found to be damaged, and what is needed is kept, whatever fails.

use super::metadata::{
    JobTag, Metadata, OperatorEntry, OperatorKind, OperatorName, StateHandle, SubtaskEntry,
};
use super::state_file::{INLINE_BYTES_MAX, read};
use super::store::{Foreign, StateDir, Store};
use crate::base::error::{Error, Result};
use crate::base::vfs::{Fault, FaultPlan, FaultVfs, Keep, MemVfs, SharedVfs, Vfs};
use crate::services::job_dir::JobDirectory;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROOT: &str = "/job/checkpoints";

fn tag(attempt: u64) -> JobTag {
    JobTag { id: "ab12".into(), name: "job".into(), attempt }
}

fn open(vfs: &SharedVfs) -> Result<Store> {
    let dir = JobDirectory::open(vfs.clone(), Path::new("/job"), "a test")?;
    Store::in_directory(Arc::new(dir), 2)
}

/// Bytes that cannot be compressed well, or can.
fn content(seed: u64, length: usize, random: bool) -> Vec<u8> {
    let mut x = seed | 1;
    let mut next = |i: usize| {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if random { (x >> 56) as u8 } else { (i % 50) as u8 ^ seed as u8 }
    };
    (0..length).map(&mut next).collect()
}

fn written(dir: &StateDir, checkpoint: u64, sections: &[(&str, u64, Vec<u8>)]) -> StateHandle {
    let mut writer = dir.at_barrier(checkpoint, 3, 0);
    sections.iter().for_each(|(name, entries, bytes)| writer.append(name, *entries, bytes).unwrap());
    writer.finish().unwrap()
}

fn back(vfs: &dyn Vfs, handle: &StateHandle) -> Result<Vec<(String, u64, Vec<u8>)>> {
    let mut sections: Vec<(String, u64, Vec<u8>)> = Vec::new();
    read(vfs, Path::new(ROOT), handle, |name, entries, bytes| {
        match sections.iter_mut().find(|section| section.0 == name) {
            Some(section) => {
                section.1 += entries;
                section.2.extend_from_slice(bytes);
            }
            None => sections.push((name.to_string(), entries, bytes.to_vec())),
        }
        Ok(())
    })?;
    Ok(sections)
}

fn metadata(id: u64, states: Vec<StateHandle>) -> Metadata {
    let operator =
        OperatorName { uid: Some("u".into()), kind: OperatorKind::Operator, place: None, name: "o".into() };
    let subtask = SubtaskEntry { finished: false, watermark: 7, states };
    let operators = vec![OperatorEntry { operator, subtasks: vec![subtask] }];
    Metadata { job: tag(0), checkpoint: id, completed_ms: 0, full: true, operators }
}

#[test]
fn snapshots_of_all_sizes_come_back() {
    let vfs: SharedVfs = Arc::new(MemVfs::new());
    let dir = open(&vfs).unwrap().state_dir(tag(0));
    for (id, length) in
        [0, 1, INLINE_BYTES_MAX - 200, INLINE_BYTES_MAX + 1, 5_000_000].into_iter().enumerate()
    {
        for random in [true, false] {
            let id = 2 * id as u64 + u64::from(random);
            let sections = [("a", 7, content(id, length, random)), ("b", 1, content(id, 100, random))];
            let handle = written(&dir, id, &sections);
            assert_eq!(matches!(handle, StateHandle::Inline(_)), length < INLINE_BYTES_MAX, "{length}");
            if let StateHandle::File(file) = &handle {
                assert_eq!(file.length < file.bytes / 2, !random, "compressed where it pays");
            }
            let expected: Vec<_> = sections.iter().map(|(n, e, b)| (n.to_string(), *e, b.clone())).collect();
            assert_eq!(back(&*vfs, &handle).unwrap(), expected);
        }
    }
}

/// T4: every flipped bit and every cut of a state file is found out.
#[test]
fn any_damage_of_a_state_file_is_detected() {
    let mem = MemVfs::new();
    let vfs: SharedVfs = Arc::new(mem.clone());
    let dir = open(&vfs).unwrap().state_dir(tag(0));
    let handle = written(&dir, 1, &[("a", 3, content(1, INLINE_BYTES_MAX + 50, true))]);
    let StateHandle::File(file) = &handle else { panic!("{handle:?}") };
    let path = Path::new(ROOT).join(&file.path);
    let good = mem.snapshot()[&path].clone().unwrap();
    let with = |bytes: &[u8]| {
        mem.remove_file(&path).unwrap();
        mem.create(&path).unwrap().append(bytes).unwrap();
        back(&mem, &handle)
    };
    assert!(with(&good).is_ok());
    for bit in (0..good.len() * 8).filter(|bit| bit / 8 < 80 || bit % 97 == 0) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(with(&bad), Err(Error::Corrupt { .. })), "bit {bit}");
    }
    for length in (0..good.len()).filter(|length| *length < 80 || length % 97 == 0) {
        assert!(matches!(with(&good[..length]), Err(Error::Corrupt { .. })), "cut at {length}");
    }
    // A whole file of another checkpoint, attempt or job in its place.
    for (other, id) in [(tag(0), 2), (tag(1), 1), (JobTag { id: "cd34".into(), ..tag(0) }, 1)] {
        let store = Store::in_memory(2).unwrap();
        drop(store);
        let foreign = MemVfs::new();
        let shared: SharedVfs = Arc::new(foreign.clone());
        let dir = open(&shared).unwrap().state_dir(other);
        let handle = written(&dir, id, &[("a", 3, content(1, INLINE_BYTES_MAX + 50, true))]);
        let StateHandle::File(file) = &handle else { panic!("{handle:?}") };
        let bytes = foreign.snapshot()[&Path::new(ROOT).join(&file.path)].clone().unwrap();
        let error = with(&bytes).unwrap_err().to_string();
        assert!(error.contains("another job, attempt or checkpoint"), "{error}");
    }
}

/// C3: a file is kept as long as a checkpoint that is kept refers to it, and no longer.
#[test]
fn files_go_with_the_last_checkpoint_that_refers_to_them() {
    let mem = MemVfs::new();
    let vfs: SharedVfs = Arc::new(mem.clone());
    let mut store = open(&vfs).unwrap();
    let dir = store.state_dir(tag(0));
    let large = || vec![("a", 1, content(9, INLINE_BYTES_MAX + 1, true))];
    let mut chain = Vec::new();
    let files = || {
        let all = mem.snapshot().into_iter().filter(|(_, content)| content.is_some());
        let names = all.map(|(path, _)| path.strip_prefix(ROOT).map(|p| p.display().to_string()));
        names.flatten().collect::<Vec<_>>()
    };
    for id in 1..=6 {
        if id == 4 {
            chain.clear();
        }
        chain.push(written(&dir, id, &large()));
        store.complete(&metadata(id, chain.clone())).unwrap();
    }
    let expected =
        ["chk-4/3-0.state", "chk-5/3-0.state", "chk-5/metadata", "chk-6/3-0.state", "chk-6/metadata"];
    assert_eq!(files(), expected);
    // One that was never completed, and one that was given up.
    written(&dir, 7, &large());
    written(&dir, 8, &large());
    dir.discard(8);
    assert!(files().contains(&"chk-7/3-0.state".to_string()));
    assert!(!files().contains(&"chk-8/3-0.state".to_string()));
    drop(store);
    let store = open(&vfs).unwrap();
    assert_eq!(files(), expected, "what a process before has left unfinished is removed");
    assert_eq!((store.completed(), store.next_id()), (vec![6, 5], 8));
    assert_eq!(back(&mem, &chain[0]).unwrap().len(), 1);
}

/// T3, T5: whichever operation fails, and in each state that a power loss may leave: what is complete can be read, and of two
/// that were completed one is always there.
#[test]
fn a_completed_checkpoint_survives_whatever_fails() {
    for k in 0.. {
        let mem = MemVfs::new();
        let faulty = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::none());
        let vfs: SharedVfs = faulty.clone();
        mem.create_dir_all(Path::new("/job")).unwrap();
        mem.sync_dir(Path::new("/")).unwrap();
        let mut store = open(&vfs).unwrap();
        let mut step = |id: u64| -> Result<()> {
            let mut writer = store.state_dir(tag(0)).at_barrier(id, 3, 0);
            writer.append("a", 1, &content(id, INLINE_BYTES_MAX + 1, true))?;
            let handle = writer.finish()?;
            store.complete(&metadata(id, vec![handle]))
        };
        (1..=3).for_each(|id| step(id).unwrap());
        faulty.set_plan(FaultPlan::fail_at(k, Fault::NoSpace));
        let fourth = step(4);
        let failed = faulty.failures() > 0;
        faulty.set_plan(FaultPlan::none());
        drop(store);
        for (seed, keep) in
            (0..6).flat_map(|seed| [Keep::Nothing, Keep::Random, Keep::Torn].map(|k| (seed, k)))
        {
            let after: SharedVfs = Arc::new(mem.crash(seed, keep));
            let store = open(&after).unwrap();
            let newest = store.completed()[0];
            assert!(
                newest == 4 || newest == 3 && fourth.is_err(),
                "operation {k}, {keep:?}, seed {seed}: {newest}"
            );
            let metadata = store.load(newest).unwrap();
            let handle = &metadata.operators[0].subtasks[0].states[0];
            let expected = content(newest, INLINE_BYTES_MAX + 1, true);
            assert_eq!(back(&*after, handle).unwrap()[0].2, expected, "operation {k}, {keep:?}, seed {seed}");
        }
        if !failed {
            fourth.unwrap();
            break;
        }
    }
}

#[test]
fn a_process_that_was_replaced_completes_nothing() {
    let mem = MemVfs::new();
    let vfs: SharedVfs = Arc::new(mem.clone());
    let mut store = open(&vfs).unwrap();
    store.complete(&metadata(1, Vec::new())).unwrap();
    // The lock is lost, as it is where a directory was copied.
    mem.remove_file(Path::new("/job/lock")).unwrap();
    let mut other = open(&vfs).unwrap();
    let refused = store.complete(&metadata(2, Vec::new())).unwrap_err().to_string();
    assert!(refused.contains("belongs to a test (attempt 2) now"), "{refused}");
    assert_eq!(open_completed(&mem), [1]);
    other.complete(&metadata(2, Vec::new())).unwrap();
    assert_eq!(open_completed(&mem), [1, 2]);
}

fn open_completed(mem: &MemVfs) -> Vec<u64> {
    let found = |id: &u64| mem.metadata(Path::new(&format!("{ROOT}/chk-{id}/metadata"))).is_ok();
    (0..9).filter(found).collect()
}

#[test]
fn a_checkpoint_is_found_by_any_path_that_leads_to_it() {
    let vfs: SharedVfs = Arc::new(MemVfs::new());
    let mut store = open(&vfs).unwrap();
    (1..=3).for_each(|id| store.complete(&metadata(id, Vec::new())).unwrap());
    let find = |path: &str| Foreign::find(vfs.clone(), Path::new(path)).map(|found| found.1);
    let chk = |id: u64| PathBuf::from(format!("{ROOT}/chk-{id}"));
    assert_eq!(find("/job/checkpoints/chk-2").unwrap(), [chk(2)]);
    for path in ["/job", "/job/checkpoints"] {
        assert_eq!(find(path).unwrap(), [chk(3), chk(2)]);
    }
    assert!(find("/nowhere").unwrap_err().to_string().contains("'/nowhere' is not a directory"));
    vfs.create_dir_all(Path::new("/empty")).unwrap();
    assert!(find("/empty").unwrap_err().to_string().contains("holds no completed checkpoint"));
}
