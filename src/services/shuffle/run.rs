//! Run: a sorted (or, without keys, an ordered) sequence of rows, cut by partition into blocks.
//!
//! Place: written by the buffers and by merges that write; read through cursors.
//! Method: a [`RunWriter`] encodes rows into one block buffer. Full blocks go to a [`RunBuilder`], which keeps them
//! in memory up to a limit; at the first block beyond it, all of the run goes to the spill file instead. A large row is
//! a block of its own, made of pieces that lie where the row is.
//! Invariant: a block belongs to one partition and starts with a full row.

use super::partitioning::Partitioning;
use super::row::{
    HEAD_BYTES_MAX, LARGE_ROW_BYTES, RESTATED, SAME, first_hash, front_bytes, put_bytes, put_varint,
};
use super::spill::{BlockLengths, Front, HEADER_BYTES, SpillFile, Spiller, digest_of_pieces};
use crate::base::error::Result;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that a block in memory costs beyond its rows: two counts and the pointer to it.
pub(super) const BLOCK_OVERHEAD_BYTES: usize = 32;

/// Blocks that writing a run needs beside the rows: the one being filled, the compressed one, and those pending.
pub(super) const WRITER_BLOCKS: usize = 6;

/// What the index knows of the first row of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) hash: u64,
    /// If it is large, and all of the block.
    pub(super) front: Option<Front>,
}

/// The blocks of one partition in memory.
pub(super) type MemoryBlocks = Arc<[Bytes]>;

/// Where the blocks of a segment are.
pub(super) enum Place {
    /// In memory, until they are released.
    Memory(Mutex<Option<MemoryBlocks>>),
    /// In a spill file, one after another.
    File {
        /// Index of the file among those of the spiller.
        file: usize,
        offset: u64,
        first_sequence: u64,
        blocks: Arc<[BlockLengths]>,
        /// The first row of each block.
        heads: Arc<[Head]>,
    },
}

/// The part of a run that belongs to one partition.
pub(super) struct Segment {
    pub(super) rows: u64,
    pub(super) raw_bytes: u64,
    /// Checksum of the raw bytes; it depends neither on the place nor on compression.
    pub(super) digest: u64,
    pub(super) place: Place,
}

impl Segment {
    /// The blocks in memory, if that is where they are and they were not released.
    pub(super) fn memory(&self) -> Option<MemoryBlocks> {
        match &self.place {
            Place::Memory(blocks) => blocks.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            Place::File { .. } => None,
        }
    }

    /// Drops the blocks in memory, except for readers that hold them, and returns the bytes that were held.
    pub(super) fn release(&self) -> usize {
        let Place::Memory(blocks) = &self.place else { return 0 };
        let blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner).take();
        blocks.map_or(0, |blocks| memory_bytes_of(&blocks))
    }

    /// Whether its rows can still be read, as far as one can tell without reading them.
    pub(super) fn is_held(&self, files: &[Option<Arc<SpillFile>>]) -> bool {
        match &self.place {
            _ if self.rows == 0 => true,
            Place::Memory(_) => self.memory().is_some(),
            Place::File { file, .. } => files.get(*file).is_some_and(Option::is_some),
        }
    }

    /// Bytes in memory now.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory().map_or(0, |blocks| memory_bytes_of(&blocks))
    }

    /// Bytes that a cursor over this segment allocates; of large rows their fronts. All of a large row is there beside that while
    /// it is the current one of a merge.
    pub(super) fn cursor_bytes(&self) -> usize {
        let Place::File { blocks, heads, .. } = &self.place else { return 0 };
        let (mut raw, mut stored, mut front) = (0, 0, 0);
        for (block, head) in blocks.iter().zip(heads.iter()) {
            match head.front {
                Some(large) => front = front.max(large.bytes),
                None => (raw, stored) = (raw.max(block.raw), stored.max(block.stored)),
            }
        }
        let bytes = raw as usize + stored as usize + front as usize;
        if bytes == 0 { 0 } else { bytes + HEADER_BYTES }
    }

    /// Bytes that it takes where it is, headers included.
    pub(super) fn stored_bytes(&self) -> u64 {
        match &self.place {
            Place::Memory(_) => self.raw_bytes,
            Place::File { blocks, .. } => {
                blocks.iter().map(|b| (b.stored as usize + HEADER_BYTES) as u64).sum()
            }
        }
    }
}

