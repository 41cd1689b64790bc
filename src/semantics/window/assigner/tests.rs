//! Assigners: against brute force, against what Flink's own tests expect, and at the ends of time.

use super::aligned::start_in_steps;
use super::*;
use proptest::prelude::*;
use std::time::Duration;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn windows<A: WindowAssigner<()>>(assigner: &A, timestamp: Timestamp) -> Vec<(i64, i64)> {
    let mut into = Vec::new();
    assigner.assign(&(), timestamp, &mut into).unwrap();
    into.iter().map(|w| (w.start, w.end)).collect()
}

fn refusal<A: WindowAssigner<()>>(assigner: &A, timestamp: Timestamp) -> String {
    let mut into = Vec::new();
    let text = assigner.assign(&(), timestamp, &mut into).unwrap_err().to_string();
    assert!(into.is_empty(), "nothing is left behind by an error");
    text
}

fn check<A: WindowAssigner<()>>(assigner: A) -> String {
    assigner.check().unwrap_err()
}

/// X1: the modulus is floored, before the epoch too, and an offset moves both ways.
#[test]
fn tumbling_starts_are_floored() {
    for (offset, timestamp, start) in [
        (0, 1, 0),
        (0, 6, 0),
        (0, 7, 7),
        (3, 1, -4),
        (3, 2, -4),
        (3, 3, 3),
        (3, 9, 3),
        (3, 10, 10),
        (-2, 1, -2),
        (-2, -2, -2),
        (-2, 5, 5),
        (0, -1, -7),
        (0, -7, -7),
        (0, -8, -14),
        (0, -70_000_001, -70_000_007),
    ] {
        let tumbling = Tumbling::of(ms(7)).offset_ms(offset);
        assert_eq!(windows(&tumbling, timestamp), [(start, start + 7)], "{timestamp} offset {offset}");
    }
}

/// X1, X7: windows of an hour start at full hours; days in China start at 16:00 UTC of the day before.
#[test]
fn windows_are_aligned_to_the_epoch_plus_the_offset() {
    let at = 1_706_704_496_789; // 2024-01-31T12:34:56.789Z
    let full = 1_706_702_400_000; // 12:00
    assert_eq!(windows(&Tumbling::of(ms(HOUR as u64)), at), [(full, full + HOUR)]);
    let quarter_past = Tumbling::of(ms(HOUR as u64)).offset(ms(15 * MINUTE as u64));
    assert_eq!(windows(&quarter_past, at), [(full + 15 * MINUTE, full + 75 * MINUTE)]);
    let china = Tumbling::of(ms(24 * HOUR as u64)).offset_ms(-8 * HOUR);
    assert_eq!(windows(&china, at), [(full - 20 * HOUR, full + 4 * HOUR)]);
    assert_eq!(WindowAssigner::<()>::check(&china), Ok(()));
}

/// X2: a day by quarters of an hour is 96 windows, the latest first.
#[test]
fn sliding_copies_in_order() {
    let day = windows(&Sliding::of(ms(24 * HOUR as u64), ms(15 * MINUTE as u64)), 1_706_704_496_789);
    assert_eq!(day.len(), 96);
    assert!(day.windows(2).all(|pair| pair[0].0 - pair[1].0 == 15 * MINUTE));
    assert_eq!(windows(&Sliding::of(ms(10), ms(5)), -1), [(-5, 5), (-10, 0)]);
    assert_eq!(windows(&Sliding::of(ms(10), ms(5)).offset_ms(-1), 4), [(4, 14), (-1, 9)]);
}

/// X2: with a slide that does not divide the size a record is in the rounded up or the rounded down number of windows.
#[test]
fn sliding_copies_of_an_uneven_slide() {
    let uneven = Sliding::of(ms(10), ms(3));
    assert_eq!(windows(&uneven, 9), [(9, 19), (6, 16), (3, 13), (0, 10)]);
    assert_eq!(windows(&uneven, 10), [(9, 19), (6, 16), (3, 13)]);
}

/// X2: a slide longer than the size leaves gaps, and a record in one is in no window.
#[test]
fn sliding_with_gaps_loses_records() {
    let gaps = Sliding::of(ms(3), ms(10));
    assert_eq!(windows(&gaps, 2), [(0, 3)]);
    assert_eq!(windows(&gaps, 3), []);
    assert_eq!(windows(&gaps, -8), [(-10, -7)]);
    assert_eq!(windows(&gaps, -7), []);
    assert_eq!(WindowAssigner::<()>::check(&gaps), Ok(()));
}

