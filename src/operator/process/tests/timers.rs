//! F2 and F3: when timers fire.

use super::*;

/// F2: one timer for each key, time and domain; deleting one that is not there is nothing.
#[test]
fn f2_duplicates_collapse_and_deleting_a_missing_timer_is_nothing() {
    for scope in SCOPES {
        let mut rig = Rig::new(scope, emits);
        rig.records(vec![
            (1, vec![Event(5), Event(5), Processing(5), Event(7), DeleteEvent(6), DeleteProcessing(7)]),
            (1, vec![Event(5), Processing(5), Processing(6), DeleteProcessing(6), Event(3)]),
            (1, vec![DeleteEvent(7), Event(9), DeleteEvent(9), Event(9)]),
        ]);
        assert_eq!(
            rig.end(),
            [(1, true, 3), (1, true, 5), (1, true, 9), (1, false, 5)],
            "{scope:?}: by time, and those of the clock last"
        );
        assert_eq!((rig.keys(), rig.dropped()), (0, 0));
    }
}

/// F2: keys have their own timers, of the same times; deleting that of one leaves the others.
#[test]
fn f2_timers_are_of_a_key() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    rig.records((0..4).map(|key| (key, vec![Event(10), Event(11), Add(key)])).collect());
    rig.records(vec![(2, vec![DeleteEvent(10)]), (3, vec![DeleteEvent(11)])]);
    assert_eq!(rig.watermark(9), []);
    assert_eq!(rig.watermark(10), [(0, 10), (1, 10), (3, 10)]);
    assert_eq!(rig.watermark(30), [(0, 11), (1, 11), (2, 11)]);
}

/// F2: a timer at or before the current watermark fires at the next advance, not at once.
#[test]
fn f2_overdue_timers_fire_with_the_next_advance() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    rig.records(vec![(1, vec![Event(100)])]);
    assert_eq!(rig.watermark(10), []);
    assert_eq!(rig.records(vec![(1, vec![Event(10), Event(-7)])]), []);
    assert_eq!(rig.watermark(11), [(1, -7), (1, 10)]);
    // The same where there was nothing to fire before.
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    assert_eq!(rig.watermark(10), []);
    assert_eq!(rig.records(vec![(1, vec![Event(10)])]), []);
    assert_eq!(rig.watermark(11), [(1, 10)]);
}

/// F2: what a timer registers up to the watermark fires in the same advance, in the order of time, and what it
/// deletes does not.
#[test]
fn f2_timers_may_register_and_delete() {
    let on = |_, timer: TimerFired| match timer.time {
        5 => vec![Emit(1), Event(7), Event(3), Event(30), DeleteEvent(8), DeleteEvent(9), Event(9)],
        _ => vec![Emit(1)],
    };
    let mut rig = Rig::new(StateScope::AllKeys, on);
    rig.records(vec![(1, vec![Event(5), Event(6), Event(8), Event(9)])]);
    assert_eq!(rig.watermark(20), [(1, 5), (1, 3), (1, 6), (1, 7), (1, 9)]);
    assert_eq!(rig.watermark(29), []);
    assert_eq!(rig.watermark(30), [(1, 30)]);
    assert_eq!(rig.dropped(), 0);
}

/// F2, F3: a timer that registers itself again and again fires as often as time allows, and ends with the input. What
/// does not fire is counted.
#[test]
fn f2_f3_a_timer_that_registers_itself_ends_with_the_input() {
    let on = |_, timer: TimerFired| match timer.domain {
        TimeDomain::Event => vec![Emit(1), Event(timer.time + 10), Processing(timer.time + 10)],
        TimeDomain::Processing => vec![Emit(1), Processing(timer.time + 10), Event(timer.time)],
    };
    let mut rig = Rig::new(StateScope::AllKeys, on);
    rig.records(vec![(1, vec![Event(0), Processing(1)])]);
    assert_eq!(rig.watermark(25), [(1, 0), (1, 10), (1, 20)]);
    assert_eq!(rig.processing_time(11), [(1, 1), (1, 10), (1, 11)]);
    assert_eq!(rig.dropped(), 0);
    // The event-time timers 1, 10, 11 of the clock's, 30, and the clock's 20, 21, 30.
    assert_eq!(
        rig.end(),
        [
            (1, true, 1),
            (1, true, 10),
            (1, true, 11),
            (1, true, 30),
            (1, false, 20),
            (1, false, 21),
            (1, false, 30)
        ]
    );
    assert_eq!((rig.dropped(), rig.keys()), (14, 0));
    let mut rig = Rig::new(StateScope::OneKey, on);
    for key in 0..3 {
        rig.records(vec![(key, vec![Event(0), Processing(1)])]);
        assert_eq!(rig.end(), [(key, true, 0), (key, false, 1)]);
        assert_eq!(rig.dropped(), 4 * (key + 1));
    }
}

