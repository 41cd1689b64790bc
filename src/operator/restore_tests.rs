//! S11: an operator that is restored from a chain of snapshots, which were written in slices while it went on, does what the
//! one does that was never interrupted.
//!
//! Method: random records, watermarks, barriers and slices. Whenever a snapshot is complete, fresh operators (one; then two
//! that share the keys) take the chain up and are given everything since its barrier: they must emit what the first one
//! emitted since.

use super::aggregate::{Aggregate, Rolling};
use super::exchange::FnKey;
use super::interval_join::{FullOuter, Inner, Interval, IntervalJoin, Setting};
use super::window::AggregateWindow;
use super::window::general::{Emit, GeneralWindows, Incremental, WindowSetup};
use super::window::process::WindowStates;
use super::window::sessions::SessionFold;
use super::window::slices::{SlidingSlices, TumblingSlices};
use super::*;
use crate::base::accumulator::Accumulators;
use crate::base::clock::VirtualClock;
use crate::base::codec;
use crate::base::hash::hash_of;
use crate::base::metrics::Counters;
use crate::base::parameters::Parameters;
use crate::semantics::aggregate::Count;
use crate::semantics::state::{SnapshotChain, StateScope};
use crate::semantics::window::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Key, side, number.
type Record = (u64, bool, u64);

#[derive(Clone, Debug)]
enum Step {
    /// Keys, sides, and how far behind the time they are.
    Records(Vec<(u64, bool, i64)>),
    /// Time and watermark pass.
    Pass(i64),
    Barrier,
    More,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = || (prop_oneof![0..6u64, 0..60u64], any::<bool>(), 0..25i64);
    let step = prop_oneof![
        6 => prop::collection::vec(record(), 1..50).prop_map(Step::Records),
        3 => (1..12i64).prop_map(Step::Pass),
        2 => Just(Step::Barrier),
        6 => Just(Step::More),
    ];
    prop::collection::vec(step, 10..60)
}

fn context(subtask: usize, parallelism: usize) -> Context {
    let runtime = RuntimeContext {
        job: Arc::new(context::JobContext {
            name: "job".into(),
            id: "id".into(),
            parameters: Parameters::default(),
            auto_watermark_interval: Duration::from_millis(200),
        }),
        operator: Arc::from("operator"),
        subtask,
        parallelism,
        max_parallelism: 128,
        unit: 0,
        attempt: 0,
        counters: Counters::new(),
        accumulators: Accumulators::new().attempt().handles(),
    };
    Context::new(runtime, StateScope::AllKeys, 1 << 20, None, VirtualClock::new())
}

/// What an operator is given.
#[derive(Clone)]
enum Given {
    Records(Vec<(Record, Timestamp)>),
    Watermark(Timestamp),
}

struct Driven<O: Operator> {
    operator: O,
    ctx: Context,
    out: Out<O::Out>,
}

impl<O: Operator<In = Record>> Driven<O> {
    fn new(mut operator: O, subtask: usize, parallelism: usize) -> Self {
        let mut ctx = context(subtask, parallelism);
        operator.open(&mut ctx).unwrap();
        Driven { operator, ctx, out: Out::new() }
    }

    /// Gives the records of own keys, or a watermark; returns what came out, as bytes.
    fn give(&mut self, given: &Given) -> Vec<Vec<u8>> {
        let mut batch = Batch::default();
        if let Given::Records(records) = given {
            for (record, timestamp) in records {
                if self.ctx.runtime.owns(hash_of(&record.0)) {
                    batch.values.push(*record);
                    batch.timestamps.push(*timestamp);
                }
            }
        }
        let mut seen = Vec::new();
        loop {
            let Driven { operator, ctx, out } = self;
            let progress = match given {
                Given::Records(_) => operator.process(&mut batch, ctx, out),
                Given::Watermark(watermark) => {
                    ctx.watermark = *watermark;
                    operator.watermark(*watermark, ctx, out)
                }
            };
            let progress = progress.unwrap();
            self.out.flush();
            while let Some(mut batch) = self.out.take() {
                while let Some(result) = batch.pop() {
                    let mut bytes = Vec::new();
                    codec::encode(&result, &mut bytes).unwrap();
                    seen.push(bytes);
                }
            }
            if progress == Progress::Done {
                return seen;
            }
        }
    }
}

