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