/// F3: at the end of a key all its timers fire, those of event time first, past ones too; the key's state is there, and
/// a timer may still delete another.
#[test]
fn f3_timers_fire_at_the_end_of_their_key() {
    let on = |_, timer: TimerFired| match (timer.domain, timer.time) {
        (TimeDomain::Event, 1) => {
            vec![Emit(1), Add(1), DeleteEvent(2), DeleteProcessing(-5), DeleteProcessing(77)]
        }
        _ => vec![Emit(1), Add(1)],
    };
    let mut rig = Rig::new(StateScope::OneKey, on);
    for key in [8, 3, 5] {
        rig.records(vec![(key, vec![Processing(-5), Processing(-9), Event(2), Processing(1 << 50)])]);
        rig.records(vec![(key, vec![Event(1), Event(i64::MIN), Add(100), Emit(0)])]);
        let seen = rig.call(|operator, ctx, out| operator.end_of_key(ctx, out));
        let fired: Vec<_> = seen.iter().map(|(seen, _)| (seen.timer.unwrap(), seen.number)).collect();
        assert_eq!(
            fired,
            [((true, i64::MIN), 100), ((true, 1), 101), ((false, -9), 102), ((false, 1 << 50), 103)]
        );
        assert!(seen.iter().all(|(seen, _)| seen.key == key && seen.watermark == WATERMARK_MAX));
        assert_eq!(rig.keys(), 0);
    }
}

/// F3: in BATCH the clock stands still, and nobody is called by it.
#[test]
fn f3_the_clock_stands_still_in_batch() {
    let mut rig = Rig::new(StateScope::OneKey, emits);
    rig.records(vec![(1, vec![Processing(0), Processing(5)])]);
    rig.clock.advance(Duration::from_secs(3600));
    assert_eq!(rig.operator.next_timer(), None);
    let Backend::Open(backend) = &rig.operator.backend else { panic!() };
    assert_eq!(backend.context.processing_time(), 0);
    assert_eq!(rig.processing_time(10), []);
    assert_eq!(rig.end(), [(1, false, 0), (1, false, 5)]);
}

/// F2: the smallest and the largest time are times.
#[test]
fn f2_timers_at_the_ends_of_time() {
    for scope in SCOPES {
        let mut rig = Rig::new(scope, emits);
        let ends = [i64::MAX, i64::MIN];
        rig.records(vec![(1, ends.iter().flat_map(|&time| [Event(time), Processing(time)]).collect())]);
        if scope == StateScope::AllKeys {
            assert_eq!(rig.operator.next_timer(), Some(i64::MIN));
            assert_eq!(rig.watermark(0), [(1, i64::MIN)]);
            rig.records(vec![(1, vec![Event(i64::MIN)])]);
        }
        let all = [(1, true, i64::MIN), (1, true, i64::MAX), (1, false, i64::MIN), (1, false, i64::MAX)];
        assert_eq!(rig.end(), all, "{scope:?}");
        assert_eq!((rig.keys(), rig.dropped()), (0, 0));
    }
}

/// F2: processing-time timers fire when the clock has reached them, and what is left of them at the end of the input.
#[test]
fn f2_processing_time_timers_follow_the_clock() {
    let mut rig = Rig::new(StateScope::AllKeys, emits);
    assert_eq!(rig.operator.next_timer(), None);
    rig.records(vec![(1, vec![Processing(50), Processing(20)]), (2, vec![Processing(30)])]);
    assert_eq!(rig.operator.next_timer(), Some(20));
    assert_eq!(rig.watermark(1000), []);
    assert_eq!(rig.processing_time(30), [(1, 20), (2, 30)]);
    assert_eq!((rig.operator.next_timer(), rig.keys()), (Some(50), 1));
    rig.records(vec![(3, vec![Processing(5)])]);
    assert_eq!(rig.operator.next_timer(), Some(5), "its time has passed: the executor calls at once");
    assert_eq!(rig.processing_time(31), [(3, 5)]);
    assert_eq!(rig.end(), [(1, false, 50)]);
    assert_eq!((rig.operator.next_timer(), rig.keys()), (None, 0));
}

/// F2: between two timers the operator looks whether there is room, and goes on where it was.
#[test]
fn f2_firing_yields_when_the_output_is_full() {
    let on = |_, timer: TimerFired| match timer.domain {
        TimeDomain::Event => vec![Emit(700), Event(timer.time)],
        TimeDomain::Processing => vec![Emit(700), DeleteProcessing(33)],
    };
    for scope in SCOPES {
        let mut rig = Rig::new(scope, on);
        let mut todo: Vec<Do> = (0..10).map(|i| Event(i * 1000)).collect();
        todo.extend((30..40).map(Processing));
        rig.records(vec![(1, todo)]);
        let mut fired = rig.end();
        assert!(rig.yields > 5, "{scope:?}: {} yields", rig.yields);
        assert_eq!(fired.len(), 700 * (10 + 9), "{scope:?}");
        fired.dedup();
        let event = (0..10).map(|i| (1, true, i * 1000));
        let processing = (30..40).filter(|i| *i != 33).map(|i| (1, false, i));
        assert_eq!(fired, event.chain(processing).collect::<Vec<_>>());
        assert_eq!((rig.dropped(), rig.keys()), (10, 0));
    }
    // Not at the end: what is registered in between two halves of an advance fires in it.
    let on = |_, timer: TimerFired| match timer.time {
        90.. => vec![Emit(900)],
        _ => vec![Emit(900), Event(timer.time + 90)],
    };
    let mut rig = Rig::new(StateScope::AllKeys, on);
    rig.records((0..5).map(|key| (key, vec![Event(1), Event(2)])).collect());
    let mut fired = rig.watermark(91);
    fired.dedup();
    let times = |time| (0..5).map(move |key| (key, time));
    assert_eq!(fired, [1, 2, 91].into_iter().flat_map(times).collect::<Vec<_>>());
    assert_eq!(rig.keys(), 5);
    assert!(rig.yields > 3);
    assert_eq!(rig.watermark(92).len(), 5 * 900);
    assert_eq!(rig.keys(), 0);
}
