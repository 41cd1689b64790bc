//! Paged: a growing array in fixed pages, whose elements never move once the first page is full.
//!
//! Place: holds the entries of a [`KeyTable`](super::KeyTable) and columns of state that are indexed by its slots.
//! Method: element `i` is `pages[i >> SHIFT][i & MASK]`. A page is about 256 KiB, and a power of two of elements.
//! The first page alone is an ordinary growing vector, so that a small array is as small as a vector.
//! Invariants: all pages before the one that holds element `len - 1` are full; those behind it are empty and
//! only keep their memory.
//! Costs and limits: growing never copies more than one page. Memory is given back only by dropping the array or
//! [`Paged::release`].

use super::prefetch::prefetch_element;

/// Bytes of a page, for elements up to this size. Large enough that the list of pages of ten million entries
/// stays in the first-level cache, small enough that the unused part of the last page does not matter.
const PAGE_BYTES: usize = 256 << 10;

/// A growing array in fixed pages.
#[derive(Clone, Debug)]
pub struct Paged<T> {
    pages: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Paged::new()
    }
}

impl<T> Paged<T> {
    /// Two to this power is the number of elements of a page.
    const SHIFT: u32 = {
        let elements = PAGE_BYTES / if size_of::<T>() == 0 { 1 } else { size_of::<T>() };
        if elements == 0 { 0 } else { elements.ilog2() }
    };
    /// Number of elements of a page.
    pub const PAGE_LEN: usize = 1 << Self::SHIFT;
    const MASK: usize = Self::PAGE_LEN - 1;

    /// An empty array that has allocated nothing.
    pub const fn new() -> Self {
        Paged { pages: Vec::new(), len: 0 }
    }

    /// Number of elements.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Element `i`, if there is one.
    #[inline(always)]
    pub fn get(&self, i: usize) -> Option<&T> {
        self.pages.get(i >> Self::SHIFT)?.get(i & Self::MASK)
    }

    /// Element `i` to change, if there is one.
    #[inline(always)]
    pub fn get_mut(&mut self, i: usize) -> Option<&mut T> {
        self.pages.get_mut(i >> Self::SHIFT)?.get_mut(i & Self::MASK)
    }

    /// Up to `max` elements from `i` on that lie side by side: fewer at the end of a page or of the array.
    #[inline(always)]
    pub fn run(&self, i: usize, max: usize) -> &[T] {
        let page = self.pages.get(i >> Self::SHIFT).map_or(&[][..], Vec::as_slice);
        let from = page.get(i & Self::MASK..).unwrap_or_default();
        &from[..from.len().min(max)]
    }

    /// As [`Paged::run`], to change.
    #[inline(always)]
    pub fn run_mut(&mut self, i: usize, max: usize) -> &mut [T] {
        let page = self.pages.get_mut(i >> Self::SHIFT).map_or(&mut [][..], Vec::as_mut_slice);
        let from = page.get_mut(i & Self::MASK..).unwrap_or_default();
        let len = from.len().min(max);
        &mut from[..len]
    }

    /// Appends what `fill` makes until there are `len` elements.
    #[inline]
    pub fn grow(&mut self, len: usize, mut fill: impl FnMut() -> T) {
        while self.len < len {
            self.push(fill());
        }
    }

    /// Number of pages.
    #[inline(always)]
    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// The first page, if there is any.
    #[inline(always)]
    pub(super) fn first_page_mut(&mut self) -> Option<&mut [T]> {
        self.pages.first_mut().map(Vec::as_mut_slice)
    }

    /// Starts loading element `i` into the cache; harmless if there is none.
    #[inline(always)]
    pub fn prefetch(&self, i: usize) {
        if let Some(page) = self.pages.get(i >> Self::SHIFT) {
            prefetch_element(page, i & Self::MASK);
        }
    }

