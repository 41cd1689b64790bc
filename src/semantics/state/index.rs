//! Index: finds the slots whose key may have a given hash.
//!
//! Place: the inner half of [`KeyTable`](super::KeyTable), which owns the entries and compares keys.
//! Method: open addressing with linear probing in groups of four cells, cut into segments that grow one by one.
//!
//! ```text
//!   hash   63          48 47                      16 15      8 7       0
//!          | key group   | tag: 32 bits             | -      | segment |
//!                          `- home group in the segment: its upper bits
//!   cell   | tag: 32 bits | slot + 1: 32 bits, 0 = empty |
//! ```
//!
//! The upper bits of the hash choose the subtask and the partition, so within one table they hardly differ, and
//! nothing here looks at them. The home of a cell is the upper bits of its own tag: growing a segment and closing
//! a gap read cells only, never entries. In a segment of 2^16 groups 16 bits of the tag still tell keys apart.
//! A removed cell leaves no tombstone: the cells behind it move back (Knuth, The Art of Computer Programming,
//! volume 3, 6.4, algorithm R), so that keys may come and go forever.
//! Invariants: between the start of a cell's home group and the cell no cell is empty, so that in each group the empty ones
//! come last; no segment is fuller than [`limit`], so every probe ends.
//! Costs and limits: 8 bytes a cell, 13 to 26 a key, up to 64 in a table of less than a thousand keys. A table of
//! up to 2^15 cells is one segment; then it is cut into 256 at once, and from there on a step of growth touches
//! one part in 256. Never shrinks.

use super::prefetch::prefetch_element;
use std::hint::select_unpredictable;

/// Segments of a table that is no longer small.
const SEGMENTS: usize = 256;
/// Cells of the first segment when it is made.
const CELLS_MIN: usize = 8;
/// Cells up to which a single segment is kept sparse.
const SPARSE_CELLS_MAX: usize = 1 << 12;
/// Cells up to which one segment holds everything.
const SINGLE_CELLS_MAX: usize = 1 << 15;

/// Cells that are compared at once, without a branch; homes are multiples of it.
const GROUP: usize = 4;

/// Neighbouring cells, never across the border of a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
struct Group([Cell; GROUP]);

/// Two words, not one of 64 bits, so that comparing a tag is one instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    tag: u32,
    /// The slot plus one; zero if the cell is empty.
    slot_plus_one: u32,
}

impl Cell {
    const EMPTY: Cell = Cell { tag: 0, slot_plus_one: 0 };

    #[inline(always)]
    fn new(hash: u64, slot: u32) -> Cell {
        Cell { tag: tag(hash), slot_plus_one: slot.wrapping_add(1) }
    }
    #[inline(always)]
    fn is_empty(self) -> bool {
        self.slot_plus_one == 0
    }
    #[inline(always)]
    fn slot(self) -> u32 {
        self.slot_plus_one.wrapping_sub(1)
    }
}

/// How many cells of a segment may be in use: five in eight, but one in four in a small table, where that costs
/// next to nothing and a look-up that leaves its home group is what costs most.
const fn limit(cells: usize, segments: usize) -> usize {
    if segments == 1 && cells <= SPARSE_CELLS_MAX { cells / 4 } else { cells / 8 * 5 }
}

#[inline(always)]
fn tag(hash: u64) -> u32 {
    (hash >> 16) as u32
}

/// No slot: what an empty cell, one less than slot plus one, reads as.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// The slot of the first cell of a group with this tag, or [`NO_SLOT`]. Compares all of them and selects, since
/// how far a key lies from its home is what no branch predictor can guess.
#[inline(always)]
fn first_of_tag(group: &Group, tag: u32) -> u32 {
    let mut found = 0u32;
    for cell in group.0.iter().rev() {
        found = select_unpredictable(cell.tag == tag, cell.slot_plus_one, found);
    }
    found.wrapping_sub(1)
}

#[derive(Debug)]
pub(super) struct Segment {
    /// A power of two of them, at least `CELLS_MIN / GROUP`.
    groups: Box<[Group]>,
    used: usize,
    /// The home group of a tag is `tag >> shift`.
    shift: u32,
}

impl Segment {
    fn new(cells: usize) -> Segment {
        let groups = vec![Group([Cell::EMPTY; GROUP]); cells / GROUP].into_boxed_slice();
        let shift = 32u32.saturating_sub(groups.len().ilog2());
        Segment { groups, used: 0, shift }
    }

    #[inline(always)]
    fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    /// The slot of the first cell with the tag of `hash` in its home group, or [`NO_SLOT`].
    #[inline(always)]
    pub(super) fn likely_at_home(&self, hash: u64) -> u32 {
        let tag = tag(hash);
        self.groups.get(self.home(tag)).map_or(NO_SLOT, |group| first_of_tag(group, tag))
    }

    /// The groups to probe for a tag, forever, one after the other.
    #[inline(always)]
    fn probe(&self, tag: u32) -> impl Iterator<Item = &Group> {
        let home = self.home(tag);
        (home..).map(|at| &self.groups[at & (self.groups.len() - 1)])
    }

    fn cells(&self) -> usize {
        self.groups.len() * GROUP
    }

    /// Cell `at`, counted around the end.
    #[inline(always)]
    fn cell_mut(&mut self, at: usize) -> &mut Cell {
        let group = (at / GROUP) & (self.groups.len() - 1);
        &mut self.groups[group].0[at % GROUP]
    }

