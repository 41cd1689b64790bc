//! Which keys stay.

use super::*;
use crate::semantics::state::{ListState, ReducingState};

/// Keeps what comes with `true`, and forgets it all again, each kind in its own way, with `false`.
struct Kept {
    list: ListState<u64>,
    map: MapState<u64, u64>,
    sum: ReducingState<u64>,
}

impl KeyedProcessFunction<u64, (u64, bool), usize> for Kept {
    fn process(
        &mut self,
        (n, keep): (u64, bool),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, usize>,
    ) -> UserResult {
        if keep {
            self.list.add(ctx, n);
            self.map.insert(ctx, n, n);
            self.sum.add(ctx, n);
        } else {
            self.list.retain(ctx, |_| false);
            self.map.remove(ctx, &n);
            self.sum.clear(ctx);
        }
        out.emit(self.list.len(ctx) + self.map.len(ctx) + self.sum.get(ctx).iter().count());
        Ok(())
    }
}

type Kept64 = KeyedProcess<u64, (u64, bool), usize, Kept>;

fn opened(ctx: &mut Context) -> Kept64 {
    let mut states = States::default();
    let function = Kept {
        list: states.list("list"),
        map: states.map("map"),
        sum: states.reducing("sum", |sum, n| *sum += n),
    };
    let mut operator = Kept64::new(function, states, Arc::new(FnKey(|record: &(u64, bool)| record.0)));
    operator.open(ctx).unwrap();
    operator
}

fn run(operator: &mut Kept64, ctx: &mut Context, values: Vec<(u64, bool)>) -> Vec<usize> {
    let mut out = Out::new();
    let mut batch = Batch { values, ..Batch::default() };
    assert_eq!(operator.process(&mut batch, ctx, &mut out).unwrap(), Progress::Done);
    out.flush();
    out.take().map(|batch| batch.values).unwrap_or_default()
}

/// S1: a key whose list and map became empty holds nothing, and leaves no entry behind.
#[test]
fn s1_keys_that_hold_nothing_are_forgotten() {
    let (mut ctx, _) = context(StateScope::AllKeys);
    let mut operator = opened(&mut ctx);
    assert_eq!(run(&mut operator, &mut ctx, (0..100).map(|n| (n, true)).collect()), [3; 100]);
    assert_eq!(keys_of(&operator.backend), 100);
    assert_eq!(run(&mut operator, &mut ctx, (0..60).map(|n| (n, false)).collect()), [0; 60]);
    assert_eq!(keys_of(&operator.backend), 40);
    // Emptied and filled again within a batch; new, filled and emptied; new, and never filled.
    let mixed = vec![(99, false), (99, true), (500, true), (500, false), (501, false)];
    assert_eq!(run(&mut operator, &mut ctx, mixed), [0, 3, 3, 0, 0]);
    assert_eq!(keys_of(&operator.backend), 40);
    // The slots that became free serve new keys, which find nothing of the old ones.
    assert_eq!(run(&mut operator, &mut ctx, (1000..1100).map(|n| (n, true)).collect()), [3; 100]);
    assert_eq!(keys_of(&operator.backend), 140);
}

/// S1: key by key, the next one starts with nothing.
#[test]
fn s1_state_ends_with_its_key() {
    let (mut ctx, _) = context(StateScope::OneKey);
    let mut operator = opened(&mut ctx);
    for key in 0..3 {
        assert_eq!(run(&mut operator, &mut ctx, vec![(key, true), (key, true)]), [3, 4]);
        assert_eq!(run(&mut operator, &mut ctx, vec![(key, true)]), [5]);
        assert_eq!(operator.end_of_key(&mut ctx, &mut Out::new()).unwrap(), Progress::Done);
        assert_eq!(keys_of(&operator.backend), 0);
    }
}

/// F2: a key stays as long as it has a timer, and no longer.
#[test]
fn f2_keys_stay_with_their_timers() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    rig.records((0..100).map(|key| (key, vec![Event(key as i64), Event(200)])).collect());
    rig.records((0..50).map(|key| (key, vec![Processing(1), Add(1), Forget])).collect());
    assert_eq!((rig.watermark(99).len(), rig.keys()), (100, 100));
    assert_eq!((rig.watermark(200).len(), rig.keys()), (100, 50));
    rig.records((0..10).map(|key| (key, vec![Add(1)])).collect());
    assert_eq!((rig.processing_time(1).len(), rig.keys()), (50, 10));
    rig.records((0..10).map(|key| (key, vec![Forget])).collect());
    assert_eq!(rig.keys(), 0);
}

/// F2: a key that a deleted timer kept goes later, by what others do. One timer of each key moves with each record.
#[test]
fn f2_keys_of_deleted_timers_do_not_pile_up() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    for round in 0..300i64 {
        let move_on = |key| {
            let todo =
                vec![Add(1), DeleteEvent(round + 9), Event(round + 10), Forget, DeleteEvent(round + 10)];
            (round as u64 * 100 + key, todo)
        };
        rig.records((0..100).map(move_on).collect());
        assert_eq!(rig.watermark(round), []);
        assert!(rig.keys() < 6000, "{} keys in round {round}", rig.keys());
    }
    // Held by a timer, with a deleted one beside it: it goes when the one that is left has fired.
    rig.records(vec![(7, vec![Event(1000), Event(5000), DeleteEvent(5000), Add(1), Forget])]);
    assert_eq!(rig.watermark(1000), [(7, 1000)]);
    rig.end();
    let Backend::Open(backend) = &rig.operator.backend else { panic!() };
    assert!(backend.context.timers.event.is_empty());
}
