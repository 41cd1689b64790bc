//! Sessions: windows that grow and merge.

use super::rig::{self, Rig, setup};
use super::{Record, Texts, ms, texts};
use crate::operator::window::general::{Emit, GeneralWindows, Incremental, WindowSetup};
use crate::operator::window::process::WindowStates;
use crate::operator::window::sessions::SessionFold;
use crate::semantics::window::*;

/// X3: records within the gap are of one session, also where windows only touch; it ends a gap after the last one.
#[test]
fn x3_sessions_grow_and_end() {
    let mut rig = Rig::all_keys(texts(setup(Sessions::with_gap(ms(10)))));
    assert_eq!(rig.feed("a1@0 a2@10 b3@5 a4@21 a5@19"), "");
    assert_eq!(rig.watermark(14), "b[5,15)=3@14");
    assert_eq!(rig.watermark(29), "");
    assert_eq!(rig.feed("a6@31 a7@50"), "", "it touches [.., 31)");
    assert_eq!(rig.watermark(40), "a[0,41)=1+2+4+5+6@40");
    assert_eq!(rig.end(), "a[50,60)=7@59");
    assert_eq!(rig.kept(), 0);

    let mut rig = Rig::one_key(texts(setup(Sessions::with_gap(ms(10)))));
    assert_eq!(rig.feed("a1@0 a2@10 a3@21 a4@31"), "");
    assert_eq!(rig.end_of_key(), "a[0,20)=1+2@19 a[21,41)=3+4@40");
}

/// X3: a record between two sessions makes them one, with one firing.
#[test]
fn x3_a_record_bridges() {
    let mut rig = Rig::all_keys(texts(setup(Sessions::with_gap(ms(10)))));
    assert_eq!(rig.feed("a1@0 a2@18 a3@40 a4@9"), "");
    assert_eq!(rig.watermark(9), "", "the first would have ended here");
    assert_eq!(rig.watermark(27), "a[0,28)=1+2+4@27");
    assert_eq!(rig.end(), "a[40,50)=3@49");
}

/// X3, X15: a late record bridges two sessions that have fired: one window, fired by the record, kept until the
/// lateness of its end.
#[test]
fn x3_x15_a_late_record_bridges_two_fired_sessions() {
    let mut lenient = setup(Sessions::with_gap(ms(10)));
    lenient.lateness_ms = 100;
    let mut rig = Rig::all_keys(texts(lenient));
    assert_eq!(rig.feed("a1@0 a2@18"), "");
    assert_eq!(rig.watermark(50), "a[0,10)=1@9 a[18,28)=2@27");
    assert_eq!(rig.feed("a3@9"), "a[0,28)=1+2+3@27");
    assert_eq!(rig.watermark(126), "");
    assert_eq!((rig.kept(), rig.watermark(127), rig.kept()), (1, String::new(), 0));
}

/// X3, X16: a late record that meets an open session is not late; one that would be a session of its own is.
#[test]
fn x3_x16_late_into_an_open_session() {
    let mut rig = Rig::all_keys(texts(setup(Sessions::with_gap(ms(10)))));
    assert_eq!(rig.feed("a1@20"), "");
    assert_eq!(rig.watermark(22), "");
    assert_eq!(rig.feed("a2@11 a3@0"), "", "[11, 21) meets [20, 30), [0, 10) meets nothing");
    assert_eq!(rig.end(), "a[11,30)=1+2@29");
    assert_eq!(rig.counter("late_records_dropped"), 1);
}

/// X3: the state of triggers merges: counts add up.
#[test]
fn x3_triggers_merge() {
    let assigner = Sessions::with_gap(ms(10));
    let counted = WindowSetup { assigner, trigger: CountTrigger::of(4), lateness_ms: 0, late: None };
    let mut rig = Rig::all_keys(texts(counted));
    assert_eq!(rig.feed("a1@0 a2@18"), "");
    assert_eq!(rig.feed("a3@9"), "", "three");
    assert_eq!(rig.feed("a4@9"), "a[0,28)=1+2+3+4@27");
}

/// X3: many records in one session leave one entry in the queue, not one each.
#[test]
fn x3_a_growing_session_is_queued_once() {
    let mut rig = Rig::all_keys(texts(setup(Sessions::with_gap(ms(100)))));
    let text: Vec<String> = (0..1000).map(|t| format!("a1@{t}")).collect();
    rig.feed(&text.join(" "));
    assert_eq!(rig.operator.schedule.event.len(), 1);
    for watermark in 0..1000 {
        assert_eq!(rig.watermark(watermark), "");
    }
    assert!(rig.watermark(1098).starts_with("a[0,1099)=1+1"));
    assert!(rig.operator.schedule.event.is_empty());
}

