//! A disk that is full or fails: at each operation once, and from then on.

use crate::rig::Rig;
use crate::shapes::Shape;
use crate::size::{seed, size};
use mainstem::ErrorKind;
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp};
use std::sync::Arc;

const STREAMS: [Shape; 3] = [Shape::Files, Shape::TwoPhase, Shape::Timers];

/// Runs a job with a fault at the `k`-th operation of `kinds`. It succeeds with exact output, or it ends with an error that
/// names path and operation, leaves nothing half done, and goes on when the disk is well again.
fn with_fault(rig: &Rig, seed: u64, plan: FaultPlan, what: &str) -> Result<bool, String> {
    let disk = Rig::disk();
    let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
    let ended = rig.process(faulty.clone(), seed, false);
    if faulty.failures() == 0 {
        return Ok(false);
    }
    let Err(e) = ended else {
        rig.verify_after_faults(&disk).map_err(|e| format!("{what}: succeeds, but {e}"))?;
        return Ok(true);
    };
    let text = e.to_string();
    if e.kind() != ErrorKind::Environment || !text.contains("'/") || text.contains("internal") {
        return Err(format!("{what}: {:?} error that does not name its path: {text}", e.kind()));
    }
    rig.completes(&disk, seed + 1).map_err(|e| format!("{what}, which ended it with '{text}': {e}"))?;
    Ok(true)
}

/// Sweeps over the operations of `kinds`: all, or as many as the size allows.
fn sweep(test: &str, rig: &Rig, kinds: Option<&[FileOp]>, faults: &[Fault]) -> u64 {
    let seed = seed(5);
    let only = |plan: FaultPlan| kinds.map_or(plan.clone(), |kinds| plan.only(kinds));
    let operations = rig.operations_of(seed, only(FaultPlan::none()));
    assert!(operations > 10, "{rig:?} has {operations} operations only");
    let runs = size(34, u64::MAX).min(operations);
    let mut failed = 0;
    for n in 0..runs {
        let k = n * operations / runs;
        for &fault in faults {
            for lasting in [false, true] {
                let plan = only(FaultPlan::fail_at(k, fault));
                let plan = if lasting { plan.and_from_then_on() } else { plan };
                let what = format!(
                    "{test}, {:?}, seed {seed}, {fault:?} at operation {k} of {operations}{}",
                    rig.shape,
                    if lasting { " and from then on" } else { "" }
                );
                match with_fault(rig, seed, plan, &what) {
                    Ok(did) => failed += u64::from(did),
                    Err(e) => panic!("{e}"),
                }
            }
        }
    }
    failed
}

/// T5: no space, or a device that fails.
#[test]
fn t5_any_operation_may_fail() {
    for shape in STREAMS {
        let failed = sweep("T5", &Rig::new(shape), None, &[Fault::NoSpace, Fault::Io]);
        println!("T5, {shape:?}: {failed} runs with a fault");
        assert!(failed > 20, "{shape:?}: {failed}");
    }
}

/// T5: a full disk says which file it was, how many bytes were needed, and behind how many: metadata and state, sinks, spills,
/// the job directory.
#[test]
fn t5_a_full_disk_says_how_many_bytes_are_needed() {
    let seed = seed(7);
    for shape in [Shape::Files, Shape::TwoPhase, Shape::Timers, Shape::Batch] {
        let rig = Rig::new(shape).options(&["--memory", "8MiB"]);
        let appends = |k| FaultPlan::fail_at(k, Fault::NoSpace).and_from_then_on().only(&[FileOp::Append]);
        let operations = rig.operations_of(seed, appends(u64::MAX));
        let mut told = 0;
        for k in (0..operations).step_by((operations as usize / 40).max(1)) {
            let faulty = FaultVfs::new(Arc::new(Rig::disk()), appends(k));
            let Err(e) = rig.process(faulty.clone(), seed, false) else { continue };
            let text = e.to_string();
            assert!(
                text.contains(" bytes are needed after ") && text.contains("'/"),
                "{shape:?}, {k}: {text}"
            );
            told += 1;
        }
        println!("T5, {shape:?}: {told} of {operations} appends");
        assert!(told > 3, "{shape:?}: {told} of {operations}");
    }
}

/// T5: a job that may lose some checkpoints lives on without them.
#[test]
fn t5_a_failed_checkpoint_is_survived() {
    let rig = Rig::new(Shape::Files).options(&["--checkpoint-tolerable-failures", "1000"]);
    let seed = seed(6);
    let plan =
        |k| FaultPlan::fail_at(k, Fault::NoSpace).on_path("/job/checkpoints").only(FileOp::NEEDS_SPACE);
    let operations = rig.operations_of(seed, plan(u64::MAX));
    assert!(operations > 10, "{operations}");
    let mut survived = 0;
    for k in 0..operations {
        let disk = Rig::disk();
        let faulty = FaultVfs::new(Arc::new(disk.clone()), plan(k));
        let ended = rig.process(faulty.clone(), seed, false);
        assert!(faulty.failures() > 0, "operation {k} does not come");
        match ended {
            Ok(_) => survived += 1,
            // The last checkpoint has nobody behind it: without it nothing may be committed.
            Err(e) => {
                let text = e.to_string();
                assert!(text.contains("/job/checkpoints"), "operation {k}: {text}");
                rig.completes(&disk, seed + 1)
                    .unwrap_or_else(|e| panic!("operation {k}: '{text}', then {e}"));
                continue;
            }
        }
        rig.verify(&disk).unwrap_or_else(|e| panic!("T5, seed {seed}, operation {k}: {e}"));
    }
    assert!(survived * 3 >= operations * 2, "only {survived} of {operations} are survived");
}

/// T6: each sync that fails.
#[test]
fn t6_any_sync_may_fail() {
    for shape in STREAMS {
        let syncs = [FileOp::SyncData, FileOp::SyncDir];
        let failed = sweep("T6", &Rig::new(shape), Some(&syncs), &[Fault::Io]);
        println!("T6, {shape:?}: {failed} runs with a sync that fails");
        assert!(failed > 10, "{shape:?}: {failed}");
    }
}
