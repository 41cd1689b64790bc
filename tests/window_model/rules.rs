//! The reference itself, held against results worked out by hand: what it says must not rest on the engine.

use crate::cases::{case, shrunk};
use crate::definition::{Definition, Evicts, Fires, Kind, Rec};
use crate::reference::{self, Firing};

fn definition(kind: Kind) -> Definition {
    Definition { kind, fires: Fires::AtEnd, purging: false, evicts: None, lateness: 0, late_output: true }
}

/// Key 0: value, timestamp, watermark.
fn arrivals(records: &[(i64, i64, Option<i64>)]) -> Vec<Rec> {
    records.iter().map(|&(value, at, mark)| Rec { key: 0, value, at, mark }).collect()
}

fn firings(expected: &[(i64, i64, &[i64])]) -> Vec<Firing> {
    let firing = |(start, end, values): &(i64, i64, &[i64])| Firing {
        key: 0,
        start: *start,
        end: *end,
        stamp: end - 1,
        values: values.to_vec(),
    };
    expected.iter().map(firing).collect()
}

/// X1, X2: floored, also before the epoch; as many windows as slides fit; gaps count as dropped.
#[test]
fn x1_x2_aligned_windows() {
    let tumbling = definition(Kind::Tumbling { size: 10, offset: -2 });
    let found = reference::streaming(&tumbling, &arrivals(&[(1, -3, None), (2, -2, None), (3, 7, None)]));
    assert_eq!(found.firings, firings(&[(-12, -2, &[1]), (-2, 8, &[2, 3])]));
    let sliding = definition(Kind::Sliding { size: 10, slide: 4, offset: 0 });
    let found = reference::streaming(&sliding, &arrivals(&[(1, -1, None)]));
    assert_eq!(found.firings, firings(&[(-4, 6, &[1]), (-8, 2, &[1])]));
    let gaps = definition(Kind::Sliding { size: 2, slide: 5, offset: 0 });
    let found = reference::streaming(&gaps, &arrivals(&[(1, 1, None), (2, 2, None), (3, 5, None)]));
    assert_eq!((found.firings, found.dropped), (firings(&[(0, 2, &[1]), (5, 7, &[3])]), 1));
}

/// X3: touching sessions merge; a late record bridges two that have fired.
#[test]
fn x3_sessions() {
    let mut sessions = definition(Kind::Sessions { gap: 10 });
    sessions.lateness = 100;
    let stream = arrivals(&[(1, 0, None), (2, 20, Some(50)), (3, 10, None)]);
    let found = reference::streaming(&sessions, &stream);
    assert_eq!(found.firings, firings(&[(0, 10, &[1]), (20, 30, &[2]), (0, 30, &[1, 2, 3])]));
    sessions.lateness = 0;
    let found = reference::streaming(&sessions, &stream);
    assert_eq!(found.firings, firings(&[(0, 10, &[1]), (20, 30, &[2])]));
    assert_eq!(found.late, arrivals(&[(3, 10, None)]));
    assert_eq!(reference::batch(&sessions, &stream).firings, firings(&[(0, 30, &[1, 3, 2])]));
}

/// X15, X16: a window is late when the watermark is at its last timestamp plus the lateness.
#[test]
fn x15_x16_lateness() {
    let mut tumbling = definition(Kind::Tumbling { size: 10, offset: 0 });
    tumbling.lateness = 5;
    let stream = [(1, 0, Some(9)), (2, 1, Some(13)), (3, 2, Some(14)), (4, 3, Some(8)), (5, 10, None)];
    let found = reference::streaming(&tumbling, &arrivals(&stream));
    let window: &[(i64, i64, &[i64])] =
        &[(0, 10, &[1]), (0, 10, &[1, 2]), (0, 10, &[1, 2, 3]), (10, 20, &[5])];
    assert_eq!(found.firings, firings(window));
    assert_eq!((found.late, found.dropped), (arrivals(&[(4, 3, Some(8))]), 0));
    tumbling.late_output = false;
    assert_eq!(reference::streaming(&tumbling, &arrivals(&stream)).dropped, 1);
}

/// X4, X12, X13: a count fires in the middle of a window and not at its end; purging drops the content.
#[test]
fn x12_x13_triggers() {
    let mut counted = definition(Kind::Tumbling { size: 10, offset: 0 });
    counted.fires = Fires::Count(2);
    let stream = arrivals(&[(1, 0, None), (2, 1, None), (3, 2, None), (4, 3, None), (5, 4, None)]);
    let found = reference::streaming(&counted, &stream);
    assert_eq!(found.firings, firings(&[(0, 10, &[1, 2]), (0, 10, &[1, 2, 3, 4])]));
    counted.purging = true;
    let found = reference::streaming(&counted, &stream);
    assert_eq!(found.firings, firings(&[(0, 10, &[1, 2]), (0, 10, &[3, 4])]));
    let mut continuous = definition(Kind::Tumbling { size: 10, offset: 0 });
    continuous.fires = Fires::Continuous(4);
    let stream = arrivals(&[(1, 0, Some(3)), (2, 1, Some(8)), (3, 9, None)]);
    let found = reference::streaming(&continuous, &stream);
    let early: &[(i64, i64, &[i64])] = &[(0, 10, &[1, 2]), (0, 10, &[1, 2]), (0, 10, &[1, 2, 3])];
    assert_eq!(found.firings, firings(early));
    assert_eq!(reference::batch(&continuous, &stream).firings, firings(&early[2..]));
}

/// X14: before the function and after it.
#[test]
fn x14_evictors() {
    let stream = arrivals(&[(5, 3, None), (1, 0, None), (6, 8, None), (7, 7, None)]);
    let mut tumbling = definition(Kind::Tumbling { size: 10, offset: 0 });
    let mut found = |evicts, after, fires| {
        tumbling.evicts = Some((evicts, after));
        tumbling.fires = fires;
        let found = reference::streaming(&tumbling, &stream).firings;
        found.into_iter().map(|firing| firing.values).collect::<Vec<_>>()
    };
    assert_eq!(found(Evicts::Count(2), false, Fires::AtEnd), [[6, 7]]);
    assert_eq!(found(Evicts::Time(5), false, Fires::AtEnd), [[6, 7]]);
    assert_eq!(found(Evicts::Delta(3), false, Fires::AtEnd), [[5, 6, 7]]);
    assert_eq!(found(Evicts::Count(1), true, Fires::Count(2)), [vec![5, 1], vec![1, 6, 7]]);
}

/// Cases differ, repeat, and shrink to what makes them fail.
#[test]
fn cases_repeat_and_shrink() {
    assert_eq!(format!("{:?}", case(7)), format!("{:?}", case(7)));
    let large =
        (1..).map(case).find(|case| case.arrivals.len() > 100 && case.definition.lateness > 0).unwrap();
    let value = large.arrivals[77].value;
    let small = shrunk(large, |case| case.arrivals.iter().any(|record| record.value == value));
    assert_eq!(small.arrivals.len(), 1);
    assert_eq!((small.definition.lateness, small.arrivals[0].mark), (0, None));
}
