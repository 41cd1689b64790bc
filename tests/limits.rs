//! Limits: keys with most of the records, very many keys, and records larger than what memory is meant for. T8, T9, T15.
//!
//! With `MAINSTEM_LONG=1` records are up to 64 MiB.

use mainstem::base::hash::hash_of;
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, MemVfs, SharedVfs, Vfs};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The memory of the jobs.
const MEMORY: u64 = 8 << 20;
/// What a process has beside the memory of a job: batches under way, and what the allocator keeps.
const BASE: u64 = 64 << 20;

/// Runs a test in a process of its own, since memory is that of a process; one at a time.
fn in_a_process(name: &str, test: impl FnOnce()) {
    const CHILD: &str = "MAINSTEM_LIMITS_CHILD";
    static ALONE: Mutex<()> = Mutex::new(());
    if std::env::var_os(CHILD).is_some() {
        return test();
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output =
        child.args([name, "--exact", "--include-ignored", "--nocapture"]).env(CHILD, "1").output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}{error}");
    assert!(output.status.success() && out.contains("1 passed"), "{name} failed in its process");
}

/// The most memory that the process has had so far.
fn peak() -> u64 {
    mainstem::api::result::peak_memory_bytes()
}

fn batch(parallelism: usize) -> Environment {
    Environment::new().execution_mode(ExecutionMode::Batch).parallelism(parallelism).memory(ByteSize(MEMORY))
}

/// Runs a stream into a sum, and says what the job came to.
fn run<T: Data>(stream: &DataStream<T>, mut see: impl FnMut(T)) -> JobResult {
    let mut records = stream.execute_and_collect("limits").unwrap();
    records.by_ref().for_each(|record| see(record.unwrap()));
    records.result().unwrap().clone()
}

/// Records of the key 0 that are four times the memory, and as many others as `others`, with keys from 1 on.
const BALLAST: usize = 1 << 10;
const LARGE: u64 = 4 * MEMORY / BALLAST as u64;

fn skewed(env: &Environment, others: u64) -> DataStream<(u64, u64, Vec<u8>)> {
    let key = move |i: u64| if i < LARGE { 0 } else { 1 + i % 97 };
    // Not to be compressed.
    let ballast = |i: u64| {
        let mut x = i + 1;
        let words = (0..BALLAST / 8).flat_map(move |_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x ^ x >> 31).to_le_bytes()
        });
        words.collect()
    };
    env.generate(LARGE + others, move |i| (key(i), i, ballast(i)))
}

fn sums(others: u64) -> BTreeMap<u64, (u64, u64)> {
    let mut expected: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for i in 0..LARGE + others {
        let sum = expected.entry(if i < LARGE { 0 } else { 1 + i % 97 }).or_default();
        *sum = (sum.0 + 1, sum.1 + i);
    }
    expected
}

/// What every such job keeps to.
fn keeps_to_its_memory(what: &str, result: &JobResult) {
    let peak = peak();
    assert!(result.spilled_bytes() > 2 * MEMORY, "{what}: {result}");
    assert!(result.budget_peak_bytes <= MEMORY, "{what}: {result}");
    assert!(peak <= MEMORY + BASE, "{what}: {} MiB", peak >> 20);
    println!("T8: {what}: {} MiB spilled, {} MiB of memory", result.spilled_bytes() >> 20, peak >> 20);
}

/// T8: BATCH, one key has four times the memory: operators that need all records of a key at once finish within the budget, and are exact.
#[test]
fn t8_a_key_of_four_times_the_memory_as_a_group() {
    in_a_process("t8_a_key_of_four_times_the_memory_as_a_group", || {
        for parallelism in [1, 2] {
            let env = batch(parallelism);
            let groups = skewed(&env, 5_000).key_by(|r| r.0).reduce_group(|key, records| {
                let sum = records.fold((0, 0), |(n, sum), record| (n + 1, sum + record.1));
                [(*key, sum)]
            });
            let mut found = BTreeMap::new();
            let result = run(&groups, |(key, sum)| _ = found.insert(key, sum));
            assert_eq!(found, sums(5_000));
            keeps_to_its_memory("reduce_group", &result);
            // The records of one key are in one partition of one of the subtasks.
            assert!(result.stages[0].skew > 1.5, "{result}");
        }
    });
}

