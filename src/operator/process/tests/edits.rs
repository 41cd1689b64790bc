//! Maps in snapshots of changes: what is written of them, and that a chain of such snapshots holds what the keys held.

use super::*;
use crate::base::batch::Barrier;
use crate::operator::tests::snapshot_of;
use crate::semantics::state::{OperatorSnapshot, OperatorState, SnapshotChain};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a record does with the state of its key.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
enum Op {
    Insert(u64, u64),
    Remove(u64),
    /// In place, if it is there.
    Change(u64),
    Update(u64),
    Extend(u64, u64),
    /// Keeps every other entry, and changes those.
    Thin,
    ChangeAll,
    Clear,
    Set(u64),
    Unset,
    Look,
}

type Record = (u64, Vec<Op>);
type Map = BTreeMap<u64, u64>;
/// A key, its map, its value.
type Held = (u64, Map, Option<u64>);

struct Maps {
    map: MapState<u64, u64>,
    value: ValueState<u64>,
}

impl KeyedProcessFunction<u64, Record, Held> for Maps {
    fn process(
        &mut self,
        (key, ops): Record,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Held>,
    ) -> UserResult {
        for op in ops {
            match op {
                Op::Insert(k, v) => drop(self.map.insert(ctx, k, v)),
                Op::Remove(k) => drop(self.map.remove(ctx, &k)),
                Op::Change(k) => {
                    if let Some(v) = self.map.get_mut(ctx, &k) {
                        *v += 1;
                    }
                }
                Op::Update(k) => self.map.update(ctx, k, |v| *v += 3),
                Op::Extend(from, n) => self.map.extend(ctx, (from..from + n).map(|k| (k, k))),
                Op::Thin => self.map.retain(ctx, |k, v| {
                    *v += 1;
                    k % 2 == 0
                }),
                Op::ChangeAll => self.map.iter_mut(ctx).for_each(|(_, v)| *v += 5),
                Op::Clear => self.map.clear(ctx),
                Op::Set(v) => self.value.set(ctx, v),
                Op::Unset => drop(self.value.take(ctx)),
                Op::Look => {
                    let map: Map = self.map.iter(ctx).map(|(k, v)| (*k, *v)).collect();
                    out.emit((key, map, self.value.get(ctx).copied()));
                }
            }
        }
        Ok(())
    }
}

fn apply(op: &Op, (map, value): &mut (Map, Option<u64>)) {
    match *op {
        Op::Insert(k, v) => drop(map.insert(k, v)),
        Op::Remove(k) => drop(map.remove(&k)),
        Op::Change(k) => {
            if let Some(v) = map.get_mut(&k) {
                *v += 1;
            }
        }
        Op::Update(k) => *map.entry(k).or_default() += 3,
        Op::Extend(from, n) => map.extend((from..from + n).map(|k| (k, k))),
        Op::Thin => map.retain(|k, v| {
            *v += 1;
            k % 2 == 0
        }),
        Op::ChangeAll => map.values_mut().for_each(|v| *v += 5),
        Op::Clear => map.clear(),
        Op::Set(v) => *value = Some(v),
        Op::Unset => *value = None,
        Op::Look => {}
    }
}

type Operated = KeyedProcess<u64, Record, Held, Maps>;

fn open(ctx: &mut Context) -> Operated {
    let mut states = States::default();
    let function = Maps { map: states.map("map"), value: states.value("value") };
    let mut operator = Operated::new(function, states, Arc::new(FnKey(|record: &Record| record.0)));
    operator.open(ctx).unwrap();
    operator
}

fn run(operator: &mut Operated, ctx: &mut Context, records: Vec<Record>) -> Vec<Held> {
    let mut batch = Batch { values: records, ..Batch::default() };
    let (mut out, mut held) = (Out::new(), Vec::new());
    loop {
        let progress = operator.process(&mut batch, ctx, &mut out).unwrap();
        out.flush();
        while let Some(mut batch) = out.take() {
            held.append(&mut batch.values);
        }
        if progress == Progress::Done {
            return held;
        }
    }
}

const KEYS: u64 = 6;

/// What is restored from a chain, by any number of subtasks together.
fn restored(chain: &[OperatorSnapshot], parallelism: usize) -> BTreeMap<u64, (Map, Option<u64>)> {
    let state = OperatorState::new(vec![SnapshotChain::new(chain.to_vec())]);
    let mut all = BTreeMap::new();
    for subtask in 0..parallelism {
        let (mut ctx, _) = context(StateScope::AllKeys);
        (ctx.runtime.subtask, ctx.runtime.parallelism) = (subtask, parallelism);
        let mut operator = open(&mut ctx);
        operator.restore(&state, &mut ctx).unwrap();
        let looks = (0..KEYS).map(|key| (key, vec![Op::Look])).collect();
        for (key, map, value) in run(&mut operator, &mut ctx, looks) {
            if !map.is_empty() || value.is_some() {
                assert!(all.insert(key, (map, value)).is_none(), "two subtasks have {key}");
            }
        }
    }
    all
}

