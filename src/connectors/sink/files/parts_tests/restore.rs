//! Checkpoints that are older than the files, and files that are not what the checkpoint says.

use super::*;

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

/// What a process that dies at any operation of going back leaves half done is made durable by the next one: what both have cut off
/// does not come back with a power loss.
#[test]
fn a_cut_that_was_not_synced_is_made_durable_by_the_next_process() {
    for (name, sink) in sinks() {
        let (mem, [first, second]) = two_checkpoints(&sink);
        let (checkpoint, records) = if finished(&mem).is_empty() { (first, 3) } else { (second, 6) };
        let mut cut_short = 0;
        for k in 0.. {
            let disk = mem.crash(k, Keep::Nothing);
            let restore = |vfs: SharedVfs| {
                start(&sink, vfs, true)
                    .and_then(|mut process| process.attempt(1, Some(&checkpoint.state)).map(|()| process))
            };
            let dies =
                FaultVfs::new(Arc::new(disk.clone()), FaultPlan::fail_at(k, Fault::Io).and_from_then_on());
            drop(restore(dies.clone()));
            if dies.failures() == 0 {
                break;
            }
            cut_short += 1;
            // The same machine, where all that was written is seen.
            disk.remove_file(Path::new("/data/out/.mainstem-lock")).ok();
            drop(restore(Arc::new(disk.clone())).unwrap());
            assert_records(&disk.crash(k, Keep::Nothing), records, &format!("{name}, operation {k}"));
        }
        assert!(cut_short > 10, "{name}: {cut_short}");
    }
}

/// K7: where it is allowed, what was finished since is taken back, at whatever operation that is cut short; and only where
/// all that the checkpoint names is there.
#[test]
fn what_was_finished_since_is_taken_back_where_that_is_allowed() {
    for (name, sink) in sinks() {
        let (mem, [first, second]) = two_checkpoints(&sink);
        let restore = |vfs: SharedVfs, checkpoint: Option<&Checkpoint>| {
            let mut process = Process::start_with(sink(), vfs, VirtualClock::new(), true, true)?;
            process.attempt(1, checkpoint.map(|checkpoint| &checkpoint.state)).map(|()| process)
        };
        drop(restore(Arc::new(mem.clone()), Some(&second)).unwrap());
        assert_records(&mem, 6, name);
        mem.create(Path::new("/data/out/notes")).unwrap().append(b"8\n").unwrap();
        mem.sync_dir(Path::new("/data/out")).unwrap();
        let error = restore(Arc::new(mem.clone()), None).err().unwrap().to_string();
        assert!(error.contains("begins at the beginning"), "{name}: {error}");
        let mut cut_short = 0;
        for k in 0.. {
            let disk = mem.crash(k, Keep::Nothing);
            let plan = FaultPlan::fail_at(k, Fault::Io).and_from_then_on();
            let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
            let ended = restore(faulty.clone(), Some(&first)).is_ok();
            let disk = disk.crash(k, Keep::Random);
            let process =
                restore(Arc::new(disk.clone()), Some(&first)).unwrap_or_else(|e| panic!("{name}, {k}: {e}"));
            disk.remove_file(Path::new("/data/out/notes")).unwrap();
            assert_records(&disk, 3, name);
            finish(process, 1, &mut Some(first.clone())).unwrap();
            assert_records(&disk, RECORDS, name);
            cut_short += u32::from(!ended);
            if faulty.failures() == 0 {
                break;
            }
        }
        assert!(cut_short > 5, "{name}: {cut_short}");
        // A file of the checkpoint is gone: nothing else goes, either.
        let of_first = finished(&mem).into_iter().find(|(_, content)| content.starts_with("0\n")).unwrap();
        mem.remove_file(&Path::new("/data/out").join(&of_first.0)).unwrap();
        let before = finished(&mem);
        restore(Arc::new(mem.clone()), Some(&first)).err().unwrap();
        assert_eq!(finished(&mem), before, "{name}");
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

/// K7: nothing is put in the place of a finished file, whoever has put it there.
#[test]
fn a_finished_file_is_never_overwritten() {
    let mem = MemVfs::new();
    let sink: MakeSink = Arc::new(|| boxed(text()));
    let mut process = start(&sink, Arc::new(mem.clone()), false).unwrap();
    process.attempt(1, None).unwrap();
    process.write(0, vec![1u64]).unwrap();
    process.end(0).unwrap();
    process.barrier(1).unwrap();
    mem.create(Path::new("/data/out/part-00000-00000.txt")).unwrap().append(b"7\n").unwrap();
    let error = process.complete(1).unwrap_err().to_string();
    assert!(error.contains("'/data/out/part-00000-00000.txt' is there already"), "{error}");
    assert_eq!(records(&finished(&mem)), [7]);
    mem.remove_file(Path::new("/data/out/part-00000-00000.txt")).unwrap();
    process.complete(1).unwrap();
    assert_eq!(records(&finished(&mem)), [1]);
}

/// Writes even numbers only.
#[derive(Clone)]
struct Even;

impl RowFormat<u64> for Even {
    type Encoder = Even;
    fn name(&self) -> &'static str {
        "even"
    }
    fn extension(&self) -> &'static str {
        "txt"
    }
    fn encoder(&self) -> Even {
        Even
    }
}

impl RowEncoder<u64> for Even {
    fn encode(&mut self, records: &[u64], out: &mut Vec<u8>) -> Result<()> {
        records.iter().filter(|n| *n % 2 == 0).for_each(|n| out.extend(format!("{n}\n").bytes()));
        Ok(())
    }
}

/// K7: a file that was begun before a barrier and has its first bytes after it counts as younger.
#[test]
fn a_number_without_a_file_is_still_free() {
    let mem = MemVfs::new();
    let sink: MakeSink = Arc::new(|| boxed(FileSink::with_format("/data/out", Even)));
    let mut process = start(&sink, Arc::new(mem.clone()), false).unwrap();
    process.attempt(1, None).unwrap();
    process.write(0, vec![1u64]).unwrap();
    let first = process.barrier(1).unwrap();
    process.write(0, vec![2u64]).unwrap();
    process.end(0).unwrap();
    process.barrier(2).unwrap();
    process.complete(2).unwrap();
    assert_eq!(records(&finished(&mem)), [2]);
    let error = process.attempt(1, Some(&first)).unwrap_err().to_string();
    assert!(error.contains("was finished after the checkpoint"), "{error}");
}