/// T8: the same key on one side of a join and of a co-group, with a few records of it on the other side.
#[test]
fn t8_a_key_of_four_times_the_memory_in_a_join() {
    in_a_process("t8_a_key_of_four_times_the_memory_in_a_join", || {
        for large_is_left in [true, false] {
            let env = batch(2);
            let (large, small) = (skewed(&env, 5_000), env.generate(400, |i| (i / 4, i)));
            let (a, b) = (large.key_by(|r| r.0), small.key_by(|r| r.0));
            let pairs = match large_is_left {
                true => a.join(&b).apply(|large, small| (large.0, large.1 + small.1)),
                false => b.join(&a).apply(|small, large| (large.0, large.1 + small.1)),
            };
            let mut found: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            let result = run(&pairs, |(key, sum)| {
                let of = found.entry(key).or_default();
                *of = (of.0 + 1, of.1 + sum);
            });
            // Each record meets the four of its key.
            let expected =
                sums(5_000).into_iter().map(|(key, (n, sum))| (key, (4 * n, 4 * sum + n * (16 * key + 6))));
            assert_eq!(found, expected.collect());
            keeps_to_its_memory(if large_is_left { "join, left" } else { "join, right" }, &result);
        }
    });
}

/// T8: a global sort of which most records have the same key: each is there once, in order, and equal ones as they came.
#[test]
fn t8_a_sort_of_mostly_equal_keys() {
    in_a_process("t8_a_sort_of_mostly_equal_keys", || {
        for parallelism in [1, 2] {
            let env = batch(parallelism);
            let sorted =
                skewed(&env, 5_000).sort_by(|r| r.0).map(|(key, i, ballast)| (key, i, ballast.len()));
            let (mut last, mut seen) = (0, BTreeMap::<u64, (u64, u64)>::new());
            let result = run(&sorted.map(|r| r).parallelism(1), |(key, i, bytes)| {
                assert!(parallelism > 1 || key >= last, "{key} behind {last}");
                assert_eq!(bytes, BALLAST);
                last = key;
                let of = seen.entry(key).or_default();
                *of = (of.0 + 1, of.1 + i);
            });
            assert_eq!(seen, sums(5_000));
            keeps_to_its_memory("sort_by", &result);
        }
    });
}

/// T8: a fold of the same records needs no more than a value for each key: nothing is spilled, however large the key is.
#[test]
fn t8_a_fold_of_a_large_key_spills_nothing() {
    in_a_process("t8_a_fold_of_a_large_key_spills_nothing", || {
        let env = batch(2);
        let folded = skewed(&env, 5_000).map(|r| (r.0, (1, r.1))).key_by(|r| r.0).reduce(|sum, r| {
            sum.1.0 += r.1.0;
            sum.1.1 += r.1.1;
        });
        let mut found = BTreeMap::new();
        let result = run(&folded, |(key, sum)| _ = found.insert(key, sum));
        assert_eq!(found, sums(5_000));
        assert!(result.spilled_bytes() == 0 && peak() < MEMORY + BASE, "{result}");
    });
}

/// The largest record that is tried.
fn largest() -> usize {
    if std::env::var_os("MAINSTEM_LONG").is_some() { 64 << 20 } else { 6 << 20 }
}

/// Record `i` of so many bytes, which compress little.
fn payload(i: u64, bytes: usize) -> String {
    let mut x = i + 1;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let _ = write!(text, "{:016x}", x ^ x >> 31);
    }
    text.truncate(bytes);
    text
}

