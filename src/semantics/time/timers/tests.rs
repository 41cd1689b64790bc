//! The queue against a `BTreeSet`, and how long a timer takes.

use super::*;
use crate::base::hash::hash_of;
use proptest::prelude::*;
use std::fmt::Debug;

mod speed;

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        hash_of(&self.0)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Pops until nothing is due.
fn drain<N: Copy + Ord>(timers: &mut Timers<N>) -> Vec<Timer<N>> {
    std::iter::from_fn(|| timers.pop_due()).collect()
}

fn fired(timers: &mut Timers<()>) -> Vec<(Timestamp, Slot)> {
    drain(timers).into_iter().map(|timer| (timer.time, timer.slot)).collect()
}

#[derive(Clone, Debug)]
enum Step<N> {
    Register(Timestamp, Slot, N),
    Delete(Timestamp, Slot, N),
    /// Registers that many timers in a row, each that much after the one before.
    Many(Timestamp, i64, Slot, N, u16),
    Advance(Timestamp),
    Pop(u16),
    Clear,
    /// A barrier.
    Cut,
    /// Reads that many calls of the last cut.
    Read(u16),
}

/// Times at the ends, around the middle, close together, and anywhere.
fn times() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        8 => -20..60i64,
        4 => (-40..60i64).prop_map(|n| n * 1000),
        1 => any::<i64>(),
        1 => (0..3i64).prop_map(|n| i64::MAX - n),
        1 => (0..3i64).prop_map(|n| i64::MIN + n),
    ]
}

fn steps<N: Debug + Clone + 'static>(
    namespaces: impl Strategy<Value = N> + Clone + 'static,
) -> impl Strategy<Value = Vec<Step<N>>> {
    let (n1, n2) = (namespaces.clone(), namespaces.clone());
    let step = prop_oneof![
        20 => (times(), 0..6u32, namespaces).prop_map(|(t, s, n)| Step::Register(t, s, n)),
        12 => (times(), 0..6u32, n1).prop_map(|(t, s, n)| Step::Delete(t, s, n)),
        1 => (times(), 0..40i64, 0..6u32, n2, 1000..20_000u16)
            .prop_map(|(t, by, s, n, count)| Step::Many(t, by, s, n, count)),
        6 => times().prop_map(Step::Advance),
        10 => (1..30u16).prop_map(Step::Pop),
        4 => Just(Step::Pop(u16::MAX)),
        1 => Just(Step::Clear),
        2 => Just(Step::Cut),
        4 => (1..12_000u16).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 0..120)
}

/// What was there at a cut, and what has been read of it.
type Cuts<N> = (BTreeSet<Timer<N>>, Vec<TimerCall<N>>);

