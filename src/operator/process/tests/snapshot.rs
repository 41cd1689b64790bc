//! F2: state and timers survive in a snapshot.

use super::*;
use crate::base::hash::{hash_of, key_group, subtask_of_group};
use crate::operator::tests::snapshot_of;
use crate::semantics::state::OperatorSnapshot;

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
