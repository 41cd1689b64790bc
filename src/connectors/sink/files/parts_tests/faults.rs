//! Operations that fail, and power that is lost.

use super::*;

/// C4, T3: power is lost at any operation, recovery included; the finished files then hold exactly the records before
/// the barrier of the restored checkpoint, and at the end all records.
#[test]
fn power_loss_at_any_operation_loses_and_doubles_nothing() {
    let mut states = 0;
    for (name, sink) in sinks() {
        for k in 0.. {
            let mem = MemVfs::new();
            let fault =
                FaultVfs::new(Arc::new(mem.clone()), FaultPlan::fail_at(k, Fault::Io).and_from_then_on());
            let mut durable = None;
            let died = start(&sink, fault.clone(), false).and_then(|p| finish(p, 2, &mut durable)).is_err();
            for (seed, keep) in [(0, Keep::Nothing), (1, Keep::Random), (2, Keep::Torn), (3, Keep::Torn)] {
                let what = format!("{name}, operation {k}, seed {seed}, {keep:?}");
                let after = mem.crash(seed, keep);
                let mut durable = durable.clone();
                // A second crash, in the recovery.
                let second = FaultVfs::new(
                    Arc::new(after.clone()),
                    FaultPlan::fail_at(k % 13, Fault::Io).and_from_then_on(),
                );
                if let Ok(mut process) = start(&sink, second, durable.is_some()) {
                    let _ = process.attempt(1, durable.as_ref().map(|checkpoint| &checkpoint.state));
                }
                let after = after.crash(seed + 10, keep);
                let before = finished(&after);
                let process = start(&sink, Arc::new(after.clone()), durable.is_some());
                let mut process = process.unwrap_or_else(|e| panic!("{what}: {e}"));
                let state = durable.as_ref().map(|checkpoint| &checkpoint.state);
                process.attempt(3, state).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_records(&after, durable.as_ref().map_or(0, |c| c.next), &what);
                assert_unchanged(&before, &after, &what);
                let restored = finished(&after.crash(0, Keep::Nothing));
                assert_eq!(restored, finished(&after), "{what}: recovery is durable");
                finish(process, 3, &mut durable).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_records(&after, RECORDS, &what);
                assert_unchanged(&before, &after, &what);
                assert_nothing_hidden(&after, &what);
                assert_records(&after.crash(seed, Keep::Nothing), RECORDS, &what);
                states += 1;
            }
            if !died {
                assert!(k > 40, "{name}: {k} operations");
                break;
            }
        }
    }
    assert!(states > 1_000, "{states} crash states");
}

/// Runs a job in one process whose `k`-th operation fails, with a new attempt after each failure.
fn run_through_a_fault(sink: &MakeSink, plan: FaultPlan, what: &str) -> (MemVfs, u64) {
    let mem = MemVfs::new();
    let fault = FaultVfs::new(Arc::new(mem.clone()), plan);
    let start = || start(sink, fault.clone(), false);
    let mut process = match start() {
        Ok(process) => process,
        Err(e) => {
            assert!(matches!(&e, Error::Io { .. }), "{what}: {e}");
            // A lock file of which it is not known whose it is stays, and with it the directory.
            let left = mem.snapshot().into_values().flatten().count();
            assert!(
                left == 0 || mem.snapshot().contains_key(Path::new("/data/out/.mainstem-lock")),
                "{what}"
            );
            assert!(left <= 1, "{what}: a refused start leaves no other file");
            start().unwrap_or_else(|e| panic!("{what}: {e}"))
        }
    };
    let (mut durable, mut seen) = (None, Files::new());
    for parallelism in [2, 3, 1] {
        match run(&mut process, parallelism, &mut durable) {
            Ok(()) => break,
            Err(e) => {
                assert!(matches!(&e, Error::Io { path, .. } if path.starts_with("/data")), "{what}: {e}");
                assert_unchanged(&seen, &mem, what);
                seen = finished(&mem);
            }
        }
    }
    // A commit that fails at the end is repeated by an attempt that has nothing to do.
    if let Err(e) = process.commit() {
        assert!(fault.failures() == 1, "{what}: {e}");
        let mut again = Process::start(sink(), fault.clone(), VirtualClock::new(), true).unwrap();
        run(&mut again, 1, &mut durable).unwrap_or_else(|e| panic!("{what}: {e}"));
        again.commit().unwrap();
    }
    assert_unchanged(&seen, &mem, what);
    assert_records(&mem, RECORDS, what);
    assert_records(&mem.crash(1, Keep::Nothing), RECORDS, what);
    (mem, fault.failures())
}

