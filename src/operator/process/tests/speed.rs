//! How long a timer takes: for a person to look at (`cargo test --release speed -- --ignored --nocapture`).

use super::*;
use crate::base::hash::hash_of;

/// Nanoseconds that this thread was on a processor: other load on the machine does not count.
fn busy_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

const KEYS: u64 = 1_000_000;
const TIMERS: u64 = 10_000_000;

struct Trivial;

impl KeyedProcessFunction<u64, (u64, i64), u64> for Trivial {
    fn process(
        &mut self,
        record: (u64, i64),
        ctx: &mut KeyedContext<u64>,
        _: &mut Collector<'_, u64>,
    ) -> UserResult {
        ctx.register_event_time_timer(record.1);
        Ok(())
    }
    fn on_timer(
        &mut self,
        _: TimerFired,
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, u64>,
    ) -> UserResult {
        out.emit(*ctx.key());
        Ok(())
    }
}

#[test]
#[ignore = "measures"]
fn speed_of_event_time_timers() {
    let (mut ctx, _) = context(StateScope::AllKeys);
    let key = Arc::new(FnKey(|record: &(u64, i64)| record.0));
    let mut operator = KeyedProcess::<u64, (u64, i64), u64, _>::new(Trivial, States::default(), key);
    operator.open(&mut ctx).unwrap();
    let mut out = Out::new();
    let start = busy_ns();
    for from in (0..TIMERS).step_by(1024) {
        let record = |i: u64| (hash_of(&i) % KEYS, (i / 10 + hash_of(&!i) % 1_000_000) as i64);
        let values = (from..TIMERS.min(from + 1024)).map(record).collect();
        let mut batch = Batch { values, ..Batch::default() };
        assert_eq!(operator.process(&mut batch, &mut ctx, &mut out).unwrap(), Progress::Done);
    }
    let registered = busy_ns() - start;
    let (mut fired, mut key_sum) = (0, 0);
    let start = busy_ns();
    while operator.watermark(WATERMARK_MAX, &mut ctx, &mut out).unwrap() == Progress::Yielded {
        while let Some(batch) = out.take() {
            fired += batch.values.len() as u64;
            key_sum ^= batch.values.iter().fold(0, |sum, key| sum ^ key);
            crate::operator::output::AnyOut::recycle(&mut out, 0, batch);
        }
    }
    let fire = busy_ns() - start;
    println!("register {} ns, fire {} ns each ({fired}, {key_sum})", registered / TIMERS, fire / TIMERS);
    assert_eq!(keys_of(&operator.backend), 0);
}

/// Keeps a number for each key, and sets a timer for some.
struct Numbered {
    number: ValueState<u64>,
}

impl KeyedProcessFunction<u64, (u64, i64), u64> for Numbered {
    fn process(
        &mut self,
        (key, time): (u64, i64),
        ctx: &mut KeyedContext<u64>,
        _: &mut Collector<'_, u64>,
    ) -> UserResult {
        self.number.update(ctx, |number| *number += key);
        if time > 0 {
            ctx.register_event_time_timer(time);
        }
        Ok(())
    }
}

/// What a snapshot of many keys with state, and of three million timers, costs, and its restore.
#[test]
#[ignore = "measures"]
fn speed_of_snapshots_of_state_and_timers() {
    use crate::base::batch::Barrier;
    use crate::semantics::state::{OperatorSnapshot, OperatorState};
    use std::time::Instant;

    const STATES: u64 = 10_000_000;
    let (mut ctx, _) = context(StateScope::AllKeys);
    let make = |ctx: &mut Context| {
        let mut states = States::default();
        let function = Numbered { number: states.value("number") };
        let key = Arc::new(FnKey(|record: &(u64, i64)| record.0));
        let mut operator = KeyedProcess::<u64, (u64, i64), u64, _>::new(function, states, key);
        operator.open(ctx).unwrap();
        operator
    };
    let mut operator = make(&mut ctx);
    let mut out = Out::new();
    let mut run = |operator: &mut KeyedProcess<u64, (u64, i64), u64, Numbered>, ctx: &mut Context, timers| {
        let start = busy_ns();
        for from in (0..STATES).step_by(1024) {
            let time = |i: u64| {
                if timers && i % 10 < 3 { 1_700_000_000_000 + (hash_of(&i) % 1_000_000) as i64 } else { 0 }
            };
            let values = (from..STATES.min(from + 1024)).map(|i| (hash_of(&i) % STATES, time(i))).collect();
            let mut batch = Batch { values, ..Batch::default() };
            assert_eq!(operator.process(&mut batch, ctx, &mut out).unwrap(), Progress::Done);
        }
        (busy_ns() - start) / STATES
    };
    run(&mut operator, &mut ctx, true);
    println!("{} ns a record before the first barrier", run(&mut operator, &mut ctx, false));
    for full in [true, false] {
        let mut snapshot = OperatorSnapshot::default();
        let start = Instant::now();
        let mut progress =
            operator.snapshot(Barrier { id: 1, full, savepoint: false }, &mut snapshot).unwrap();
        let cut = start.elapsed();
        let mut slices = Vec::new();
        while progress == Progress::Yielded {
            let mut part = OperatorSnapshot::default();
            let start = Instant::now();
            progress = operator.snapshot_more(&mut part).unwrap();
            slices.push(start.elapsed());
            snapshot.append(&part);
        }
        slices.sort();
        println!(
            "full: {full}; {} MB; cut {cut:?}, slice {:?}, 99 of 100 {:?}, longest {:?}",
            snapshot.bytes() >> 20,
            slices[slices.len() / 2],
            slices[slices.len() * 99 / 100],
            slices[slices.len() - 1],
        );
        println!("{} ns a record since", run(&mut operator, &mut ctx, false));
        if full {
            let state = OperatorState::from(snapshot);
            let start = busy_ns();
            let mut again = make(&mut ctx);
            again.restore(&state, &mut ctx).unwrap();
            let ms = (busy_ns() - start) / 1_000_000;
            println!("{} keys restored in {ms} ms", keys_of(&again.backend));
            assert_eq!(keys_of(&again.backend), keys_of(&operator.backend));
        }
    }
}