/// A snapshot under way: what is written, and how much was given before its barrier.
type UnderWay = (OperatorSnapshot, usize);

fn goes_on_after_a_restore<O: Operator<In = Record>>(make: impl Fn() -> O, steps: Vec<Step>) {
    let mut first = Driven::new(make(), 0, 1);
    let mut given: Vec<(Given, Vec<Vec<u8>>)> = Vec::new();
    let mut chain: Vec<OperatorSnapshot> = Vec::new();
    let mut chains: Vec<(Vec<OperatorSnapshot>, usize)> = Vec::new();
    let mut under_way: Option<UnderWay> = None;
    let (mut now, mut number) = (100, 0);
    for step in steps {
        let next = match step {
            Step::Records(records) => Given::Records(
                records
                    .into_iter()
                    .map(|(key, side, behind)| {
                        number += 1;
                        ((key, side, number), now - behind)
                    })
                    .collect(),
            ),
            Step::Pass(ms) => {
                now += ms;
                Given::Watermark(now - 20)
            }
            Step::Barrier if under_way.is_none() => {
                let mut snapshot = OperatorSnapshot::default();
                let barrier = Barrier { id: chain.len() as u64, full: chain.is_empty(), savepoint: false };
                let progress = first.operator.snapshot(barrier, &mut snapshot).unwrap();
                under_way = Some((snapshot, given.len()));
                if progress == Progress::Done {
                    complete(&mut under_way, &mut chain, &mut chains);
                }
                continue;
            }
            Step::Barrier | Step::More => {
                let Some((snapshot, _)) = &mut under_way else { continue };
                if first.operator.snapshot_more(snapshot).unwrap() == Progress::Done {
                    complete(&mut under_way, &mut chain, &mut chains);
                }
                continue;
            }
        };
        let seen = first.give(&next);
        given.push((next, seen));
    }
    let end = Given::Watermark(now + 1_000);
    let seen = first.give(&end);
    given.push((end, seen));
    for (chain, from) in chains {
        let state = OperatorState::new(vec![SnapshotChain::new(chain)]);
        for parallelism in [1, 2] {
            let mut restored: Vec<Driven<O>> =
                (0..parallelism).map(|subtask| Driven::new(make(), subtask, parallelism)).collect();
            for one in &mut restored {
                // What the executor does: the watermark of the barrier comes with the sources.
                let watermark = given[..from].iter().rev().find_map(|(given, _)| match given {
                    Given::Watermark(watermark) => Some(*watermark),
                    Given::Records(_) => None,
                });
                one.operator.restore(&state, &mut one.ctx).unwrap();
                one.ctx.watermark = watermark.unwrap_or(Timestamp::MIN);
                if let Some(watermark) = watermark {
                    assert!(one.give(&Given::Watermark(watermark)).is_empty(), "nothing fires twice");
                }
            }
            for (given, seen) in &given[from..] {
                let mut seen = seen.clone();
                let mut again: Vec<Vec<u8>> = restored.iter_mut().flat_map(|one| one.give(given)).collect();
                seen.sort();
                again.sort();
                assert_eq!(again, seen);
            }
        }
    }
}

fn complete(
    under_way: &mut Option<UnderWay>,
    chain: &mut Vec<OperatorSnapshot>,
    chains: &mut Vec<(Vec<OperatorSnapshot>, usize)>,
) {
    if let Some((snapshot, from)) = under_way.take() {
        chain.push(snapshot);
        chains.push((chain.clone(), from));
    }
}

/// An operator with two inputs, fed from one.
struct Sided<O: TwoInputOperator> {
    inner: O,
    parts: [Batch<Record>; 2],
}

impl<O: TwoInputOperator<Left = Record, Right = Record>> Operator for Sided<O> {
    type In = Record;
    type Out = O::Out;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.inner.open(ctx)
    }
    fn process(
        &mut self,
        batch: &mut Batch<Record>,
        ctx: &mut Context,
        out: &mut Out<O::Out>,
    ) -> Result<Progress> {
        for (value, timestamp) in batch.values.drain(..).zip(batch.timestamps.drain(..)) {
            let part = &mut self.parts[usize::from(value.1)];
            part.values.push(value);
            part.timestamps.push(timestamp);
        }
        let [left, right] = &mut self.parts;
        if !left.is_empty() && self.inner.process_left(left, ctx, out)? == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        if right.is_empty() { Ok(Progress::Done) } else { self.inner.process_right(right, ctx, out) }
    }
    fn watermark(
        &mut self,
        watermark: Timestamp,
        ctx: &mut Context,
        out: &mut Out<O::Out>,
    ) -> Result<Progress> {
        self.inner.watermark(watermark, ctx, out)
    }
    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.inner.snapshot(barrier, into)
    }
    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        self.inner.snapshot_more(into)
    }
    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        self.inner.restore(state, ctx)
    }
}