fn memory_bytes_of(blocks: &[Bytes]) -> usize {
    blocks.iter().map(|b| b.len() + BLOCK_OVERHEAD_BYTES).sum()
}

/// A run: one segment per partition.
pub(super) struct Run {
    pub(super) segments: Vec<Segment>,
    /// How often its rows were merged before: 0 for a run that came from a buffer.
    pub(super) level: u32,
}

impl Run {
    /// The file it is in, unless it is in memory.
    pub(super) fn file(&self) -> Option<usize> {
        self.segments.iter().filter(|s| s.rows > 0).find_map(|s| match s.place {
            Place::File { file, .. } => Some(file),
            Place::Memory(_) => None,
        })
    }

    /// Bytes in memory now.
    pub(super) fn memory_bytes(&self) -> usize {
        self.segments.iter().map(Segment::memory_bytes).sum()
    }

    /// The same run in the spill file.
    pub(super) fn into_file(self, spiller: &mut Spiller) -> Result<Run> {
        if self.file().is_some() {
            return Ok(self);
        }
        let mut builder = RunBuilder::on_disk(self.segments.len(), self.level);
        for (partition, segment) in self.segments.into_iter().enumerate() {
            let mut rows = segment.rows;
            for block in segment.memory().iter().flat_map(|blocks| blocks.iter()) {
                builder.add(partition, block, std::mem::take(&mut rows), spiller)?;
            }
        }
        Ok(builder.finish().0)
    }
}

#[derive(Default)]
struct Draft {
    rows: u64,
    raw_bytes: u64,
    memory: Vec<Bytes>,
    start: (usize, u64, u64),
    blocks: Vec<BlockLengths>,
    heads: Vec<Head>,
    digest: u64,
}

/// Collects the blocks of a run, partition by partition.
pub(super) struct RunBuilder {
    drafts: Vec<Draft>,
    level: u32,
    /// Bytes that may stay in memory; `None` once the run is in the file.
    limit: Option<usize>,
    used: usize,
}

impl RunBuilder {
    /// A run that stays in memory up to `memory_limit` bytes.
    pub(super) fn new(partitions: usize, memory_limit: usize, level: u32) -> RunBuilder {
        let drafts = (0..partitions).map(|_| Draft::default()).collect();
        RunBuilder { drafts, level, limit: Some(memory_limit), used: 0 }
    }

    /// A run in the spill file from its first block on.
    pub(super) fn on_disk(partitions: usize, level: u32) -> RunBuilder {
        RunBuilder { limit: None, ..RunBuilder::new(partitions, 0, level) }
    }

    /// Adds a block, which is copied if it stays in memory. Partitions must come in ascending order.
    pub(super) fn add(
        &mut self,
        partition: usize,
        block: &[u8],
        rows: u64,
        spiller: &mut Spiller,
    ) -> Result<()> {
        if self.has_room(block.len()) {
            self.keep(partition, Bytes::copy_from_slice(block), rows);
            return Ok(());
        }
        self.write(partition, block, rows, spiller)
    }

    /// Adds a large row, which is copied if it stays in memory.
    pub(super) fn add_large(
        &mut self,
        partition: usize,
        row: LargeRow<'_>,
        spiller: &mut Spiller,
    ) -> Result<()> {
        let (head, length) = row.head();
        let pieces = [&head[..length], row.key, row.value];
        if self.has_room(pieces.iter().map(|piece| piece.len()).sum()) {
            self.keep(partition, pieces.concat().into(), 1);
            return Ok(());
        }
        self.move_to_disk(spiller)?;
        let draft = &mut self.drafts[partition];
        draft.count(&pieces, 1);
        draft.write_large(partition, [&head[..length], row.key], row.value, spiller)
    }