/// X3: a record opens a window over its gap; the gap may depend on the record.
#[test]
fn sessions_open_over_their_gap() {
    let fixed = Sessions::with_gap(ms(10));
    assert_eq!(windows(&fixed, -3), [(-3, 7)]);
    assert!(WindowAssigner::<()>::merges(&fixed));
    let dynamic = Sessions::with_dynamic_gap(|gap: &u64| Duration::from_micros(*gap));
    let mut into = Vec::new();
    dynamic.assign(&7_999, 100, &mut into).unwrap();
    assert_eq!(into, [Window { start: 100, end: 107 }]);
    for gap in [0, 999] {
        let error = dynamic.assign(&gap, 100, &mut into).unwrap_err();
        assert!(matches!(error, Error::User(_)), "{error}");
        assert!(error.to_string().contains("a gap must be at least 1 ms"), "{error}");
    }
    let endless = Sessions::with_dynamic_gap(|_: &()| Duration::MAX);
    assert!(refusal(&endless, 1).contains("sessions with a gap for each record"));
}

/// X5: the one global window holds every timestamp, asks for no clock and never fires by itself.
#[test]
fn global_windows() {
    for timestamp in [i64::MIN, -1, 0, i64::MAX] {
        let mut into = Vec::new();
        GlobalWindows.assign(&(), timestamp, &mut into).unwrap();
        assert_eq!(into, [Window::GLOBAL]);
        assert!(Window::GLOBAL.contains(timestamp));
    }
    assert_eq!(WindowAssigner::<()>::time(&GlobalWindows), None);
    let trigger = WindowAssigner::<()>::default_trigger(&GlobalWindows);
    assert_eq!(Trigger::<()>::describe(&trigger), "never");
}

/// X1, X2: where a window does not fit into the range of timestamps there is an error, nowhere a wrapped number.
#[test]
fn ends_of_time_are_refused() {
    let text = refusal(&Tumbling::of(ms(10_000)), i64::MAX);
    assert!(text.contains("(tumbling 10s) of timestamp 9223372036854775807 does not fit"), "{text}");
    refusal(&Tumbling::of(ms(10_000)), i64::MIN);
    refusal(&Sliding::of(ms(20), ms(10)), i64::MIN + 10);
    refusal(&Sliding::of(ms(20), ms(10)), i64::MAX - 10);
    refusal(&Sessions::with_gap(ms(1)), i64::MAX);
    assert_eq!(windows(&Tumbling::of(ms(1)), i64::MIN), [(i64::MIN, i64::MIN + 1)]);
    assert_eq!(windows(&Tumbling::of(ms(1)), i64::MAX - 1), [(i64::MAX - 1, i64::MAX)]);
    assert_eq!(windows(&Sessions::with_gap(ms(1)), i64::MIN), [(i64::MIN, i64::MIN + 1)]);
    // A mistake that nobody checked is an error, too.
    refusal(&Tumbling::of(Duration::ZERO), 5);
    refusal(&Sliding::of(ms(5), Duration::ZERO), 5);
}

#[test]
fn mistakes_are_found_when_the_plan_is_built() {
    assert_eq!(check(Tumbling::of(ms(0))), "the window size is 0; it must be at least 1 ms");
    assert!(check(Tumbling::of(Duration::from_micros(1_500))).contains("1.5ms is not a whole number"));
    assert!(check(Tumbling::of(Duration::from_nanos(1))).contains("not a whole number"));
    assert!(check(Tumbling::of(Duration::from_secs(u64::MAX / 2))).contains("longer than the range"));
    assert!(check(Sliding::of(ms(0), ms(1))).contains("window size is 0"));
    assert!(check(Sliding::of(ms(1), ms(0))).contains("window slide is 0"));
    assert!(
        check(Sliding::of(ms(20), ms(10)).offset_ms(-10)).contains("shorter than the slide: it is -10ms")
    );
    assert!(check(Sliding::of(ms(20), ms(10)).offset_ms(i64::MIN)).contains("shorter than the slide"));
    assert!(check(Tumbling::of(ms(10)).offset(ms(10))).contains("shorter than the size"));
    assert!(check(Tumbling::of(ms(10)).offset(Duration::from_nanos(1))).contains("window offset of 1ns"));
    assert!(check(Sliding::of(ms(HOUR as u64 * 24), ms(1))).contains("make the slide longer"));
    assert!(check(Sessions::with_gap(ms(0))).contains("session gap is 0"));
    for fine in [Tumbling::of(ms(10)).offset(ms(9)), Tumbling::of(ms(10)).offset(ms(0))] {
        assert_eq!(WindowAssigner::<()>::check(&fine), Ok(()));
    }
}

#[test]
fn explain_names_them() {
    fn describe<A: WindowAssigner<()>>(assigner: A) -> String {
        assigner.describe()
    }
    assert_eq!(describe(Tumbling::of(ms(10_000))), "tumbling 10s");
    assert_eq!(describe(Sliding::of(ms(60_000), ms(1_000))), "sliding 60s/1s");
    assert_eq!(describe(Tumbling::of(ms(24 * HOUR as u64)).offset_ms(-8 * HOUR)), "tumbling 24h offset -8h");
    assert_eq!(describe(Sessions::with_gap(ms(30_000))), "sessions with gap 30s");
    assert_eq!(
        describe(Sessions::with_gap(ms(1_500)).processing_time()),
        "sessions with gap 1500ms of processing time"
    );
    assert_eq!(describe(GlobalWindows), "global");
}

