//! What snapshots cost a fold over many keys: run it in release, with `--ignored --nocapture`.

use super::*;
use crate::base::accumulator::Accumulators;
use crate::base::clock::VirtualClock;
use crate::base::hash::hash_of;
use crate::base::metrics::Counters;
use crate::base::parameters::Parameters;
use crate::operator::RuntimeContext;
use crate::operator::aggregate::{Aggregate, Count};
use crate::operator::context::JobContext;
use crate::operator::exchange::FnKey;
use crate::semantics::state::{SnapshotChain, StateScope};
use std::time::{Duration, Instant};

const KEYS: u64 = 10_000_000;
const BATCH: u64 = 1024;
/// Batches between two barriers: most keys change.
const INTERVAL: u64 = 30_000;

/// Time that this thread was on a processor: other load on the machine does not count.
fn busy() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

type Record = (u64, u64);
type Sum = Aggregate<Count>;

fn context() -> Context {
    let runtime = RuntimeContext {
        job: Arc::new(JobContext {
            name: "job".into(),
            id: "id".into(),
            parameters: Parameters::default(),
            auto_watermark_interval: Duration::from_millis(200),
        }),
        operator: Arc::from("sum"),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        unit: 0,
        attempt: 0,
        counters: Counters::new(),
        accumulators: Accumulators::new().attempt().handles(),
    };
    Context::new(runtime, StateScope::AllKeys, 1 << 20, None, VirtualClock::new())
}

fn rolling() -> Rolling<u64, Record, Sum> {
    Rolling::new(Aggregate(Count), Arc::new(FnKey(|record: &Record| record.0)))
}

/// The snapshots taken so far, and how long their steps took.
#[derive(Default)]
struct Taken {
    chain: Vec<OperatorSnapshot>,
    under_way: Option<OperatorSnapshot>,
    cut: Duration,
    slices: Vec<Duration>,
}

impl Taken {
    fn barrier(&mut self, operator: &mut Rolling<u64, Record, Sum>, full: bool) {
        assert!(self.under_way.is_none(), "the one before is complete by now");
        let mut snapshot = OperatorSnapshot::default();
        let begin = Instant::now();
        let progress = operator.snapshot(Barrier { id: 1, full, savepoint: false }, &mut snapshot).unwrap();
        self.cut = begin.elapsed();
        if progress == Progress::Done {
            self.chain.push(snapshot);
        } else {
            self.under_way = Some(snapshot);
        }
    }

    fn slice(&mut self, operator: &mut Rolling<u64, Record, Sum>) {
        let Some(mut snapshot) = self.under_way.take() else { return };
        // What the executor does: it takes away what is written.
        let mut part = OperatorSnapshot::default();
        let begin = Instant::now();
        let progress = operator.snapshot_more(&mut part).unwrap();
        self.slices.push(begin.elapsed());
        snapshot.append(&part);
        match progress {
            Progress::Done => self.chain.push(snapshot),
            _ => self.under_way = Some(snapshot),
        }
    }
}

/// Nanoseconds for a record.
fn run(
    operator: &mut Rolling<u64, Record, Sum>,
    ctx: &mut Context,
    batches: u64,
    key: impl Fn(u64) -> u64,
    mut taken: Option<&mut Taken>,
) -> f64 {
    let mut out = Out::new();
    let mut spent = Duration::ZERO;
    for i in 0..batches {
        let mut batch = Batch::default();
        batch.values.extend((i * BATCH..(i + 1) * BATCH).map(|n| (key(n), 1)));
        batch.hashes.extend(batch.values.iter().map(|record| hash_of(&record.0)));
        let begin = busy();
        operator.process(&mut batch, ctx, &mut out).unwrap();
        if let Some(taken) = &mut taken {
            taken.slice(operator);
        }
        spent += busy() - begin;
        out.flush();
        while out.take().is_some() {}
    }
    spent.as_nanos() as f64 / (batches * BATCH) as f64
}

#[test]
#[ignore = "measures; run it in release"]
fn speed_of_snapshots() {
    let (mut operator, mut ctx) = (rolling(), context());
    run(&mut operator, &mut ctx, KEYS / BATCH + 1, |n| n % KEYS, None);
    let random = |n: u64| hash_of(&n) % KEYS;
    for _ in 0..2 {
        println!("without: {:.1} ns a record", run(&mut operator, &mut ctx, INTERVAL, random, None));
    }
    let mut taken = Taken::default();
    for round in 0..4 {
        taken.barrier(&mut operator, round == 0);
        let ns = run(&mut operator, &mut ctx, INTERVAL, random, Some(&mut taken));
        let last = taken.chain.last().unwrap();
        // Wall time, which other load on the machine makes longer.
        let mut slices = std::mem::take(&mut taken.slices);
        slices.sort();
        println!(
            "with a snapshot: {ns:.1} ns a record; {} entries, {} MB; cut {:?}, slice {:?}, 99 of 100 {:?}, longest {:?}",
            last.len(ACCUMULATORS),
            last.bytes() >> 20,
            taken.cut,
            slices[slices.len() / 2],
            slices[slices.len() * 99 / 100],
            slices[slices.len() - 1],
        );
    }
    println!("tracking only: {:.1} ns a record", run(&mut operator, &mut ctx, INTERVAL, random, None));
    // 5 % of the keys change.
    taken.barrier(&mut operator, false);
    run(&mut operator, &mut ctx, INTERVAL, |n| n % (KEYS / 20), Some(&mut taken));
    taken.barrier(&mut operator, false);
    run(&mut operator, &mut ctx, 200, |n| n % (KEYS / 20), Some(&mut taken));
    let last = taken.chain.last().unwrap();
    let entries = last.len(ACCUMULATORS) as u64;
    assert_eq!(entries, KEYS / 20);
    println!("5 % changed: {} bytes an entry, of 16 raw", last.bytes() as f64 / entries as f64);
    assert!(last.bytes() <= entries * 32);
    let state = OperatorState::new(vec![SnapshotChain::new(taken.chain)]);
    let bytes: u64 = state.subtasks()[0].newest().unwrap().bytes();
    let begin = busy();
    let mut again = rolling();
    again.restore(&state, &mut ctx).unwrap();
    println!("restored {} keys in {:?} (newest {bytes} bytes)", again.table.len(), busy() - begin);
    assert_eq!(again.table.len(), operator.table.len());
}
