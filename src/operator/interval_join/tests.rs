//! The operator driven by hand, and against a nested loop.

use super::*;
use crate::base::accumulator::Accumulators;
use crate::base::batch::{Element, typed};
use crate::base::clock::VirtualClock;
use crate::base::metrics::Counters;
use crate::base::parameters::Parameters;
use crate::operator::context::{JobContext, RuntimeContext};
use crate::operator::exchange::FnKey;
use crate::operator::output::AnyOut;
use crate::operator::side_output::SidePort;
use crate::operator::tests::snapshot_of;
use random::nested_loop;

mod random;

/// Key and id.
type Record = (u8, u64);
/// Left id, right id.
type Pair = (Option<u64>, Option<u64>);
/// A result with its timestamp.
type Row = (Pair, Timestamp);

type PairFn = fn(Option<&Record>, Option<&Record>) -> Pair;

fn pair(left: Option<&Record>, right: Option<&Record>) -> Pair {
    (left.map(|l| l.1), right.map(|r| r.1))
}

fn context(state_scope: StateScope) -> Context {
    let runtime = RuntimeContext {
        job: Arc::new(JobContext {
            name: "job".into(),
            id: "id".into(),
            parameters: Parameters::default(),
            auto_watermark_interval: std::time::Duration::from_millis(200),
        }),
        operator: Arc::from("interval_join"),
        subtask: 0,
        parallelism: 1,
        max_parallelism: 128,
        unit: 0,
        attempt: 0,
        counters: Counters::new(),
        accumulators: Accumulators::new().attempt().handles(),
    };
    Context::new(runtime, state_scope, 1 << 20, None, VirtualClock::new())
}

/// An operator with its context and everything it has emitted.
struct Driven<F: JoinFunction<Record, Record>> {
    operator: IntervalJoin<u8, Record, Record, F>,
    ctx: Context,
    out: Out<Pair>,
    rows: Vec<Row>,
    /// Records of the side outputs.
    late: Vec<(usize, Record)>,
    yields: usize,
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

impl<F: JoinFunction<Record, Record, Out = Pair>> Driven<F> {
    fn new(function: F, interval: Interval, scope: StateScope) -> Self {
        Driven::with_outputs(function, interval, scope, None)
    }

    fn with_outputs(
        function: F,
        interval: Interval,
        scope: StateScope,
        late: Option<[SideOutput<Record>; 2]>,
    ) -> Self {
        assert_eq!(interval.mistake(), None);
        let mut ctx = context(scope);
        let mut out = Out::new();
        if let Some(late) = &late {
            let ports: Vec<Arc<dyn SidePort>> =
                late.iter().map(|tag| Arc::new(tag.clone()) as Arc<dyn SidePort>).collect();
            out.attach(&ports);
        }
        let [left, right] = match late {
            Some(late) => late.map(Some),
            None => [None, None],
        };
        let setting = |late_to| Setting { selector: Arc::new(FnKey(|r: &Record| r.0)), late_to };
        let mut operator = IntervalJoin::new(function, interval, setting(left), setting(right));
        operator.open(&mut ctx).unwrap();
        Driven { operator, ctx, out, rows: Vec::new(), late: Vec::new(), yields: 0 }
    }

    fn drain(&mut self) {
        while let Some((port, element)) = AnyOut::take(&mut self.out) {
            let Element::Batch(mut batch) = element else { panic!("{}", element.kind()) };
            match port {
                0 => {
                    let batch = typed::<Pair>(&mut *batch);
                    self.rows.extend(batch.values.drain(..).zip(batch.timestamps.drain(..)));
                }
                _ => self.late.extend(typed::<Record>(&mut *batch).values.drain(..).map(|r| (port - 1, r))),
            }
        }
    }

    fn until_done(&mut self, mut call: impl FnMut(&mut Self) -> Progress) -> Vec<Row> {
        while call(self) == Progress::Yielded {
            assert!(self.out.is_full());
            self.yields += 1;
            self.drain();
        }
        self.out.flush();
        self.drain();
        std::mem::take(&mut self.rows)
    }

