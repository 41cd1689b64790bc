//! Aligned: windows that lie alike for all keys, at whole multiples of a slide plus an offset.
//!
//! Method: the modulus is floored, so that timestamps before the epoch fall into the window that holds them. A slice
//! is the longest interval of which every window is a whole number, the greatest common divisor of size and
//! slide: what is folded once for a slice serves all windows over it.
//!
//! Costs: one division for a start.

use super::{TimeDomain, domain_text};
use crate::base::data::Timestamp;
use crate::semantics::window::{Window, ms_text, whole_ms};
use std::time::Duration;

/// The most windows that a record may be in: beyond it memory ends before the first result.
const WINDOWS_OF_A_RECORD_MAX: i64 = 1 << 20;

/// Windows `[start, start + size)` for every `start` that is `offset` plus a multiple of `slide`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Aligned {
    /// Length of a window in milliseconds.
    pub size_ms: i64,
    /// Distance of one start from the next in milliseconds; equals the size of tumbling windows.
    pub slide_ms: i64,
    /// Where a window starts, seen from the epoch. Negative east of Greenwich: days in China have -8 h.
    pub offset_ms: i64,
}

impl Aligned {
    /// Length of a slice: the greatest common divisor of size and slide.
    pub fn slice_ms(&self) -> i64 {
        let (mut a, mut b) = (self.size_ms, self.slide_ms);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// The slices as windows of their own. For each record call [`last_window_start`](Self::last_window_start) of what
    /// this returns, once made; [`slice_start`](Self::slice_start) computes the length of a slice anew.
    #[must_use]
    pub fn slices(&self) -> Aligned {
        let slice_ms = self.slice_ms();
        Aligned { size_ms: slice_ms, slide_ms: slice_ms, offset_ms: self.offset_ms }
    }

    /// Where the slice of a timestamp starts; `None` if that is before the smallest timestamp.
    pub fn slice_start(&self, timestamp: Timestamp) -> Option<Timestamp> {
        self.slices().last_window_start(timestamp)
    }

    /// The largest start of a window that is not after the timestamp; `None` if that is before the smallest one.
    #[inline(always)]
    pub fn last_window_start(&self, timestamp: Timestamp) -> Option<Timestamp> {
        start_in_steps(timestamp, self.slide_ms, self.offset_ms)
    }

    /// The windows that hold the timestamp, the latest start first; `None` if one of them does not fit into the range
    /// of timestamps. They are `size / slide` rounded up or down; none if the timestamp lies in a gap, which
    /// there is where the slide is longer than the size.
    #[inline]
    pub fn windows_of(&self, timestamp: Timestamp) -> Option<AlignedWindows> {
        let last = self.last_window_start(timestamp)?;
        // The start is less than a slide before, so this does not overflow.
        let into_last = timestamp - last;
        if into_last >= self.size_ms {
            return Some(AlignedWindows { next: last, remaining: 0, size_ms: 0, slide_ms: 0 });
        }
        let more = (self.size_ms - 1 - into_last) / self.slide_ms;
        last.checked_add(self.size_ms)?;
        last.checked_sub(more * self.slide_ms)?;
        Some(AlignedWindows {
            next: last,
            remaining: more as u64 + 1,
            size_ms: self.size_ms,
            slide_ms: self.slide_ms,
        })
    }

    pub(super) fn check(&self, tumbling: bool) -> Result<(), String> {
        let step = if tumbling { "size" } else { "slide" };
        for (ms, what) in [(self.size_ms, "size"), (self.slide_ms, "slide")] {
            if ms < 1 {
                return Err(format!("the window {what} is {ms} ms; it must be at least 1 ms"));
            }
        }
        let windows = self.size_ms / self.slide_ms;
        if windows > WINDOWS_OF_A_RECORD_MAX {
            return Err(format!(
                "each record would be in {windows} windows, more than {WINDOWS_OF_A_RECORD_MAX}; make the slide longer"
            ));
        }
        // A longer offset names the same windows as a shorter one, and is more likely a mistake than meant.
        if self.offset_ms.unsigned_abs() >= self.slide_ms.unsigned_abs() {
            return Err(format!(
                "the offset must be shorter than the {step}: it is {}, the {step} {}",
                ms_text(self.offset_ms),
                ms_text(self.slide_ms)
            ));
        }
        Ok(())
    }

    pub(super) fn describe(&self, tumbling: bool, domain: TimeDomain) -> String {
        let size = ms_text(self.size_ms);
        let lengths = if tumbling {
            format!("tumbling {size}")
        } else {
            format!("sliding {size}/{}", ms_text(self.slide_ms))
        };
        let offset = match self.offset_ms {
            0 => String::new(),
            ms => format!(" offset {}", ms_text(ms)),
        };
        format!("{lengths}{offset}{}", domain_text(domain))
    }
}

/// The largest `offset + k * step` that is not after the timestamp; `None` if that is before the smallest timestamp
/// or the step is not positive.
#[inline(always)]
pub(super) fn start_in_steps(timestamp: Timestamp, step_ms: i64, offset_ms: i64) -> Option<Timestamp> {
    if step_ms < 1 {
        return None;
    }
    let into = match timestamp.checked_sub(offset_ms) {
        Some(from_offset) => from_offset.rem_euclid(step_ms),
        None => (i128::from(timestamp) - i128::from(offset_ms)).rem_euclid(i128::from(step_ms)) as i64,
    };
    timestamp.checked_sub(into)
}

/// The windows of a timestamp, the latest start first.
#[derive(Clone, Debug)]
pub struct AlignedWindows {
    next: Timestamp,
    remaining: u64,
    size_ms: i64,
    slide_ms: i64,
}

impl Iterator for AlignedWindows {
    type Item = Window;