    /// Appends an element; its index is the length before.
    #[inline(always)]
    pub fn push(&mut self, value: T) {
        let page = self.len >> Self::SHIFT;
        if page == self.pages.len() {
            self.add_page();
        }
        self.pages[page].push(value);
        self.len += 1;
    }

    #[cold]
    fn add_page(&mut self) {
        let elements = if self.pages.is_empty() { 0 } else { Self::PAGE_LEN };
        self.pages.push(Vec::with_capacity(elements));
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }

    /// The elements in order, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.pages.iter_mut().flatten()
    }

    /// Drops the elements, keeps the memory.
    pub fn clear(&mut self) {
        // First, so that a destructor that panics leaves an array that leaks nothing into later indices.
        self.len = 0;
        self.pages.iter_mut().for_each(Vec::clear);
    }

    /// Drops the elements and gives the memory back.
    pub fn release(&mut self) {
        *self = Paged::new();
    }

    /// Memory of the pages and their list, without what the elements own elsewhere.
    pub fn memory_bytes(&self) -> u64 {
        let elements: usize = self.pages.iter().map(Vec::capacity).sum();
        (elements * size_of::<T>() + self.pages.capacity() * size_of::<Vec<T>>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_index_and_their_place() {
        let mut paged = Paged::new();
        let n = Paged::<u64>::PAGE_LEN * 2 + 5;
        for i in 0..n as u64 {
            paged.push(i);
        }
        let place: *const u64 = paged.get(Paged::<u64>::PAGE_LEN - 1).unwrap();
        for i in 0..n as u64 {
            paged.push(n as u64 + i);
        }
        assert_eq!(place, paged.get(Paged::<u64>::PAGE_LEN - 1).unwrap() as *const u64);
        assert!(paged.iter().copied().eq(0..2 * n as u64));
        assert_eq!(paged.get(2 * n - 1), Some(&(2 * n as u64 - 1)));
        assert_eq!(paged.get(2 * n), None);
        assert_eq!(paged.get(usize::MAX), None);
        paged.prefetch(usize::MAX);
        let page = Paged::<u64>::PAGE_LEN;
        assert_eq!(paged.run(3, 4), [3, 4, 5, 6]);
        assert_eq!(paged.run_mut(page - 2, 9), [page as u64 - 2, page as u64 - 1], "to the end of the page");
        assert_eq!((paged.run(2 * n - 1, 9), paged.run(2 * n, 9)), (&[2 * n as u64 - 1][..], &[][..]));
        assert!(paged.run_mut(usize::MAX, 1).is_empty());
        paged.grow(3, || unreachable!("there are more"));
        *paged.get_mut(n).unwrap() = 7;
        assert_eq!(paged.iter_mut().nth(n).copied(), Some(7));
    }

    #[test]
    fn memory_is_small_when_small_kept_by_clear_and_returned_by_release() {
        let mut paged = Paged::new();
        assert_eq!(paged.memory_bytes(), 0);
        paged.push(1u64);
        assert!(paged.memory_bytes() < 256);
        for i in 0..100_000 {
            paged.push(i);
        }
        let full = paged.memory_bytes();
        assert!((800_000..1_200_000).contains(&full), "{full}");
        paged.clear();
        assert_eq!((paged.len(), paged.get(0)), (0, None));
        for i in 0..100_001 {
            paged.push(i);
        }
        assert_eq!((paged.memory_bytes(), paged.get(100_000)), (full, Some(&100_000)));
        paged.release();
        assert_eq!(paged.memory_bytes(), 0);
    }

    #[test]
    fn elements_of_any_size_have_a_page() {
        let mut empty = Paged::new();
        let mut large = Paged::new();
        for i in 0..3u8 {
            empty.push(());
            large.push([i; 300 << 10]);
        }
        assert_eq!(empty.iter().count(), 3);
        assert_eq!(Paged::<[u8; 300 << 10]>::PAGE_LEN, 1);
        assert!(large.iter().map(|p| p[9]).eq([0, 1, 2]));
    }
}
