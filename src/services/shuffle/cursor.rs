//! Cursor: reads one segment row by row.
//!
//! Place: under every merge and concatenation. One block is in memory at a time; blocks of a segment in memory are
//! shared, those of a file are read and verified into a buffer of the cursor's own. Of a large row only the front is read
//! and verified, up to the end of its key, until its turn has come: [`Cursor::complete`] reads all of it.
//! Costs: for a segment in a file its largest block twice, stored and raw, and the longest front of a large row, all of which is
//! there while it is the current one; for one in memory nothing.

use super::row::{LARGE_ROW_BYTES, NEW, SAME, first_hash, take_i64, take_u64, take_varint};
use super::run::{Head, MemoryBlocks, Place, Segment};
use super::spill::{BlockLengths, Front, HEADER_BYTES, SpillFile};
use crate::base::error::{Error, Result};
use bytes::Bytes;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A position in a segment.
pub(super) struct Cursor {
    block: Bytes,
    end: usize,
    at: usize,
    pub(super) timestamps: bool,
    pub(super) input: usize,
    pub(super) hash: u64,
    /// The lowest for rows that have none.
    pub(super) timestamp: i64,
    key: (usize, usize),
    value: (usize, usize),
    mark: u8,
    /// The block is the front of a large row, whose value is not there.
    partial: bool,
    feed: Feed,
    /// The hashes that are read; the others of the segment are passed over.
    range: RangeInclusive<u64>,
}

enum Feed {
    Memory { blocks: MemoryBlocks, next: usize },
    File(FileFeed),
}

struct FileFeed {
    file: Arc<SpillFile>,
    partition: u32,
    sequence: u64,
    /// Where the current block starts, or the first one.
    offset: u64,
    /// Bytes of the current block in the file; 0 before the first.
    length: u64,
    blocks: Arc<[BlockLengths]>,
    /// The first row of each block.
    heads: Arc<[Head]>,
    next: usize,
    stored: Vec<u8>,
    /// The buffer of blocks, while a large row is in its place.
    usual: Option<Bytes>,
}

impl FileFeed {
    /// The next block is the current one now.
    fn pass(&mut self, lengths: BlockLengths) {
        self.next += 1;
        self.sequence += 1;
        self.length = (HEADER_BYTES + lengths.stored as usize) as u64;
    }
}

/// What [`Cursor::load`] has found.
enum Loaded {
    /// A block, before its first row.
    Block,
    /// A large row.
    Row,
    /// The end of the segment.
    End,
}

impl Cursor {
    /// A cursor before the first row; `None` if there is no row.
    pub(super) fn open(
        segment: &Segment,
        files: &[Option<Arc<SpillFile>>],
        partition: usize,
        timestamps: bool,
        input: usize,
    ) -> Result<Option<Cursor>> {
        Cursor::open_range(segment, files, partition, timestamps, input, 0..=u64::MAX)
    }

