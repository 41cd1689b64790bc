//! Triggers: what they answer and which timers they ask for.

use super::TimerRequest::{DeleteEvent, DeleteProcessing, RegisterEvent, RegisterProcessing};
use super::TriggerResult::{Continue, Fire, FireAndPurge, Purge};
use super::*;
use std::time::Duration;

/// A trigger with the state of one window, and what was asked of its timers by the last call.
struct Harness<G: Trigger<i64>> {
    trigger: G,
    window: Window,
    state: G::State,
    watermark: Timestamp,
    clock: Timestamp,
    requests: Vec<TimerRequest>,
}

impl<G: Trigger<i64>> Harness<G> {
    fn new(trigger: G, start: Timestamp, end: Timestamp) -> Self {
        Harness {
            trigger,
            window: Window { start, end },
            state: G::State::default(),
            watermark: Timestamp::MIN,
            clock: 0,
            requests: Vec::new(),
        }
    }
    fn call(
        &mut self,
        f: impl FnOnce(&mut G, &Window, &mut G::State, &mut TriggerContext<'_>) -> TriggerResult,
    ) -> TriggerResult {
        self.requests.clear();
        let mut ctx = TriggerContext::new(self.watermark, self.clock, &mut self.requests);
        f(&mut self.trigger, &self.window, &mut self.state, &mut ctx)
    }
    fn element(&mut self, record: i64, timestamp: Timestamp) -> TriggerResult {
        self.call(|t, w, s, ctx| t.on_element(&record, timestamp, w, s, ctx))
    }
    fn event(&mut self, time: Timestamp) -> TriggerResult {
        self.watermark = self.watermark.max(time);
        self.call(|t, w, s, ctx| t.on_event_time(time, w, s, ctx))
    }
    fn processing(&mut self, time: Timestamp) -> TriggerResult {
        self.clock = self.clock.max(time);
        self.call(|t, w, s, ctx| t.on_processing_time(time, w, s, ctx))
    }
    /// The window of this harness grows to `into`, as an operator would do it: clear, then merge into a fresh state.
    fn grow(&mut self, into: Window) {
        let mut cleared = Vec::new();
        let old = self.window;
        let mut ctx = TriggerContext::new(self.watermark, self.clock, &mut cleared);
        self.trigger.clear(&old, &mut self.state, &mut ctx);
        let merged = std::mem::take(&mut self.state);
        self.window = into;
        self.call(|t, w, s, ctx| {
            t.on_merge(w, s, merged, ctx);
            Continue
        });
        self.requests.splice(0..0, cleared);
    }
    fn clear(&mut self) -> Vec<TimerRequest> {
        self.call(|t, w, s, ctx| {
            t.clear(w, s, ctx);
            Continue
        });
        self.requests.clone()
    }
}

/// X12: the four results are made of two answers.
#[test]
fn results_fire_and_purge() {
    let answers = [Continue, Fire, Purge, FireAndPurge].map(|r| (r.is_fire(), r.is_purge()));
    assert_eq!(answers, [(false, false), (true, false), (false, true), (true, true)]);
}

/// X13: over event time a window fires at `end - 1`, and with each record that comes later.
#[test]
fn event_time() {
    let mut t = Harness::new(EventTimeTrigger, 0, 10);
    assert_eq!((t.element(1, 3), t.requests.as_slice()), (Continue, &[RegisterEvent(9)][..]));
    assert_eq!(t.event(5), Continue, "not a timer of its own");
    assert_eq!(t.processing(9), Continue);
    assert_eq!(t.event(9), Fire, "the content stays for late records");
    assert_eq!((t.element(1, 3), t.requests.len()), (Fire, 0));
    assert_eq!(t.clear(), [DeleteEvent(9)]);
}

/// X3, X13: a session that grows has its timer at the new end, unless that is over: then its record fires.
#[test]
fn event_time_of_merged_windows() {
    let mut t = Harness::new(EventTimeTrigger, 0, 10);
    t.element(1, 0);
    t.grow(Window { start: 0, end: 15 });
    assert_eq!(t.requests, [DeleteEvent(9), RegisterEvent(14)]);
    t.watermark = 20;
    t.grow(Window { start: 0, end: 17 });
    assert_eq!(t.requests, [DeleteEvent(14)]);
    assert_eq!(t.element(1, 7), Fire);
}

/// X13: over processing time it is the clock, and the watermark says nothing.
#[test]
fn processing_time() {
    let mut t = Harness::new(ProcessingTimeTrigger, 0, 10);
    assert_eq!((t.element(1, 3), t.requests.as_slice()), (Continue, &[RegisterProcessing(9)][..]));
    assert_eq!((t.event(9), t.processing(8), t.processing(9)), (Continue, Continue, Fire));
    assert_eq!(t.clear(), [DeleteProcessing(9)]);
    t.grow(Window { start: 0, end: 12 });
    assert_eq!(t.requests, [DeleteProcessing(9), RegisterProcessing(11)]);
}

/// X13: the default trigger is one of the two.
#[test]
fn default_of_time_windows() {
    let mut event = Harness::new(TimeTrigger::Event, 0, 10);
    assert_eq!((event.element(1, 3), event.requests.as_slice()), (Continue, &[RegisterEvent(9)][..]));
    assert_eq!((event.processing(9), event.event(9), event.clear()), (Continue, Fire, vec![DeleteEvent(9)]));
    let mut clock = Harness::new(TimeTrigger::Processing, 0, 10);
    assert_eq!((clock.element(1, 3), clock.requests.as_slice()), (Continue, &[RegisterProcessing(9)][..]));
    assert_eq!((clock.event(9), clock.processing(9)), (Continue, Fire));
    clock.grow(Window { start: 0, end: 12 });
    assert_eq!(clock.requests, [DeleteProcessing(9), RegisterProcessing(11)]);
}

/// X5: the timer of the global window is at the end of time.
#[test]
fn the_global_window_ends_with_time() {
    let mut t = Harness::new(EventTimeTrigger, i64::MIN, i64::MAX);
    assert_eq!((t.element(1, i64::MAX), t.requests.as_slice()), (Continue, &[RegisterEvent(i64::MAX)][..]));
    assert_eq!(t.event(i64::MAX), Fire);
    let mut t = Harness::new(NeverTrigger, i64::MIN, i64::MAX);
    assert_eq!((t.element(1, 1), t.event(i64::MAX), t.processing(i64::MAX)), (Continue, Continue, Continue));
    assert!(t.requests.is_empty());
}

/// X4, X12, X13: every n-th record fires, a rest does not, and no time does.
#[test]
fn count() {
    let mut t = Harness::new(CountTrigger::of(3), 0, 10);
    let answers: Vec<_> = (0..7).map(|i| t.element(i, i)).collect();
    assert_eq!(answers, [Continue, Continue, Fire, Continue, Continue, Fire, Continue]);
    assert_eq!((t.event(9), t.processing(9), t.requests.len()), (Continue, Continue, 0));
    assert!(Trigger::<i64>::check(&CountTrigger::of(0)).is_err());
}

/// X3, X13: counts of merged windows add up, and the next record sees the sum.
#[test]
fn count_of_merged_windows() {
    let mut t = Harness::new(CountTrigger::of(4), 0, 10);
    t.element(1, 1);
    t.call(|t, w, s, ctx| {
        Trigger::<i64>::on_merge(t, w, s, 2, ctx);
        Continue
    });
    assert_eq!(t.element(1, 1), Fire);
}

/// A trigger that answers what it is told.
#[derive(Clone)]
struct Says(TriggerResult);

impl Trigger<i64> for Says {
    type State = u8;
    fn on_element(
        &mut self,
        _: &i64,
        _: Timestamp,
        _: &Window,
        _: &mut u8,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        self.0
    }
    fn on_event_time(
        &mut self,
        _: Timestamp,
        _: &Window,
        _: &mut u8,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        self.0
    }
    fn on_processing_time(
        &mut self,
        _: Timestamp,
        _: &Window,
        _: &mut u8,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        self.0
    }
    fn can_merge(&self) -> bool {
        false
    }
    fn describe(&self) -> String {
        "as told".to_string()
    }
    fn fires_early(&self) -> bool {
        false
    }
}

/// X13: purging turns `Fire` into `FireAndPurge` and leaves all else alone.
#[test]
fn purging() {
    for (says, gives) in
        [(Continue, Continue), (Fire, FireAndPurge), (Purge, Purge), (FireAndPurge, FireAndPurge)]
    {
        let mut t = Harness::new(PurgingTrigger::of(Says(says)), 0, 10);
        assert_eq!((t.element(1, 1), t.event(1), t.processing(1)), (gives, gives, gives));
    }
    assert!(!PurgingTrigger::of(Says(Fire)).can_merge());
    let count = PurgingTrigger::of(CountTrigger::of(0));
    assert!(Trigger::<i64>::check(&count).is_err() && Trigger::<i64>::can_merge(&count));
    assert!(!Trigger::<i64>::is_event_time(&PurgingTrigger::of(EventTimeTrigger)));
}

/// X4: what a count window is made of.
#[test]
fn a_count_window_fires_and_purges() {
    let mut t = Harness::new(PurgingTrigger::of(CountTrigger::of(2)), i64::MIN, i64::MAX);
    let answers: Vec<_> = (0..5).map(|i| t.element(i, i)).collect();
    assert_eq!(answers, [Continue, FireAndPurge, Continue, FireAndPurge, Continue]);
}

/// X13: a delta is taken to the record of the last firing, and must be above the threshold.
#[test]
fn delta() {
    let distance = |a: &i64, b: &i64| (b - a) as f64;
    let mut t = Harness::new(DeltaTrigger::of(10.0, distance), 0, 10);
    let answers: Vec<_> = [0, 10, 11, 21, 22, 33].into_iter().map(|x| t.element(x, 0)).collect();
    assert_eq!(answers, [Continue, Continue, Fire, Continue, Fire, Fire]);
    assert!(!Trigger::<i64>::can_merge(&t.trigger));
    assert!(Trigger::<i64>::check(&DeltaTrigger::of(f64::NAN, distance)).is_err());
}

/// X13: early firings at whole multiples of the interval, before the epoch too, and one at the end.
#[test]
fn continuous_event_time() {
    let mut t = Harness::new(ContinuousEventTimeTrigger::of(Duration::from_millis(10)), -15, 10);
    assert_eq!(t.element(1, -14), Continue);
    assert_eq!(t.requests, [RegisterEvent(9), RegisterEvent(-10)]);
    t.element(1, -3);
    assert_eq!(t.requests, [RegisterEvent(9)]);
    assert_eq!((t.event(-10), t.requests.as_slice()), (Fire, &[RegisterEvent(0)][..]));
    assert_eq!(t.event(-10), Continue, "once only");
    assert_eq!((t.event(0), t.requests.len()), (Fire, 0), "10 lies behind the end");
    assert_eq!(t.event(9), Fire);
    assert_eq!(t.element(1, -3), Fire, "late");
    assert_eq!(t.clear(), [DeleteEvent(9), DeleteEvent(10)]);
}

/// X3, X13: a session that grows takes the next early firing with it.
#[test]
fn continuous_event_time_of_merged_windows() {
    let mut t = Harness::new(ContinuousEventTimeTrigger::of(Duration::from_millis(10)), 3, 8);
    t.element(1, 3);
    assert_eq!(t.requests, [RegisterEvent(7)]);
    t.grow(Window { start: 3, end: 25 });
    assert_eq!(t.requests, [DeleteEvent(7), DeleteEvent(10), RegisterEvent(24), RegisterEvent(10)]);
    assert_eq!((t.event(10), t.requests.as_slice()), (Fire, &[RegisterEvent(20)][..]));
}

/// X13: the same by the clock.
#[test]
fn continuous_processing_time() {
    let mut t = Harness::new(ContinuousProcessingTimeTrigger::of(Duration::from_millis(10)), 1_000, 1_015);
    t.clock = 1_001;
    t.element(1, 0);
    assert_eq!(t.requests, [RegisterProcessing(1_014), RegisterProcessing(1_010)]);
    assert_eq!((t.event(1_010), t.processing(1_010)), (Continue, Fire));
    assert_eq!(t.requests, [RegisterProcessing(1_020)]);
    assert_eq!(t.processing(1_014), Fire);
    assert_eq!(t.clear(), [DeleteProcessing(1_014), DeleteProcessing(1_020)]);
    // A window over event time that was over, by the clock, long ago.
    let mut t = Harness::new(ContinuousProcessingTimeTrigger::of(Duration::from_millis(10)), 0, 10);
    t.clock = 1_001;
    t.element(1, 0);
    assert_eq!(t.requests, [RegisterProcessing(1_010)]);
    t.grow(Window { start: 0, end: 12 });
    assert_eq!(t.requests, [DeleteProcessing(9), DeleteProcessing(1_010), RegisterProcessing(1_010)]);
}

#[test]
fn continuous_at_the_ends_of_time() {
    for timestamp in [i64::MIN, i64::MAX] {
        let interval = Duration::from_millis(i64::MAX as u64);
        let mut t = Harness::new(ContinuousEventTimeTrigger::of(interval), i64::MIN, i64::MAX);
        t.element(1, timestamp);
        let mut t = Harness::new(ContinuousProcessingTimeTrigger::of(interval), i64::MIN, i64::MAX);
        t.clock = timestamp;
        t.element(1, timestamp);
        t.processing(timestamp);
    }
    let none = ContinuousEventTimeTrigger::of(Duration::ZERO);
    assert!(Trigger::<i64>::check(&none).unwrap_err().contains("interval of a continuous trigger is 0"));
    Harness::new(none, 0, 10).element(1, 5);
}

/// Fires with every n-th record and at the end of the window: what a user would write.
#[derive(Clone)]
struct CountOrTime(CountTrigger, EventTimeTrigger);

impl Trigger<i64> for CountOrTime {
    type State = u64;
    fn on_element(
        &mut self,
        record: &i64,
        timestamp: Timestamp,
        window: &Window,
        state: &mut u64,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let count = self.0.on_element(record, timestamp, window, state, ctx);
        let time = self.1.on_element(record, timestamp, window, &mut (), ctx);
        if count.is_fire() { count } else { time }
    }
    fn on_event_time(
        &mut self,
        time: Timestamp,
        window: &Window,
        _: &mut u64,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        Trigger::<i64>::on_event_time(&mut self.1, time, window, &mut (), ctx)
    }
    fn can_merge(&self) -> bool {
        false
    }
    fn describe(&self) -> String {
        "count or time".to_string()
    }
    fn fires_early(&self) -> bool {
        true
    }
}

/// X13: a trigger of one's own: every second record, and the rest at the end of the window.
#[test]
fn count_or_time() {
    let mut t = Harness::new(PurgingTrigger::of(CountOrTime(CountTrigger::of(2), EventTimeTrigger)), 0, 10);
    let answers: Vec<_> = (0..3).map(|i| t.element(i, i)).collect();
    assert_eq!(answers, [Continue, FireAndPurge, Continue]);
    assert_eq!(t.requests, [RegisterEvent(9)]);
    assert_eq!(t.event(9), FireAndPurge);
}