/// T15: records of no byte to many times the memory for sorting, through a keyed shuffle, a sort, a join, a redistribution: what comes out
/// is what went in. Memory is that of a few records, and a buffer is written once for a record at most.
#[test]
fn t15_records_of_any_size_through_every_shuffle() {
    in_a_process("t15_records_of_any_size_through_every_shuffle", || {
        const RECORDS: u64 = 16;
        type Record = (u64, String);
        type Way = fn(DataStream<Record>) -> DataStream<Record>;
        let ways: [(&str, Way); 6] = [
            ("keyed", |s| s.key_by(|r| r.0 % 3).reduce_group(|_, records| records)),
            ("sorted", |s| s.sort_by(|r| 100 - r.0)),
            ("redistributed", |s| s.rebalance().map(|r| r)),
            ("folded", |s| s.key_by(|r| r.0).reduce(|_, _| {})),
            ("joined", |s| {
                let keys = s.map(|r| r.0).key_by(|n| *n);
                s.key_by(|r| r.0).join(&keys).apply(|record, _| record.clone())
            }),
            ("keyed by itself", |s| s.key_by(|r| r.1.clone()).reduce_group(|_, records| records)),
        ];
        let sizes = [0, 1, 255 << 10, 1 << 20, largest()];
        for bytes in sizes {
            let mut expected: Vec<(u64, usize, u64)> = (0..RECORDS)
                .map(|i| {
                    let text = payload(i, bytes);
                    (i, text.len(), hash_of(&text))
                })
                .collect();
            expected.sort();
            for (way, through) in ways {
                // One small record becomes a large one, and the others of its batch do, too.
                let stream = batch(1).generate(RECORDS, |i| i).map(move |i| (i, payload(i, bytes)));
                let stream = through(stream).map(|(i, text)| (i, text.len(), hash_of(&text)));
                let mut found = Vec::new();
                let result = run(&stream, |record| found.push(record));
                found.sort();
                assert_eq!(found, expected, "{way}, {bytes} bytes");
                let spills = result.stages.iter().map(|stage| stage.spills).sum::<u64>();
                assert!(spills <= 4 * RECORDS, "{way}, {bytes} bytes: {result}");
                println!("T15: {way}, {bytes} bytes: {} MiB, {spills} spills", peak() >> 20);
                // Sizes rise, so that the peak is that of this one: as a value, encoded, and once more while it goes to the disk or comes
                // from there, however many records there are. Where two operators want it there is a copy for the other one; with its key
                // it may be twice as large.
                let copies = match way {
                    "joined" => 4,
                    "keyed by itself" => 6,
                    _ => 3,
                };
                let most = MEMORY + BASE + copies * bytes as u64;
                assert!(peak() <= most, "{way}, {bytes} bytes: {} MiB", peak() >> 20);
            }
        }
    });
}

/// T15: a large record now and then among small ones, in the same batches: more than memory holds, through a keyed shuffle and a sort.
#[test]
fn t15_large_records_among_small_ones() {
    in_a_process("t15_large_records_among_small_ones", || {
        const RECORDS: u64 = 3_000;
        let bytes = |i: u64| if i % 50 == 49 { (2 << 20) + i as usize } else { (i % 90) as usize };
        for (parallelism, keys) in [(1, 11), (2, 1_000_000)] {
            let records = batch(parallelism).generate(RECORDS, move |i| (i, payload(i, bytes(i))));
            let through = records
                .key_by(move |r| r.0 % keys)
                .reduce_group(|_, records| records)
                .sort_by(|r| r.0)
                .map(|(i, text)| (i, text.len(), hash_of(&text)));
            let mut found = Vec::new();
            let result = run(&through, |record| found.push(record));
            found.sort();
            let expected = (0..RECORDS).map(|i| payload(i, bytes(i))).enumerate();
            let expected = expected.map(|(i, text)| (i as u64, text.len(), hash_of(&text)));
            assert!(found.iter().copied().eq(expected), "parallelism {parallelism}: {} records", found.len());
            println!("T15: among small ones, {parallelism}: {} MiB, {result}", peak() >> 20);
            // The records of a batch are as many as small ones may be.
            let batches = parallelism as u64 * (1024 / 50) * (3 << 20);
            assert!(result.spilled_bytes() > 4 * MEMORY && peak() <= MEMORY + BASE + batches, "{result}");
        }
    });
}

/// T15: ten thousand columns, and as many keys of nothing.
#[test]
fn t15_records_of_many_columns() {
    in_a_process("t15_records_of_many_columns", || {
        let row = |i: u64| -> Vec<Option<String>> {
            (0..10_000).map(|column| (column % 3 > 0).then(|| format!("{}", column * i))).collect()
        };
        let env = batch(2);
        let rows = env.generate(200, move |i| (i, row(i)));
        let sorted = rows.key_by(|r| (r.0 % 7, r.1[1].clone())).reduce_group(|_, rows| rows);
        let mut seen = 0;
        let result = run(&sorted.map(|(i, row)| (i, hash_of(&row))), |(i, hash)| {
            seen += 1;
            assert_eq!(hash, hash_of(&row(i)), "record {i}");
        });
        assert!(seen == 200 && result.spilled_bytes() > 0, "{seen}: {result}");
    });
}