    fn send(&mut self, side: usize, records: &[(Timestamp, Record)]) -> Vec<Row> {
        let mut batch = Batch {
            values: records.iter().map(|r| r.1).collect(),
            timestamps: records.iter().map(|r| r.0).collect(),
            hashes: Vec::new(),
        };
        let rows = self.until_done(|driven| {
            let Driven { operator, ctx, out, .. } = driven;
            match side {
                LEFT => operator.process_left(&mut batch, ctx, out),
                _ => operator.process_right(&mut batch, ctx, out),
            }
            .unwrap()
        });
        assert!(batch.is_empty());
        rows
    }

    fn one(&mut self, side: usize, ts: Timestamp, id: u64) -> Vec<Row> {
        self.send(side, &[(ts, (0, id))])
    }

    fn watermark(&mut self, to: Timestamp) -> Vec<Row> {
        self.ctx.watermark = to;
        self.until_done(|driven| driven.operator.watermark(to, &mut driven.ctx, &mut driven.out).unwrap())
    }

    fn end_of_key(&mut self) -> Vec<Row> {
        self.ctx.watermark = WATERMARK_MAX;
        let rows =
            self.until_done(|driven| driven.operator.end_of_key(&mut driven.ctx, &mut driven.out).unwrap());
        self.ctx.watermark = WATERMARK_MIN;
        rows
    }

    /// Whether a snapshot would hold nothing.
    fn is_empty(&mut self) -> bool {
        snapshot_of!(self.operator).is_empty()
    }

    /// Keys that have an entry, and timers.
    fn held(&self) -> (usize, usize) {
        match &self.operator.keys {
            Keys::All(all) => (all.len(), self.operator.timers.len()),
            Keys::One(key, _) => (key.iter().count(), 0),
        }
    }