/// T5, T6: any operation fails once, syncs as well: the attempt fails, the next one goes on from the last checkpoint.
#[test]
fn a_fault_at_any_operation_costs_an_attempt_and_no_record() {
    for (name, sink) in sinks() {
        for fault in [Fault::Io, Fault::ShortWrite] {
            for k in 0.. {
                let what = format!("{name}, {fault:?} at operation {k}");
                let (mem, failures) = run_through_a_fault(&sink, FaultPlan::fail_at(k, fault), &what);
                // What a failed removal leaves is the lock, and no file of a record.
                let left =
                    mem.snapshot().into_keys().filter(|path| path.display().to_string().contains("/.part"));
                assert_eq!(left.count(), 0, "{what}");
                if failures == 0 {
                    assert_nothing_hidden(&mem, &what);
                    assert!(k > 40, "{name}: {k} operations");
                    break;
                }
            }
        }
    }
}

/// T6: a checkpoint whose files could not be synced is declined, and the file is not tried again.
#[test]
fn a_failed_sync_declines_the_checkpoint() {
    for (op, action) in [(FileOp::SyncData, "sync"), (FileOp::SyncDir, "sync"), (FileOp::Append, "write")] {
        let mem = MemVfs::new();
        let fault = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::none());
        let sink: MakeSink = Arc::new(|| boxed(text()));
        let mut process = start(&sink, fault.clone(), false).unwrap();
        process.attempt(1, None).unwrap();
        process.write(0, vec![1u64]).unwrap();
        fault.set_plan(FaultPlan::fail_at(0, Fault::Io).only(&[op]));
        let error = process.barrier(1).unwrap_err();
        assert!(error.to_string().contains(&format!("cannot {action} '/data/out")), "{error}");
        let error = process.barrier(2).unwrap_err();
        assert!(error.to_string().contains("cannot go on with 'text /data/out'"), "{error}");
        assert!(process.end(0).is_err(), "what is not durable is not handed over at the end either");
        process.attempt(1, None).unwrap();
        assert!(finished(&mem).is_empty());
        process.write(0, vec![1u64]).unwrap();
        process.barrier(3).unwrap();
        process.complete(3).unwrap();
        process.end(0).unwrap();
        process.commit().unwrap();
        assert_eq!(records(&finished(&mem)), [1]);
        assert_nothing_hidden(&mem, "the end");
    }
}

/// T5: a full disk is named, a job without a checkpoint leaves nothing, and one with a checkpoint leaves what that
/// needs.
#[test]
fn a_disk_that_stays_full_ends_the_job_in_order() {
    for (name, sink) in sinks() {
        for k in 0.. {
            let mem = MemVfs::new();
            let plan = FaultPlan::fail_at(k, Fault::ShortWrite).and_from_then_on().only(FileOp::NEEDS_SPACE);
            let fault = FaultVfs::new(Arc::new(mem.clone()), plan);
            let what = format!("{name}, operation {k}");
            let Ok(mut process) = start(&sink, fault.clone(), false) else {
                // The directories, and at most a lock that nobody holds.
                let left = mem.snapshot();
                let mut files = left.iter().filter(|(_, content)| content.is_some());
                assert!(files.all(|(path, _)| path.ends_with(".mainstem-lock")), "{what}: {left:?}");
                continue;
            };
            let mut durable = None;
            let ran = run(&mut process, 2, &mut durable);
            if let Err(error) = ran {
                let Error::Io { source, .. } = &error else { panic!("{what}: {error}") };
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{what}: {error}");
                process.abort().unwrap_or_else(|e| panic!("{what}: {e}"));
                if durable.is_none() {
                    assert_eq!(mem.snapshot().len(), 0, "{what}: {:?}", mem.snapshot());
                }
                fault.set_plan(FaultPlan::none());
                let process = start(&sink, fault, durable.is_some()).unwrap();
                finish(process, 2, &mut durable).unwrap_or_else(|e| panic!("{what}: {e}"));
            } else {
                process.commit().unwrap();
            }
            assert_records(&mem, RECORDS, &what);
            assert_nothing_hidden(&mem, &what);
            if k > 200 {
                break;
            }
        }
    }
}
