//! Clock: processing time as a parameter, so that a run can be replayed from its seed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where processing time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Time that never goes back, from an arbitrary start.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> i64;
}

/// The clock of the machine. It is read once: when somebody sets it later, forward or back, processing time goes on as if
/// nothing had happened. Otherwise timers would fire hours early, or hours late.
pub struct SystemClock {
    start: Instant,
    /// What the clock said then.
    start_ms: i64,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Arc<Self> {
        let start_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        Arc::new(SystemClock { start: Instant::now(), start_ms })
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    fn now_ms(&self) -> i64 {
        let passed = i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.start_ms.saturating_add(passed)
    }
}

/// A clock that stands still until it is moved: the clock of simulations and tests.
#[derive(Default)]
pub struct VirtualClock {
    state: Mutex<VirtualTime>,
}

#[derive(Clone, Copy, Default)]
struct VirtualTime {
    /// Nanoseconds that have passed.
    passed: u64,
    /// What the clock said when it was set, and how many had passed then.
    set: (i64, u64),
}

impl VirtualTime {
    fn now_ms(&self) -> i64 {
        let (set_to, at) = self.set;
        set_to.saturating_add_unsigned((self.passed / 1_000_000).saturating_sub(at / 1_000_000))
    }
}

impl VirtualClock {
    /// A clock at time 0.
    pub fn new() -> Arc<Self> {
        Arc::new(VirtualClock::default())
    }
    /// A clock at this time, in milliseconds since the epoch.
    pub fn at(now_ms: i64) -> Arc<Self> {
        Arc::new(VirtualClock { state: Mutex::new(VirtualTime { passed: 0, set: (now_ms, 0) }) })
    }
    fn state(&self) -> MutexGuard<'_, VirtualTime> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.state();
        time.passed = time.passed.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
    }
    /// Sets what [`now_ms`](Clock::now_ms) says. If that is later than before, the time between has passed; if it is
    /// earlier, none has: the clocks of machines are put back, too.
    pub fn set_ms(&self, now_ms: i64) {
        let mut time = self.state();
        if now_ms > time.now_ms() {
            let nanos = now_ms.abs_diff(time.now_ms()).saturating_mul(1_000_000);
            time.passed = time.passed.saturating_add(nanos);
        }
        time.set = (now_ms, time.passed);
    }
}

impl Clock for VirtualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.state().passed)
    }
    fn now_ms(&self) -> i64 {
        self.state().now_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T11: processing time is what the clock of the machine said first, and what has passed since, whatever it says now.
    #[test]
    fn nobody_sets_the_clock_of_a_running_job() {
        let year_3000 = 32_503_680_000_000;
        for start_ms in [0, -5, year_3000, i64::MAX] {
            let clock = SystemClock { start: Instant::now(), start_ms };
            let (first, passed) = (clock.now_ms(), clock.monotonic());
            let now = clock.now_ms();
            assert!((start_ms..=start_ms.saturating_add(1_000)).contains(&first) && first <= now);
            assert!(now >= start_ms.saturating_add(passed.as_millis() as i64));
        }
        let (clock, machine) = (SystemClock::new(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
        assert!((clock.now_ms() - machine.as_millis() as i64).abs() < 1_000);
    }

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
