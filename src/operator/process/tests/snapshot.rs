//! F2: state and timers survive in a snapshot.

use super::*;
use crate::base::batch::Barrier;
use crate::base::hash::{hash_of, key_group, subtask_of_group};
use crate::operator::tests::snapshot_of;
use crate::semantics::state::{OperatorSnapshot, OperatorState, SnapshotChain};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn restored(snapshots: &OperatorSnapshot, subtask: usize, parallelism: usize) -> Rig {
    let mut rig = Rig::new(StateScope::AllKeys, |_, _| vec![Emit(1), Forget]);
    (rig.ctx.runtime.subtask, rig.ctx.runtime.parallelism) = (subtask, parallelism);
    let mut states = States::default();
    // Another order, and one more: names say what belongs where.
    states.list::<u64>("more");
    let function = Script { number: states.value("number"), on: |_, _| vec![Emit(1), Forget] };
    rig.operator = Scripted::new(function, states, Arc::new(FnKey(|call: &Call| call.0)));
    rig.operator.open(&mut rig.ctx).unwrap();
    rig.operator.restore(&snapshots.clone().into(), &mut rig.ctx).unwrap();
    rig
}

/// F2: timers of both domains go on after a restore; those of the clock that are overdue fire at once.
#[test]
fn f2_timers_and_state_survive_a_restore() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    rig.records(vec![
        (1, vec![Add(10), Event(50), Event(60), DeleteEvent(60), Processing(5)]),
        (2, vec![Add(20), Add(1)]),
        (3, vec![Event(i64::MIN), Event(i64::MAX), Processing(i64::MAX)]),
        (4, vec![Add(1), Forget, Event(7), DeleteEvent(7)]),
    ]);
    assert_eq!(rig.watermark(i64::MIN), [(3, i64::MIN)]);
    let snapshot = snapshot_of!(rig.operator);
    assert_eq!(snapshot, snapshot_of!(rig.operator));
    let mut again = restored(&snapshot, 0, 1);
    assert_eq!(again.keys(), 3);
    assert_eq!(again.operator.next_timer(), Some(5), "overdue, and to be called at once");
    assert_eq!(again.processing_time(1_000), [(1, 5)]);
    let numbers: Vec<_> = again.records(vec![(1, vec![Emit(1)]), (2, vec![Emit(1), Forget])]);
    assert_eq!(numbers.iter().map(|seen| seen.number).collect::<Vec<_>>(), [0, 21]);
    assert_eq!(again.watermark(55), [(1, 50)]);
    assert_eq!(again.end(), [(3, true, i64::MAX), (3, false, i64::MAX)]);
    assert_eq!(again.keys(), 0);
    // The one that was written goes on as well.
    assert_eq!(rig.processing_time(1_000), [(1, 5)]);
}

/// S1: with another parallelism each subtask takes up the keys that are its own.
#[test]
fn s1_a_restore_with_another_parallelism_takes_its_own_keys() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    rig.records((0..200).map(|key| (key, vec![Add(key + 1), Event(key as i64)])).collect());
    let snapshot = snapshot_of!(rig.operator);
    let mut seen = Vec::new();
    for subtask in 0..3 {
        let mut rig = restored(&snapshot, subtask, 3);
        let own = |key: u64| subtask_of_group(key_group(hash_of(&key), 128), 3, 128) == subtask;
        assert_eq!(rig.keys(), (0..200).filter(|&key| own(key)).count());
        seen.extend(rig.watermark(500));
    }
    seen.sort();
    assert_eq!(seen, (0..200).map(|key| (key, key as i64)).collect::<Vec<_>>());
}

/// S1: state that the function does not declare any more is an error that names it.
#[test]
fn s1_unknown_state_is_named() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    rig.records(vec![(1, vec![Add(1)])]);
    let snapshot = snapshot_of!(rig.operator);
    let mut states = States::default();
    let function = Script { number: states.value("amount"), on: emits };
    let mut operator = Scripted::new(function, states, Arc::new(FnKey(|call: &Call| call.0)));
    operator.open(&mut rig.ctx).unwrap();
    let error = operator.restore(&snapshot.into(), &mut rig.ctx).unwrap_err().to_string();
    assert!(error.contains("'number'"), "{error}");
}

/// A key of the random test: its number, and its timers.
type Held = (u64, BTreeSet<i64>, BTreeSet<i64>);