fn op() -> impl Strategy<Value = Op> {
    let k = || 0..120u64;
    prop_oneof![
        8 => (k(), 0..1_000u64).prop_map(|(k, v)| Op::Insert(k, v)),
        6 => k().prop_map(Op::Remove),
        6 => k().prop_map(Op::Change),
        6 => k().prop_map(Op::Update),
        4 => (k(), 20..80u64).prop_map(|(k, n)| Op::Extend(k, n)),
        1 => Just(Op::Thin),
        1 => Just(Op::ChangeAll),
        1 => Just(Op::Clear),
        2 => (0..100u64).prop_map(Op::Set),
        1 => Just(Op::Unset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// S11, C3: snapshots of changed entries, written while maps change on, hold what the keys held at the last barrier: for a
    /// model of the maps, with snapshots of everything in between, with some given up, and for any number of subtasks.
    #[test]
    fn s11_chains_of_changed_entries(
        rounds in prop::collection::vec(
            (0..10u8, prop::collection::vec((0..KEYS, prop::collection::vec(op(), 1..4)), 0..8)), 1..30),
    ) {
        let (mut ctx, _) = context(StateScope::AllKeys);
        let mut operator = open(&mut ctx);
        let mut model: BTreeMap<u64, (Map, Option<u64>)> = BTreeMap::new();
        let mut chain: Vec<OperatorSnapshot> = Vec::new();
        let mut given_up = false;
        for (kind, records) in rounds {
            for (key, ops) in &records {
                let held = model.entry(*key).or_default();
                ops.iter().for_each(|op| apply(op, held));
            }
            run(&mut operator, &mut ctx, records);
            if kind > 5 {
                continue;
            }
            let full = kind == 0 || chain.is_empty() || given_up;
            let barrier = Barrier { id: 1, full, savepoint: false };
            let mut snapshot = OperatorSnapshot::default();
            let mut at_barrier = model.clone();
            at_barrier.retain(|_, (map, value)| !map.is_empty() || value.is_some());
            let mut progress = operator.snapshot(barrier, &mut snapshot).unwrap();
            given_up = kind == 1;
            if given_up && progress == Progress::Yielded {
                continue;
            }
            given_up = false;
            while progress == Progress::Yielded {
                // Every key changes while its entry may still have to be written.
                let ops = |key: u64| vec![Op::Update(key), Op::Remove(key + 50), Op::Set(7)];
                let more: Vec<Record> = (0..KEYS).map(|key| (key, ops(key))).collect();
                for (key, ops) in &more {
                    let held = model.entry(*key).or_default();
                    ops.iter().for_each(|op| apply(op, held));
                }
                run(&mut operator, &mut ctx, more);
                progress = operator.snapshot_more(&mut snapshot).unwrap();
            }
            if full {
                chain.clear();
            }
            chain.push(snapshot);
            for parallelism in [1, 2] {
                prop_assert_eq!(&restored(&chain, parallelism), &at_barrier);
            }
        }
    }
}

/// Bytes of the keys in a snapshot of what has changed since the one before.
fn changes(operator: &mut Operated) -> (OperatorSnapshot, usize) {
    let mut snapshot = OperatorSnapshot::default();
    let barrier = Barrier { id: 1, full: false, savepoint: false };
    let mut progress = operator.snapshot(barrier, &mut snapshot).unwrap();
    while progress == Progress::Yielded {
        progress = operator.snapshot_more(&mut snapshot).unwrap();
    }
    let bytes =
        snapshot.sections().find(|(name, _)| *name == "keys").map_or(0, |(_, keys)| keys.bytes().len());
    (snapshot, bytes)
}

/// S11: of a large map a snapshot of changes has the entries that changed.
#[test]
fn s11_a_large_map_is_not_written_whole_for_one_entry() {
    let (mut ctx, _) = context(StateScope::AllKeys);
    let mut operator = open(&mut ctx);
    run(&mut operator, &mut ctx, vec![(1, vec![Op::Extend(0, 10_000), Op::Set(1)])]);
    let mut chain = vec![snapshot_of!(operator)];
    let mut expected: (Map, Option<u64>) = ((0..10_000).map(|k| (k, k)).collect(), Some(1));
    let steps = [
        (vec![Op::Insert(20_000, 7)], 30),
        (vec![Op::Remove(5)], 30),
        (vec![Op::Set(2)], 30),
        (vec![], 0),
        (vec![Op::Update(9_999), Op::Change(17), Op::Remove(77_777)], 40),
        (vec![Op::Extend(0, 100)], 1_000),
    ];
    for (ops, bytes_max) in steps {
        ops.iter().for_each(|op| apply(op, &mut expected));
        run(&mut operator, &mut ctx, vec![(1, ops.clone())]);
        let (snapshot, bytes) = changes(&mut operator);
        assert!(bytes <= bytes_max, "{bytes} bytes for {ops:?}");
        chain.push(snapshot);
        assert_eq!(restored(&chain, 1), BTreeMap::from([(1, expected.clone())]), "{ops:?}");
    }
    // What is nearly new, or may be, is written whole.
    for ops in [vec![Op::Extend(0, 9_000)], vec![Op::ChangeAll], vec![Op::Clear, Op::Extend(0, 9_000)]] {
        ops.iter().for_each(|op| apply(op, &mut expected));
        run(&mut operator, &mut ctx, vec![(1, ops.clone())]);
        let (snapshot, bytes) = changes(&mut operator);
        assert!(bytes > 15_000, "{bytes} bytes for {ops:?}");
        chain.push(snapshot);
        assert_eq!(restored(&chain, 1), BTreeMap::from([(1, expected.clone())]), "{ops:?}");
    }
}

/// S10: changes without what they changed are an error, not another map.
#[test]
fn s11_changes_without_the_map_are_an_error() {
    let (mut ctx, _) = context(StateScope::AllKeys);
    let mut operator = open(&mut ctx);
    run(&mut operator, &mut ctx, vec![(1, vec![Op::Extend(0, 100)])]);
    drop(snapshot_of!(operator));
    run(&mut operator, &mut ctx, vec![(1, vec![Op::Insert(3, 4)])]);
    let (snapshot, _) = changes(&mut operator);
    let (mut ctx, _) = context(StateScope::AllKeys);
    let error = open(&mut ctx).restore(&snapshot.into(), &mut ctx).unwrap_err().to_string();
    assert!(error.contains("'map'") && error.contains("before the state"), "{error}");
}