#[test]
fn the_clock_decides_the_default_trigger() {
    fn clock<A: WindowAssigner<()>>(assigner: A) -> (Option<TimeDomain>, bool) {
        (assigner.time(), assigner.default_trigger().is_event_time())
    }
    let (event, processing) = ((Some(TimeDomain::Event), true), (Some(TimeDomain::Processing), false));
    assert_eq!(clock(Tumbling::of(ms(1))), event);
    assert_eq!(clock(Tumbling::of(ms(1)).processing_time()), processing);
    assert_eq!(clock(Sliding::of(ms(1), ms(1))), event);
    assert_eq!(clock(Sliding::of(ms(1), ms(1)).processing_time()), processing);
    assert_eq!(clock(Sessions::with_gap(ms(1))), event);
    assert_eq!(clock(Sessions::with_gap(ms(1)).processing_time()), processing);
    assert_eq!(clock(GlobalWindows), (None, false));
}

/// Timestamps near zero and near both ends.
fn timestamps() -> impl Strategy<Value = i64> {
    prop_oneof![
        -500i64..500,
        (0i64..500).prop_map(|d| i64::MIN + d),
        (0i64..500).prop_map(|d| i64::MAX - d),
        any::<i64>(),
    ]
}

fn aligned() -> impl Strategy<Value = Aligned> {
    (1i64..60, 1i64..60).prop_flat_map(|(size_ms, slide_ms)| {
        (1 - slide_ms..slide_ms).prop_map(move |offset_ms| Aligned { size_ms, slide_ms, offset_ms })
    })
}

proptest! {
    /// X2: exactly the windows whose start is the offset modulo the slide and that hold the timestamp, the latest
    /// first; or none at all, if one of them does not fit.
    #[test]
    fn windows_are_those_of_brute_force(aligned in aligned(), timestamp in timestamps()) {
        let (size, slide) = (i128::from(aligned.size_ms), i128::from(aligned.slide_ms));
        let at = i128::from(timestamp);
        let expected: Vec<(i128, i128)> = (at - size + 1..=at)
            .rev()
            .filter(|start| (start - i128::from(aligned.offset_ms)).rem_euclid(slide) == 0)
            .map(|start| (start, start + size))
            .collect();
        let fits = |x: i128| i64::try_from(x).is_ok();
        match aligned.windows_of(timestamp) {
            Some(windows) => {
                prop_assert_eq!(windows.size_hint(), (expected.len(), Some(expected.len())));
                let windows: Vec<_> = windows.map(|w| (i128::from(w.start), i128::from(w.end))).collect();
                prop_assert_eq!(windows, expected);
            }
            // In a gap at the lower end even the start before it may be missing.
            None => prop_assert!(
                expected.iter().any(|&(start, end)| !fits(start) || !fits(end))
                    || aligned.last_window_start(timestamp).is_none()
            ),
        }
    }

    /// Every window is a whole number of slices, and the slice of a timestamp lies in all of its windows.
    #[test]
    fn windows_are_unions_of_slices(aligned in aligned(), timestamp in -500i64..500) {
        let slice = aligned.slice_ms();
        prop_assert!(slice > 0 && aligned.size_ms % slice == 0 && aligned.slide_ms % slice == 0);
        let start = aligned.slice_start(timestamp).unwrap();
        prop_assert_eq!(aligned.slices().last_window_start(timestamp), Some(start));
        prop_assert!(start <= timestamp && timestamp < start + slice);
        for window in aligned.windows_of(timestamp).unwrap() {
            prop_assert!(window.start <= start && start + slice <= window.end);
            prop_assert_eq!((start - window.start) % slice, 0);
            prop_assert_eq!((window.end - window.start) % slice, 0);
        }
    }

    /// X1: whatever the numbers, the start is the floored one or there is none.
    #[test]
    fn starts_of_any_size(timestamp in timestamps(), step in 1..=i64::MAX, offset in any::<i64>()) {
        let into = (i128::from(timestamp) - i128::from(offset)).rem_euclid(i128::from(step));
        let start = i64::try_from(i128::from(timestamp) - into).ok();
        prop_assert_eq!(start_in_steps(timestamp, step, offset), start);
        let all = Aligned { size_ms: step, slide_ms: step, offset_ms: offset };
        if let Some(mut windows) = all.windows_of(timestamp) {
            let window = windows.next().unwrap();
            prop_assert!(window.contains(timestamp) && windows.next().is_none());
        }
    }
}