/// What a restored operator holds: the numbers and timers of its keys.
fn held(chain: &[OperatorSnapshot], subtask: usize, parallelism: usize, keys: u64) -> BTreeMap<u64, Held> {
    let state = OperatorState::new(vec![SnapshotChain::new(chain.to_vec())]);
    let mut rig = Rig::new(StateScope::AllKeys, |_, _| vec![Emit(1)]);
    (rig.ctx.runtime.subtask, rig.ctx.runtime.parallelism) = (subtask, parallelism);
    rig.operator.restore(&state, &mut rig.ctx).unwrap();
    let mut found: BTreeMap<u64, Held> = BTreeMap::new();
    let count = rig.keys();
    // Asking is a record, which leaves no state.
    let seen = rig.records((0..keys).map(|key| (key, vec![Emit(1)])).collect());
    assert_eq!(rig.keys(), count);
    seen.iter()
        .filter(|seen| seen.number > 0)
        .for_each(|seen| found.entry(seen.key).or_default().0 = seen.number);
    for (key, time) in rig.watermark(i64::MAX - 1) {
        found.entry(key).or_default().1.insert(time);
    }
    for (key, time) in rig.processing_time(i64::MAX - 1) {
        found.entry(key).or_default().2.insert(time);
    }
    assert_eq!(found.len(), count);
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// S11, F2: what is written in slices while keys change, timers fire and keys go, is state and timers as they were at the
    /// barrier, also as changes to older snapshots, and for any number of subtasks.
    #[test]
    fn s11_chains_of_snapshots_written_while_keys_change(
        rounds in prop::collection::vec((0..5u8, prop::collection::vec((0..60u64, 0..8u8, 0..40i64), 1..60)), 1..25),
    ) {
        let mut rig = Rig::new(StateScope::AllKeys, |_, _| vec![Emit(1)]);
        let mut model: BTreeMap<u64, Held> = BTreeMap::new();
        let mut chain: Vec<OperatorSnapshot> = Vec::new();
        let mut under_way: Option<(OperatorSnapshot, bool, BTreeMap<u64, Held>)> = None;
        let mut time = (0, 0);
        for (kind, calls) in rounds {
            let calls = calls.into_iter().map(|(key, call, n)| {
                let held = model.entry(key).or_default();
                let todo = match call {
                    0 | 1 => { held.0 += n as u64 + 1; vec![Add(n as u64 + 1)] }
                    2 => { held.0 = 0; vec![Forget] }
                    3 => { held.1.insert(time.0 + n + 1); vec![Event(time.0 + n + 1)] }
                    4 => { held.2.insert(time.1 + n + 1); vec![Processing(time.1 + n + 1)] }
                    5 => { held.1.remove(&(time.0 + n + 1)); vec![DeleteEvent(time.0 + n + 1)] }
                    6 => { held.2.remove(&(time.1 + n + 1)); vec![DeleteProcessing(time.1 + n + 1)] }
                    _ => Vec::new(),
                };
                (key, todo)
            });
            rig.records(calls.collect());
            match kind {
                0 => {
                    time.0 += 7;
                    rig.watermark(time.0);
                    model.values_mut().for_each(|held| held.1 = held.1.split_off(&(time.0 + 1)));
                }
                1 => {
                    time.1 += 7;
                    rig.processing_time(time.1);
                    model.values_mut().for_each(|held| held.2 = held.2.split_off(&(time.1 + 1)));
                }
                2 if under_way.is_none() => {
                    let barrier = Barrier { id: 1, full: chain.is_empty(), savepoint: false };
                    let mut snapshot = OperatorSnapshot::default();
                    let progress = rig.operator.snapshot(barrier, &mut snapshot).unwrap();
                    let mut at_barrier = model.clone();
                    at_barrier.retain(|_, held| *held != Held::default());
                    prop_assert!(progress == Progress::Yielded || at_barrier.len() < 40);
                    under_way = Some((snapshot, barrier.full, at_barrier));
                }
                _ => {}
            }
            let Some((mut snapshot, full, at_barrier)) = under_way.take() else { continue };
            if rig.operator.snapshot_more(&mut snapshot).unwrap() == Progress::Yielded {
                under_way = Some((snapshot, full, at_barrier));
                continue;
            }
            chain.push(snapshot);
            prop_assert_eq!(&held(&chain, 0, 1, 60), &at_barrier);
            let halves = [held(&chain, 0, 2, 60), held(&chain, 1, 2, 60)];
            prop_assert_eq!(halves.into_iter().flatten().collect::<BTreeMap<_, _>>(), at_barrier);
        }
    }
}

/// F2: timers of a processing time that passed while the job was down fire once each, as soon as the clock is looked at.
#[test]
fn f2_overdue_processing_timers_fire_once_after_a_restore() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    let timers = |key| (key, vec![Processing(10), Processing(20), Processing(20), Processing(900)]);
    rig.records((0..300).map(timers).collect());
    let snapshot = snapshot_of!(rig.operator);
    let mut again = restored(&snapshot, 0, 1);
    again.clock.advance(Duration::from_millis(500));
    assert_eq!(again.operator.next_timer(), Some(10));
    let fired = again.processing_time(500);
    let expected = [10, 20].into_iter().flat_map(|time| (0..300).map(move |key| (key, time)));
    assert!(fired.into_iter().collect::<BTreeSet<_>>().into_iter().eq(expected.collect::<BTreeSet<_>>()));
    assert_eq!(again.processing_time(500), []);
    assert_eq!(again.operator.next_timer(), Some(900));
}
