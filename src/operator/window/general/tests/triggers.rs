//! Triggers, evictors, and functions with state.

use super::rig::{self, Rig, setup};
use super::{Record, Texts, ms, texts};
use crate::operator::collector::Collector;
use crate::operator::window::general::*;
use crate::operator::window::process::{ProcessWindowFunction, WindowContext, WindowStates};
use crate::operator::{Operator, UserResult};
use crate::semantics::state::ValueState;
use crate::semantics::window::*;

fn with<W: WindowAssigner<Record>, G: Trigger<Record>>(assigner: W, trigger: G) -> WindowSetup<Record, W, G> {
    WindowSetup { assigner, trigger, lateness_ms: 0, late: None }
}

/// X4: a count window fires with its n-th record, whose timestamp the result carries; a rest gives nothing. Key by
/// key as well.
#[test]
fn x4_count_windows() {
    let make = || texts(with(GlobalWindows, PurgingTrigger::of(CountTrigger::of(2))));
    let mut rig = Rig::all_keys(make());
    assert_eq!(rig.feed("a1@5 b1@1 a2@3 a3@9 a4@7 a5@8"), "a=1+2@3 a=3+4@7");
    assert_eq!(rig.end(), "");
    let mut rig = Rig::all_keys(make());
    assert_eq!(rig.feed("a1 a2 a3"), "a=1+2", "no timestamps, no problem");
    let mut rig = Rig::one_key(make());
    assert_eq!(rig.feed("a1@3 a2@5 a3@7"), "a=1+2@5");
    assert_eq!(rig.end_of_key(), "");
    assert_eq!(rig.feed("b4@3 b5@4"), "b=4+5@4", "the rest of a is gone");
}

/// X4, X14: sliding count windows: every second record, the last three.
#[test]
fn x4_x14_sliding_count_windows() {
    let contents = Evicting::new(Incremental::new(Texts, Emit), Box::new(CountEvictor::of(3)));
    let operator = GeneralWindows::new(
        with(GlobalWindows, CountTrigger::of(2)),
        contents,
        WindowStates::default(),
        rig::by_key(),
    );
    let mut rig = Rig::all_keys(operator);
    assert_eq!(rig.feed("a1@1 a2@2 a3@3 a4@4 a5@5 a6@6"), "a=1+2@2 a=2+3+4@4 a=4+5+6@6");
}

/// X12: a trigger replaces the default one: counts on windows of time do not fire at their end. FIRE keeps content.
#[test]
fn x12_a_trigger_replaces_the_default() {
    for by_key in [false, true] {
        let operator = texts(with(Tumbling::of(ms(10)), CountTrigger::of(2)));
        let mut rig = if by_key { Rig::one_key(operator) } else { Rig::all_keys(operator) };
        assert_eq!(rig.feed("a1@1 a2@2 a3@3"), "a[0,10)=1+2@9");
        assert_eq!(rig.feed("a4@4 a5@5"), "a[0,10)=1+2+3+4@9");
        assert_eq!(if by_key { rig.end_of_key() } else { rig.end() }, "");
    }
}

/// X12, X13: purging drops the content and nothing else: the next records fire again.
#[test]
fn x12_x13_purging() {
    let mut lenient = with(Tumbling::of(ms(10)), PurgingTrigger::of(EventTimeTrigger));
    lenient.lateness_ms = 10;
    let mut rig = Rig::all_keys(texts(lenient));
    assert_eq!((rig.feed("a1@1"), rig.watermark(9)), (String::new(), "a[0,10)=1@9".into()));
    assert_eq!(rig.feed("a2@2"), "a[0,10)=2@9");
    assert_eq!((rig.kept(), rig.watermark(19), rig.kept()), (1, String::new(), 0));
}

/// Fires with every second record and at the end; asks for a timer when it is purged.
#[derive(Clone)]
struct CountOrTime;

