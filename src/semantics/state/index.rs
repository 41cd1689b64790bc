//! Index: finds the slots whose key may have a given hash.
//!
//! Place: the inner half of [`KeyTable`](super::KeyTable), which owns the entries and compares keys.
//! Method: open addressing with linear probing, cut into segments that grow one by one.
//!
//! ```text
//!   hash   63          48 47                      16 15      8 7       0
//!          | key group   | tag: 32 bits             | -      | segment |
//!                          `- home in the segment: its upper bits
//!   cell   | tag: 32 bits | slot + 1: 32 bits |        0 = empty
//! ```
//!
//! The upper bits of the hash choose the subtask and the partition, so within one table they hardly differ, and
//! nothing here looks at them. The home of a cell is the upper bits of its own tag: growing a segment and closing
//! a gap read cells only, never entries. In a segment of 2^16 cells 16 bits of the tag still tell keys apart.
//! A removed cell leaves no tombstone: the cells behind it move back (Knuth, The Art of Computer Programming,
//! volume 3, 6.4, algorithm R), so that keys may come and go forever.
//! Invariants: between a cell's home and the cell no cell is empty; no segment is fuller than `LOAD`.
//! Costs and limits: 8 bytes a cell, 12 to 24 a key. A table of up to 2^15 cells is one segment; then it is cut
//! into `SEGMENTS` at once, and from there on a step of growth touches one part in `SEGMENTS`. Never shrinks.

use super::prefetch::prefetch_element;

/// Segments of a table that is no longer small.
const SEGMENTS: usize = 256;
/// Cells of the first segment when it is made.
const CELLS_MIN: usize = 8;
/// Cells up to which one segment holds everything.
const SINGLE_CELLS_MAX: usize = 1 << 15;

/// How many cells of a segment may be in use: five in eight.
const fn limit(cells: usize) -> usize {
    cells / 8 * 5
}

#[inline(always)]
fn tag(hash: u64) -> u32 {
    (hash >> 16) as u32
}

#[inline(always)]
fn cell(hash: u64, slot: u32) -> u64 {
    (tag(hash) as u64) << 32 | (slot as u64 + 1)
}

#[derive(Debug)]
struct Segment {
    /// A power of two of them, at least `CELLS_MIN`.
    cells: Box<[u64]>,
    used: usize,
    /// The home of a tag is `tag >> shift`.
    shift: u32,
}

impl Segment {
    fn new(cells: usize) -> Segment {
        Segment { cells: vec![0; cells].into_boxed_slice(), used: 0, shift: 32u32.saturating_sub(cells.ilog2()) }
    }

    #[inline(always)]
    fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    #[inline(always)]
    fn mask(&self) -> usize {
        self.cells.len() - 1
    }

    /// Puts a cell into the first gap at or behind `from`, which is its home or a later place with no gap
    /// between. Returns the place.
    #[inline]
    fn place(&mut self, cell: u64, from: usize) -> usize {
        let mut at = from;
        while self.cells[at & self.mask()] != 0 {
            at += 1;
        }
        at &= self.mask();
        self.cells[at] = cell;
        self.used += 1;
        at
    }

    #[cold]
    fn grow(&mut self) {
        let mut grown = Segment::new(self.cells.len() * 2);
        // Equal hashes lie behind one another: start where the one before ended, or n of them cost n * n.
        let mut last = (usize::MAX, 0);
        for &cell in self.cells.iter().filter(|&&c| c != 0) {
            let home = grown.home((cell >> 32) as u32);
            let from = if last.0 == home { last.1 } else { home };
            last = (home, grown.place(cell, from));
        }
        *self = grown;
    }

    /// Empties the cell at `gap` and moves cells behind it back, so that no cell is cut off from its home.
    fn close(&mut self, mut gap: usize) {
        let mask = self.mask();
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell == 0 {
                break;
            }
            let home = self.home((cell >> 32) as u32);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                self.cells[gap] = cell;
                gap = at;
            }
        }
        self.cells[gap] = 0;
        self.used -= 1;
    }
}

/// From hashes to slots.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// None before the first insert, then one, then `SEGMENTS`.
    segments: Vec<Segment>,
}

impl Index {
    pub(super) const fn new() -> Index {
        Index { segments: Vec::new() }
    }

    #[inline(always)]
    fn segment(&self, hash: u64) -> Option<&Segment> {
        self.segments.get(hash as usize & self.segments.len().wrapping_sub(1))
    }

    /// Starts loading the cell where a look-up of `hash` begins.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(segment) = self.segment(hash) {
            prefetch_element(&segment.cells, segment.home(tag(hash)));
        }
    }

    /// The first slot with the tag of `hash` for which `is_key` holds.
    #[inline(always)]
    pub(super) fn find(&self, hash: u64, mut is_key: impl FnMut(u32) -> bool) -> Option<u32> {
        let segment = self.segment(hash)?;
        let tag = tag(hash);
        let mut at = segment.home(tag);
        loop {
            let cell = segment.cells[at & segment.mask()];
            if cell == 0 {
                return None;
            }
            if (cell >> 32) as u32 == tag && is_key(cell as u32 - 1) {
                return Some(cell as u32 - 1);
            }
            at += 1;
        }
    }

    /// Adds a slot that is not in the index yet. `hash_of_slot` tells the hash of those that are.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of_slot: impl Fn(u32) -> u64) {
        if let [single] = &self.segments[..]
            && single.used >= limit(SINGLE_CELLS_MAX)
        {
            self.cut(hash_of_slot);
        }
        self.put(hash, slot);
    }

    fn put(&mut self, hash: u64, slot: u32) {
        if self.segments.is_empty() {
            self.segments.push(Segment::new(CELLS_MIN));
        }
        let mask = self.segments.len() - 1;
        let segment = &mut self.segments[hash as usize & mask];
        if segment.used >= limit(segment.cells.len()) {
            segment.grow();
        }
        segment.place(cell(hash, slot), segment.home(tag(hash)));
    }

    /// From one segment to many.
    #[cold]
    fn cut(&mut self, hash_of_slot: impl Fn(u32) -> u64) {
        let cells = (SINGLE_CELLS_MAX / SEGMENTS * 2).max(CELLS_MIN);
        let old = std::mem::take(&mut self.segments);
        self.segments.extend((0..SEGMENTS).map(|_| Segment::new(cells)));
        for &cell in old.iter().flat_map(|s| s.cells.iter()).filter(|&&c| c != 0) {
            let slot = cell as u32 - 1;
            self.put(hash_of_slot(slot), slot);
        }
    }

    /// Takes a slot out; false if it is not in the index under this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let mask = self.segments.len().wrapping_sub(1);
        let Some(segment) = self.segments.get_mut(hash as usize & mask) else { return false };
        let wanted = cell(hash, slot);
        let mut at = segment.home(tag(hash));
        loop {
            at &= segment.mask();
            match segment.cells[at] {
                0 => return false,
                cell if cell == wanted => break,
                _ => at += 1,
            }
        }
        segment.close(at);
        true
    }

    /// Forgets all slots, keeps the memory.
    pub(super) fn clear(&mut self) {
        for segment in &mut self.segments {
            segment.cells.fill(0);
            segment.used = 0;
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let cells: usize = self.segments.iter().map(|s| s.cells.len()).sum();
        (cells * size_of::<u64>() + self.segments.capacity() * size_of::<Segment>()) as u64
    }
}