/// T15: files without a byte between others, partitions that nothing comes to, and inputs that are empty altogether.
#[test]
fn t15_empty_files_and_empty_partitions() {
    in_a_process("t15_empty_files_and_empty_partitions", || {
        for lines in [0, 1, 3] {
            let disk = MemVfs::new();
            for dir in ["/in", "/tmp"] {
                disk.create_dir_all(Path::new(dir)).unwrap();
            }
            for file in 0..7 {
                let text = if file % 2 == 1 { "x\n".repeat(lines) } else { String::new() };
                let path = Path::new("/in").join(file.to_string());
                disk.create(&path).unwrap().append(text.as_bytes()).unwrap();
            }
            let env = batch(3).vfs(Arc::new(disk)).temp_dir("/tmp");
            let lines_in = env.read(TextSource::new(["/in"]));
            let none = lines_in.filter(|line| line.is_empty());
            let pairs = lines_in.key_by(|line| line.clone()).join(&none.key_by(|line| line.clone()));
            let all = lines_in
                .key_by(|line| line.clone())
                .count()
                .map(|(line, n)| format!("{line} {n}"))
                .union(&[
                    &pairs.apply_left(|line, other| format!("{line} {}", other.is_some())),
                    &none.sort_by(|line| line.clone()),
                    &none.key_by(|line| line.len()).reduce_group(|_, lines| lines),
                ])
                .sort_by(|line| line.clone());
            let mut found = Vec::new();
            run(&all, |line| found.push(line));
            found.sort();
            let mut expected = vec!["x false".to_string(); 3 * lines];
            expected.splice(0..0, (lines > 0).then(|| format!("x {}", 3 * lines)));
            expected.sort();
            assert_eq!(found, expected);
        }
    });
}

fn resumable(vfs: SharedVfs, bytes: usize, resume: bool) -> mainstem::Result<JobResult> {
    let env = batch(2).vfs(vfs).temp_dir("/tmp").driver(Driver::Simulation { seed: 1 });
    let env = if resume { env.resume("/job") } else { env.job_dir("/job") };
    let records = env.generate(12, move |i| (i % 4, payload(i, bytes)));
    records
        .key_by(|r| r.0)
        .reduce_group(|_, records| records)
        .key_by(|r| r.1.len() as u64 + r.0 % 2)
        .reduce_group(|_, records| records.map(|(key, text)| format!("{key} {text}")))
        .sink_to(TextSink::text("/out/rows"));
    env.execute("sizes")
}

fn output(disk: &MemVfs) -> Vec<(std::path::PathBuf, u64)> {
    let files = disk.snapshot().into_iter().filter(|(path, _)| path.starts_with("/out/rows"));
    files.filter_map(|(path, bytes)| Some((path, hash_of(&bytes?)))).collect()
}

fn empty_disk() -> MemVfs {
    let disk = MemVfs::new();
    for dir in ["/tmp", "/out"] {
        disk.create_dir_all(Path::new(dir)).unwrap();
    }
    disk
}

/// T15, M10: the files of a job directory hold records of any size: a job that dies at some operations is resumed, and its output is that of an
/// undisturbed run.
#[test]
fn t15_a_job_with_records_of_any_size_is_resumed() {
    in_a_process("t15_a_job_with_records_of_any_size_is_resumed", || {
        for bytes in [0, 1, 255 << 10, 3 << 20] {
            let disk = empty_disk();
            let whole = FaultVfs::new(Arc::new(disk.clone()), FaultPlan::none());
            resumable(whole.clone(), bytes, false).unwrap();
            let expected = output(&disk);
            assert!(!expected.is_empty());
            for part in 1..8 {
                let k = whole.operations() * part / 8;
                let disk = empty_disk();
                let faulty = FaultVfs::new(
                    Arc::new(disk.clone()),
                    FaultPlan::fail_at(k, Fault::Io).and_from_then_on(),
                );
                assert!(resumable(faulty.clone(), bytes, false).is_err(), "{bytes} bytes: not killed at {k}");
                let is_job = disk.metadata(Path::new("/job/job")).is_ok();
                let resumed = resumable(Arc::new(disk.clone()), bytes, is_job);
                resumed.unwrap_or_else(|e| panic!("{bytes} bytes, operation {k}: {e}"));
                assert_eq!(output(&disk), expected, "{bytes} bytes, killed at operation {k}");
            }
        }
    });
}

