//! Random inputs against a nested loop.

use super::*;

/// All pairs of records that meet, and those of the outer sides that meet nobody.
pub(super) fn nested_loop(
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
