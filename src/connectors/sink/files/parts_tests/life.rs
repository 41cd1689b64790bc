//! What a directory shows while all goes well.

use super::*;

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

/// T16: a bucket that somebody has made a link out of the output directory is not written to.
#[test]
fn a_link_out_of_the_output_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (out, elsewhere) = (root.path().join("out"), root.path().join("elsewhere"));
    let at = out.clone();
    let sink: MakeSink =
        Arc::new(move || boxed(FileSink::text(&at).bucket_by(|_: &u64, bucket| bucket.push_str("a/b"))));
    let mut process = start(&sink, OsVfs::shared(), false).unwrap();
    process.attempt(1, None).unwrap();
    std::fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("a")).unwrap();
    let error = process.write(0, vec![1u64]).unwrap_err();
    assert!(error.to_string().contains("out/a' is a symbolic link"), "{error}");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

/// K5: a record goes to the directory of its bucket; more buckets than files may be open close the oldest.
#[test]
fn more_buckets_than_open_files_lose_nothing() {
    let mem = MemVfs::new();
    let sink: MakeSink =
        Arc::new(|| boxed(text().bucket_by(|n: &u64, bucket| bucket.push_str(&format!("b{}", n % 150)))));
    let mut process = start(&sink, Arc::new(mem.clone()), false).unwrap();
    process.attempt(1, None).unwrap();
    for start in [0u64, 150, 300] {
        process.write(0, (start..start + 150).collect()).unwrap();
    }
    process.end(0).unwrap();
    process.commit().unwrap();
    assert_records(&mem, 450, "the end");
    for (name, content) in finished(&mem) {
        let bucket: u64 = name[1..name.find('/').unwrap()].parse().unwrap();
        assert!(content.lines().all(|line| line.parse::<u64>().unwrap() % 150 == bucket), "{name}");
    }
}

/// K7, T3: a file whose first records are empty is there with its first bytes, and its name is durable with the checkpoint that
/// names it. Until then it has no number, so that those of other files are not taken for its own.
#[test]
fn a_file_that_gets_its_bytes_late_is_durable() {
    let sink: MakeSink = Arc::new(|| {
        let sink = FileSink::bytes("/data/out").bucket_by(|record: &Vec<u8>, bucket| {
            bucket.push_str(if record.len() > 3 { "long" } else { "short" })
        });
        Arc::new(TypedSink::<Vec<u8>, _>::new(sink))
    });
    let mem = MemVfs::new();
    let mut process = start(&sink, Arc::new(mem.clone()), false).unwrap();
    process.attempt(1, None).unwrap();
    process.write(0, vec![Vec::<u8>::new()]).unwrap();
    process.write(0, vec![b"a long one".to_vec()]).unwrap();
    process.barrier(1).unwrap();
    process.complete(1).unwrap();
    process.write(0, vec![b"ab".to_vec()]).unwrap();
    let state = process.barrier(2).unwrap();
    process.complete(2).unwrap();
    // The power goes. What the checkpoint names is there, and numbers go on behind it.
    let mem = mem.crash(0, Keep::Nothing);
    let mut process = start(&sink, Arc::new(mem.clone()), true).unwrap();
    process.attempt(1, Some(&state)).unwrap();
    process.write(0, vec![b"c".to_vec(), b"another long one".to_vec()]).unwrap();
    process.end(0).unwrap();
    process.commit().unwrap();
    let found: Vec<(String, String)> = finished(&mem).into_iter().collect();
    let expected = [
        ("long/part-00000-00000.dat", "a long one"),
        ("long/part-00000-00002.dat", "another long one"),
        ("short/part-00000-00001.dat", "ab"),
        ("short/part-00000-00003.dat", "c"),
    ];
    assert_eq!(found, expected.map(|(name, text)| (name.to_string(), text.to_string())));
}
