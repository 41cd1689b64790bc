//! Merging: what a new window of a session makes of the windows that its key has already.
//!
//! Method: the windows of a key are kept sorted by start, and no two of them meet (else they would have merged). So
//! those that the new window meets are neighbours, two binary searches find them, and a range names them.
//! Nothing is allocated.

use super::Window;
use std::ops::Range;

/// What becomes of a key's windows when one is added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged {
    /// The window that the new one belongs to from now on.
    pub window: Window,
    /// Positions of the existing windows that become part of it. To keep the order, `window` replaces them; where
    /// the range is empty it goes in at its start.
    pub swallowed: Range<usize>,
}

impl Merged {
    /// Whether no existing window is met: the new one stands for itself.
    #[inline(always)]
    pub fn is_new(&self) -> bool {
        self.swallowed.is_empty()
    }
}

/// Adds `new` to windows that are sorted by start and do not meet.
///
/// One swallowed window that equals [`Merged::window`] is not changed: the record was inside. One that differs has
/// grown. Two or more have been bridged.
#[inline]
pub fn merge(existing: &[Window], new: Window) -> Merged {
    merge_by(existing, |window| *window, new)
}

/// As [`merge`], for windows that are kept together with something else.
#[inline]
pub fn merge_by<E>(existing: &[E], window_of: impl Fn(&E) -> Window, new: Window) -> Merged {
    let first = existing.partition_point(|e| window_of(e).end < new.start);
    let met = existing.get(first..).unwrap_or_default();
    let count = met.partition_point(|e| window_of(e).start <= new.end);
    let window = match met.get(..count) {
        Some([one]) => new.cover(&window_of(one)),
        Some([one, .., last]) => new.cover(&window_of(one)).cover(&window_of(last)),
        _ => new,
    };
    Merged { window, swallowed: first..first + count }
}
