//! S7: broadcast state.

use super::*;
use crate::operator::TwoInputOperator;
use crate::operator::tests::snapshot_of;
use crate::semantics::state::{BroadcastState, OperatorState, SnapshotChain};

/// Counts records by key, scales counts by a rule, and multiplies all counts on demand. A timer reports a count.
struct Rules {
    scale: BroadcastState<u64, u64>,
    seen: BroadcastState<(), u64>,
    count: ValueState<u64>,
}

#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
enum Rule {
    Scale(u64, u64),
    MultiplyAll(u64),
    ForgetAll,
}

impl KeyedBroadcastProcessFunction<u64, u64, Rule, (u64, u64)> for Rules {
    fn process(
        &mut self,
        key: u64,
        ctx: &mut KeyedContext<u64>,
        _: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let by = self.scale.get(ctx, &key).copied().unwrap_or(1);
        self.count.update(ctx, |count| *count += by);
        ctx.register_event_time_timer(100);
        Ok(())
    }
    fn process_broadcast(
        &mut self,
        rule: Rule,
        ctx: &mut KeyedBroadcastContext<'_, u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        self.seen.update(ctx, (), |seen| *seen += 1);
        match rule {
            Rule::Scale(key, by) => drop(self.scale.insert(ctx, key, by)),
            Rule::MultiplyAll(by) => ctx.for_each_key(|key| {
                let count = self.count.update(key, |count| {
                    *count *= by;
                    *count
                });
                out.emit((*key.key(), count));
                Ok(())
            })?,
            Rule::ForgetAll => ctx.for_each_key(|key| {
                assert_eq!(self.seen.len(key), 1);
                self.count.clear(key);
                Ok(())
            })?,
        }
        Ok(())
    }
    fn on_timer(
        &mut self,
        _: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, (u64, u64)>,
    ) -> UserResult {
        let seen = self.seen.get(ctx, &()).copied().unwrap_or(0);
        out.emit((*ctx.key(), self.count.take(ctx).unwrap_or(0) + 1000 * seen));
        Ok(())
    }
}

type Ruled = KeyedBroadcastProcess<u64, u64, Rule, (u64, u64), Rules>;

fn ruled(ctx: &mut Context) -> Ruled {
    let mut states = States::default();
    let function = Rules {
        scale: states.broadcast("scale"),
        count: states.value("count"),
        seen: states.broadcast("seen"),
    };
    let mut operator = Ruled::new(function, states, Arc::new(FnKey(|key: &u64| *key)));
    operator.open(ctx).unwrap();
    operator
}

fn left(operator: &mut Ruled, ctx: &mut Context, keys: &[u64]) {
    let mut batch = Batch { values: keys.to_vec(), ..Batch::default() };
    let progress = operator.process_left(&mut batch, ctx, &mut Out::new()).unwrap();
    assert_eq!(progress, Progress::Done);
}

fn right(operator: &mut Ruled, ctx: &mut Context, rules: &[Rule]) -> Vec<(u64, u64)> {
    let mut out = Out::new();
    let mut batch = Batch { values: rules.to_vec(), ..Batch::new() };
    assert_eq!(operator.process_right(&mut batch, ctx, &mut out).unwrap(), Progress::Done);
    taken(&mut out)
}

fn taken(out: &mut Out<(u64, u64)>) -> Vec<(u64, u64)> {
    out.flush();
    let mut taken: Vec<_> = std::iter::from_fn(|| out.take()).flat_map(|batch| batch.values).collect();
    taken.sort();
    taken
}

/// S7: keys read what the broadcast side wrote, and that side changes the state of all keys.
#[test]
fn s7_broadcast_side_writes_and_reaches_all_keys() {
    let (mut ctx, _) = context(StateScope::AllKeys);
    let mut operator = ruled(&mut ctx);
    left(&mut operator, &mut ctx, &[1, 2, 1]);
    assert_eq!(right(&mut operator, &mut ctx, &[Rule::Scale(2, 10), Rule::Scale(3, 5)]), []);
    left(&mut operator, &mut ctx, &[1, 2, 3]);
    assert_eq!(right(&mut operator, &mut ctx, &[Rule::MultiplyAll(2)]), [(1, 6), (2, 22), (3, 10)]);
    let mut out = Out::new();
    ctx.watermark = 100;
    assert_eq!(operator.watermark(100, &mut ctx, &mut out).unwrap(), Progress::Done);
    assert_eq!(taken(&mut out), [(1, 3006), (2, 3022), (3, 3010)]);
    assert_eq!(keys_of(&operator.backend), 0);
    assert_eq!(right(&mut operator, &mut ctx, &[Rule::MultiplyAll(2)]), [], "no key has state");
    // A key that the broadcast side emptied stays for its timer only.
    left(&mut operator, &mut ctx, &[7]);
    right(&mut operator, &mut ctx, &[Rule::ForgetAll]);
    assert_eq!(right(&mut operator, &mut ctx, &[Rule::MultiplyAll(2)]), []);
    assert_eq!(keys_of(&operator.backend), 1);
    assert_eq!(operator.watermark(101, &mut ctx, &mut out).unwrap(), Progress::Done);
    assert_eq!((taken(&mut out), keys_of(&operator.backend)), (vec![(7, 6000)], 0));
}