/// X3: sessions by the clock.
#[test]
fn x3_sessions_by_the_clock() {
    let make = || texts(setup(Sessions::with_gap(ms(10)).processing_time()));
    let mut rig = Rig::all_keys(make());
    rig.clock(100);
    assert_eq!((rig.feed("a1"), rig.clock(105)), (String::new(), String::new()));
    assert_eq!((rig.feed("a2"), rig.clock(113)), (String::new(), String::new()));
    assert_eq!(rig.clock(114), "a[100,115)=1+2@114");
    assert_eq!((rig.feed("a3"), rig.end()), (String::new(), "a[114,124)=3@123".into()));
    assert_eq!(rig.kept(), 0);
    let mut rig = Rig::one_key(make());
    assert_eq!((rig.feed("a1"), rig.end_of_key()), (String::new(), "a[0,10)=1@9".into()));
}

/// X3: whatever the order of records and watermarks, the final results are those of sorted records.
#[test]
fn x3_any_order_gives_the_same_sessions() {
    let mut seed = 7u64;
    let mut next = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    for round in 0..200 {
        let mut lenient = setup(Sessions::with_gap(ms(10)));
        lenient.lateness_ms = 1_000_000;
        let operator: GeneralWindows<char, Record, _, _, _> = GeneralWindows::new(
            lenient,
            Incremental::new(Texts, Emit),
            WindowStates::default(),
            rig::by_key(),
        );
        let mut rig = Rig::all_keys(operator);
        let mut times: Vec<i64> = (0..20).map(|_| next(200) as i64).collect();
        let mut last = std::collections::BTreeMap::new();
        let mut keep = |shown: String| {
            for result in shown.split_whitespace() {
                let (window, value) = result.split_once('=').unwrap();
                let (start, end) = window[2..]
                    .trim_end_matches(')')
                    .split_once(',')
                    .map(|(a, b)| (a.to_string(), b.to_string()))
                    .unwrap();
                let (start, end): (i64, i64) = (start.parse().unwrap(), end.parse().unwrap());
                // A later result replaces those of the windows it covers.
                last.retain(|&(s, e), _| e < start || s > end);
                last.insert((start, end), value.split('@').next().unwrap().split('+').count());
            }
        };
        for (i, time) in times.iter().enumerate() {
            keep(rig.feed(&format!("a{i}@{time}")));
            if next(3) == 0 {
                keep(rig.watermark(next(200) as i64));
            }
        }
        keep(rig.end());
        times.sort();
        let mut expected = std::collections::BTreeMap::new();
        let mut open: Option<(i64, i64, usize)> = None;
        for time in times {
            open = match open {
                Some((start, end, n)) if time <= end => Some((start, time + 10, n + 1)),
                other => {
                    expected.extend(other.map(|(start, end, n)| ((start, end), n)));
                    Some((time, time + 10, 1))
                }
            };
        }
        expected.extend(open.map(|(start, end, n)| ((start, end), n)));
        assert_eq!(last, expected, "round {round}");
    }
}

/// The operator of sessions with a fold waits for room also among the sessions of one key, and goes on where it was.
#[test]
fn many_sessions_of_a_key_wait_for_room() {
    const SESSIONS: usize = 8_000;
    let fold = || SessionFold::new(Texts, Sessions::with_gap(ms(5)), rig::by_key(), None);
    let fed: Vec<String> = (0..SESSIONS).map(|i| format!("a{i}@{}", 10 * i)).collect();
    let expected = |i: usize| format!("a[{},{})={i}@{}", 10 * i, 10 * i + 5, 10 * i + 4);
    let all: Vec<String> = (0..SESSIONS).map(expected).collect();

    let mut rig = Rig::all_keys(fold());
    assert_eq!(rig.feed(&fed.join(" ")), "");
    assert_eq!(rig.watermark(10 * SESSIONS as i64 / 2 - 1), all[..SESSIONS / 2].join(" "));
    assert_eq!(rig.feed("b1@200000"), "");
    assert_eq!(rig.end(), format!("{} b[200000,200005)=1@200004", all[SESSIONS / 2..].join(" ")));
    assert!(rig.yields >= SESSIONS / 2048, "{} times", rig.yields);

    // Key by key: those that a record leaves behind, and those that the end of the key finds.
    let mut rig = Rig::one_key(fold());
    let mut shown = rig.feed(&fed.join(" "));
    shown = format!("{shown} {}", rig.end_of_key());
    assert_eq!(shown, all.join(" "));
    assert!(rig.yields >= SESSIONS / 2048, "{} times", rig.yields);
    assert_eq!((rig.feed("b1@3"), rig.end_of_key()), (String::new(), "b[3,8)=1@7".into()));
}