    /// As [`RunBuilder::add`], without a copy.
    pub(super) fn add_owned(
        &mut self,
        partition: usize,
        block: Bytes,
        rows: u64,
        spiller: &mut Spiller,
    ) -> Result<()> {
        if self.has_room(block.len()) {
            self.keep(partition, block, rows);
            return Ok(());
        }
        self.write(partition, &block, rows, spiller)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.limit.is_some_and(|limit| self.used + bytes + BLOCK_OVERHEAD_BYTES <= limit)
    }

    fn keep(&mut self, partition: usize, block: Bytes, rows: u64) {
        self.used += block.len() + BLOCK_OVERHEAD_BYTES;
        let draft = &mut self.drafts[partition];
        draft.count(&[&block], rows);
        draft.memory.push(block);
    }

    fn write(&mut self, partition: usize, block: &[u8], rows: u64, spiller: &mut Spiller) -> Result<()> {
        self.move_to_disk(spiller)?;
        let draft = &mut self.drafts[partition];
        draft.count(&[block], rows);
        draft.write(partition, block, spiller)
    }

    fn move_to_disk(&mut self, spiller: &mut Spiller) -> Result<()> {
        if self.limit.take().is_none() {
            return Ok(());
        }
        self.used = 0;
        for (partition, draft) in self.drafts.iter_mut().enumerate() {
            for block in std::mem::take(&mut draft.memory) {
                draft.write(partition, &block, spiller)?;
            }
        }
        Ok(())
    }

    /// The run, and whether it is in the file.
    pub(super) fn finish(self) -> (Run, bool) {
        let on_disk = self.limit.is_none();
        let segments = self
            .drafts
            .into_iter()
            .map(|draft| Segment {
                rows: draft.rows,
                raw_bytes: draft.raw_bytes,
                digest: draft.digest,
                place: if on_disk {
                    let (file, offset, first_sequence) = draft.start;
                    let (blocks, heads) = (draft.blocks.into(), draft.heads.into());
                    Place::File { file, offset, first_sequence, blocks, heads }
                } else {
                    Place::Memory(Mutex::new(Some(draft.memory.into())))
                },
            })
            .collect();
        (Run { segments, level: self.level }, on_disk)
    }
}

impl Draft {
    fn count(&mut self, pieces: &[&[u8]], rows: u64) {
        self.rows += rows;
        self.raw_bytes += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        self.digest = digest_of_pieces(pieces, self.digest);
    }

    fn write(&mut self, partition: usize, block: &[u8], spiller: &mut Spiller) -> Result<()> {
        if block.len() >= LARGE_ROW_BYTES
            && let Some(front) = front_bytes(block, spiller.has_timestamps())
            && let Some((front, value)) = block.split_at_checked(front)
        {
            return self.write_large(partition, [front, &[]], value, spiller);
        }
        self.begin(spiller)?;
        self.heads.push(Head { hash: first_hash(block), front: None });
        self.blocks.push(spiller.write_block(partition as u32, block)?);
        Ok(())
    }

    /// Writes a large row, whose front is in two pieces.
    fn write_large(
        &mut self,
        partition: usize,
        front: [&[u8]; 2],
        value: &[u8],
        spiller: &mut Spiller,
    ) -> Result<()> {
        self.begin(spiller)?;
        let [first, second] = front;
        let bytes = (first.len() + second.len()) as u32;
        let front = Front { bytes, digest: digest_of_pieces(&front, 0) };
        self.heads.push(Head { hash: first_hash(first), front: Some(front) });
        self.blocks.push(spiller.write_large_block(partition as u32, &[first, second, value])?);
        Ok(())
    }

    /// A block is about to be written.
    fn begin(&mut self, spiller: &mut Spiller) -> Result<()> {
        if self.blocks.is_empty() {
            self.start = spiller.position()?;
        }
        Ok(())
    }
}

/// A row that is a block of its own.
pub(super) struct LargeRow<'a> {
    pub(super) mark: u8,
    pub(super) hash: u64,
    /// Where the edge has timestamps.
    pub(super) timestamp: Option<i64>,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl LargeRow<'_> {
    /// What lies before key and value, and its length.
    fn head(&self) -> ([u8; HEAD_BYTES_MAX], usize) {
        let mut head = [0; HEAD_BYTES_MAX];
        let mark = self.mark.max(RESTATED);
        let mut at = put_varint(&mut head, 0, (self.value.len() as u64) << 2 | mark as u64);
        head[at..at + 8].copy_from_slice(&self.hash.to_le_bytes());
        at = put_varint(&mut head, at + 8, self.key.len() as u64);
        if let Some(timestamp) = self.timestamp {
            head[at..at + 8].copy_from_slice(&timestamp.to_le_bytes());
            at += 8;
        }
        (head, at)
    }
}

