//! What readers find in the directory of a job with checkpoints: whatever fails, each record once.

use super::parts::WriterState;
use super::rows::{RowEncoder, RowFormat};
use super::{BucketAssigner, FileSink, RollingPolicy, StagedFile, TextSink};
use crate::base::batch::CheckpointId;
use crate::base::clock::VirtualClock;
use crate::base::error::{Error, Result};
use crate::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, Keep, MemVfs, OsVfs, SharedVfs, Vfs};
use crate::operator::sink::driver::Process;
use crate::operator::sink::{AnySink, TypedSink, WriterStates};
use crate::semantics::state::OperatorState;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const RECORDS: u64 = 24;

/// A durable checkpoint: what the sink kept, and the next record to be read.
#[derive(Clone)]
struct Checkpoint {
    id: CheckpointId,
    state: OperatorState,
    next: u64,
}

/// A format whose files can be read only when they are complete.
#[derive(Clone)]
struct Bulk;
struct BulkEncoder(Vec<u64>);

impl RowFormat<u64> for Bulk {
    type Encoder = BulkEncoder;
    fn name(&self) -> &'static str {
        "bulk"
    }
    fn extension(&self) -> &'static str {
        "bulk"
    }
    fn is_bulk(&self) -> bool {
        true
    }
    fn encoder(&self) -> BulkEncoder {
        BulkEncoder(Vec::new())
    }
}

impl RowEncoder<u64> for BulkEncoder {
    fn encode(&mut self, records: &[u64], _out: &mut Vec<u8>) -> Result<()> {
        self.0.extend(records);
        Ok(())
    }
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.0.iter().for_each(|record| out.extend(format!("{record}\n").bytes()));
        out.extend(format!("rows {}\n", self.0.len()).bytes());
        Ok(())
    }
}

type MakeSink = Arc<dyn Fn() -> Arc<dyn AnySink>>;

fn boxed<F: RowFormat<u64>, B: BucketAssigner<u64>>(sink: FileSink<F, B>) -> Arc<dyn AnySink> {
    Arc::new(TypedSink::<u64, _>::new(sink))
}

fn text() -> TextSink {
    FileSink::text("/data/out")
}

/// The kinds of sinks: files over several checkpoints, small ones, one for each, and several directories.
fn sinks() -> Vec<(&'static str, MakeSink)> {
    vec![
        ("long files", Arc::new(|| boxed(text()))),
        ("short files", Arc::new(|| boxed(text().rolling(RollingPolicy::default().max_bytes(6))))),
        ("bulk", Arc::new(|| boxed(FileSink::with_format("/data/out", Bulk)))),
        (
            "buckets",
            Arc::new(|| {
                boxed(
                    text().bucket_by(|n: &u64, bucket| bucket.push_str(["", "a/b", "../c"][*n as usize % 3])),
                )
            }),
        ),
    ]
}

fn start(sink: &MakeSink, vfs: SharedVfs, restored: bool) -> Result<Process> {
    Process::start(sink(), vfs, VirtualClock::new(), restored)
}

/// Runs an attempt to the end of its input, with a barrier after each five records.
fn run(process: &mut Process, parallelism: usize, durable: &mut Option<Checkpoint>) -> Result<()> {
    process.attempt(parallelism, durable.as_ref().map(|checkpoint| &checkpoint.state))?;
    let (mut id, mut next) = durable.as_ref().map_or((0, 0), |checkpoint| (checkpoint.id, checkpoint.next));
    while next < RECORDS {
        // One subtask has ended before the last checkpoints.
        let subtask = next as usize / 2 % parallelism;
        let subtask = if process.is_running(subtask) { subtask } else { 0 };
        process.write(subtask, vec![next])?;
        next += 1;
        if next == RECORDS - 8 && parallelism > 1 {
            process.end(1)?;
        }
        if next.is_multiple_of(5) {
            id += 1;
            checkpoint(process, id, next, durable)?;
        }
    }
    for subtask in 0..parallelism {
        if process.is_running(subtask) {
            process.end(subtask)?;
        }
    }
    let state = process.barrier(id + 1)?;
    *durable = Some(Checkpoint { id: id + 1, state, next });
    Ok(())
}