impl Trigger<Record> for CountOrTime {
    type State = u64;
    fn on_element(
        &mut self,
        _: &Record,
        _: i64,
        window: &Window,
        n: &mut u64,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        ctx.register_event_time_timer(window.max_timestamp());
        *n += 1;
        match *n % 3 {
            0 => TriggerResult::Purge,
            2 => TriggerResult::Fire,
            _ => TriggerResult::Continue,
        }
    }
    fn on_event_time(
        &mut self,
        _: i64,
        _: &Window,
        _: &mut u64,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        TriggerResult::FireAndPurge
    }
    fn can_merge(&self) -> bool {
        false
    }
    fn describe(&self) -> String {
        "by count or time".into()
    }
    fn fires_early(&self) -> bool {
        true
    }
}

/// X12, X13: a trigger of one's own: its state stays after a purge, a window without content does not fire.
#[test]
fn x12_x13_count_or_time() {
    for by_key in [false, true] {
        let operator = texts(with(Tumbling::of(ms(10)), CountOrTime));
        let mut rig = if by_key { Rig::one_key(operator) } else { Rig::all_keys(operator) };
        assert_eq!(rig.feed("a1@1 a2@2"), "a[0,10)=1+2@9");
        assert_eq!(rig.feed("a3@3 a4@4 a5@5"), "a[0,10)=4+5@9");
        assert_eq!(rig.feed("a6@13 a7@21 a8@22 a9@23"), "a[20,30)=7+8@29");
        let end = if by_key { rig.end_of_key() } else { rig.end() };
        assert_eq!(end, "a[0,10)=4+5@9 a[10,20)=6@19", "[20, 30) is empty");
    }
}

/// X13: continuous firing, in STREAMING each time; M13: in BATCH the last time only.
#[test]
fn x13_m13_continuous() {
    let make = || texts(with(Tumbling::of(ms(100)), ContinuousEventTimeTrigger::of(ms(20))));
    let mut rig = Rig::all_keys(make());
    assert_eq!(rig.feed("a1@5 a2@30 a3@130"), "");
    assert_eq!(rig.watermark(19), "");
    assert_eq!(rig.watermark(45), "a[0,100)=1+2@99 a[0,100)=1+2@99", "at 20 and 40");
    assert_eq!(rig.end(), "a[0,100)=1+2@99 a[0,100)=1+2@99 a[100,200)=3@199 a[100,200)=3@199");
    assert_eq!(rig.counter("timers_dropped_at_end"), 2, "what comes after 60 and 140");
    let mut rig = Rig::one_key(make());
    assert_eq!(rig.feed("a1@5 a2@30 a3@130"), "");
    assert_eq!(rig.end_of_key(), "a[0,100)=1+2@99 a[100,200)=3@199");
}

/// X13: continuous firing by the clock, and what is pending at the end of the input.
#[test]
fn x13_continuous_by_the_clock() {
    let make = || texts(with(GlobalWindows, ContinuousProcessingTimeTrigger::of(ms(20))));
    let mut rig = Rig::all_keys(make());
    assert_eq!((rig.feed("a1@1"), rig.clock(19)), (String::new(), String::new()));
    assert_eq!(rig.clock(20), "a=1@1");
    assert_eq!(rig.feed("a2@2"), "");
    assert_eq!(rig.end(), "a=1+2@2 a=1+2@2", "at 40, and at the end of all time");
    assert_eq!(rig.counter("timers_dropped_at_end"), 1, "what comes after 40");
    let mut rig = Rig::one_key(make());
    assert_eq!((rig.feed("a1@1 a2@2"), rig.end_of_key()), (String::new(), "a=1+2@2".into()));
}

/// M7: windows of event time whose trigger goes by the clock still fire at the end, once.
#[test]
fn m7_clock_triggers_fire_at_the_end() {
    let make = || texts(with(Tumbling::of(ms(10)), ProcessingTimeTrigger));
    let mut rig = Rig::all_keys(make());
    assert_eq!((rig.feed("a1@3 a2@4"), rig.end(), rig.kept()), (String::new(), "a[0,10)=1+2@9".into(), 0));
    let mut rig = Rig::one_key(make());
    assert_eq!((rig.feed("a1@3 a2@4"), rig.end_of_key()), (String::new(), "a[0,10)=1+2@9".into()));
}

