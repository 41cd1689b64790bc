//! A9 and J4: two streams, one function.

use super::*;
use crate::base::hash::hash_of;
use crate::operator::TwoInputOperator;

/// The low-level join: a left and a right record of a key meet, whichever comes first; who is alone 100 ms later
/// is reported by a timer.
struct Meet {
    left: ValueState<i64>,
    right: ValueState<i64>,
}

type Met = (u64, Option<i64>, Option<i64>);

impl Meet {
    fn came(&self, is_left: bool, time: i64, ctx: &mut KeyedContext<u64>, out: &mut Collector<'_, Met>) {
        let (own, other) = if is_left { (&self.left, &self.right) } else { (&self.right, &self.left) };
        match other.take(ctx) {
            Some(met) => {
                ctx.delete_event_time_timer(met + 100);
                let (left, right) = if is_left { (time, met) } else { (met, time) };
                out.emit((*ctx.key(), Some(left), Some(right)));
            }
            None => {
                own.set(ctx, time);
                ctx.register_event_time_timer(time + 100);
            }
        }
    }
}

impl KeyedCoProcessFunction<u64, (u64, i64), (u64, i64), Met> for Meet {
    fn process_left(
        &mut self,
        record: (u64, i64),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Met>,
    ) -> UserResult {
        self.came(true, record.1, ctx, out);
        Ok(())
    }
    fn process_right(
        &mut self,
        record: (u64, i64),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Met>,
    ) -> UserResult {
        self.came(false, record.1, ctx, out);
        Ok(())
    }
    fn on_timer(
        &mut self,
        timer: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, Met>,
    ) -> UserResult {
        let alone = (*ctx.key(), self.left.take(ctx), self.right.take(ctx));
        assert_eq!(alone.1.or(alone.2), Some(timer.time - 100));
        out.emit(alone);
        Ok(())
    }
}

type Meeting = KeyedCoProcess<u64, (u64, i64), (u64, i64), Met, Meet>;

fn meeting(ctx: &mut Context) -> Meeting {
    let mut states = States::default();
    let function = Meet { left: states.value("left"), right: states.value("right") };
    let key = |record: &(u64, i64)| record.0;
    let mut operator = Meeting::new(function, states, Arc::new(FnKey(key)), Arc::new(FnKey(key)));
    operator.open(ctx).unwrap();
    operator
}

fn taken(out: &mut Out<Met>) -> Vec<Met> {
    out.flush();
    std::iter::from_fn(|| out.take()).flat_map(|batch| batch.values).collect()
}

/// One record of either side.
fn one(operator: &mut Meeting, ctx: &mut Context, out: &mut Out<Met>, is_left: bool, record: (u64, i64)) {
    let mut batch = Batch { values: vec![record], timestamps: vec![record.1], ..Batch::default() };
    let progress = match is_left {
        true => operator.process_left(&mut batch, ctx, out),
        false => operator.process_right(&mut batch, ctx, out),
    };
    assert_eq!(progress.unwrap(), Progress::Done);
}