    /// The same, over the rows whose hashes are in a range. Where there is none it ends at once.
    pub(super) fn open_range(
        segment: &Segment,
        files: &[Option<Arc<SpillFile>>],
        partition: usize,
        timestamps: bool,
        input: usize,
        range: RangeInclusive<u64>,
    ) -> Result<Option<Cursor>> {
        if segment.rows == 0 {
            return Ok(None);
        }
        // The first rows of the range may be in the block before the first one that starts in it.
        let first_block = |heads: &dyn Fn(usize) -> u64, count: usize| {
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = (low + high) / 2;
                if heads(middle) >= *range.start() { high = middle } else { low = middle + 1 }
            }
            low.saturating_sub(1)
        };
        let (block, feed) = match &segment.place {
            Place::Memory(_) => {
                let blocks = segment.memory().ok_or_else(|| {
                    Error::Internal(format!("partition {partition} of a shuffle is read after its release"))
                })?;
                let next = first_block(&|i| first_hash(&blocks[i]), blocks.len());
                (Bytes::new(), Feed::Memory { blocks, next })
            }
            Place::File { file, offset, first_sequence, blocks, heads, .. } => {
                let file = files.get(*file).cloned().flatten().ok_or_else(|| {
                    Error::Internal("a run is read before its spill file is complete".to_string())
                })?;
                let usual = blocks.iter().zip(heads.iter()).filter(|(_, head)| head.front.is_none());
                let (raw, stored) = usual
                    .fold((0, 0), |(raw, stored), (block, _)| (block.raw.max(raw), block.stored.max(stored)));
                let next = first_block(&|i| heads[i].hash, heads.len());
                let before = blocks[..next].iter().map(|b| HEADER_BYTES as u64 + b.stored as u64);
                let feed = FileFeed {
                    file,
                    partition: partition as u32,
                    sequence: *first_sequence + next as u64,
                    offset: *offset + before.sum::<u64>(),
                    blocks: blocks.clone(),
                    heads: heads.clone(),
                    next,
                    length: 0,
                    stored: Vec::with_capacity(HEADER_BYTES + stored as usize),
                    usual: None,
                };
                (Bytes::from(vec![0; raw as usize]), Feed::File(feed))
            }
        };
        let (key, value) = ((0, 0), (0, 0));
        Ok(Some(Cursor {
            block,
            end: 0,
            at: 0,
            timestamps,
            input,
            hash: 0,
            timestamp: i64::MIN,
            key,
            value,
            mark: NEW,
            partial: false,
            feed,
            range,
        }))
    }

    /// The key of the current row.
    #[inline(always)]
    pub(super) fn key(&self) -> &[u8] {
        &self.block[self.key.0..self.key.1]
    }
    /// Where the key of the current row is in the block.
    #[inline(always)]
    pub(super) fn key_range(&self) -> (usize, usize) {
        self.key
    }
    /// Bytes of the current block, by a range from [`Cursor::key_range`] of a row in the same block.
    #[inline(always)]
    pub(super) fn bytes(&self, range: (usize, usize)) -> &[u8] {
        &self.block[range.0..range.1]
    }
    /// The value of the current row.
    #[inline(always)]
    pub(super) fn value(&self) -> &[u8] {
        &self.block[self.value.0..self.value.1]
    }
    /// The value of the current row and what follows in the block.
    #[inline(always)]
    pub(super) fn value_onwards(&self) -> &[u8] {
        &self.block[self.value.0..self.end]
    }
    /// Whether the current row has another key than the row before it in this segment.
    #[inline(always)]
    pub(super) fn starts_key(&self) -> bool {
        self.mark == NEW
    }
    /// Whether the next [`Cursor::advance`] leaves the current block.
    #[inline(always)]
    pub(super) fn is_at_block_end(&self) -> bool {
        self.at == self.end
    }

    /// Goes to the first row of the range; false if there is none.
    pub(super) fn start(&mut self) -> Result<bool> {
        loop {
            if !self.advance()? {
                return Ok(false);
            }
            if self.hash >= *self.range.start() {
                return Ok(true);
            }
        }
    }

    /// Goes to the next row; false at the end of the segment, or of the range.
    #[inline(always)]
    pub(super) fn advance(&mut self) -> Result<bool> {
        if self.at == self.end {
            match self.load()? {
                Loaded::Block => {}
                Loaded::Row => return Ok(self.hash <= *self.range.end()),
                Loaded::End => return Ok(false),
            }
        }
        match self.decode(self.end) {
            Some(()) => Ok(self.hash <= *self.range.end()),
            None => Err(self.malformed()),
        }
    }

    /// Whether the current row is large, wherever it is.
    #[inline(always)]
    pub(super) fn is_large(&self) -> bool {
        let ((key, key_end), (value, value_end)) = (self.key, self.value);
        key_end - key + value_end - value >= LARGE_ROW_BYTES
    }

    /// Whether [`Cursor::complete`] must be called before the value of the current row is looked at.
    #[inline(always)]
    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Reads all of a large row.
    #[cold]
    pub(super) fn complete(&mut self) -> Result<()> {
        let Feed::File(feed) = &mut self.feed else { return Ok(()) };
        let Some(&lengths) = feed.next.checked_sub(1).and_then(|at| feed.blocks.get(at)) else {
            return Ok(());
        };
        (self.key, self.value, self.at, self.end, self.partial) = ((0, 0), (0, 0), 0, 0, false);
        // The front goes before the whole comes.
        self.block = Bytes::new();
        let mut row = vec![0; lengths.raw as usize];
        let FileFeed { file, partition, sequence, offset, stored, .. } = feed;
        file.read_block(*offset, *partition, *sequence - 1, lengths, stored, &mut row)?;
        (self.block, self.end) = (row.into(), lengths.raw as usize);
        self.decode(self.end).ok_or_else(|| self.malformed())
    }

    /// Decodes the row at `at`, of which so many bytes of the block are there.
    #[inline(always)]
    fn decode(&mut self, there: usize) -> Option<()> {
        let bytes = self.block.get(..there)?;
        let mut at = self.at;
        let head = take_varint(bytes, &mut at)?;
        let value_len = (head >> 2) as usize;
        self.mark = head as u8 & 3;
        let mut key_len = 0;
        if self.mark != SAME {
            self.hash = take_u64(bytes, &mut at)?;
            key_len = take_varint(bytes, &mut at)? as usize;
        }
        if self.timestamps {
            self.timestamp = take_i64(bytes, &mut at)?;
        }
        let value_start = at + key_len;
        let value_end = value_start + value_len;
        if value_end > self.end || self.mark > NEW {
            return None;
        }
        if self.mark != SAME {
            self.key = (at, value_start);
        }
        self.value = (value_start, value_end);
        self.at = value_end;
        Some(())
    }

    #[cold]
    fn load(&mut self) -> Result<Loaded> {
        self.partial = false;
        match &mut self.feed {
            Feed::Memory { blocks, next } => {
                let Some(block) = blocks.get(*next) else { return Ok(Loaded::End) };
                self.block = block.clone();
                self.end = block.len();
                *next += 1;
            }
            Feed::File(feed) => {
                let Some(&lengths) = feed.blocks.get(feed.next) else {
                    // A merge may have many cursors that have ended, and each may have ended with a large row.
                    (self.block, feed.usual, feed.stored) = (Bytes::new(), None, Vec::new());
                    (self.key, self.value, self.at, self.end) = ((0, 0), (0, 0), 0, 0);
                    return Ok(Loaded::End);
                };
                feed.offset += std::mem::take(&mut feed.length);
                if let Some(front) = feed.heads.get(feed.next).and_then(|head| head.front) {
                    return self.load_front(lengths, front);
                }
                let block = std::mem::take(&mut self.block);
                let mut raw = feed
                    .usual
                    .take()
                    .unwrap_or(block)
                    .try_into_mut()
                    .map_err(|_| Error::Internal("the buffer of a cursor is shared".to_string()))?;
                let FileFeed { file, partition, sequence, offset, stored, .. } = feed;
                let read = file.read_block(*offset, *partition, *sequence, lengths, stored, &mut raw);
                self.block = raw.freeze();
                read?;
                self.end = lengths.raw as usize;
                feed.pass(lengths);
            }
        }
        self.at = 0;
        self.key = (0, 0);
        // Blocks start with a full row, so the first byte has a mark; without it the row would take the key before.
        match self.block.first() {
            Some(&byte) if byte & 3 != SAME && self.end > 0 => Ok(Loaded::Block),
            _ => Err(self.malformed()),
        }
    }

    /// Reads the front of the large row in the next block.
    fn load_front(&mut self, lengths: BlockLengths, front: Front) -> Result<Loaded> {
        let Feed::File(feed) = &mut self.feed else { return Ok(Loaded::End) };
        let block = std::mem::take(&mut self.block);
        feed.usual.get_or_insert(block);
        (self.key, self.value, self.at, self.end) = ((0, 0), (0, 0), 0, lengths.raw as usize);
        self.block = feed.file.read_front(feed.offset, lengths, front)?.into();
        feed.pass(lengths);
        self.decode(self.block.len()).ok_or_else(|| self.malformed())?;
        if self.mark == SAME || self.at != self.end || self.key.1 > self.block.len() {
            (self.key, self.value) = ((0, 0), (0, 0));
            return Err(self.malformed());
        }
        self.partial = true;
        Ok(Loaded::Row)
    }

    #[cold]
    fn malformed(&self) -> Error {
        let message = format!("the bytes at {} of {} in the block are not a row", self.at, self.end);
        match &self.feed {
            Feed::Memory { .. } => Error::Internal(format!("in a block in memory {message}")),
            Feed::File(feed) => feed.file.damaged(feed.offset, message),
        }
    }
}
