//! Clock: processing time as a parameter, so that a run can be replayed from its seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where processing time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Time that never goes back, from an arbitrary start.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> i64;
}

/// The clock of the machine.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Arc<Self> {
        Arc::new(SystemClock { start: Instant::now() })
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }
}

/// A clock that stands still until it is moved: the clock of simulations and tests.
#[derive(Default)]
pub struct VirtualClock {
    /// Time that has passed.
    nanos: AtomicU64,
    /// What it said when no time had passed.
    start_ms: AtomicI64,
}

impl VirtualClock {
    /// A clock at time 0.
    pub fn new() -> Arc<Self> {
        Arc::new(VirtualClock::default())
    }
    /// A clock at this time, in milliseconds since the epoch.
    pub fn at(now_ms: i64) -> Arc<Self> {
        let clock = VirtualClock::default();
        clock.start_ms.store(now_ms, Ordering::Relaxed);
        Arc::new(clock)
    }
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let _ =
            self.nanos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |t| Some(t.saturating_add(nanos)));
    }
    /// Sets what [`now_ms`](Clock::now_ms) says. If that is later than before, the time between has passed; earlier, and
    /// none has: the clocks of machines are put back, too.
    pub fn set_ms(&self, now_ms: i64) {
        let before = self.now_ms();
        if now_ms > before {
            self.advance(Duration::from_millis(now_ms.abs_diff(before)));
        }
        let passed = self.nanos.load(Ordering::Relaxed) / 1_000_000;
        self.start_ms.store(now_ms.saturating_sub_unsigned(passed), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
    fn now_ms(&self) -> i64 {
        let passed = self.nanos.load(Ordering::Relaxed) / 1_000_000;
        self.start_ms.load(Ordering::Relaxed).saturating_add_unsigned(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_is_moved_and_set() {
        let clock = VirtualClock::at(-1_500);
        clock.advance(Duration::from_micros(2_600));
        assert_eq!((clock.now_ms(), clock.monotonic()), (-1_498, Duration::from_micros(2_600)));
        clock.set_ms(1_700_000_000_000);
        assert_eq!(clock.now_ms(), 1_700_000_000_000);
        assert_eq!(clock.monotonic().as_millis(), 1_700_000_001_500);
        let passed = clock.monotonic();
        clock.set_ms(7);
        assert_eq!((clock.now_ms(), clock.monotonic()), (7, passed));
        for extreme in [i64::MAX, 0, i64::MAX] {
            clock.set_ms(extreme);
            assert_eq!(clock.now_ms(), extreme);
        }
        let clock = VirtualClock::at(i64::MIN);
        clock.set_ms(i64::MIN + 1);
        assert_eq!((clock.now_ms(), clock.monotonic()), (i64::MIN + 1, Duration::from_millis(1)));
    }
}
