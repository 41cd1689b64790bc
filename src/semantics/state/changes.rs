//! Changes: which slots of a table have changed since the last barrier, and which of its cut are still to be written.
//!
//! Place: beside a [`KeyTable`](super::KeyTable), or whatever else is indexed by slots, in an operator that keeps it; it is
//! told of each change *before* it happens, and hands a snapshot over in slices. It knows no keys or values.
//! Method: two bits for each slot. *Dirty*: changed since the barrier before. *Pending*: belongs to the cut of the last
//! barrier and is not written yet. A barrier makes the dirty slots, or all of them, pending. What is pending is written as
//! it is before its first change; [`Changes::write`] walks over the rest.
//!
//! ```text
//!   barrier      pending := dirty, or all;  dirty := none
//!   change       if pending: copy the entry as it is, not pending any more;   dirty
//!   write        the copies made so far, then pending slots in order, until the slice is full
//! ```
//!
//! Invariants: each slot of a cut is written once, as it was at the barrier: its entry, or that it was empty.
//! Costs and limits: two bits a slot, in one word pair. Before the first barrier nothing is kept, and a change costs a
//! comparison with a length of zero. A snapshot that is given up makes the next one a whole one.

use super::snapshot::Section;
use super::table::Slot;
use crate::base::error::Result;

/// Slots of a word.
const WORD: usize = u64::BITS as usize;

/// What is known of 64 slots.
#[derive(Clone, Copy, Debug, Default)]
struct Bits {
    dirty: u64,
    pending: u64,
}

/// The changes of a table; see the module.
#[derive(Debug, Default)]
pub struct Changes {
    /// Empty before the first barrier.
    words: Vec<Bits>,
    /// There was a barrier: changes are noted.
    tracks: bool,
    /// The snapshot of the last barrier is not complete.
    under_way: bool,
    /// Empty slots are written, too, since an older snapshot may have an entry there.
    empties: bool,
    /// Where to look for the next pending slot.
    next: usize,
    /// Entries that were written before they changed.
    copies: Section,
}

#[inline(always)]
fn place(slot: Slot) -> (usize, u64) {
    (slot as usize / WORD, 1 << (slot as usize % WORD))
}

impl Changes {
    /// Nothing has changed, and nothing is noted before the first [`Changes::cut`].
    pub const fn new() -> Changes {
        Changes {
            words: Vec::new(),
            tracks: false,
            under_way: false,
            empties: false,
            next: 0,
            copies: Section::new(),
        }
    }

    /// A barrier: what has changed since the one before is to be written as it is now, or everything if `full` or if the
    /// snapshot before was given up. `slots` are all there are. True if only changes are written, so that what is written
    /// stands behind the snapshot of the barrier before.
    pub fn cut(&mut self, full: bool, slots: Slot) -> bool {
        let all = full || !self.tracks || self.under_way;
        self.empties = self.tracks && !full;
        self.words.resize((slots as usize).div_ceil(WORD).max(self.words.len()), Bits::default());
        for (i, bits) in self.words.iter_mut().enumerate() {
            bits.pending = if all { below(slots, i) } else { bits.dirty };
            bits.dirty = 0;
        }
        self.tracks = true;
        self.under_way = true;
        self.next = 0;
        self.copies = Section::new();
        !all
    }

    /// The entry at a slot is about to change or to go: `copy` writes it as it is.
    ///
    /// # Errors
    /// What `copy` returns.
    #[inline(always)]
    pub fn changing(&mut self, slot: Slot, copy: impl FnOnce(&mut Section) -> Result<()>) -> Result<()> {
        let (word, bit) = place(slot);
        // No word: nothing is noted.
        let Some(bits) = self.words.get_mut(word) else { return Ok(()) };
        bits.dirty |= bit;
        if bits.pending & bit != 0 {
            bits.pending &= !bit;
            return self.copy(copy);
        }
        Ok(())
    }

    /// The entry at a slot may change: as [`Changes::changing`], but it has not changed before
    /// [`Changes::changed`] says so.
    ///
    /// # Errors
    /// What `copy` returns.
    #[inline(always)]
    pub fn touching(&mut self, slot: Slot, copy: impl FnOnce(&mut Section) -> Result<()>) -> Result<()> {
        let (word, bit) = place(slot);
        let Some(bits) = self.words.get_mut(word).filter(|bits| bits.pending & bit != 0) else {
            return Ok(());
        };
        bits.pending &= !bit;
        self.copy(copy)
    }

    /// The entry at a slot has changed since [`Changes::touching`].
    #[inline(always)]
    pub fn changed(&mut self, slot: Slot) {
        let (word, bit) = place(slot);
        if let Some(bits) = self.words.get_mut(word) {
            bits.dirty |= bit;
        }
    }

    #[cold]
    #[inline(never)]
    fn copy(&mut self, copy: impl FnOnce(&mut Section) -> Result<()>) -> Result<()> {
        copy(&mut self.copies)
    }

    /// A slot that was empty gets an entry, or just got one.
    ///
    /// # Errors
    /// If what a snapshot needs to know of it cannot be written.
    #[inline(always)]
    pub fn creating(&mut self, slot: Slot) -> Result<()> {
        if self.tracks { self.note_created(slot) } else { Ok(()) }
    }

    fn note_created(&mut self, slot: Slot) -> Result<()> {
        let (word, bit) = place(slot);
        if word >= self.words.len() {
            self.words.resize(word + 1, Bits::default());
        }
        let Some(bits) = self.words.get_mut(word) else { return Ok(()) };
        bits.dirty |= bit;
        let pending = bits.pending & bit != 0;
        bits.pending &= !bit;
        // It was empty at the barrier, and not before.
        if pending && self.empties { self.copies.put_slot::<()>(slot, None) } else { Ok(()) }
    }

    /// Writes about `bytes_max` more of the cut, and tells whether that was all. `entry` writes the entry at a slot; false if
    /// the slot is empty.
    ///
    /// # Errors
    /// What `entry` returns.
    pub fn write(
        &mut self,
        into: &mut Section,
        bytes_max: usize,
        mut entry: impl FnMut(Slot, &mut Section) -> Result<bool>,
    ) -> Result<bool> {
        let end = into.bytes().len().saturating_add(bytes_max);
        into.take_from(&mut self.copies);
        while let Some(bits) = self.words.get_mut(self.next) {
            while bits.pending != 0 {
                if into.bytes().len() >= end {
                    return Ok(false);
                }
                let slot = (self.next * WORD) as Slot + bits.pending.trailing_zeros();
                bits.pending &= bits.pending - 1;
                if !entry(slot, into)? && self.empties {
                    into.put_slot::<()>(slot, None)?;
                }
            }
            self.next += 1;
        }
        self.under_way = false;
        Ok(true)
    }

    /// Whether a snapshot is under way.
    pub fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Takes the copies made so far, of a table that goes.
    pub fn into_copies(self) -> Section {
        self.copies
    }

    /// Memory of the bits and of the copies.
    pub fn memory_bytes(&self) -> u64 {
        (self.words.capacity() * size_of::<Bits>() + self.copies.bytes().len()) as u64
    }
}

/// The bits of word `i` for slots below `slots`.
fn below(slots: Slot, i: usize) -> u64 {
    match (slots as usize).saturating_sub(i * WORD) {
        0 => 0,
        n if n >= WORD => u64::MAX,
        n => (1 << n) - 1,
    }
}

#[cfg(test)]
mod tests;
