//! Arena: rows in arrival order, in pages of a fixed size.
//!
//! Place: the unsorted half of a sort buffer. A row is found by its address, which grows with every row, so that
//! comparing addresses compares arrival.
//! Layout of a row: key length, value length (varints), timestamp (8 bytes, if the edge has them), key, value.
//! Costs: a row that does not fit the rest of a page starts a new one; a row larger than a page gets its own.

use super::prefetch::prefetch;
use super::row::{HEAD_BYTES_MAX, put_bytes, put_varint, take_i64, take_varint};

/// Rows in pages.
pub(super) struct Arena {
    page_bytes: usize,
    timestamps: bool,
    pages: Vec<Box<[u8]>>,
    /// Empty pages of the common size, for the next filling.
    spare: Vec<Box<[u8]>>,
    /// Where the next row starts in the last page.
    at: usize,
    /// Bytes of all pages, spare ones too.
    allocated: usize,
}

/// A row in the arena.
#[derive(Clone, Copy)]
pub(super) struct ArenaRow<'a> {
    pub(super) timestamp: i64,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Arena {
    pub(super) fn new(page_bytes: usize, timestamps: bool) -> Arena {
        Arena { page_bytes, timestamps, pages: Vec::new(), spare: Vec::new(), at: 0, allocated: 0 }
    }

    /// Bytes of all pages.
    #[inline]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.allocated
    }

    /// Bytes that [`Arena::append`] would allocate for a row with so many bytes of key and value.
    #[inline(always)]
    pub(super) fn growth_for(&self, row_bytes: usize) -> usize {
        let need = row_bytes + HEAD_BYTES_MAX;
        match self.pages.last() {
            Some(page) if page.len() - self.at >= need => 0,
            _ if need > self.page_bytes => need,
            _ if self.spare.is_empty() => self.page_bytes,
            _ => 0,
        }
    }

    /// Appends a row and returns its address.
    #[inline(always)]
    pub(super) fn append(&mut self, timestamp: i64, key: &[u8], value: &[u8]) -> u64 {
        let need = key.len() + value.len() + HEAD_BYTES_MAX;
        if self.pages.last().is_none_or(|page| page.len() - self.at < need) {
            self.next_page(need);
        }
        let index = self.pages.len() - 1;
        let start = self.at;
        let page = &mut self.pages[index][start..start + need];
        let mut at = put_varint(page, 0, key.len() as u64);
        at = put_varint(page, at, value.len() as u64);
        if self.timestamps {
            page[at..at + 8].copy_from_slice(&timestamp.to_le_bytes());
            at += 8;
        }
        at = put_bytes(page, at, key);
        at = put_bytes(page, at, value);
        self.at += at;
        (index as u64) << 32 | start as u64
    }

    #[cold]
    fn next_page(&mut self, need: usize) {
        let page = match self.spare.pop().filter(|page| page.len() >= need) {
            Some(page) => page,
            None => {
                let bytes = need.max(self.page_bytes);
                self.allocated += bytes;
                vec![0; bytes].into_boxed_slice()
            }
        };
        self.pages.push(page);
        self.at = 0;
    }

    /// The row at an address that [`Arena::append`] returned since the last clear.
    #[inline(always)]
    pub(super) fn row(&self, address: u64) -> ArenaRow<'_> {
        let bytes = &self.pages[(address >> 32) as usize][..];
        let mut at = address as u32 as usize;
        // Only `append` writes here, so what it wrote can be read.
        let key_len = take_varint(bytes, &mut at).unwrap_or(0) as usize;
        let value_len = take_varint(bytes, &mut at).unwrap_or(0) as usize;
        let timestamp = if self.timestamps { take_i64(bytes, &mut at).unwrap_or(0) } else { 0 };
        let (key, rest) = bytes[at..].split_at(key_len);
        ArenaRow { timestamp, key, value: &rest[..value_len] }
    }

    /// Asks for the cache line of a row.
    #[inline(always)]
    pub(super) fn prefetch(&self, address: u64) {
        if let Some(page) = self.pages.get((address >> 32) as usize) {
            prefetch(page, address as u32 as usize);
        }
    }

    /// Forgets all rows, keeps the pages of the common size.
    pub(super) fn clear(&mut self) {
        for page in self.pages.drain(..) {
            if page.len() == self.page_bytes {
                self.spare.push(page);
            } else {
                self.allocated -= page.len();
            }
        }
        self.at = 0;
    }

    /// Forgets all rows and gives the memory back.
    pub(super) fn free(&mut self) {
        *self = Arena::new(self.page_bytes, self.timestamps);
    }
}
