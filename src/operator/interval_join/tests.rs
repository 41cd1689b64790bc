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

fn nested_loop(
    left: &[(Timestamp, Record)],
    right: &[(Timestamp, Record)],
    interval: Interval,
    outer: (bool, bool),
) -> Vec<Row> {
    let mut rows = Vec::new();
    let joins = |l: &(Timestamp, Record), r: &(Timestamp, Record)| {
        let distance = i128::from(r.0) - i128::from(l.0);
        let Interval { lower, upper, lower_exclusive, upper_exclusive } = interval;
        let above = distance > lower.into() || !lower_exclusive && distance == lower.into();
        let below = distance < upper.into() || !upper_exclusive && distance == upper.into();
        l.1.0 == r.1.0 && above && below
    };
    for l in left {
        let partners = right.iter().filter(|r| joins(l, r));
        rows.extend(partners.map(|r| both(l.1.1, r.1.1, l.0.max(r.0))));
    }
    let alone_left = left.iter().filter(|l| outer.0 && !right.iter().any(|r| joins(l, r)));
    rows.extend(alone_left.map(|l| ((Some(l.1.1), None), l.0)));
    let alone_right = right.iter().filter(|r| outer.1 && !left.iter().any(|l| joins(l, r)));
    rows.extend(alone_right.map(|r| ((None, Some(r.1.1)), r.0)));
    rows.sort();
    rows
}

/// SplitMix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as i64
    }
}

fn random_run<F: JoinFunction<Record, Record, Out = Pair>>(seed: u64, make: impl Fn() -> F) {
    let mut random = Random(seed);
    let interval = loop {
        let interval = Interval {
            lower: random.below(60) - 40,
            upper: random.below(60) - 20,
            lower_exclusive: random.below(3) == 0,
            upper_exclusive: random.below(3) == 0,
        };
        if interval.mistake().is_none() {
            break interval;
        }
    };
    let (keys, disorder) = (1 + random.below(20), random.below(30));
    let mut sides = [Vec::new(), Vec::new()];
    for (side, records) in sides.iter_mut().enumerate() {
        let step = 1 + random.below(3);
        for i in 0..random.below(400) {
            let ts = i * step / 2 + random.below(disorder + 1);
            records.push((ts, (random.below(keys) as u8, i as u64 * 2 + side as u64)));
        }
    }
    let expected = nested_loop(&sides[LEFT], &sides[RIGHT], interval, (F::LEFT, F::RIGHT));

    let mut join = Driven::new(make(), interval, StateScope::AllKeys);
    let (mut sent, mut rows) = ([0, 0], Vec::new());
    let mut watermark = i64::MIN;
    while sent[LEFT] < sides[LEFT].len() || sent[RIGHT] < sides[RIGHT].len() {
        let side = random.below(2) as usize;
        let to = (sent[side] + random.below(30) as usize).min(sides[side].len());
        rows.extend(join.send(side, &sides[side][sent[side]..to]));
        sent[side] = to;
        if random.below(3) == 0 {
            // What is not sent yet is later than the watermark.
            let next = (0..2).flat_map(|side| sides[side][sent[side]..].iter().map(|r| r.0)).min();
            watermark = watermark.max(next.unwrap_or(1000) - 1 - random.below(3));
            let emitted = join.watermark(watermark);
            for (pair, ts) in &emitted {
                let reach = if pair.0.is_some() { interval.of_left() } else { interval.of_right() };
                assert!(reach.expiry(*ts, 0) <= watermark, "seed {seed}: {pair:?} came too early");
            }
            rows.extend(emitted);
        }
    }
    rows.extend(join.watermark(WATERMARK_MAX));
    rows.sort();
    assert_eq!(rows, expected, "seed {seed}: {interval:?}");
    assert_eq!((join.dropped(), join.held()), (0, (0, 0)), "seed {seed}");

    let mut join = Driven::new(make(), interval, StateScope::OneKey);
    let mut rows = Vec::new();
    for key in 0..keys as u8 {
        let mut sorted: Vec<(Timestamp, usize, Record)> = Vec::new();
        for (side, records) in sides.iter().enumerate() {
            sorted.extend(records.iter().filter(|r| r.1.0 == key).map(|r| (r.0, side, r.1)));
        }
        sorted.sort_by_key(|r| (r.0, r.1));
        for part in sorted.chunk_by(|a, b| a.1 == b.1) {
            let records: Vec<_> = part.iter().map(|r| (r.0, r.2)).collect();
            rows.extend(join.send(part[0].1, &records));
        }
        rows.extend(join.end_of_key());
    }
    rows.sort();
    assert_eq!(rows, expected, "seed {seed}: {interval:?}, sorted");
}

/// J3: inner and outer joins give what a nested loop gives, in both scopes, however records and watermarks come.
#[test]
fn j3_random_inputs_against_a_nested_loop() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = variable("MAINSTEM_TEST_SEED").unwrap_or(1);
    for seed in first..first + variable("MAINSTEM_TEST_CASES").unwrap_or(400) {
        println!("MAINSTEM_TEST_SEED={seed} MAINSTEM_TEST_CASES=1");
        match seed % 4 {
            0 => random_run(seed, inner),
            1 => random_run(seed, || LeftOuter::new(|l: &Record, r: Option<&Record>| pair(Some(l), r))),
            2 => random_run(seed, || RightOuter::new(|l: Option<&Record>, r: &Record| pair(l, Some(r)))),
            _ => random_run(seed, full),
        }
    }
}
