//! Window: a half-open interval of time, and when it is over.

use crate::base::data::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The records with a timestamp in `[start, end)`. Ordered by start, then by end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Window {
    /// The first timestamp inside.
    pub start: Timestamp,
    /// The first timestamp behind; larger than `start`.
    pub end: Timestamp,
}

impl Window {
    /// The one window of [`GlobalWindows`](super::GlobalWindows): it holds every timestamp and is never over.
    pub const GLOBAL: Window = Window { start: Timestamp::MIN, end: Timestamp::MAX };

    /// The last timestamp inside: `end - 1`, and the largest of all for the global window. It is the timestamp of
    /// the window's results.
    #[inline(always)]
    pub fn max_timestamp(&self) -> Timestamp {
        if self.is_global() { Timestamp::MAX } else { self.end.saturating_sub(1) }
    }
    /// Whether this is the global window.
    #[inline(always)]
    pub fn is_global(&self) -> bool {
        *self == Window::GLOBAL
    }
    /// Whether the two have a timestamp in common, or one ends where the other starts. Sessions merge then.
    #[inline(always)]
    pub fn intersects_or_touches(&self, other: &Window) -> bool {
        self.start <= other.end && self.end >= other.start
    }
    /// The smallest window that holds both.
    #[inline(always)]
    pub fn cover(&self, other: &Window) -> Window {
        Window { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
    /// Whether the timestamp is inside.
    #[inline(always)]
    pub fn contains(&self, timestamp: Timestamp) -> bool {
        self.start <= timestamp && timestamp <= self.max_timestamp()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_global() { f.write_str("global") } else { write!(f, "[{}, {})", self.start, self.end) }
    }
}

/// When the state of an event-time window is dropped: once the watermark is at its last timestamp plus the
/// allowed lateness. A sum beyond the range of timestamps becomes the largest one. For windows over processing
/// time give a lateness of 0, since nothing is late there.
#[inline(always)]
pub fn cleanup_time(window: Window, lateness_ms: i64) -> Timestamp {
    window.max_timestamp().saturating_add(lateness_ms)
}

/// Whether an event-time window takes no more records: its cleanup time has passed. The global one never is.
#[inline(always)]
pub fn is_late(window: Window, lateness_ms: i64, watermark: Timestamp) -> bool {
    !window.is_global() && cleanup_time(window, lateness_ms) <= watermark
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X1, X8: a window ends before its end, and its results are in it.
    #[test]
    fn windows_are_half_open() {
        let w = Window { start: -5, end: 5 };
        assert_eq!(w.max_timestamp(), 4);
        assert_eq!([-6, -5, 4, 5].map(|t| w.contains(t)), [false, true, true, false]);
        assert_eq!(w.to_string(), "[-5, 5)");
        assert_eq!(Window::GLOBAL.to_string(), "global");
    }

    /// X3: windows that touch are treated as overlapping.
    #[test]
    fn windows_meet() {
        let w = Window { start: 0, end: 10 };
        for (start, end, meets) in
            [(10, 20, true), (11, 20, false), (-5, 0, true), (-5, -1, false), (3, 4, true)]
        {
            let other = Window { start, end };
            assert_eq!((w.intersects_or_touches(&other), other.intersects_or_touches(&w)), (meets, meets));
        }
        assert_eq!(w.cover(&Window { start: 5, end: 12 }), Window { start: 0, end: 12 });
    }

    /// X5, X15: late from `end - 1 + lateness` on; a sum beyond the range is the end of time; the global window never.
    #[test]
    fn cleanup_and_lateness() {
        let w = Window { start: 0, end: 10 };
        assert_eq!(cleanup_time(w, 5), 14);
        assert_eq!([13, 14].map(|watermark| is_late(w, 5, watermark)), [false, true]);
        assert_eq!(cleanup_time(w, i64::MAX), i64::MAX);
        assert_eq!(cleanup_time(Window::GLOBAL, 0), i64::MAX);
        assert!(!is_late(Window::GLOBAL, 0, i64::MAX));
        assert_eq!(cleanup_time(Window { start: i64::MIN, end: i64::MIN + 1 }, 0), i64::MIN);
    }
}