/// S7, F3: in BATCH the broadcast side comes first, and stays for all keys.
#[test]
fn s7_broadcast_state_outlives_keys_in_batch() {
    let (mut ctx, _) = context(StateScope::OneKey);
    let mut operator = ruled(&mut ctx);
    assert_eq!(right(&mut operator, &mut ctx, &[Rule::Scale(2, 10), Rule::MultiplyAll(3)]), []);
    for (key, count) in [(2, 2020), (5, 2002), (9, 2002)] {
        left(&mut operator, &mut ctx, &[key, key]);
        let mut out = Out::new();
        assert_eq!(operator.end_of_key(&mut ctx, &mut out).unwrap(), Progress::Done);
        assert_eq!(taken(&mut out), [(key, count)]);
    }
}

/// S7: every subtask's copy is in its snapshot; keys and timers beside it.
#[test]
fn s7_snapshots_hold_broadcast_state() {
    let (mut ctx, _) = context(StateScope::AllKeys);
    let mut operator = ruled(&mut ctx);
    right(&mut operator, &mut ctx, &[Rule::Scale(2, 10)]);
    left(&mut operator, &mut ctx, &[1, 2, 2]);
    let snapshot = snapshot_of!(operator);
    let mut operator = ruled(&mut ctx);
    operator.restore(&snapshot.clone().into(), &mut ctx).unwrap();
    assert_eq!(snapshot_of!(operator), snapshot);
    left(&mut operator, &mut ctx, &[2]);
    let mut out = Out::new();
    assert_eq!(operator.watermark(100, &mut ctx, &mut out).unwrap(), Progress::Done);
    assert_eq!(taken(&mut out), [(1, 1001), (2, 1030)]);
}

/// S7: without a key, broadcast state is all there is, and it is in the snapshot.
#[test]
fn s7_broadcast_state_without_keys() {
    struct Sum {
        sum: BroadcastState<String, u64>,
    }
    impl BroadcastProcessFunction<String, (String, u64), u64> for Sum {
        fn process(
            &mut self,
            name: String,
            ctx: &ReadOnlyContext<'_>,
            out: &mut Collector<'_, u64>,
        ) -> UserResult {
            assert_eq!((ctx.timestamp(), ctx.watermark(), ctx.processing_time()), (None, WATERMARK_MIN, 0));
            out.emit(self.sum.get(ctx, &name).copied().unwrap_or(0));
            Ok(())
        }
        fn process_broadcast(
            &mut self,
            (name, n): (String, u64),
            ctx: &mut BroadcastContext<'_>,
            _: &mut Collector<'_, u64>,
        ) -> UserResult {
            self.sum.update(ctx, name, |sum| *sum += n);
            Ok(())
        }
    }
    type Summed = BroadcastProcess<String, (String, u64), u64, Sum>;
    fn opened(ctx: &mut Context) -> Summed {
        let mut states = States::default();
        let function = Sum { sum: states.broadcast("sum") };
        let mut operator = Summed::new(function, states);
        operator.open(ctx).unwrap();
        operator
    }
    let (mut ctx, _) = context(StateScope::AllKeys);
    let mut operator = opened(&mut ctx);
    let mut out = Out::new();
    let rules = [("a", 1), ("b", 2), ("a", 5)].map(|(name, n)| (name.to_string(), n));
    let mut batch = Batch { values: rules.to_vec(), ..Batch::new() };
    operator.process_right(&mut batch, &mut ctx, &mut out).unwrap();
    let snapshot = snapshot_of!(operator);
    let mut operator = opened(&mut ctx);
    operator.restore(&snapshot.clone().into(), &mut ctx).unwrap();
    let mut batch = Batch { values: ["a", "b", "c"].map(String::from).to_vec(), ..Batch::default() };
    operator.process_left(&mut batch, &mut ctx, &mut out).unwrap();
    out.flush();
    assert_eq!(out.take().unwrap().values, [6, 2, 0]);
}

/// S7: each subtask takes up its own copy, and where there were fewer subtasks one of them in turn, also if the copies differ.
#[test]
fn s7_each_subtask_takes_up_one_copy() {
    let copies = [10, 20, 30].map(|by| {
        let (mut ctx, _) = context(StateScope::AllKeys);
        let mut operator = ruled(&mut ctx);
        right(&mut operator, &mut ctx, &[Rule::Scale(1, by)]);
        SnapshotChain::from(snapshot_of!(operator))
    });
    let kept = OperatorState::new(copies.to_vec());
    for (parallelism, expected) in [(3, vec![10, 20, 30]), (2, vec![10, 20]), (5, vec![10, 20, 30, 10, 20])] {
        let counts = (0..parallelism).map(|subtask| {
            let (mut ctx, _) = context(StateScope::AllKeys);
            (ctx.runtime.subtask, ctx.runtime.parallelism) = (subtask, parallelism);
            let mut operator = ruled(&mut ctx);
            operator.restore(&kept, &mut ctx).unwrap();
            left(&mut operator, &mut ctx, &[1]);
            let mut out = Out::new();
            operator.watermark(100, &mut ctx, &mut out).unwrap();
            taken(&mut out)[0].1 - 1000
        });
        assert_eq!(counts.collect::<Vec<_>>(), expected, "parallelism {parallelism}");
    }
}
