//! Slices: aligned event-time windows with an incremental fold and the default trigger.
//!
//! Idea: a slice is the longest interval of which every window is a whole number. A record is folded into one
//! accumulator, that of its key and slice, however many windows hold it; windows are put together from slices when
//! they fire (Li et al., "No pane, no gain", 2005; Traub et al., "Scotty", 2018). There is no timer for a record
//! or a key: time is looked at once, at the end of a slice.
//!
//! - [`TumblingSlices`]: a window is a slice. A table of keys for each open slice, emptied when it fires.
//! - [`SlidingSlices`]: a window is several slices. A column of accumulators for each slice, open or closed (`columns`; where
//!   keys are few and far between, `panes` of each key): windows fire at a cost that does not depend on how many
//!   slices they have.
//! - [`CombineSlices`]: BATCH, before the shuffle. Partial results are `((key, slice), accumulator)`.
//! - [`SlidePartials`]: BATCH, behind the shuffle of sliding windows; tumbling ones need no more than a fold.

mod closed;
mod columns;
mod combine;
mod panes;
mod slide_partials;
mod sliding;
mod tables;
mod tumbling;

pub use combine::{CombineSlices, Partial};
pub use slide_partials::SlidePartials;
pub use sliding::SlidingSlices;
pub use tables::FoldPartials;
pub use tumbling::TumblingSlices;
pub(super) use tumbling::divert;

use crate::base::data::Timestamp;
use crate::base::error::{Error, Result};
use crate::semantics::window::{Aligned, Window};

/// Aligned windows with what is computed from them once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slicing {
    aligned: Aligned,
    slices: Aligned,
    slice_ms: i64,
}

impl Slicing {
    pub(super) fn new(aligned: Aligned) -> Slicing {
        Slicing { aligned, slices: aligned.slices(), slice_ms: aligned.slice_ms() }
    }

    /// The slice of a timestamp. An error if its windows do not fit into the range of timestamps.
    #[inline]
    fn slice_of(&self, timestamp: Timestamp) -> Result<Window> {
        let fits = |start: Timestamp| {
            start.checked_sub(self.aligned.size_ms)?;
            start.checked_add(self.aligned.size_ms)?.checked_add(self.slice_ms)
        };
        match self.slices.last_window_start(timestamp) {
            Some(start) if fits(start).is_some() => Ok(Window { start, end: start + self.slice_ms }),
            _ => Err(outside(timestamp)),
        }
    }

    /// The end of the last window that holds a slice.
    #[inline]
    fn last_end(&self, slice: Timestamp) -> Timestamp {
        let start = self.aligned.last_window_start(slice).unwrap_or(slice);
        start.saturating_add(self.aligned.size_ms)
    }

    /// The end of the first window that holds a slice and ends behind `after`.
    fn first_end(&self, slice: Timestamp, after: Timestamp) -> Timestamp {
        let last = self.last_end(slice);
        // Ends lie a slide apart; that of the first window is the lowest one behind the slice.
        let behind = slice.saturating_add(self.slice_ms - 1).max(after);
        let slides = last.saturating_sub(behind).saturating_sub(1) / self.aligned.slide_ms;
        last.saturating_sub(slides.max(0).saturating_mul(self.aligned.slide_ms))
    }
}

#[cold]
fn outside(timestamp: Timestamp) -> Error {
    Error::user(format!(
        "a window of timestamp {timestamp} does not fit into the range of timestamps, which are 64-bit milliseconds \
         since 1970; correct or drop such records where timestamps are assigned"
    ))
}

#[cold]
pub(super) fn no_timestamps() -> Error {
    Error::user("records without timestamps came to a window of event time; use assign_timestamps before it")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// X2: the ends of the windows that hold a slice, against all windows there are.
    #[test]
    fn the_first_end_behind_a_time() {
        for (size_ms, slide_ms, offset_ms) in [(10, 10, 0), (10, 5, 2), (9, 6, -4), (60, 1, 0)] {
            let slicing = Slicing::new(Aligned { size_ms, slide_ms, offset_ms });
            for timestamp in -70..70 {
                let slice = slicing.slice_of(timestamp).unwrap();
                let ends: Vec<i64> = (-300..300)
                    .map(|n| n * slide_ms + offset_ms)
                    .filter(|start| *start <= slice.start && slice.start < start + size_ms)
                    .map(|start| start + size_ms)
                    .collect();
                assert_eq!(ends.last(), Some(&slicing.last_end(slice.start)));
                for after in -80..150 {
                    let first = ends.iter().find(|end| **end > after);
                    if let Some(&first) = first {
                        assert_eq!(
                            slicing.first_end(slice.start, after),
                            first,
                            "{slicing:?} {slice} {after}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn timestamps_whose_windows_do_not_fit_are_errors() {
        let slicing = Slicing::new(Aligned { size_ms: 10, slide_ms: 5, offset_ms: 0 });
        for timestamp in [i64::MIN, i64::MIN + 5, i64::MAX, i64::MAX - 5] {
            assert!(slicing.slice_of(timestamp).is_err(), "{timestamp}");
        }
        assert_eq!(slicing.slice_of(-1).unwrap(), Window { start: -5, end: 0 });
    }
}