fn checkpoint(
    process: &mut Process,
    id: CheckpointId,
    next: u64,
    durable: &mut Option<Checkpoint>,
) -> Result<()> {
    let state = process.barrier(id)?;
    *durable = Some(Checkpoint { id, state, next });
    process.complete(id)
}

/// The whole of a job, from its last checkpoint on.
fn finish(mut process: Process, parallelism: usize, durable: &mut Option<Checkpoint>) -> Result<()> {
    run(&mut process, parallelism, durable)?;
    process.commit()
}

type Files = BTreeMap<String, String>;

/// The finished files.
fn finished(mem: &MemVfs) -> Files {
    let mut files = Files::new();
    for (path, content) in mem.snapshot() {
        let hidden = path.components().any(|c| c.as_os_str().to_string_lossy().starts_with('.'));
        if let (Ok(path), Some(content), false) = (path.strip_prefix("/data/out"), content, hidden) {
            files.insert(path.display().to_string(), String::from_utf8(content).unwrap());
        }
    }
    files
}

/// The records in finished files, in order.
fn records(files: &Files) -> Vec<u64> {
    let mut all = Vec::new();
    for (name, content) in files {
        let mut lines: Vec<&str> = content.lines().collect();
        assert!(content.ends_with('\n') && !lines.is_empty(), "{name} is torn: {content:?}");
        if name.ends_with(".bulk") {
            assert_eq!(lines.pop(), Some(format!("rows {}", lines.len()).as_str()), "{name} is torn");
        }
        all.extend(lines.iter().map(|line| line.parse::<u64>().unwrap()));
    }
    all.sort_unstable();
    all
}

fn assert_records(mem: &MemVfs, next: u64, what: &str) {
    let files = finished(mem);
    assert!(records(&files).into_iter().eq(0..next), "{what}: not the records before {next}: {files:?}");
}

fn assert_nothing_hidden(mem: &MemVfs, what: &str) {
    let hidden = mem.snapshot().into_keys().find(|path| {
        path.components().any(|component| component.as_os_str().to_string_lossy().starts_with('.'))
    });
    assert_eq!(hidden, None, "{what}");
}

/// Files that readers may have seen are still as they were.
fn assert_unchanged(before: &Files, mem: &MemVfs, what: &str) {
    let after = finished(mem);
    for (name, content) in before {
        assert_eq!(after.get(name), Some(content), "{what}: {name}");
    }
}

/// K7: a file becomes visible with the checkpoint that holds it, and the last ones at the end of the input.
#[test]
fn files_appear_with_their_checkpoints() {
    let mem = MemVfs::new();
    let sink: MakeSink = Arc::new(|| boxed(text().rolling(RollingPolicy::default().max_bytes(4))));
    let mut process = start(&sink, Arc::new(mem.clone()), false).unwrap();
    process.attempt(2, None).unwrap();
    process.write(0, vec![1u64, 2]).unwrap();
    process.write(1, vec![3u64]).unwrap();
    process.write(0, vec![4u64]).unwrap();
    assert!(finished(&mem).is_empty());
    process.barrier(1).unwrap();
    assert!(finished(&mem).is_empty(), "nothing is finished before the checkpoint is complete");
    process.write(0, vec![5u64]).unwrap();
    process.complete(1).unwrap();
    let pairs = |pairs: &[(&str, &str)]| -> Files {
        pairs.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
    };
    assert_eq!(finished(&mem), pairs(&[("part-00000-00000.txt", "1\n2\n")]));
    let hidden: Vec<String> = mem.snapshot().into_keys().map(|path| path.display().to_string()).collect();
    assert!(
        hidden.iter().any(|path| path.starts_with("/data/out/.part-00000-00001.inprogress.")),
        "{hidden:?}"
    );
    for subtask in [0, 1] {
        process.end(subtask).unwrap();
    }
    process.commit().unwrap();
    let all = pairs(&[
        ("part-00000-00000.txt", "1\n2\n"),
        ("part-00000-00001.txt", "4\n5\n"),
        ("part-00001-00000.txt", "3\n"),
    ]);
    assert_eq!(finished(&mem), all);
    assert_nothing_hidden(&mem, "the end");
    assert_eq!(finished(&mem.crash(0, Keep::Nothing)), all, "durable");
}