    fn dropped(&self) -> u64 {
        self.operator.late.get()
    }
}

fn full() -> FullOuter<PairFn, Pair> {
    FullOuter::new(pair)
}

type PairOf = fn(&Record, &Record) -> Pair;

fn inner() -> Inner<PairOf, Pair> {
    Inner::new(|l, r| pair(Some(l), Some(r)))
}

fn both(left: u64, right: u64, ts: Timestamp) -> Row {
    ((Some(left), Some(right)), ts)
}

/// J3: both bounds belong to the interval, unless they are exclusive; the result has the later timestamp, whichever side
/// comes first.
#[test]
fn j3_bounds_and_timestamps_of_results() {
    for (lower_exclusive, upper_exclusive) in [(false, false), (true, false), (false, true), (true, true)] {
        let interval = Interval { lower: -3, upper: 5, lower_exclusive, upper_exclusive };
        for right_first in [false, true] {
            for distance in -5..=7 {
                let mut join = Driven::new(inner(), interval, StateScope::AllKeys);
                let (left, right) = (100, 100 + distance);
                let mut rows = Vec::new();
                if right_first {
                    rows.extend(join.one(RIGHT, right, 2));
                    rows.extend(join.one(LEFT, left, 1));
                } else {
                    rows.extend(join.one(LEFT, left, 1));
                    rows.extend(join.one(RIGHT, right, 2));
                }
                let above = if lower_exclusive { distance > -3 } else { distance >= -3 };
                let below = if upper_exclusive { distance < 5 } else { distance <= 5 };
                let expected: Vec<Row> =
                    if above && below { vec![both(1, 2, left.max(right))] } else { vec![] };
                assert_eq!(rows, expected, "{interval:?} {distance}");
            }
        }
    }
}

/// J3: keys do not meet, and a record meets all of its partners, in their order.
#[test]
fn j3_partners_are_those_of_the_key_in_time_order() {
    let mut join = Driven::new(inner(), Interval::between(-10, 10), StateScope::AllKeys);
    join.send(LEFT, &[(5, (1, 0)), (3, (1, 1)), (5, (1, 2)), (4, (2, 3)), (40, (1, 4))]);
    let rows = join.send(RIGHT, &[(6, (1, 9)), (6, (3, 8))]);
    assert_eq!(rows, [both(1, 9, 6), both(0, 9, 6), both(2, 9, 6)]);
}

/// J3: a left record goes when the watermark has come to its timestamp plus the upper bound, a right one at its own minus the
/// lower bound. Nothing is left of a key then.
#[test]
fn j3_state_goes_with_the_watermark() {
    let mut join = Driven::new(inner(), Interval::between(-20, 30), StateScope::AllKeys);
    join.one(LEFT, 100, 1);
    join.watermark(129);
    assert!(!join.is_empty());
    assert_eq!(join.one(RIGHT, 130, 2), [both(1, 2, 130)]);
    join.watermark(130);
    assert_eq!(join.one(RIGHT, 130, 3), [], "the left record went at 130");
    join.watermark(149);
    assert!(!join.is_empty());
    assert_eq!(join.one(LEFT, 149, 4), [both(4, 2, 149), both(4, 3, 149)]);
    join.watermark(150);
    assert_eq!(join.one(LEFT, 150, 5), [], "the right records went at 150");
    assert!(!join.is_empty());
    join.watermark(180);
    assert!(join.is_empty());
    // Timers are not early, and memory is given back at the latest when the width of the interval is over.
    join.watermark(230);
    assert_eq!(join.held(), (0, 0));
}

/// J3: keys that never come back are forgotten, and cost one timer each however many records they have.
#[test]
fn j3_keys_that_never_come_back_are_forgotten() {
    let mut join = Driven::new(inner(), Interval::between(0, 10), StateScope::AllKeys);
    for ts in 0..50 {
        let records: Vec<_> = (0..200).map(|key| (ts, (key, 0))).collect();
        join.send(LEFT, &records);
        join.send(RIGHT, &records);
    }
    assert_eq!(join.held().0, 200);
    assert!(join.held().1 <= 400, "{:?}", join.held());
    join.watermark(58);
    assert!(!join.is_empty());
    join.watermark(59);
    assert!(join.is_empty());
    join.watermark(69);
    assert_eq!(join.held(), (0, 0));
}

/// J3: records before the watermark are dropped and counted; one at the watermark is not late.
#[test]
fn j3_late_is_before_the_watermark() {
    let mut join = Driven::new(full(), Interval::between(-10, 10), StateScope::AllKeys);
    join.one(LEFT, 100, 1);
    join.watermark(100);
    assert_eq!(join.one(RIGHT, 99, 2), []);
    assert_eq!((join.dropped(), join.held().0), (1, 1));
    assert_eq!(join.one(RIGHT, 100, 3), [both(1, 3, 100)]);
    // A late record of a new key leaves no entry, and is not emitted without a partner either.
    assert_eq!(join.send(LEFT, &[(99, (7, 4))]), []);
    assert_eq!((join.dropped(), join.held().0), (2, 1));
    assert_eq!(join.watermark(WATERMARK_MAX), []);
}

/// J3: late records with an output go there and are not counted.
#[test]
fn j3_late_records_go_to_their_outputs() {
    let tags = [SideOutput::new("late left"), SideOutput::new("late right")];
    let interval = Interval::between(-10, 10);
    let mut join = Driven::with_outputs(inner(), interval, StateScope::AllKeys, Some(tags));
    join.watermark(50);
    join.send(LEFT, &[(49, (0, 1)), (50, (0, 2)), (0, (0, 3))]);
    let rows = join.send(RIGHT, &[(i64::MIN, (0, 4)), (55, (0, 5))]);
    assert_eq!(rows, [both(2, 5, 55)]);
    assert_eq!(join.late, [(LEFT, (0, 1)), (LEFT, (0, 3)), (RIGHT, (0, 4))]);
    assert_eq!(join.dropped(), 0);
}

/// J3, outer: a record without a partner comes out when the watermark passes the end of its reach, with its own
/// timestamp, in that order.
#[test]
fn j3_outer_records_come_out_as_they_expire() {
    let mut join = Driven::new(full(), Interval::between(-5, 20), StateScope::AllKeys);
    join.one(LEFT, 100, 1);
    join.one(RIGHT, 90, 2);
    join.one(RIGHT, 130, 3);
    join.one(LEFT, 112, 4);
    join.one(RIGHT, 131, 5);
    assert_eq!(join.watermark(94), []);
    assert_eq!(join.watermark(95), [((None, Some(2)), 90)]);
    assert_eq!(join.watermark(119), []);
    assert_eq!(join.watermark(120), [((Some(1), None), 100)]);
    // 3 and 4 have found each other, and 5 has found 4.
    assert_eq!(join.watermark(WATERMARK_MAX), []);
    assert!(join.is_empty());
    assert_eq!(join.held(), (0, 0));
    // Several at once are in the order in which they expired.
    let mut join = Driven::new(full(), Interval::between(-5, 20), StateScope::AllKeys);
    join.one(LEFT, 0, 1);
    join.one(RIGHT, 24, 2);
    join.one(LEFT, 50, 3);
    let rows = join.watermark(1000);
    assert_eq!(rows, [((Some(1), None), 0), ((None, Some(2)), 24), ((Some(3), None), 50)]);
}

/// J3, outer: where the reach of a record is over as it comes, it is emitted at once, if it has found nothing.
#[test]
fn j3_an_outer_record_whose_time_is_over_comes_out_at_once() {
    // Right records are 20 to 10 before left ones.
    let mut join = Driven::new(full(), Interval::between(-20, -10), StateScope::AllKeys);
    join.one(RIGHT, 85, 1);
    join.watermark(95);
    assert_eq!(join.one(LEFT, 100, 2), [both(2, 1, 100)]);
    assert_eq!(join.one(LEFT, 96, 3), [both(3, 1, 96)]);
    assert_eq!(join.one(LEFT, 104, 4), [both(4, 1, 104)]);
    assert_eq!(join.one(LEFT, 105, 5), [both(5, 1, 105)]);
    assert_eq!(join.one(LEFT, 104, 6), [both(6, 1, 104)]);
    join.watermark(104);
    assert_eq!(join.one(LEFT, 114, 7), [((Some(7), None), 114)]);
    assert_eq!(join.watermark(WATERMARK_MAX), []);
}

/// J3: every timestamp and bound is legal.
#[test]
fn j3_timestamps_at_the_limits() {
    let edges = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for lower in edges {
        for upper in edges.into_iter().filter(|upper| *upper >= lower) {
            for scope in [StateScope::AllKeys, StateScope::OneKey] {
                let mut join = Driven::new(full(), Interval::between(lower, upper), scope);
                let mut rows = Vec::new();
                for (i, ts) in edges.into_iter().enumerate() {
                    rows.extend(join.one(LEFT, ts, i as u64));
                    rows.extend(join.one(RIGHT, ts, i as u64));
                }
                rows.extend(match scope {
                    StateScope::AllKeys => join.watermark(WATERMARK_MAX),
                    StateScope::OneKey => join.end_of_key(),
                });
                let records: Vec<_> =
                    edges.into_iter().enumerate().map(|(i, ts)| (ts, (0, i as u64))).collect();
                let expected = nested_loop(&records, &records, Interval::between(lower, upper), (true, true));
                rows.sort();
                assert_eq!(rows, expected, "{lower} {upper} {scope:?}");
                assert!(join.is_empty());
                assert_eq!(join.held(), (0, 0));
            }
        }
    }
}

/// J3: a record with thousands of partners is interrupted when the output is full, and goes on where it was; so is the
/// expiry of thousands.
#[test]
fn j3_many_results_are_emitted_in_pieces() {
    for scope in [StateScope::AllKeys, StateScope::OneKey] {
        let mut join = Driven::new(full(), Interval::between(-10_000, 0), scope);
        let records: Vec<_> = (0..5000).map(|i| (i, (0, i as u64))).collect();
        // Right records are before left ones.
        assert_eq!(join.send(RIGHT, &records), []);
        let rows = join.send(LEFT, &[(4999, (0, 1)), (12_000, (0, 2))]);
        assert!(join.yields >= 6, "{}", join.yields);
        let first: Vec<Row> = (0..5000).map(|i| both(1, i, 4999)).collect();
        let second: Vec<Row> = (2000..5000).map(|i| both(2, i, 12_000)).collect();
        assert_eq!(rows, [first, second].concat());
        let mut alone = Driven::new(full(), Interval::between(0, 5000), scope);
        alone.send(LEFT, &records);
        let rows = match scope {
            StateScope::AllKeys => alone.watermark(WATERMARK_MAX),
            StateScope::OneKey => alone.end_of_key(),
        };
        assert!(alone.yields >= 4);
        assert!(rows.iter().map(|row| row.1).eq(0..5000));
    }
}

/// J3: in BATCH the order of records is the progress of time: a key holds no more than its interval.
#[test]
fn j3_sorted_keys_hold_no_more_than_the_interval() {
    let mut join = Driven::new(full(), Interval::between(-5, 5), StateScope::OneKey);
    let mut rows = Vec::new();
    for ts in 0..1000 {
        rows.extend(join.one(LEFT, ts * 3, ts as u64));
        let Keys::One(_, buffers) = &join.operator.keys else { panic!() };
        assert!(buffers.left.items.len() <= 3, "{ts}: {}", buffers.left.items.len());
    }
    assert_eq!(rows.len(), 998, "they come out as their time is over");
    rows.extend(join.end_of_key());
    assert!(rows.iter().map(|row| row.1).eq((0..1000).map(|ts| ts * 3)));
    // The next key may be earlier.
    join.one(LEFT, 0, 1);
    assert_eq!(join.one(RIGHT, 0, 2), [both(1, 2, 0)]);
    assert_eq!(join.end_of_key(), []);
}

/// J3: event time only.
#[test]
fn j3_records_need_timestamps() {
    let mut join = Driven::new(inner(), Interval::between(-5, 5), StateScope::AllKeys);
    let mut batch = Batch::from(vec![(0, 0)]);
    let error = join.operator.process_right(&mut batch, &mut join.ctx, &mut join.out).unwrap_err();
    assert!(error.to_string().contains("its right input have none"), "{error}");
}

/// C1: an operator restored from a snapshot goes on as the one it was taken from.
#[test]
fn c1_a_restored_join_goes_on() {
    let interval = Interval::between(-10, 10);
    let mut join = Driven::new(full(), interval, StateScope::AllKeys);
    let records: Vec<_> = (0..100).map(|i| (i, (i as u8 % 7, i as u64))).collect();
    join.send(LEFT, &records);
    join.send(RIGHT, &records[..20]);
    join.watermark(50);
    let snapshot = snapshot_of!(join.operator);
    let mut restored = Driven::new(full(), interval, StateScope::AllKeys);
    restored.operator.restore(&snapshot.clone().into(), &mut restored.ctx).unwrap();
    assert_eq!(snapshot_of!(restored.operator), snapshot);
    let mut after = Vec::new();
    for join in [&mut join, &mut restored] {
        let mut rows = join.watermark(50);
        rows.extend(join.send(RIGHT, &records[60..70]));
        rows.extend(join.watermark(90));
        rows.extend(join.watermark(WATERMARK_MAX));
        assert!(join.is_empty());
        rows.sort();
        after.push(rows);
    }
    assert!(after[0].len() > 40);
    assert_eq!(after[0], after[1]);
}