fn follows_model<N: Copy + Ord + Debug>(steps: Vec<Step<N>>) {
    let mut timers = Timers::<N>::new();
    let mut model = BTreeSet::<Timer<N>>::new();
    let (mut now, mut advancing) = (Timestamp::MIN, false);
    // What was there at the last cut, and what has been read of it.
    let mut cut: Option<Cuts<N>> = None;
    for step in steps {
        match step {
            Step::Register(time, slot, namespace) => {
                timers.register(time, slot, namespace);
                model.insert(Timer { time, slot, namespace });
            }
            Step::Delete(time, slot, namespace) => {
                timers.delete(time, slot, namespace);
                model.remove(&Timer { time, slot, namespace });
            }
            Step::Many(mut time, by, slot, namespace, count) => {
                for i in 0..count as u32 {
                    let slot = slot + i % 7;
                    timers.register(time, slot, namespace);
                    model.insert(Timer { time, slot, namespace });
                    time = time.saturating_add(by);
                }
            }
            Step::Advance(to) => {
                timers.advance(to);
                (now, advancing) = (now.max(to), true);
            }
            Step::Pop(count) => {
                for _ in 0..count {
                    let first = model.first().copied().filter(|first| advancing && first.time <= now);
                    assert_eq!(timers.pop_due(), first);
                    match first {
                        Some(first) => assert!(model.remove(&first)),
                        None => {
                            advancing = false;
                            break;
                        }
                    }
                }
            }
            Step::Clear => {
                timers.clear();
                model.clear();
                cut = None;
                (now, advancing) = (Timestamp::MIN, false);
                assert!(timers.is_empty());
            }
            Step::Cut => {
                timers.cut();
                cut = Some((model.clone(), Vec::new()));
            }
            Step::Read(count) => {
                if let Some((_, read)) = &mut cut {
                    read.extend(std::iter::from_fn(|| timers.next_call()).take(count as usize));
                }
            }
        }
        assert!(timers.len() >= model.len());
        assert_eq!(timers.is_empty(), timers.next().is_none());
        if let Some(first) = model.first() {
            assert!(timers.next().unwrap() <= first.time);
        }
        assert!(model.iter().step_by(97).all(|timer| timers.holds(timer.slot)));
        assert!(timers.upcoming(10).count() <= 10);
    }
    assert!(timers.iter_live().iter().eq(&model));
    // What is read of a cut makes the queue that was cut, whatever became of it since.
    let again = |calls: Vec<TimerCall<N>>| {
        let mut again = Timers::new();
        again.register_live(calls);
        again.iter_live()
    };
    if let Some((at_cut, mut calls)) = cut {
        calls.extend(std::iter::from_fn(|| timers.next_call()));
        assert!(again(calls).iter().eq(&at_cut));
    }
    timers.cut();
    let calls = std::iter::from_fn(|| timers.next_call()).collect();
    assert!(again(calls).iter().eq(&model));
    timers.advance(Timestamp::MAX);
    assert!(drain(&mut timers).iter().eq(&model));
    assert_eq!((timers.len(), timers.next(), timers.iter_live()), (0, None, vec![]));
    assert!((0..20).all(|slot| !timers.holds(slot)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// F2: whatever is registered and deleted, also while timers fire.
    #[test]
    fn timers_of_process_functions_follow_the_model(steps in steps(Just(()))) {
        follows_model(steps);
    }

    /// F2: the same with windows.
    #[test]
    fn timers_of_windows_follow_the_model(steps in steps((0..3i64, prop_oneof![Just(i64::MIN), Just(4)]))) {
        follows_model(steps);
    }
}

/// F2: one timer per time, slot and namespace.
#[test]
fn duplicates_collapse_and_deleting_a_missing_timer_is_nothing() {
    let mut timers = Timers::<()>::new();
    for time in [7, 5, 5, 7] {
        timers.register(time, 1, ());
        timers.register(time, 0, ());
    }
    timers.delete(5, 1, ());
    timers.delete(6, 1, ());
    timers.delete(5, 9, ());
    timers.delete(7, 0, ());
    timers.register(7, 0, ());
    timers.advance(6);
    assert_eq!(fired(&mut timers), [(5, 0)]);
    timers.advance(7);
    assert_eq!(fired(&mut timers), [(7, 0), (7, 1)]);
    assert!(timers.is_empty());
}

/// F2: a timer at or before the current time fires at the next advance, not at once.
#[test]
fn overdue_timers_fire_with_the_next_advance() {
    let mut timers = Timers::<()>::new();
    timers.register(Timestamp::MIN, 3, ());
    assert_eq!(timers.pop_due(), None);
    timers.advance(10);
    assert_eq!(fired(&mut timers), [(Timestamp::MIN, 3)]);
    timers.register(10, 1, ());
    timers.register(-5, 1, ());
    assert_eq!((timers.pop_due(), timers.next(), timers.holds(1)), (None, Some(-5), true));
    timers.advance(10);
    assert_eq!(fired(&mut timers), [(-5, 1), (10, 1)]);
    timers.register(10, 1, ());
    timers.register(11, 1, ());
    timers.register(8, 2, ());
    timers.delete(8, 2, ());
    timers.advance(3);
    assert_eq!(fired(&mut timers), [(10, 1)]);
    timers.advance(Timestamp::MAX);
    assert_eq!(fired(&mut timers), [(11, 1)]);
    timers.register(Timestamp::MAX, 1, ());
    assert_eq!(timers.pop_due(), None);
    timers.advance(0);
    assert_eq!(fired(&mut timers), [(Timestamp::MAX, 1)]);
}

/// F2: what a timer registers or deletes while others are due counts at once.
#[test]
fn timers_that_fire_may_register_and_delete() {
    let mut timers = Timers::<()>::new();
    for slot in 0..4 {
        timers.register(5, slot, ());
    }
    timers.advance(20);
    assert_eq!(timers.pop_due().map(|timer| timer.slot), Some(0));
    timers.delete(5, 2, ());
    timers.delete(5, 0, ());
    timers.register(4, 7, ());
    timers.register(5, 1, ());
    timers.register(21, 0, ());
    timers.register(20, 0, ());
    timers.register(5, 9, ());
    timers.delete(5, 9, ());
    timers.delete(5, 3, ());
    timers.register(5, 3, ());
    assert!(!timers.holds(2) && !timers.holds(9));
    assert_eq!(fired(&mut timers), [(4, 7), (5, 1), (5, 3), (20, 0)]);
    assert_eq!((timers.len(), timers.next()), (1, Some(21)));
}

/// The clock's timers: the executor sleeps until the next one, so that has to be right.
#[test]
fn next_is_the_earliest_time_once_time_has_passed_what_was_deleted() {
    let mut timers = Timers::<()>::new();
    let mut numbers = Numbers(1);
    for slot in 0..50_000 {
        timers.register(numbers.below(1 << 40) as i64, slot, ());
    }
    for timer in timers.iter_live() {
        assert_eq!(timers.next(), Some(timer.time));
        timers.advance(timer.time);
        assert_eq!(drain(&mut timers), [timer]);
        assert!(!timers.holds(timer.slot));
    }
    assert_eq!(timers.next(), None);
    let now = 1 << 40;
    timers.register(now + 3, 1, ());
    timers.register(now + 9, 1, ());
    timers.delete(now + 3, 1, ());
    assert_eq!(timers.next(), Some(now + 3));
    timers.advance(now + 3);
    assert_eq!((timers.pop_due(), timers.next()), (None, Some(now + 9)));
}

/// A key whose timer is registered or moved by each of its records.
#[test]
fn memory_follows_the_live_timers_not_the_calls() {
    for slots in [1, 1000, 30_000] {
        let mut timers = Timers::<(i64, i64)>::new();
        let mut ends = vec![0; slots as usize];
        let mut now = 0;
        for i in 0..1_000_000u64 {
            let slot = (hash_of(&i) % slots) as Slot;
            // The same timer again, ...
            timers.register(4_000_000, slot, (0, 1));
            // ... and the end of a session that moves with the record.
            timers.delete(ends[slot as usize], slot, (0, 0));
            ends[slot as usize] = i as i64 + 2_000_000;
            timers.register(ends[slot as usize], slot, (0, 0));
            if i % 1000 == 0 {
                now += 1000;
                timers.advance(now);
                assert_eq!(timers.pop_due(), None);
            }
            // The entries of a timer that moves are in the bucket it left, too, until that is opened.
            let bound = 3 * 4 * slots as usize + 65 * 1100;
            assert!(timers.len() <= bound, "{} entries of {slots} slots", timers.len());
        }
        let bytes = timers.memory_bytes();
        assert!(bytes < 10_000_000 + slots * 32 * 20, "{bytes} of {slots} slots");
        timers.advance(Timestamp::MAX);
        let fired = drain(&mut timers).len() as u64;
        assert!(fired <= 2 * slots && fired > slots, "{fired}");
        assert!((0..slots).all(|slot| !timers.holds(slot as Slot)));
    }
}

/// Key by key, each from the smallest time to the largest, with the memory of one.
#[test]
fn cleared_queue_is_like_new_and_keeps_its_memory() {
    let mut timers = Timers::<()>::new();
    let mut bytes = Vec::new();
    for _ in 0..3 {
        timers.register(Timestamp::MIN, 0, ());
        for time in 0..100_000 {
            timers.register(time * 77, 0, ());
        }
        timers.advance(50);
        assert_eq!(fired(&mut timers), [(Timestamp::MIN, 0), (0, 0)]);
        timers.clear();
        assert_eq!((timers.len(), timers.next(), timers.pop_due(), timers.holds(0)), (0, None, None, false));
        timers.advance(Timestamp::MIN);
        assert_eq!(timers.pop_due(), None);
        bytes.push(timers.memory_bytes());
    }
    assert_eq!(bytes[1], bytes[2]);
}

/// More timers of one time than are sorted at once.
#[test]
fn many_timers_of_one_time_fire_by_slot_and_namespace() {
    for slots in [1, 3, 1000, 100_000] {
        let mut timers = Timers::<(i64, i64)>::new();
        let mut model = BTreeSet::new();
        let mut numbers = Numbers(slots);
        for _ in 0..100_000 {
            let (slot, namespace) = (5 + numbers.below(slots) as Slot, (numbers.below(3) as i64, 9));
            if numbers.below(4) > 0 {
                timers.register(9, slot, namespace);
                model.insert(Timer { time: 9, slot, namespace });
            } else {
                timers.delete(9, slot, namespace);
                model.remove(&Timer { time: 9, slot, namespace });
            }
        }
        timers.advance(9);
        assert!(drain(&mut timers).iter().eq(&model));
        assert!(timers.is_empty());
    }
}

#[test]
fn upcoming_slots_are_those_that_are_popped_next() {
    let mut timers = Timers::<()>::new();
    for slot in 0..100 {
        timers.register(1000 + slot as i64 * 3, slot, ());
    }
    assert_eq!(timers.upcoming(5).count(), 0);
    timers.advance(2000);
    assert_eq!(timers.pop_due().map(|timer| timer.slot), Some(0));
    assert!(timers.upcoming(5).eq(1..6));
}

#[test]
fn an_entry_takes_sixteen_bytes_or_thirty_two() {
    assert_eq!((size_of::<Entry<()>>(), size_of::<Entry<(i64, i64)>>()), (16, 32));
    assert_eq!(Timers::<()>::new().memory_bytes(), 0);
}