/// K6: age, silence and size close a file; the clock is a parameter.
#[test]
fn the_clock_closes_files() {
    let mem = MemVfs::new();
    let clock = VirtualClock::new();
    let mut process = Process::start(boxed(text()), Arc::new(mem.clone()), clock.clone(), false).unwrap();
    process.attempt(1, None).unwrap();
    assert_eq!(process.next_timer(0), None);
    let mut number_of_files = 0;
    for (id, (write_at, due_at)) in [(1_000, 61_000), (61_500, 121_500)].into_iter().enumerate() {
        clock.set_ms(write_at);
        process.write(0, vec![7u64]).unwrap();
        assert_eq!(process.next_timer(0), Some(due_at));
        clock.set_ms(due_at - 1);
        process.processing_time(0, due_at - 1).unwrap();
        assert_eq!(process.next_timer(0), Some(due_at), "not yet");
        process.processing_time(0, due_at).unwrap();
        assert_eq!(process.next_timer(0), None);
        process.barrier(id as u64 + 1).unwrap();
        process.complete(id as u64 + 1).unwrap();
        number_of_files += 1;
        assert_eq!(finished(&mem).len(), number_of_files);
    }
}

/// K7: numbers go on above those of all subtasks, at any parallelism; no name comes twice.
#[test]
fn numbers_go_on_after_a_restore_at_another_parallelism() {
    for (name, sink) in sinks() {
        let mem = MemVfs::new();
        let mut durable = None;
        let mut seen = Files::new();
        for (round, parallelism) in [1usize, 3, 2, 4, 1].into_iter().enumerate() {
            let mut process = start(&sink, Arc::new(mem.clone()), round > 0).unwrap();
            process.attempt(parallelism, durable.as_ref().map(|c: &Checkpoint| &c.state)).unwrap();
            assert_unchanged(&seen, &mem, name);
            let next = durable.as_ref().map_or(0, |c| c.next);
            assert_records(&mem, next, name);
            for i in 0..7 {
                process.write(i as usize % parallelism, vec![next + i]).unwrap();
            }
            checkpoint(&mut process, round as u64 + 1, next + 7, &mut durable).unwrap();
            process.write(0, vec![1_000u64, 1_001]).unwrap();
            seen = finished(&mem);
            process.abort().unwrap();
            assert_unchanged(&seen, &mem, name);
        }
    }
}

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
                assert!(mem.snapshot().len() <= 2, "{what}: {:?}", mem.snapshot());
                continue;
            };
            let mut durable = None;
            let ran = run(&mut process, 2, &mut durable);
            if let Err(error) = ran {
                let Error::Io { source, .. } = &error else { panic!("{what}: {error}") };
                assert_eq!(source.raw_os_error(), Some(28), "{what}: {error}");
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

/// Checkpoints of a job that died after its last one was complete, and what it left.
fn two_checkpoints(sink: &MakeSink) -> (MemVfs, [Checkpoint; 2]) {
    let mem = MemVfs::new();
    let mut process = start(sink, Arc::new(mem.clone()), false).unwrap();
    process.attempt(1, None).unwrap();
    let mut taken = Vec::new();
    for id in 1..=2 {
        process.write(0, (id * 3 - 3..id * 3).collect::<Vec<u64>>()).unwrap();
        let mut durable = None;
        checkpoint(&mut process, id, id * 3, &mut durable).unwrap();
        taken.extend(durable);
    }
    process.write(0, vec![99u64]).unwrap();
    (mem.crash(0, Keep::Nothing), taken.try_into().ok().unwrap())
}

/// K7: going back to a checkpoint whose records after the barrier are visible already would double them: it is refused
/// and nothing is touched. While they are not visible, an older checkpoint is as good as the last.
#[test]
fn an_older_checkpoint_is_restored_only_before_its_successor_was_finished() {
    for (name, sink) in sinks() {
        let (mem, [first, second]) = two_checkpoints(&sink);
        let restore = |mem: &MemVfs, checkpoint: &Checkpoint| {
            let mut process = start(&sink, Arc::new(mem.clone()), true).unwrap();
            process.attempt(1, Some(&checkpoint.state)).map(|()| process)
        };
        let visible = finished(&mem).len();
        assert_eq!(visible, if name == "short files" || name == "bulk" { 2 } else { 0 }, "{name}");
        if visible > 0 {
            mem.remove_file(Path::new("/data/out/.mainstem-lock")).unwrap();
            let before = mem.snapshot();
            let error = restore(&mem, &first).err().unwrap().to_string();
            assert!(error.contains("was finished after the checkpoint that is restored"), "{name}: {error}");
            assert_eq!(mem.snapshot(), before, "{name}");
        } else {
            let older = mem.crash(0, Keep::Nothing);
            drop(restore(&older, &first).unwrap());
            assert_records(&older, 3, name);
            // Now the later one has lost what it had behind the barrier of the older.
            let error = restore(&older, &second).err().unwrap().to_string();
            assert!(error.contains("/data/out"), "{name}: {error}");
        }
        let newer = mem.crash(0, Keep::Nothing);
        drop(restore(&newer, &second).unwrap());
        assert_records(&newer, 6, name);
        let error = restore(&newer, &first).err().unwrap().to_string();
        assert!(error.contains("was finished after the checkpoint"), "{name}: {error}");
        drop(restore(&newer, &second).unwrap());
        assert_records(&newer, 6, name);
    }
}

/// T4: a file that waits for its checkpoint is damaged, cut, swapped or gone: an error that names it, and no output.
#[test]
fn damaged_files_are_found_before_they_are_finished() {
    for (name, sink) in sinks() {
        let (mem, [_, second]) = two_checkpoints(&sink);
        let states = WriterStates::all(&second.state).entries::<WriterState>();
        let open = states.flat_map(|state| state.unwrap().1.open);
        let prepared = second.state.entries::<StagedFile>("committables").map(|file| file.unwrap());
        let files: Vec<StagedFile> = open.chain(prepared).collect();
        let waiting =
            files.iter().filter(|file| mem.metadata(&Path::new("/data/out").join(&file.staged)).is_ok());
        let waiting: Vec<&StagedFile> = waiting.collect();
        let mut damages = 0;
        for file in &waiting {
            let path = Path::new("/data/out").join(&file.staged);
            let flips = (0..file.bytes * 8).map(|bit| Some((bit / 8, (bit % 8) as u8)));
            for flip in flips.chain([None, None]) {
                let mem = mem.crash(0, Keep::Nothing);
                let plan = match flip {
                    Some((offset, bit)) => FaultPlan::none().flip_bit(&file.staged, offset, bit),
                    None => FaultPlan::none(),
                };
                match (flip, damages % 2) {
                    (None, 0) => mem.remove_file(&path).unwrap(),
                    (None, _) => mem.open_append(&path).unwrap().set_len(file.bytes - 1).unwrap(),
                    _ => {}
                }
                damages += 1;
                let vfs = FaultVfs::new(Arc::new(mem.clone()), plan);
                let mut process = start(&sink, vfs, true).unwrap();
                let error = process.attempt(1, Some(&second.state)).unwrap_err().to_string();
                assert!(error.contains(&file.staged), "{name}: {error}");
                assert!(!finished(&mem).contains_key(&file.name), "{name}");
            }
        }
        assert!(damages > 0 || name == "bulk" || name == "short files", "{name}");
    }
}

/// T16: a checkpoint that names files elsewhere is not obeyed.
#[test]
fn a_checkpoint_with_foreign_names_is_refused() {
    let sink: MakeSink = Arc::new(|| boxed(text()));
    for (staged, name) in [
        ("../secret", "part-0-0.txt"),
        (".part-0-0.inprogress.1", "../part-0-0.txt"),
        ("/etc/.part-0-0.inprogress.1", "part-0-0.txt"),
        (".part-0-0.inprogress.1", ".mainstem-lock"),
    ] {
        let mem = MemVfs::new();
        let mut snapshot = crate::semantics::state::OperatorSnapshot::default();
        let file = StagedFile { staged: staged.into(), name: name.into(), bytes: 0, checksum: None };
        snapshot.put("committables", &file).unwrap();
        let mut process = start(&sink, Arc::new(mem.clone()), true).unwrap();
        let error = process.attempt(1, Some(&snapshot.into())).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

/// T19: one job for a directory, whatever its mode; a new job is not put among the files of another.
#[test]
fn a_directory_is_for_one_job() {
    let mem = MemVfs::new();
    let vfs: SharedVfs = Arc::new(mem.clone());
    let sink: MakeSink = Arc::new(|| boxed(text()));
    let mut process = start(&sink, vfs.clone(), false).unwrap();
    let error = start(&sink, vfs.clone(), true).err().unwrap();
    assert!(error.to_string().contains("'/data/out' is in use by another job"), "{error}");
    let staged = crate::connectors::sink::testing::context_on(vfs.clone());
    let error = boxed(text().overwrite(true)).start(staged.clone()).err().unwrap();
    assert!(error.to_string().contains("in use by another job"), "{error}");
    process.attempt(1, None).unwrap();
    process.write(0, vec![1u64]).unwrap();
    process.barrier(1).unwrap();
    process.end(0).unwrap();
    process.commit().unwrap();
    let error = start(&sink, vfs.clone(), false).err().unwrap();
    assert!(error.to_string().contains("is not empty; give --overwrite"), "{error}");
    let over: MakeSink = Arc::new(|| boxed(text().overwrite(true)));
    let mut process = start(&over, vfs.clone(), false).unwrap();
    assert!(finished(&mem).is_empty());
    process.attempt(1, None).unwrap();
    process.abort().unwrap();
    let run = boxed(text()).start(staged).unwrap();
    let error = start(&sink, vfs.clone(), false).err().unwrap();
    assert!(error.to_string().contains("in use by another job, whose files are in"), "{error}");
    run.abort().unwrap();
    assert!(start(&sink, vfs, false).is_ok());
}

/// K5: buckets without checkpoints are refused before anything runs.
#[test]
fn buckets_need_checkpoints() {
    let ctx = crate::connectors::sink::testing::context();
    let sink = boxed(text().bucket_by(|_: &u64, bucket| bucket.push('x')));
    let error = sink.start(ctx).err().unwrap();
    assert!(error.to_string().contains("need a job with checkpoints"), "{error}");
}

/// The protocol on the file system of the machine.
#[test]
fn a_real_directory_survives_a_restore() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("deep/out");
    let at = out.clone();
    let sink: MakeSink = Arc::new(move || boxed(FileSink::csv(&at).header(false)));
    let mut process = start(&sink, OsVfs::shared(), false).unwrap();
    process.attempt(2, None).unwrap();
    let long: Vec<u64> = (0..100_000).collect();
    process.write(0, long.clone()).unwrap();
    let state = process.barrier(1).unwrap();
    process.complete(1).unwrap();
    process.write(0, long.clone()).unwrap();
    process.write(1, long).unwrap();
    drop(process);
    let mut process = start(&sink, OsVfs::shared(), true).unwrap();
    process.attempt(1, Some(&state)).unwrap();
    process.write(0, vec![100_000u64]).unwrap();
    process.end(0).unwrap();
    process.commit().unwrap();
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert!(text("part-00000-00000.csv").lines().map(|line| line.parse::<u64>().unwrap()).eq(0..100_000));
    assert_eq!(text("part-00000-00001.csv"), "100000\n");
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2);
}
