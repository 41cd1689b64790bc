//! Tests of the general operator, driven by hand: all keys at once, and key by key.

mod end;
mod rig;
mod sessions;
mod speed;
mod triggers;

use super::*;
use crate::operator::window::{AggregateWindow, ReduceWindow};
use crate::semantics::aggregate::Count;
use crate::semantics::window::*;
use rig::{Rig, setup};
use std::time::Duration;

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Windows of 10 ms by key, each its records joined with `+`.
fn texts<W: WindowAssigner<Record>, G: Trigger<Record>>(
    setup: WindowSetup<Record, W, G>,
) -> GeneralWindows<char, Record, W, G, Incremental<Texts, Emit>> {
    GeneralWindows::new(setup, Incremental::new(Texts, Emit), WindowStates::default(), rig::by_key())
}

/// Key, text.
pub(super) type Record = (char, String);

/// Joins the texts of records with `+`.
#[derive(Clone)]
pub(super) struct Texts;

impl crate::operator::window::WindowFold<Record> for Texts {
    type Acc = String;
    type Value = String;
    fn create(&mut self, record: Record) -> String {
        record.1
    }
    fn add(&mut self, acc: &mut String, record: Record) {
        *acc = format!("{acc}+{}", record.1);
    }
    fn merge(&mut self, acc: &mut String, other: String) {
        *acc = format!("{acc}+{other}");
    }
    fn value(&mut self, acc: &String) -> String {
        acc.clone()
    }
}

/// X1, X8, X9, X17: a window is there after its first record only, fires when the watermark is at its last timestamp, and its result
/// carries that, with key, start and end. Times before 1970 are times.
#[test]
fn x1_x8_x9_x17_tumbling() {
    let mut rig = Rig::all_keys(texts(setup(Tumbling::of(ms(10)))));
    assert_eq!(rig.feed("a1@3 b2@9 a3@7 a4@-1 a5@35"), "");
    assert_eq!(rig.watermark(-2), "");
    assert_eq!(rig.watermark(-1), "a[-10,0)=4@-1");
    assert_eq!(rig.watermark(8), "");
    assert_eq!(rig.watermark(29), "a[0,10)=1+3@9 b[0,10)=2@9", "and none for [10, 20)");
    assert_eq!(rig.end(), "a[30,40)=5@39");
    assert_eq!(rig.kept(), 0);

    let mut rig = Rig::one_key(texts(setup(Tumbling::of(ms(10)))));
    assert_eq!(rig.feed("a4@-1 a1@3 a3@7 a5@35"), "");
    assert_eq!(rig.end_of_key(), "a[-10,0)=4@-1 a[0,10)=1+3@9 a[30,40)=5@39");
    assert_eq!((rig.feed("b2@9"), rig.end_of_key()), (String::new(), "b[0,10)=2@9".into()));
}

/// X2: a record is in each window that holds it, and in none in a gap between windows; that is counted.
#[test]
fn x2_sliding() {
    let mut rig = Rig::all_keys(texts(setup(Sliding::of(ms(10), ms(5)))));
    assert_eq!(rig.feed("a1@3 a2@7"), "");
    assert_eq!(rig.end(), "a[-5,5)=1@4 a[0,10)=1+2@9 a[5,15)=2@14");
    let mut rig = Rig::all_keys(texts(setup(Sliding::of(ms(2), ms(5)))));
    assert_eq!(rig.feed("a1@1 a2@3 a3@5"), "");
    assert_eq!(rig.end(), "a[0,2)=1@1 a[5,7)=3@6");
    assert_eq!(rig.counter("late_records_dropped"), 1);
    assert_eq!(rig.kept(), 0);
}

/// X5: one window for all, which never fires by itself and takes everything.
#[test]
fn x5_global() {
    let mut rig = Rig::all_keys(texts(setup(GlobalWindows)));
    assert_eq!(rig.feed("a1@1 b2"), "");
    assert_eq!(rig.watermark(1000), "");
    assert_eq!(rig.feed("a1@1"), "");
    assert_eq!((rig.end(), rig.counter("late_records_dropped")), (String::new(), 0));
    let mut rig = Rig::one_key(texts(setup(GlobalWindows)));
    assert_eq!((rig.feed("a1@1 a2"), rig.end_of_key()), (String::new(), String::new()));
}