    /// Puts a cell into the first gap at or behind cell `from`, which is its home or a later place with no gap
    /// between. Returns the place.
    #[inline]
    fn place(&mut self, cell: Cell, from: usize) -> usize {
        self.used += 1;
        let mask = self.groups.len() - 1;
        let mut group = from / GROUP;
        loop {
            let cells = &mut self.groups[group & mask].0;
            // Counted, since a branch for each cell would be wrong half of the time.
            let used: usize = cells.iter().map(|cell| usize::from(!cell.is_empty())).sum();
            if let Some(gap) = cells.get_mut(used) {
                *gap = cell;
                return group * GROUP + used;
            }
            group += 1;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let mut grown = Segment::new(self.cells() * 2);
        // Equal hashes lie behind one another: start where the one before ended, or n of them cost n * n.
        let mut last = (usize::MAX, 0);
        for &cell in self.groups.iter().flat_map(|g| &g.0).filter(|c| !c.is_empty()) {
            let home = grown.home(cell.tag);
            let from = if last.0 == home { last.1 } else { home * GROUP };
            last = (home, grown.place(cell, from));
        }
        *self = grown;
    }

    /// Empties the cell at `gap` and moves cells behind it back, so that no cell is cut off from its home.
    fn close(&mut self, mut gap: usize) {
        let mask = self.cells() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let cell = *self.cell_mut(at);
            if cell.is_empty() {
                break;
            }
            let home = self.home(cell.tag) * GROUP;
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                *self.cell_mut(gap) = cell;
                gap = at;
            }
        }
        *self.cell_mut(gap) = Cell::EMPTY;
        self.used -= 1;
    }

    /// Takes a cell out; false if it is not there.
    fn remove(&mut self, wanted: Cell) -> bool {
        let mask = self.cells() - 1;
        let mut at = self.home(wanted.tag) * GROUP;
        loop {
            match *self.cell_mut(at) {
                cell if cell.is_empty() => return false,
                cell if cell == wanted => break,
                _ => at = (at + 1) & mask,
            }
        }
        self.close(at);
        true
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

    /// Starts loading the group where a look-up of `hash` begins.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(segment) = self.segment(hash) {
            prefetch_element(&segment.groups, segment.home(tag(hash)));
        }
    }

    /// The first slot with the tag of `hash`, or [`NO_SLOT`]: very likely the one of the key, if it has one.
    #[inline(always)]
    pub(super) fn likely(&self, hash: u64) -> u32 {
        let Some(segment) = self.segment(hash) else { return NO_SLOT };
        let tag = tag(hash);
        for group in segment.probe(tag) {
            let slot = first_of_tag(group, tag);
            if slot != NO_SLOT || group.0[GROUP - 1].is_empty() {
                return slot;
            }
        }
        NO_SLOT
    }

    /// The first slot with the tag of `hash` for which `is_key` holds.
    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_key: impl FnMut(u32) -> bool) -> Option<u32> {
        let segment = self.segment(hash)?;
        let tag = tag(hash);
        for &cell in segment.probe(tag).flat_map(|group| &group.0) {
            if cell.is_empty() {
                break;
            }
            let slot = cell.slot();
            if cell.tag == tag && is_key(slot) {
                return Some(slot);
            }
        }
        None
    }

    /// Whether the index is one segment at most.
    #[inline(always)]
    pub(super) fn is_small(&self) -> bool {
        self.segments.len() <= 1
    }

    /// The one segment of a small index.
    #[inline(always)]
    pub(super) fn single(&self) -> Option<&Segment> {
        if let [segment] = &self.segments[..] { Some(segment) } else { None }
    }

    /// Adds a slot that is not in the index yet. `hash_of_slot` tells the hash of those that are.
    #[inline]
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of_slot: impl Fn(u32) -> u64) {
        if let [single] = &self.segments[..]
            && single.used >= limit(SINGLE_CELLS_MAX, 1)
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
        if segment.used >= limit(segment.cells(), mask + 1) {
            segment.grow();
        }
        segment.place(Cell::new(hash, slot), segment.home(tag(hash)) * GROUP);
    }

    /// Makes room for so many slots, in an index that has none. A small index grows fast enough.
    pub(super) fn reserve(&mut self, slots: usize) {
        if slots < limit(SINGLE_CELLS_MAX, 1) || self.segments.iter().any(|segment| segment.used > 0) {
            return;
        }
        // Slots spread evenly, more or less: a segment that gets more grows.
        let mut cells = CELLS_MIN;
        while limit(cells, SEGMENTS) < slots / SEGMENTS {
            cells *= 2;
        }
        self.segments = (0..SEGMENTS).map(|_| Segment::new(cells)).collect();
    }

    /// From one segment to many.
    #[cold]
    fn cut(&mut self, hash_of_slot: impl Fn(u32) -> u64) {
        let cells = (SINGLE_CELLS_MAX / SEGMENTS * 2).max(CELLS_MIN);
        let old = std::mem::take(&mut self.segments);
        self.segments.extend((0..SEGMENTS).map(|_| Segment::new(cells)));
        for &cell in old.iter().flat_map(|s| s.groups.iter().flat_map(|g| &g.0)).filter(|c| !c.is_empty()) {
            let slot = cell.slot();
            self.put(hash_of_slot(slot), slot);
        }
    }

    /// Takes a slot out; false if it is not in the index under this hash.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) -> bool {
        let mask = self.segments.len().wrapping_sub(1);
        let Some(segment) = self.segments.get_mut(hash as usize & mask) else { return false };
        segment.remove(Cell::new(hash, slot))
    }

    /// Forgets all slots, keeps the memory.
    pub(super) fn clear(&mut self) {
        for segment in &mut self.segments {
            segment.groups.fill(Group([Cell::EMPTY; GROUP]));
            segment.used = 0;
        }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let cells: usize = self.segments.iter().map(|s| s.cells()).sum();
        (cells * size_of::<Cell>() + self.segments.capacity() * size_of::<Segment>()) as u64
    }
}
