//! How long a timer takes: `cargo test --release --lib timers::tests::speed -- --ignored --nocapture`.

use super::*;

/// Nanoseconds that this thread was on a processor: other load on the machine does not count.
fn busy_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

const COUNT: u64 = 10_000_000;
const SLOTS: u64 = 1_000_000;

/// `time` gives the time and the namespace of timer `i`; time advances by `step` up to `end`.
fn measure<N: Copy + Ord>(name: &str, time: impl Fn(u64, u64) -> (i64, N), step: i64, end: i64) {
    let mut timers = Timers::<N>::new();
    timers.advance(0);
    assert!(timers.pop_due().is_none());
    let start = busy_ns();
    for i in 0..COUNT {
        let random = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        let (time, namespace) = time(i, random);
        timers.register(time, ((random >> 28) % SLOTS) as Slot, namespace);
    }
    let register = (busy_ns() - start) / COUNT as f64;
    let (entries, bytes) = (timers.len(), timers.memory_bytes());
    let start = busy_ns();
    let (mut now, mut fired, mut check) = (0i64, 0u64, 0u64);
    while now < end {
        now = now.saturating_add(step);
        timers.advance(now);
        while let Some(timer) = timers.pop_due() {
            fired += 1;
            check = check.wrapping_mul(31).wrapping_add(timer.slot as u64);
        }
    }
    let pop = (busy_ns() - start) / fired as f64;
    assert!(timers.is_empty());
    println!(
        "{name:<32} register {register:6.1} ns = {:5.1} M/s  {entries:>8} entries  {:4} MB  \
         fire {pop:6.1} ns = {:5.1} M/s  \
         {fired} timers, at last {} MB, check {check:x}",
        1e3 / register,
        bytes >> 20,
        1e3 / pop,
        timers.memory_bytes() >> 20,
    );
}

#[test]
#[ignore = "measures; run it in release"]
fn nanoseconds_per_timer() {
    let minute = 60_000i64;
    for _ in 0..2 {
        // Time and slot come from different bits: nearly all timers differ.
        let anywhere = |_, random: u64| ((random % 600_000) as i64 + 1, ());
        measure("10 minutes, steps of 100 ms", anywhere, 100, 10 * minute);
        measure("10 minutes, at once", anywhere, i64::MAX, 10 * minute);
        let window = |_, random: u64| {
            let start = (random % 10) as i64 * minute;
            (start + minute, (start, start + minute))
        };
        measure("windows of a minute, per record", window, 100, 10 * minute);
        measure("one window", |_, _| (minute, (0, minute)), 100, minute);
        measure("10 minutes after the record", |i, _| ((i / 100) as i64 + 10 * minute, ()), 100, 20 * minute);
    }
}