/// X13: windows of the clock.
#[test]
fn x13_windows_by_the_clock() {
    let mut rig = Rig::all_keys(texts(setup(Tumbling::of(ms(10)).processing_time())));
    rig.clock(12);
    assert_eq!(rig.feed("a1@7 b2@9"), "");
    assert_eq!((rig.clock(18), rig.watermark(1000)), (String::new(), String::new()));
    assert_eq!(rig.clock(19), "a[10,20)=1@19 b[10,20)=2@19");
    assert_eq!(rig.kept(), 0);
}

/// X14: evictors leave records out before the fold, for good, or after it.
#[test]
fn x14_evictors() {
    fn fed(evictor: impl Evictor<Record>) -> String {
        let mut lenient = with(Tumbling::of(ms(10)), EventTimeTrigger);
        lenient.lateness_ms = 100;
        let contents = Evicting::new(Incremental::new(Texts, Emit), Box::new(evictor));
        let operator = GeneralWindows::new(lenient, contents, WindowStates::default(), rig::by_key());
        let mut rig = Rig::all_keys(operator);
        let shown = [rig.feed("a1@1 a2@5 a3@8"), rig.watermark(9), rig.feed("a4@9"), rig.end()];
        shown.join(" ").replace("a[0,10)=", "").replace("@9", "").trim().to_string()
    }
    assert_eq!(fed(CountEvictor::of(2)), "2+3 3+4");
    assert_eq!(fed(CountEvictor::of(2).after()), "1+2+3 2+3+4");
    assert_eq!(fed(TimeEvictor::of(ms(3))), "3 3+4", "5 <= 8 - 3");
    let distance = |a: &Record, b: &Record| (a.1.parse::<f64>().unwrap() - b.1.parse::<f64>().unwrap()).abs();
    assert_eq!(fed(DeltaEvictor::of(2.0, distance)), "2+3 3+4");
    assert_eq!(
        fed(DeltaEvictor::of(0.0, distance)),
        "",
        "nothing is left, and a fold of nothing has no value"
    );
}

/// X14: where an evictor leaves nothing a function is called all the same, with no record, as in Flink.
#[test]
fn x14_functions_are_called_with_what_is_left() {
    let distance = |_: &Record, _: &Record| 1.0;
    let operator = || {
        let mut states = WindowStates::default();
        let function = Calls { key: states.key.value("calls"), window: states.window.value("here") };
        let evictor = Box::new(DeltaEvictor::of(0.0, distance));
        let contents = Evicting::new(Buffered::new(function), evictor);
        let mut lenient = setup(Tumbling::of(ms(10)));
        lenient.lateness_ms = 100;
        GeneralWindows::new(lenient, contents, states, rig::by_key())
    };
    let mut rig = Rig::all_keys(operator());
    assert_eq!(rig.feed("a1@1 a2@5"), "");
    assert_eq!(rig.watermark(9), "a0=:1/1@9");
    assert_eq!(rig.feed("a3@2"), "a0=:2/2@9", "the window is there until it is over");
    assert_eq!(rig.end(), "");
    let mut rig = Rig::one_key(operator());
    assert_eq!((rig.feed("a1@1 a2@15"), rig.end_of_key()), (String::new(), "a0=:1/1@9 a10=:2/1@19".into()));
}

/// Counts its calls for each key and for each window.
struct Calls {
    key: ValueState<u64>,
    window: ValueState<u64>,
}

impl ProcessWindowFunction<char, Record, String> for Calls {
    fn process(
        &mut self,
        key: &char,
        ctx: &mut WindowContext,
        records: &[Record],
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let count = |n: &mut u64| {
            *n += 1;
            *n
        };
        let of_key = self.key.update(ctx.per_key(), count);
        let of_window = self.window.update(ctx.per_window(), count);
        let texts: Vec<&str> = records.iter().map(|r| r.1.as_str()).collect();
        let (texts, start) = (texts.join("+"), ctx.window().start);
        out.emit(format!("{key}{start}={texts}:{of_key}/{of_window}"));
        Ok(())
    }
    fn clear(&mut self, _: &char, ctx: &mut WindowContext) -> UserResult {
        if ctx.window().start >= 100 {
            self.key.clear(ctx.per_key());
        }
        Ok(())
    }
}

