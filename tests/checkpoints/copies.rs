//! Checkpoints that are kept elsewhere, and the copies of their state in the directory of the job.

use crate::ledger::Faults;
use crate::restarts::{Ledgers, Strikes, build, check, environment};
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, MemVfs, SharedVfs, Vfs};
use mainstem::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn run(
    vfs: SharedVfs,
    job_dir: &str,
    fault: Option<u64>,
    ledgers: &Ledgers,
    seed: u64,
) -> mainstem::Result<u64> {
    let env = environment(2, Some(seed))
        .restart_strategy(RestartStrategy::None)
        .vfs(vfs)
        .job_dir(job_dir)
        .checkpoint_dir("/far")
        .restore(Restore::Latest);
    build(&env, &Strikes { map: Faults::at(fault), ..Strikes::default() }, ledgers);
    env.execute("a job").map(|result| result.checkpoints.unwrap().restored)
}

/// All files with names that end so.
fn files(vfs: &MemVfs, below: &str, end: &str) -> Vec<PathBuf> {
    let files = vfs.snapshot().into_iter().filter(|(_, content)| content.is_some());
    files
        .map(|(path, _)| path)
        .filter(|path| path.starts_with(below) && path.to_string_lossy().ends_with(end))
        .collect()
}

/// The directory of the newest checkpoint.
fn newest(vfs: &MemVfs) -> u64 {
    let id = |path: PathBuf| path.parent()?.file_name()?.to_str()?.strip_prefix("chk-")?.parse().ok();
    files(vfs, "/far/checkpoints", "/metadata").into_iter().filter_map(id).max().unwrap()
}

/// S12: what a restore finds in copies and files of a checkpoint, whole or damaged.
#[test]
fn a_restore_prefers_copies_that_are_whole() {
    for (seed, damaged) in ["nothing", "files", "copies cut", "copies flipped", "copies gone", "some of both"]
        .into_iter()
        .enumerate()
    {
        let vfs = MemVfs::new();
        let ledgers = Ledgers::new(&Strikes::default());
        run(Arc::new(vfs.clone()), "/job", Some(12_000), &ledgers, 0).unwrap_err();
        let restored_from = newest(&vfs);
        let copies = files(&vfs, "/job/copies", ".state");
        assert!(!copies.is_empty(), "{damaged}: no state is large enough");
        let far =
            |copy: &PathBuf| Path::new("/far/checkpoints").join(copy.strip_prefix("/job/copies").unwrap());
        let cut = |path: &Path| {
            let mut file = vfs.open_append(path).unwrap();
            let length = file.len().unwrap();
            file.set_len(length - 1).unwrap();
        };
        let mut plan = FaultPlan::none();
        for (i, copy) in copies.iter().enumerate() {
            match damaged {
                "files" => vfs.remove_file(&far(copy)).unwrap(),
                "copies cut" => cut(copy),
                "copies flipped" => plan = plan.flip_bit(copy.to_string_lossy().into_owned(), 200, 3),
                "copies gone" => vfs.remove_file(copy).unwrap(),
                "some of both" if i % 2 == 0 => cut(copy),
                "some of both" => cut(&far(copy)),
                _ => {}
            }
        }
        let faulty = FaultVfs::new(Arc::new(vfs.clone()), plan);
        let restored =
            run(faulty, "/job", None, &ledgers, seed as u64).unwrap_or_else(|e| panic!("{damaged}: {e}"));
        assert_eq!(restored, restored_from, "{damaged}");
        check(&ledgers.outputs(), damaged);
    }
}

/// S12: a job that goes on on another machine finds no copies, and its directory is another one.
#[test]
fn another_machine_reads_the_files() {
    let vfs = MemVfs::new();
    let ledgers = Ledgers::new(&Strikes::default());
    run(Arc::new(vfs.clone()), "/job", Some(9_000), &ledgers, 1).unwrap_err();
    let restored_from = newest(&vfs);
    vfs.remove_dir_all(Path::new("/job")).unwrap();
    assert_eq!(run(Arc::new(vfs.clone()), "/other", None, &ledgers, 2).unwrap(), restored_from);
    check(&ledgers.outputs(), "another machine");
    // Only the newest checkpoint has copies; those of older ones went with it.
    let copies = files(&vfs, "/other/copies", ".state");
    assert!(!copies.is_empty());
    for copy in copies {
        let far = Path::new("/far/checkpoints").join(copy.strip_prefix("/other/copies").unwrap());
        assert!(vfs.metadata(&far).is_ok(), "{} is a copy of nothing", copy.display());
    }
}

/// S12, T5: copies that cannot be written are done without.
#[test]
fn a_full_disk_for_copies_stops_nothing() {
    let vfs = MemVfs::new();
    let ledgers = Ledgers::new(&Strikes::default());
    let plan = FaultPlan::fail_at(0, Fault::ShortWrite)
        .and_from_then_on()
        .only(FileOp::NEEDS_SPACE)
        .on_path("/job/copies");
    let full = FaultVfs::new(Arc::new(vfs.clone()), plan);
    run(full.clone(), "/job", Some(9_000), &ledgers, 1).unwrap_err();
    assert!(full.failures() > 0);
    let restored_from = newest(&vfs);
    assert_eq!(run(full, "/job", None, &ledgers, 2).unwrap(), restored_from);
    check(&ledgers.outputs(), "no copies");
}
