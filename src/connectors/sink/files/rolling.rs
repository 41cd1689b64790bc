//! Rolling policy: when a file that records are written to is closed and the next one begun.

use std::time::Duration;

/// When a part file of a job with checkpoints is closed. It becomes visible with the next checkpoint.
///
/// A file is also closed when the input ends, at a savepoint, when the job is stopped, and, if its format cannot be read
/// before it is complete, at each checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollingPolicy {
    max_bytes: u64,
    rollover: Duration,
    inactivity: Duration,
}

impl Default for RollingPolicy {
    /// 128 MB, 60 s after the first record, 60 s after the last.
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        RollingPolicy { max_bytes: 128_000_000, rollover: minute, inactivity: minute }
    }
}

impl RollingPolicy {
    /// Closes a file that has reached this size.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }
    /// Closes a file this long after its first record.
    #[must_use]
    pub fn rollover(mut self, after: Duration) -> Self {
        self.rollover = after;
        self
    }
    /// Closes a file this long after its last record.
    #[must_use]
    pub fn inactivity(mut self, after: Duration) -> Self {
        self.inactivity = after;
        self
    }

    /// Whether a file of this size is full.
    #[inline]
    pub(super) fn is_full(&self, bytes: u64) -> bool {
        bytes >= self.max_bytes
    }

    /// When a file is to be closed whose first and last record came at these times, in milliseconds.
    pub(super) fn due_ms(&self, first_ms: i64, last_ms: i64) -> i64 {
        let after = |ms: i64, duration: Duration| {
            ms.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
        };
        after(first_ms, self.rollover).min(after(last_ms, self.inactivity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K6: size, age and silence.
    #[test]
    fn whichever_comes_first_closes_a_file() {
        let policy = RollingPolicy::default();
        assert!(!policy.is_full(127_999_999) && policy.is_full(128_000_000));
        assert_eq!(policy.due_ms(1_000, 1_500), 61_000, "age");
        let policy = policy.inactivity(Duration::from_secs(5)).max_bytes(1);
        assert_eq!(policy.due_ms(1_000, 1_500), 6_500, "silence");
        assert_eq!(policy.due_ms(1_000, 60_999), 61_000, "age again");
        assert!(policy.is_full(1));
        let never = policy.rollover(Duration::MAX).inactivity(Duration::MAX);
        assert_eq!(never.due_ms(5, 7), i64::MAX);
    }
}
