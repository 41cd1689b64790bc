//! Subtasks that finish while others of their step go on, and failures after that.

use crate::ledger::{Faults, Ledger};
use crate::restarts::environment;
use mainstem::base::vfs::{MemVfs, SharedVfs, Vfs};
use mainstem::connectors::sink::FileSink;
use mainstem::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use mainstem::prelude::*;
use std::sync::Arc;

/// A split of ten numbers, a long one, and empty ones with long names.
struct Uneven {
    short: u64,
    long: u64,
    empty: usize,
}

/// The numbers of a split that are left, and its name.
type Numbers = (u64, u64, String);

struct Reader(Numbers);

impl Source for Uneven {
    type Item = u64;
    type Split = Numbers;
    type Reader = Reader;
    fn describe(&self) -> String {
        "uneven".into()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _: &SourceContext) -> mainstem::Result<Vec<Numbers>> {
        let mut all = vec![(0, self.short, String::new()), (1_000_000, 1_000_000 + self.long, String::new())];
        all.extend((0..self.empty).map(|i| (0, 0, format!("{i:0100}"))));
        Ok(all)
    }
    fn open(&self, split: Numbers, _: &SourceContext) -> mainstem::Result<Reader> {
        Ok(Reader(split))
    }
}

impl SplitReader for Reader {
    type Item = u64;
    type Split = Numbers;
    fn poll(&mut self, out: &mut SourceOutput<u64>) -> mainstem::Result<Poll> {
        if self.0.0 == self.0.1 {
            return Ok(Poll::End);
        }
        out.emit(self.0.0);
        self.0.0 += 1;
        Ok(Poll::More)
    }
    fn position(&self) -> Numbers {
        self.0.clone()
    }
}

/// Runs a program over splits of so many numbers, which fails at these records, until it is done; what came out.
fn run<T: Data + Ord>(
    seed: u64,
    (short, long): (u64, u64),
    faults: &[u64],
    program: impl FnOnce(&Environment, DataStream<u64>) -> DataStream<T>,
) -> Vec<T> {
    let ledger = Ledger::new();
    let env = environment(2, Some(seed)).checkpoint_storage(CheckpointStorage::Memory);
    let at = Faults::at(faults.iter().copied());
    let strikes = at.clone();
    let numbers = env.read(Uneven { short, long, empty: 0 }).uid("numbers");
    let numbers = numbers.try_map(move |n| strikes.check().map(|()| n));
    program(&env, numbers).uid("under test").sink_to(ledger.clone()).uid("out");
    let stats = env.execute("finished").unwrap().checkpoints.unwrap();
    assert_eq!((stats.restarts, at.left()), (faults.len() as u32, 0), "seed {seed}");
    ledger.records()
}

/// C6: what a subtask has kept is not given to one that has finished and does not run again.
#[test]
fn c6_a_count_of_all_goes_on() {
    for seed in 0..6 {
        let counts = run(seed, (10, 5_000), &[3_000, 4_000], |_, numbers| numbers.count());
        assert_eq!(counts, [5_010], "seed {seed}");
    }
}

/// Emits how many records it has seen, which it keeps in a list of many parts.
struct Counter {
    seen: u64,
    kept: OperatorListState<u64>,
}

impl ProcessFunction<u64, (u64, u64)> for Counter {
    fn initialize_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        self.seen = self.kept.take(state).iter().sum();
        Ok(())
    }
    fn process(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, (u64, u64)>) -> UserResult {
        self.seen += 1;
        out.emit((n, self.seen));
        Ok(())
    }
    fn snapshot_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
        let mut list = vec![100; self.seen as usize / 100];
        list.push(self.seen % 100);
        self.kept.set(state, list);
        Ok(())
    }
}

/// S4, C6: nor is a part of an operator list.
#[test]
fn s4_lists_of_the_others_stay_with_them() {
    for seed in 0..6 {
        let seen = run(seed, (10, 5_000), &[3_000, 4_000], |_, numbers| {
            numbers.process_with_states(|states| Counter { seen: 0, kept: states.operator_list("kept") })
        });
        assert_eq!(seen.len(), 5_010, "seed {seed}");
        let last = seen.iter().map(|(_, seen)| *seen).max().unwrap();
        assert!((5_000..=5_010).contains(&last), "seed {seed}: {last}");
    }
}

/// C6: the small side of a broadcast join is kept by all subtasks, whichever finishes first.
#[test]
fn c6_a_broadcast_side_outlives_the_first_subtask() {
    for seed in 0..8 {
        let pairs = run(seed, (10, 5_000), &[3_000, 4_000], |env, numbers| {
            numbers.cross(&env.from_iter(0..10u64).uid("small"), |a, b| (*a, *b))
        });
        assert_eq!(pairs.len(), 50_100, "seed {seed}");
    }
}