/// X15: a late record fires its window again until watermark and lateness have passed its end, then the window is
/// gone.
#[test]
fn x15_lateness() {
    let mut lenient = setup(Tumbling::of(ms(10)));
    lenient.lateness_ms = 5;
    let mut rig = Rig::all_keys(texts(lenient));
    assert_eq!((rig.feed("a1@3"), rig.watermark(9)), (String::new(), "a[0,10)=1@9".into()));
    assert_eq!(rig.feed("a2@4"), "a[0,10)=1+2@9");
    assert_eq!((rig.watermark(13), rig.kept()), (String::new(), 1));
    assert_eq!(rig.feed("a3@4 b4@1"), "a[0,10)=1+2+3@9 b[0,10)=4@9", "a new one, too");
    assert_eq!((rig.watermark(14), rig.kept()), (String::new(), 0));
    assert_eq!((rig.feed("a5@4"), rig.kept()), (String::new(), 0));
    assert_eq!(rig.counter("late_records_dropped"), 1);
}

/// X16: what is late for all its windows goes to the late output and is not counted; or is counted.
#[test]
fn x16_late_records() {
    for has_output in [true, false] {
        let mut sliding = setup(Sliding::of(ms(10), ms(5)));
        sliding.late = has_output.then(|| SideOutput::new("late"));
        let mut rig = Rig::all_keys(texts(sliding));
        assert_eq!(rig.watermark(9), "");
        // In [5, 15) that is open and in [0, 10) that is not; in [0, 10) and [-5, 5), both closed.
        assert_eq!(rig.feed("a1@7 a2@3"), if has_output { "late:2@3" } else { "" });
        assert_eq!(rig.end(), "a[5,15)=1@14");
        assert_eq!(rig.counter("late_records_dropped"), if has_output { 0 } else { 1 });
    }
    // In no window, but not late: counted. In no window and late: the late output.
    let mut gaps = setup(Sliding::of(ms(2), ms(5)));
    gaps.late = Some(SideOutput::new("late"));
    let mut rig = Rig::all_keys(texts(gaps));
    assert_eq!(rig.watermark(9), "");
    assert_eq!(rig.feed("a1@14 a2@8"), "late:2@8");
    assert_eq!((rig.end(), rig.counter("late_records_dropped")), (String::new(), 1));
}

/// M6: key by key nothing is late, wherever the timestamps lie.
#[test]
fn m6_nothing_is_late_key_by_key() {
    let mut rig = Rig::one_key(texts(setup(Tumbling::of(ms(1)))));
    assert_eq!(rig.feed(&format!("a1@{} a2@{}", i64::MIN, i64::MAX - 1)), "");
    let [first, last] = [i64::MIN, i64::MAX - 1].map(|t| format!("[{t},{})", t + 1));
    let expected = format!("a{first}=1@{} a{last}=2@{}", i64::MIN, i64::MAX - 1);
    assert_eq!(rig.end_of_key(), expected);
}

/// X10: an aggregate keeps an accumulator; a reduce its record.
#[test]
fn x10_incremental() {
    let states = WindowStates::default;
    let count = Incremental::new(AggregateWindow(Count), Emit);
    let mut rig =
        Rig::all_keys(GeneralWindows::new(setup(Tumbling::of(ms(10))), count, states(), rig::by_key()));
    assert_eq!((rig.feed("a1@3 a2@4"), rig.end()), (String::new(), "a[0,10)=2@9".into()));
    let longest = ReduceWindow::new(|a: &mut Record, b: Record| *a = (a.0, format!("{}{}", b.1, a.1)));
    let reduce = Incremental::new(longest, Emit);
    let operator = GeneralWindows::new(setup(Tumbling::of(ms(10))), reduce, states(), rig::by_key());
    let mut rig = Rig::one_key(operator);
    rig.feed("a1@3 a2@4");
    assert_eq!(rig.end_of_key(), "a[0,10)=('a', \"21\")@9");
}

/// Records without timestamps in windows over event time, and timestamps whose window does not fit: errors that say
/// what to do.
#[test]
fn bad_timestamps_are_errors() {
    for (records, says) in [
        ("a1".to_string(), "assign_timestamps"),
        (format!("a1@{}", i64::MIN), "does not fit into the range of timestamps"),
        (format!("a1@{}", i64::MAX), "does not fit into the range of timestamps"),
    ] {
        let e = Rig::all_keys(texts(setup(Tumbling::of(ms(10))))).try_feed(&records).unwrap_err();
        assert!(matches!(&e, Error::User(_)) && e.to_string().contains(says), "{e}");
    }
    let e = Rig::all_keys(texts(setup(Sessions::with_gap(ms(1))))).try_feed(&format!("a1@{}", i64::MAX));
    assert!(e.unwrap_err().to_string().contains("does not fit"));
}
