//! Clock: processing time as a parameter, so that a run can be replayed from its seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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
    nanos: AtomicI64,
}

impl VirtualClock {
    /// A clock at time 0.
    pub fn new() -> Arc<Self> {
        Arc::new(VirtualClock::default())
    }
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let nanos = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        let _ =
            self.nanos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |t| Some(t.saturating_add(nanos)));
    }
}

impl Clock for VirtualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed) as u64)
    }
    fn now_ms(&self) -> i64 {
        self.nanos.load(Ordering::Relaxed) / 1_000_000
    }
}