/// J4, A9: in every order of arrival, and key by key, the same pairs and the same lonely ones.
#[test]
fn j4_the_low_level_join_does_not_depend_on_the_order_of_arrival() {
    // Keys with both sides, with the left one only, with the right one only.
    let records: Vec<(bool, (u64, i64))> = (0..60u64)
        .flat_map(|key| {
            let time = hash_of(&key) as i64 % 1000;
            [(true, (key, time)), (false, (key, time + 3))].into_iter().enumerate().filter_map(
                move |(side, record)| (key % 3 == 0 || key as usize % 3 == side + 1).then_some(record),
            )
        })
        .collect();
    let mut expected: Vec<Met> = (0..60)
        .map(|key| {
            let of = |left| records.iter().find(|(l, r)| *l == left && r.0 == key).map(|(_, r)| r.1);
            (key, of(true), of(false))
        })
        .collect();
    expected.sort();
    let (mut ctx, _) = context(StateScope::OneKey);
    let (mut operator, mut out) = (meeting(&mut ctx), Out::new());
    for key in 0..60 {
        for &(is_left, record) in records.iter().filter(|(_, record)| record.0 == key) {
            one(&mut operator, &mut ctx, &mut out, is_left, record);
        }
        assert_eq!(operator.end_of_key(&mut ctx, &mut out).unwrap(), Progress::Done);
    }
    let mut met = taken(&mut out);
    met.sort();
    assert_eq!(met, expected, "BATCH");
    for seed in 0..50u64 {
        let mut records = records.clone();
        records.sort_by_key(|record| hash_of(&(seed, record)));
        let (mut ctx, _) = context(StateScope::AllKeys);
        let (mut operator, mut out) = (meeting(&mut ctx), Out::new());
        // The watermark follows what is still to come.
        for (i, &(is_left, record)) in records.iter().enumerate() {
            one(&mut operator, &mut ctx, &mut out, is_left, record);
            let to_come = records[i + 1..].iter().map(|(_, record)| record.1 - 1).min().unwrap_or(i64::MAX);
            ctx.watermark = to_come;
            assert_eq!(operator.watermark(to_come, &mut ctx, &mut out).unwrap(), Progress::Done);
        }
        assert_eq!(operator.end_of_input(&mut ctx, &mut out).unwrap(), Progress::Done);
        let mut met = taken(&mut out);
        met.sort();
        assert_eq!(met, expected, "seed {seed}");
        assert_eq!(keys_of(&operator.backend), 0, "seed {seed}");
    }
}

/// A9: both callbacks share the function's fields, and each batch yields in its own middle.
#[test]
fn a9_both_callbacks_share_the_function() {
    #[derive(Default)]
    struct Shared(u64);
    impl CoProcessFunction<u64, String, u64> for Shared {
        fn process_left(
            &mut self,
            n: u64,
            ctx: &ProcessContext<'_>,
            out: &mut Collector<'_, u64>,
        ) -> UserResult {
            assert_eq!((ctx.timestamp(), ctx.watermark(), ctx.processing_time()), (Some(5), 17, 2000));
            self.0 += n;
            (0..600).for_each(|_| out.emit(self.0));
            Ok(())
        }
        fn process_right(
            &mut self,
            word: String,
            ctx: &ProcessContext<'_>,
            out: &mut Collector<'_, u64>,
        ) -> UserResult {
            assert_eq!(ctx.timestamp(), None);
            self.0 += word.len() as u64;
            (0..600).for_each(|_| out.emit(self.0));
            Ok(())
        }
    }
    let (mut ctx, clock) = context(StateScope::AllKeys);
    ctx.watermark = 17;
    clock.advance(Duration::from_secs(2));
    let mut operator = CoProcess::<u64, String, u64, _>::new(Shared::default());
    let mut out = Out::new();
    let mut seen = Vec::new();
    let mut take = |out: &mut Out<u64>, progress: Progress| {
        if progress == Progress::Done {
            out.flush();
        }
        seen.extend(std::iter::from_fn(|| out.take()).flat_map(|batch| batch.values));
        progress == Progress::Yielded
    };
    let mut yields = 0;
    let mut left = Batch { values: vec![1, 10, 100], timestamps: vec![5; 3], ..Batch::default() };
    loop {
        let progress = operator.process_left(&mut left, &mut ctx, &mut out).unwrap();
        if !take(&mut out, progress) {
            break;
        }
        yields += 1;
    }
    let mut right = Batch {
        values: ["a", "bb", "ccc"].map(String::from).to_vec(),
        timestamps: vec![],
        ..Batch::default()
    };
    loop {
        let progress = operator.process_right(&mut right, &mut ctx, &mut out).unwrap();
        if !take(&mut out, progress) {
            break;
        }
        yields += 1;
    }
    assert!(yields >= 2, "{yields} yields");
    assert_eq!(seen.len(), 3600);
    seen.dedup();
    assert_eq!(seen, [1, 11, 111, 112, 114, 117]);
}
