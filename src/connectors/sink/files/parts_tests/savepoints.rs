//! Savepoints, which are of use after the files of the job have gone on, and without them.

use super::*;

/// A savepoint in the middle of a job, which then goes on for a while and dies: the disk at the savepoint, that at the end,
/// and the savepoint.
fn savepoint(sink: &MakeSink) -> (MemVfs, MemVfs, Checkpoint) {
    let mem = MemVfs::new();
    let mut process = start(sink, Arc::new(mem.clone()), false).unwrap();
    process.attempt(2, None).unwrap();
    for n in 0..7 {
        process.write(n as usize % 2, vec![n as u64]).unwrap();
        if n == 2 {
            checkpoint(&mut process, 1, 3, &mut None).unwrap();
        }
    }
    let state = process.savepoint(2).unwrap();
    process.complete(2).unwrap();
    let at_savepoint = mem.crash(0, Keep::Nothing);
    for n in 7..15 {
        process.write(n as usize % 2, vec![n as u64]).unwrap();
        if n == 14 {
            checkpoint(&mut process, 3, 15, &mut None).unwrap();
        }
    }
    (at_savepoint, mem.crash(0, Keep::Nothing), Checkpoint { id: 2, state, next: 7 })
}

/// Goes on from a savepoint to the end.
fn go_on(sink: &MakeSink, mem: &MemVfs, from: &Checkpoint, rollback: bool) -> Result<()> {
    let vfs = Arc::new(mem.clone());
    let mut process = Process::start_with(sink(), vfs, VirtualClock::new(), true, rollback)?;
    process.attempt_from_savepoint(2, &from.state)?;
    // The first checkpoint of the job dies with the attempt: the savepoint is gone back to again.
    process.write(0, vec![77u64])?;
    process.attempt_from_savepoint(2, &from.state)?;
    for n in from.next..RECORDS {
        process.write(n as usize % 2, vec![n])?;
    }
    (0..2).try_for_each(|subtask| process.end(subtask))?;
    process.barrier(9)?;
    process.complete(9)?;
    process.commit()
}

/// C8, K7: what a savepoint refers to is finished when it is complete, and never changes any more.
#[test]
fn a_savepoint_refers_to_finished_files_only() {
    for (name, sink) in sinks() {
        let (mem, later, taken) = savepoint(&sink);
        assert_records(&mem, 7, name);
        assert_unchanged(&finished(&mem), &later, name);
        let states = WriterStates::all(&taken.state).entries::<WriterState>();
        assert!(states.into_iter().all(|state| state.unwrap().1.open.is_empty()), "{name}");
        let files: Vec<StagedFile> = taken.state.entries("committables").collect::<Result<_>>().unwrap();
        assert!(!files.is_empty() && files.iter().all(|f| finished(&mem).contains_key(&f.name)), "{name}");
    }
}

/// C8, K7: into another output directory, a job goes on behind the savepoint, whatever became of the old directory.
#[test]
fn a_savepoint_is_restored_into_an_empty_directory() {
    for (name, sink) in sinks() {
        let (_, _, taken) = savepoint(&sink);
        let other = MemVfs::new();
        go_on(&sink, &other, &taken, false).unwrap();
        let expected: Vec<u64> = (7..RECORDS).collect();
        assert_eq!(records(&finished(&other)), expected, "{name}");
        assert_nothing_hidden(&other, name);
    }
}

/// C8, K7: into the same directory, a job goes on if nothing was finished since; else it is refused, and nothing is touched,
/// unless it is allowed to take that back.
#[test]
fn a_savepoint_is_restored_into_the_same_directory() {
    for (name, sink) in sinks() {
        let (mem, later, taken) = savepoint(&sink);
        go_on(&sink, &mem, &taken, false).unwrap();
        assert_records(&mem, RECORDS, name);
        let before = finished(&later);
        match go_on(&sink, &later, &taken, false) {
            Ok(()) => assert!(name == "long files" || name == "buckets", "{name}"),
            Err(e) => {
                let e = e.to_string();
                assert!(
                    e.contains("was finished after") && e.contains("allow-output-rollback"),
                    "{name}: {e}"
                );
                assert_eq!(finished(&later), before, "{name}");
                go_on(&sink, &later, &taken, true).unwrap();
            }
        }
        assert_records(&later, RECORDS, name);
        assert_nothing_hidden(&later, name);
    }
}