/// S11: at the same parallelism each subtask gets back what it had, and nothing else.
#[test]
fn s11_partitions_stay_where_they_were() {
    for seed in 0..4 {
        let parts = run(seed, (2_500, 2_500), &[3_000], |_, numbers| {
            let parity = numbers.partition_custom(|key: &u64, n: usize| *key as usize % n);
            parity.map_partition(|records| {
                let (mut even, mut odd) = (0u64, 0u64);
                records.for_each(|n| if n % 2 == 0 { even += 1 } else { odd += 1 });
                [(even, odd)]
            })
        });
        assert_eq!(parts, [(0, 2500), (2500, 0)], "seed {seed}");
    }
}

/// C6, C9: rescaled after a subtask has finished with much to remember.
#[test]
fn c9_rescaled_after_a_subtask_has_finished() {
    for seed in 0..4 {
        let vfs: SharedVfs = Arc::new(MemVfs::new());
        let ledger = Ledger::new();
        for (parallelism, faults) in [(2, Some(15_000)), (3, None)] {
            let env = environment(parallelism, Some(seed)).vfs(vfs.clone()).job_dir("/job");
            let env = env.restore(Restore::Latest).restart_strategy(RestartStrategy::None);
            let strikes = Faults::at(faults);
            let numbers = env.read(Uneven { short: 10, long: 20_000, empty: 6_000 }).uid("numbers");
            let numbers = numbers.try_map(move |n| strikes.check().map(|()| n));
            numbers.sink_to(ledger.clone()).uid("out");
            let ran = env.execute("rescaled");
            assert_eq!(ran.is_err(), faults.is_some(), "seed {seed}: {:?}", ran.err());
        }
        assert_eq!(ledger.records().len(), 20_010, "seed {seed}");
    }
}

/// C4: a file that was committed long ago may be taken away, also that of a subtask that has finished.
#[test]
fn c4_files_of_a_finished_subtask_may_be_taken_away() {
    for seed in 0..4 {
        let mem = MemVfs::new();
        let vfs: SharedVfs = Arc::new(mem.clone());
        for fault in [Some(4_500), None] {
            let env = environment(2, Some(seed)).vfs(vfs.clone()).job_dir("/job");
            let env = env.restore(Restore::Latest).restart_strategy(RestartStrategy::None);
            let strikes = Faults::at(fault);
            let numbers = env.read(Uneven { short: 10, long: 5_000, empty: 0 }).uid("numbers");
            let numbers = numbers.try_map(move |n| strikes.check().map(|()| n));
            numbers.sink_to(FileSink::text("/out")).uid("out");
            let ran = env.execute("files");
            assert_eq!(ran.is_err(), fault.is_some(), "seed {seed}: {:?}", ran.err());
            if fault.is_some() {
                let of_short = |content: &[u8]| content == b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n";
                let (path, _) = mem
                    .snapshot()
                    .into_iter()
                    .find(|(path, content)| {
                        path.starts_with("/out") && content.as_deref().is_some_and(of_short)
                    })
                    .unwrap();
                mem.remove_file(&path).unwrap();
            }
        }
    }
}

/// S11: what waits for the end of its input is in snapshots, of changes too, wherever it is kept; nothing is lost, doubled or
/// put out of order by failures.
#[test]
fn s11_kept_input_survives_failures() {
    type Kept = (u64, String);
    let long = |n: u64| (n, format!("{n:0600}"));
    type Program = fn(&DataStream<Kept>) -> DataStream<Kept>;
    let programs: [(&str, Program); 3] = [
        ("map_partition", |rows| rows.map_partition(|rows| rows)),
        ("sort_partition", |rows| rows.sort_partition(|row: &Kept| row.0)),
        ("join", |rows| {
            let selected = rows.filter(|row| row.0 % 2 == 0);
            rows.key_by(|row| row.0).join(&selected.key_by(|row| row.0)).apply(|row, _| row.clone())
        }),
    ];
    for (name, program) in programs {
        for seed in 0..2 {
            let ledger = Ledger::new();
            let env = environment(2, Some(seed)).checkpoint_storage(CheckpointStorage::Memory);
            let env = env.memory("8MiB".parse().unwrap());
            let faults = Faults::at([3_000, 9_000, 14_000]);
            let left = faults.clone();
            let numbers = env.read(Uneven { short: 5_000, long: 10_000, empty: 0 });
            let rows = numbers.uid("numbers").try_map(move |n| faults.check().map(|()| long(n)));
            program(&rows).uid("kept").sink_to(ledger.clone()).uid("out");
            env.execute(name).unwrap();
            assert_eq!(left.left(), 0, "{name}, seed {seed}");
            let all = (0..5_000).chain(1_000_000..1_010_000);
            let expected: Vec<Kept> = all.filter(|n| name != "join" || n % 2 == 0).map(long).collect();
            assert!(ledger.records() == expected, "{name}, seed {seed}: {} rows", ledger.records().len());
        }
    }
}
