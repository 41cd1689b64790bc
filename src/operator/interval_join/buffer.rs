//! Buffer: the records of one side of one key that may still find partners, by timestamp.

use crate::base::data::Timestamp;
use std::collections::VecDeque;

/// Capacity up to which an emptier buffer keeps its memory.
const KEPT_CAPACITY: usize = 32;

/// A record that waits for partners.
pub(super) struct Item<T> {
    pub ts: Timestamp,
    /// Whether it has been joined; only looked at where records without a partner are emitted.
    pub matched: bool,
    pub value: T,
}

/// Records by timestamp; equal ones in the order in which they came.
pub(super) struct Buffer<T> {
    pub items: VecDeque<Item<T>>,
}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Buffer { items: VecDeque::new() }
    }
}

impl<T> Buffer<T> {
    /// Index of the first record at `ts` or later. Most searches end near the end of the buffer or in a short one.
    #[inline(always)]
    pub fn first_from(&self, ts: Timestamp) -> usize {
        self.items.partition_point(|item| item.ts < ts)
    }

    /// Puts a record behind those of its timestamp.
    #[inline(always)]
    pub fn insert(&mut self, item: Item<T>) {
        match self.items.back() {
            Some(last) if last.ts > item.ts => {
                let at = self.items.partition_point(|other| other.ts <= item.ts);
                self.items.insert(at, item);
            }
            _ => self.items.push_back(item),
        }
    }

    /// The first record, if its timestamp is at most `to`.
    #[inline(always)]
    pub fn first_to(&self, to: Option<Timestamp>) -> Option<&Item<T>> {
        self.items.front().filter(|item| to.is_some_and(|to| item.ts <= to))
    }

    /// Drops the records with a timestamp of at most `to`.
    #[inline(always)]
    pub fn drop_to(&mut self, to: Option<Timestamp>) {
        while self.first_to(to).is_some() {
            self.items.pop_front();
        }
    }

    /// Gives back memory after a rush.
    pub fn shrink(&mut self) {
        let (len, capacity) = (self.items.len(), self.items.capacity());
        if capacity > KEPT_CAPACITY && len < capacity / 4 {
            self.items.shrink_to((2 * len).max(KEPT_CAPACITY));
        }
    }
}