/// T9: BATCH, a hundred million different keys under 512 MiB: each is there once, nothing is held beyond the memory.
#[test]
#[ignore = "takes minutes: run it with --ignored, optimised"]
fn t9_a_hundred_million_keys_in_batch() {
    in_a_process("t9_a_hundred_million_keys_in_batch", || {
        const KEYS: u64 = 100_000_000;
        const LIMIT: u64 = 512 << 20;
        static FOUND: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
        // Odd, so that no two are the same.
        let key = |i: u64| i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let env = batch(2).memory(ByteSize(LIMIT));
        env.generate(KEYS, key).key_by(|key| *key).count().sink_to(FnSink::new(
            |(key, count): (u64, u64)| {
                for (of, n) in FOUND.iter().zip([1, count, key]) {
                    of.fetch_add(n, Ordering::Relaxed);
                }
            },
        ));
        let result = env.execute("many keys").unwrap();
        let sum = (0..KEYS).fold(0u64, |sum, i| sum.wrapping_add(key(i)));
        assert_eq!(FOUND.each_ref().map(|n| n.load(Ordering::Relaxed)), [KEYS, KEYS, sum]);
        let (peak, spilled) = (peak(), result.spilled_bytes());
        println!(
            "T9: batch: {} MiB of memory, {} MiB spilled, {:?}",
            peak >> 20,
            spilled >> 20,
            result.duration
        );
        assert!(spilled > 0 && peak <= LIMIT / 10 * 11, "{} MiB: {result}", peak >> 20);
    });
}

/// Counts the records of each key.
struct Counts {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u64, u64, u64> for Counts {
    fn process(&mut self, _: u64, ctx: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
        let count = self.count.get(ctx).copied().unwrap_or(0) + 1;
        self.count.set(ctx, count);
        out.emit(count);
        Ok(())
    }
}

/// T9: STREAMING, ten million keys with state, of which a twentieth goes on to change: memory, the size of the last checkpoint, the time
/// to restore it all.
#[test]
#[ignore = "takes minutes: run it with --ignored, optimised"]
fn t9_ten_million_keys_in_streaming() {
    in_a_process("t9_ten_million_keys_in_streaming", || {
        const KEYS: u64 = 10_000_000;
        const CHANGING: u64 = KEYS / 20;
        /// A key and a count, of 8 bytes each.
        const ENTRY_BYTES: u64 = 16;
        const LIMIT: u64 = 2 << 30;
        static SEEN: AtomicU64 = AtomicU64::new(0);
        static FIRST: AtomicU64 = AtomicU64::new(0);
        let dir = tempfile::tempdir().unwrap();
        let job = |restore: bool| {
            let env = Environment::new()
                .parallelism(2)
                .job_dir(dir.path())
                .checkpoint_interval(Duration::from_secs(1));
            let env = if restore { env.restore(Restore::Latest) } else { env };
            env.read(Generate::unbounded(
                |i| if i < KEYS { i } else { i.wrapping_mul(0x9E37_79B9) % CHANGING },
            ))
            .uid("keys")
            .key_by(|key| *key)
            .process(|states| Counts { count: states.value("count") })
            .uid("counts")
            .sink_to(FnSink::new(|count: u64| {
                if SEEN.fetch_add(1, Ordering::Relaxed) == 0 {
                    FIRST.store(count, Ordering::Relaxed);
                }
            }));
            env.execute_async("many keys").unwrap()
        };
        let reach = |client: &JobClient, records: u64| {
            while SEEN.load(Ordering::Relaxed) < records {
                assert_eq!(client.status(), JobStatus::Running);
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let client = job(false);
        reach(&client, 30 * KEYS);
        client.stop(false).unwrap();
        let result = client.result().unwrap();
        let checkpoints = result.checkpoints.as_ref().unwrap();
        let pause = result.operators.iter().map(|operator| operator.longest_step).max().unwrap();
        println!("T9: streaming: {} MiB of memory; {checkpoints}; longest step {pause:?}", peak() >> 20);
        assert!(checkpoints.completed > 5 && peak() <= LIMIT / 10 * 11, "{} MiB: {result}", peak() >> 20);
        // The keys come once, all are written whenever it is full, and otherwise what has changed.
        let incremental = checkpoints.completed - checkpoints.full;
        let most = (1 + checkpoints.full) * KEYS * ENTRY_BYTES + incremental * 2 * CHANGING * ENTRY_BYTES;
        assert!(incremental > 3 && checkpoints.bytes <= most, "{checkpoints}");

        SEEN.store(0, Ordering::Relaxed);
        let begun = Instant::now();
        let client = job(true);
        reach(&client, 1);
        let restored = begun.elapsed();
        client.cancel();
        println!(
            "T9: restored in {restored:?}, the first record's count is {}",
            FIRST.load(Ordering::Relaxed)
        );
        assert!(restored < Duration::from_secs(30) && FIRST.load(Ordering::Relaxed) > 1);
    });
}