    #[inline(always)]
    fn next(&mut self) -> Option<Window> {
        if self.remaining == 0 {
            return None;
        }
        let start = self.next;
        self.remaining -= 1;
        // Behind the last window the start may leave the range; nobody sees it.
        self.next = start.wrapping_sub(self.slide_ms);
        Some(Window { start, end: start.saturating_add(self.size_ms) })
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        let exact = usize::try_from(self.remaining).ok();
        (exact.unwrap_or(usize::MAX), exact)
    }
}

/// The arguments of tumbling and sliding windows, with the first mistake in them.
#[derive(Clone, Debug)]
pub(super) struct Arguments {
    pub(super) aligned: Aligned,
    pub(super) domain: TimeDomain,
    mistake: Option<String>,
}

impl Arguments {
    pub(super) fn new(size: Duration, slide: Duration) -> Arguments {
        let mut mistake = None;
        let mut take = |what, duration| {
            whole_ms(what, duration).unwrap_or_else(|e| {
                mistake.get_or_insert(e);
                0
            })
        };
        let aligned = Aligned {
            size_ms: take("window size", size),
            slide_ms: take("window slide", slide),
            offset_ms: 0,
        };
        Arguments { aligned, domain: TimeDomain::Event, mistake }
    }
    pub(super) fn offset(mut self, offset: Duration) -> Arguments {
        if offset.is_zero() {
            return self.offset_ms(0);
        }
        match whole_ms("window offset", offset) {
            Ok(ms) => self.aligned.offset_ms = ms,
            Err(e) => self.mistake = self.mistake.or(Some(e)),
        }
        self
    }
    pub(super) fn offset_ms(mut self, offset_ms: i64) -> Arguments {
        self.aligned.offset_ms = offset_ms;
        self
    }
    pub(super) fn processing_time(mut self) -> Arguments {
        self.domain = TimeDomain::Processing;
        self
    }
    pub(super) fn check(&self, tumbling: bool) -> Result<(), String> {
        match &self.mistake {
            Some(mistake) => Err(mistake.clone()),
            None => self.aligned.check(tumbling),
        }
    }
}