fn calls<W: WindowAssigner<Record>, G: Trigger<Record>>(
    setup: WindowSetup<Record, W, G>,
) -> impl Operator<In = Record, Out = String> {
    let mut states = WindowStates::default();
    let function = Calls { key: states.key.value("calls"), window: states.window.value("here") };
    GeneralWindows::new(setup, Buffered::new(function), states, rig::by_key())
}

/// X11: state of a window ends with it, state of a key stays until it is cleared; a key that holds nothing leaves
/// nothing.
#[test]
fn x11_state_of_windows_and_keys() {
    let mut lenient = setup(Tumbling::of(ms(10)));
    lenient.lateness_ms = 10;
    let mut rig = Rig::all_keys(calls(lenient.clone()));
    assert_eq!(rig.feed("a1@1 a2@11 b3@2"), "");
    assert_eq!(rig.watermark(9), "a0=1:1/1@9 b0=3:1/1@9");
    assert_eq!(rig.feed("a4@3"), "a0=1+4:2/2@9");
    assert_eq!(rig.watermark(19), "a10=2:3/1@19");
    assert_eq!(rig.feed("b5@24"), "");
    assert_eq!(rig.watermark(50), "b20=5:2/1@29", "the state of the window at 0 has gone with it");
    assert_eq!(rig.kept(), 2, "there is state of the keys");
    assert_eq!(
        (rig.feed("a6@100 b7@100"), rig.end()),
        (String::new(), "a100=6:4/1@109 b100=7:3/1@109".into())
    );
    assert_eq!(rig.kept(), 0);

    let mut rig = Rig::one_key(calls(lenient));
    assert_eq!(
        (rig.feed("a1@1 a2@2 a3@11"), rig.end_of_key()),
        (String::new(), "a0=1+2:1/1@9 a10=3:2/1@19".into())
    );
    assert_eq!((rig.feed("b1@1"), rig.end_of_key()), (String::new(), "b0=1:1/1@9".into()));
}

/// X10: an aggregate hands exactly one element to its function.
#[test]
fn x10_aggregate_and_function() {
    struct Only;
    impl ProcessWindowFunction<char, String, String> for Only {
        fn process(
            &mut self,
            key: &char,
            ctx: &mut WindowContext,
            records: &[String],
            out: &mut Collector<'_, String>,
        ) -> UserResult {
            assert_eq!(records.len(), 1);
            out.emit(format!("{key}{}={}", ctx.window().start, records[0]));
            Ok(())
        }
    }
    let contents = Incremental::new(Texts, Process::new(Only));
    let operator =
        GeneralWindows::new(setup(Tumbling::of(ms(10))), contents, WindowStates::default(), rig::by_key());
    let mut rig = Rig::all_keys(operator);
    assert_eq!((rig.feed("a1@1 a2@2"), rig.end()), (String::new(), "a0=1+2@9".into()));
}

/// C1: what was snapshot goes on in another operator as it would have here: contents, states, timers.
#[test]
fn c1_a_restored_operator_goes_on() {
    let mut lenient = setup(Tumbling::of(ms(10)));
    lenient.lateness_ms = 10;
    let mut rig = Rig::all_keys(calls(lenient.clone()));
    rig.feed("a1@1 b2@2 a3@15");
    rig.watermark(9);
    let snapshot = rig.snapshot();
    let mut other = Rig::all_keys(calls(lenient));
    other.restore(&snapshot);
    for rig in [&mut rig, &mut other] {
        assert_eq!(rig.feed("a4@19"), "");
        assert_eq!(rig.watermark(19), "a10=3+4:2/1@19");
        assert_eq!(rig.feed("c5@25 b6@12"), "b10=6:2/1@19");
        assert_eq!(rig.end(), "c20=5:1/1@29");
    }
    let sessions = || texts(setup(Sessions::with_gap(ms(10))));
    let mut rig = Rig::all_keys(sessions());
    rig.feed("a1@1 a2@5 a3@50");
    let mut other = Rig::all_keys(sessions());
    other.restore(&rig.snapshot());
    assert_eq!(other.feed("a4@14"), "");
    assert_eq!(other.watermark(30), "a[1,24)=1+2+4@23");
    assert_eq!(other.end(), "a[50,60)=3@59");
}