/// Encodes sorted rows into the blocks of a run.
pub(super) struct RunWriter<'a> {
    partitioning: &'a Partitioning,
    spiller: &'a mut Spiller,
    builder: RunBuilder,
    timestamps: bool,
    buffer: Vec<u8>,
    block_bytes: usize,
    at: usize,
    rows: u64,
    partition: usize,
    last_hash: u64,
}

impl<'a> RunWriter<'a> {
    pub(super) fn new(
        partitioning: &'a Partitioning,
        spiller: &'a mut Spiller,
        builder: RunBuilder,
        timestamps: bool,
        block_bytes: usize,
    ) -> RunWriter<'a> {
        RunWriter {
            partitioning,
            spiller,
            builder,
            timestamps,
            buffer: vec![0; block_bytes],
            block_bytes,
            at: 0,
            rows: 0,
            partition: 0,
            last_hash: partitioning.last_hash(0),
        }
    }

    /// Appends a row; `mark` compares its key with that of the row before.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        mark: u8,
        hash: u64,
        timestamp: i64,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        // Partition 0 may own no hash at all; its last hash is then 0 and looks like one of its own.
        if hash > self.last_hash || (self.rows == 0 && self.at == 0) {
            self.enter_partition(hash)?;
        }
        let need = key.len() + value.len() + HEAD_BYTES_MAX;
        if self.at + need > self.block_bytes {
            if key.len() + value.len() >= LARGE_ROW_BYTES {
                return self.push_large(mark, hash, timestamp, key, value);
            }
            self.make_room(need)?;
        }
        let mark = if self.at == 0 { mark.max(RESTATED) } else { mark };
        let buffer = &mut self.buffer[self.at..self.at + need];
        let mut at = put_varint(buffer, 0, (value.len() as u64) << 2 | mark as u64);
        if mark != SAME {
            buffer[at..at + 8].copy_from_slice(&hash.to_le_bytes());
            at = put_varint(buffer, at + 8, key.len() as u64);
        }
        if self.timestamps {
            buffer[at..at + 8].copy_from_slice(&timestamp.to_le_bytes());
            at += 8;
        }
        if mark != SAME {
            at = put_bytes(buffer, at, key);
        }
        at = put_bytes(buffer, at, value);
        self.at += at;
        self.rows += 1;
        Ok(())
    }

    #[cold]
    fn push_large(&mut self, mark: u8, hash: u64, timestamp: i64, key: &[u8], value: &[u8]) -> Result<()> {
        self.seal()?;
        let row = LargeRow { mark, hash, timestamp: self.timestamps.then_some(timestamp), key, value };
        self.builder.add_large(self.partition, row, self.spiller)
    }

    #[cold]
    fn enter_partition(&mut self, hash: u64) -> Result<()> {
        let partition = self.partitioning.partition_of(hash);
        if partition != self.partition {
            self.seal()?;
            self.partition = partition;
        }
        self.last_hash = self.partitioning.last_hash(partition);
        Ok(())
    }

    #[cold]
    fn make_room(&mut self, need: usize) -> Result<()> {
        self.seal()?;
        if need > self.buffer.len() {
            self.buffer.resize(need, 0);
        }
        Ok(())
    }

    fn seal(&mut self) -> Result<()> {
        if self.at > 0 {
            self.builder.add(self.partition, &self.buffer[..self.at], self.rows, self.spiller)?;
            (self.at, self.rows) = (0, 0);
            self.buffer.truncate(self.block_bytes);
            self.buffer.shrink_to(self.block_bytes);
        }
        Ok(())
    }

    /// The run, and whether it is in the spill file.
    pub(super) fn finish(mut self) -> Result<(Run, bool)> {
        self.seal()?;
        Ok(self.builder.finish())
    }
}
