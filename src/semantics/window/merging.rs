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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn w(start: i64, end: i64) -> Window {
        Window { start, end }
    }

    /// X3: alone, inside, touching on either side, bridging two.
    #[test]
    fn a_new_window_among_existing_ones() {
        let existing = [w(0, 10), w(20, 30), w(40, 50)];
        for (new, window, swallowed) in [
            (w(12, 18), w(12, 18), 1..1),
            (w(-9, -5), w(-9, -5), 0..0),
            (w(60, 70), w(60, 70), 3..3),
            (w(22, 25), w(20, 30), 1..2),
            (w(10, 12), w(0, 12), 0..1),
            (w(18, 20), w(18, 30), 1..2),
            (w(10, 20), w(0, 30), 0..2),
            (w(9, 41), w(0, 50), 0..3),
        ] {
            let merged = merge(&existing, new);
            assert_eq!(merged.is_new(), swallowed.is_empty());
            assert_eq!(merged, Merged { window, swallowed }, "{new}");
        }
        assert!(merge(&[], w(1, 2)).is_new());
    }

    /// X3: at the ends of time nothing overflows.
    #[test]
    fn windows_at_the_ends_of_time() {
        let existing = [w(i64::MIN, i64::MIN + 1), w(i64::MAX - 1, i64::MAX)];
        assert_eq!(merge(&existing, w(i64::MIN + 1, i64::MAX - 1)).window, w(i64::MIN, i64::MAX));
        assert_eq!(merge(&existing, w(0, 1)).swallowed, 1..1);
    }

    proptest! {
        /// X3: windows added one by one, in any order, end as the transitive closure of those that meet.
        #[test]
        fn sessions_do_not_depend_on_order(new in prop::collection::vec((0i64..200, 1i64..12), 0..40)) {
            let new: Vec<Window> = new.into_iter().map(|(start, gap)| w(start, start + gap)).collect();
            let mut windows: Vec<(Window, usize)> = Vec::new();
            for &window in &new {
                let merged = merge_by(&windows, |(window, _)| *window, window);
                let records = windows[merged.swallowed.clone()].iter().map(|(_, n)| n).sum::<usize>() + 1;
                windows.splice(merged.swallowed, [(merged.window, records)]);
            }
            let mut sorted = new;
            sorted.sort();
            let mut expected: Vec<(Window, usize)> = Vec::new();
            for window in sorted {
                match expected.last_mut() {
                    Some((last, n)) if last.intersects_or_touches(&window) => {
                        (*last, *n) = (last.cover(&window), *n + 1);
                    }
                    _ => expected.push((window, 1)),
                }
            }
            prop_assert_eq!(windows, expected);
        }
    }
}