type KeyOf = fn(&Record) -> u64;

fn by_key() -> Arc<FnKey<KeyOf>> {
    Arc::new(FnKey((|record| record.0) as KeyOf))
}

type Pair = (u64, u64);

fn join<F: interval_join::JoinFunction<Record, Record>>(function: F) -> impl Operator<In = Record> {
    let setting = || Setting { selector: by_key(), late_to: None };
    let interval = Interval::between(-4, 9);
    Sided {
        inner: IntervalJoin::new(function, interval, setting(), setting()),
        parts: [Batch::default(), Batch::default()],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// S11: rolling folds.
    #[test]
    fn s11_rolling(steps in steps()) {
        goes_on_after_a_restore(|| Rolling::<u64, Record, _>::new(Aggregate(Count), by_key()), steps);
    }

    /// S11: tumbling windows, a table for each.
    #[test]
    fn s11_tumbling(steps in steps()) {
        let aligned = Aligned { size_ms: 10, slide_ms: 10, offset_ms: 0 };
        let fold = || AggregateWindow(Count);
        goes_on_after_a_restore(|| TumblingSlices::<u64, Record, _>::new(fold(), aligned, by_key(), None), steps);
    }

    /// S11: sliding windows, with slices that are open, closed, and closed while the snapshot is written.
    #[test]
    fn s11_sliding(steps in steps()) {
        let aligned = Aligned { size_ms: 15, slide_ms: 5, offset_ms: 0 };
        let fold = || AggregateWindow(Count);
        goes_on_after_a_restore(|| SlidingSlices::<u64, Record, _>::new(fold(), aligned, by_key(), None), steps);
    }

    /// S11: sessions.
    #[test]
    fn s11_sessions(steps in steps()) {
        let gap = Sessions::with_gap(Duration::from_millis(6));
        let fold = || AggregateWindow(Count);
        goes_on_after_a_restore(|| SessionFold::<u64, Record, _, _>::new(fold(), gap.clone(), by_key(), None), steps);
    }

    /// S11: windows of the general operator: with lateness, and with a trigger that has state.
    #[test]
    fn s11_general(steps in steps(), counts in any::<bool>()) {
        let assigner = || Sliding::of(Duration::from_millis(12), Duration::from_millis(6));
        let contents = || Incremental::new(AggregateWindow(Count), Emit);
        if counts {
            let setup = || WindowSetup {
                assigner: assigner(), trigger: PurgingTrigger::of(CountTrigger::of(3)), lateness_ms: 5, late: None,
            };
            goes_on_after_a_restore(
                || GeneralWindows::<u64, Record, _, _, _>::new(setup(), contents(), WindowStates::default(), by_key()),
                steps,
            );
        } else {
            let setup = || WindowSetup {
                trigger: WindowAssigner::<Record>::default_trigger(&assigner()), assigner: assigner(), lateness_ms: 5, late: None,
            };
            goes_on_after_a_restore(
                || GeneralWindows::<u64, Record, _, _, _>::new(setup(), contents(), WindowStates::default(), by_key()),
                steps,
            );
        }
    }

    /// S11: interval joins, inner ones and those that remember which records found a partner.
    #[test]
    fn s11_interval_join(steps in steps(), outer in any::<bool>()) {
        if outer {
            let pair = |left: Option<&Record>, right: Option<&Record>| -> Pair {
                (left.map_or(0, |l| l.2), right.map_or(0, |r| r.2))
            };
            goes_on_after_a_restore(|| join(FullOuter::new(pair)), steps);
        } else {
            goes_on_after_a_restore(|| join(Inner::new(|l: &Record, r: &Record| -> Pair { (l.2, r.2) })), steps);
        }
    }
}
