//! SortBuffer: sorts the keyed rows of one producing unit of work within a fixed share of memory.
//!
//! Place: one per unit of work and keyed edge, on the thread that runs the unit.
//! Method: external sorting with a radix sort for the runs.
//! 1. Rows go into an arena; an entry (hash, address) is kept for each.
//! 2. When rows, entries and the sort's scratch would exceed half of the share, the entries are sorted by hash, groups
//!    of equal hashes are put right by key, timestamp and arrival, and the rows are written as a run, in order.
//! 3. The run stays in memory if the other half has room for it, else it goes to the spill file. So what fits stays.
//! 4. When as many runs are in the file as can be merged at once, they become one run of the next level in a
//!    new file, so the number of runs grows with the logarithm of the data.
//! 5. A row larger than the half of the share, and than a megabyte, is a run of its own, and is not copied.
//!
//! Invariant: runs are in the order of arrival, merging joins neighbours, so ties are broken by arrival.
//! Costs: other rows are copied twice in memory. [`SortBuffer::memory_bytes`] stays within the share, except for a
//! single row that is larger, and for shares below some 16 KiB.

use super::arena::Arena;
use super::context::{KeyOrder, ShuffleContext};
use super::cursor::Cursor;
use super::merger::{Merger, compare_keys};
use super::output::ShuffleOutput;
use super::partitioning::Partitioning;
use super::radix::{self, Buckets, ENTRY_BYTES, Entry};
use super::range_cut::Sample;
use super::row::{HEAD_BYTES_MAX, LARGE_ROW_BYTES, NEW, RESTATED, ROW_BYTES_MAX, SAME, equal_bytes};
use super::run::{Run, RunBuilder, RunWriter, Segment, WRITER_BLOCKS};
use super::spill::Spiller;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use std::cmp::Ordering;

/// Rows are asked for this many entries before they are copied: enough to cover a cache miss.
const PREFETCH_ROWS: usize = 16;
/// Size of a page of the arena where the share allows it.
const PAGE_BYTES_MAX: usize = 256 << 10;
/// Entries of a chunk where the share allows it: 64 KiB.
const CHUNK_ENTRIES_MAX: usize = 4096;
/// Runs that are merged at once where the share allows it: more cursors than this do not stay in the cache.
const FAN_IN_MAX: usize = 64;
/// Entry and scratch.
const ENTRY_COST_BYTES: usize = 2 * ENTRY_BYTES;

/// Where the rows that are still in memory go at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// They stay in memory as far as the share allows.
    Memory,
    /// They go to the spill file: the output holds no rows in memory.
    Disk,
}

/// Takes keyed rows in any order and leaves sorted runs.
pub struct SortBuffer {
    context: ShuffleContext,
    partitioning: Partitioning,
    order: KeyOrder,
    block_bytes: usize,
    chunk_entries: usize,
    /// Bytes of rows, entries and scratch at which a run is made.
    working_bytes_max: usize,
    fan_in: usize,
    arena: Arena,
    chunks: Vec<Vec<Entry>>,
    chunk: Vec<Entry>,
    /// Entries that fit the chunks.
    entry_capacity: usize,
    lowest: u64,
    highest: u64,
    runs: Vec<Run>,
    runs_bytes: usize,
    spiller: Spiller,
    spills: u64,
    /// There may be runs to merge.
    unsettled: bool,
    sample: Option<Sample>,
}

impl SortBuffer {
    /// An empty buffer. Nothing is allocated and no file is made before they are needed.
    pub fn new(context: ShuffleContext, partitioning: Partitioning, order: KeyOrder) -> SortBuffer {
        let share = context.share_bytes;
        let block_bytes = context.block_bytes(64);
        let working_bytes_max = share.saturating_sub(WRITER_BLOCKS * block_bytes) / 2;
        let page_bytes = (share / 16).clamp(1 << 10, PAGE_BYTES_MAX);
        SortBuffer {
            block_bytes,
            chunk_entries: (share / 1024).clamp(16, CHUNK_ENTRIES_MAX),
            working_bytes_max,
            fan_in: (working_bytes_max / (2 * block_bytes)).clamp(4, FAN_IN_MAX),
            arena: Arena::new(page_bytes, context.timestamps),
            chunks: Vec::new(),
            chunk: Vec::new(),
            entry_capacity: 0,
            lowest: u64::MAX,
            highest: 0,
            runs: Vec::new(),
            runs_bytes: 0,
            spiller: Spiller::new(context.clone(), block_bytes),
            spills: 0,
            unsettled: false,
            sample: None,
            context,
            partitioning,
            order,
        }
    }

    /// The same buffer, which takes a sample of its rows: for a [`RangeCut`](super::RangeCut).
    #[must_use]
    pub fn sampled(mut self) -> SortBuffer {
        self.sample = Some(Sample::default());
        self
    }

    /// Bytes held: pages, entries and the scratch that sorting them takes, runs in memory, blocks on their way to disk.
    pub fn memory_bytes(&self) -> usize {
        self.working_bytes() + self.runs_bytes + self.spiller.memory_bytes()
    }

    fn working_bytes(&self) -> usize {
        self.arena.allocated_bytes() + self.entry_capacity * ENTRY_COST_BYTES
    }

    /// Appends a row.
    ///
    /// # Errors
    /// If the row is larger than [`ROW_BYTES_MAX`], if it has a timestamp and the edge does not or the other way
    /// round, or if spilling fails. The buffer is of no use after a failed spill.
    #[inline]
    pub fn append(&mut self, hash: u64, timestamp: Option<i64>, key: &[u8], value: &[u8]) -> Result<()> {
        let row_bytes = key.len() + value.len();
        if row_bytes > ROW_BYTES_MAX || timestamp.is_some() != self.context.timestamps {
            return Err(refused(row_bytes, timestamp.is_some()));
        }
        let growth = self.arena.growth_for(row_bytes);
        if let Some(sample) = &mut self.sample {
            sample.row(hash);
        }
        if growth > 0 || self.chunk.len() == self.chunk.capacity() {
            if growth > self.working_bytes_max.max(LARGE_ROW_BYTES + HEAD_BYTES_MAX) {
                return self.append_large(hash, timestamp.unwrap_or(0), key, value);
            }
            self.make_room(growth)?;
        }
        self.lowest = self.lowest.min(hash);
        self.highest = self.highest.max(hash);
        let address = self.arena.append(timestamp.unwrap_or(0), key, value);
        self.chunk.push(Entry { hash, address });
        Ok(())
    }

    #[cold]
    fn make_room(&mut self, growth: usize) -> Result<()> {
        let is_chunk_full = self.chunk.len() == self.chunk.capacity();
        let chunk_bytes = if is_chunk_full { self.chunk_entries * ENTRY_COST_BYTES } else { 0 };
        if self.working_bytes() + growth + chunk_bytes > self.working_bytes_max && self.has_rows() {
            self.write_run(self.room_beside())?;
            self.merge_runs()?;
        }
        if self.chunk.len() == self.chunk.capacity() {
            let full = std::mem::replace(&mut self.chunk, Vec::with_capacity(self.chunk_entries));
            self.entry_capacity += self.chunk.capacity();
            if !full.is_empty() {
                self.chunks.push(full);
            }
        }
        Ok(())
    }

    /// Bytes that a run may keep in memory while rows go on to come.
    fn room_beside(&self) -> usize {
        let working = self.working_bytes_max.max(self.working_bytes());
        let held = WRITER_BLOCKS * self.block_bytes + self.runs_bytes + working;
        self.context.share_bytes.saturating_sub(held)
    }

    /// Merges runs if rows that are runs of their own have left many: to be called when memory holds nothing of the rows that
    /// were appended.
    ///
    /// # Errors
    /// If writing or merging runs fails.
    #[inline]
    pub fn settle(&mut self) -> Result<()> {
        if std::mem::take(&mut self.unsettled) { self.settle_runs() } else { Ok(()) }
    }

    #[cold]
    fn settle_runs(&mut self) -> Result<()> {
        let from_buffer = self.runs.iter().filter(|run| run.level == 0 && run.file().is_some());
        if from_buffer.count() < self.fan_in {
            return Ok(());
        }
        // Merging takes the memory of the arena.
        if self.has_rows() {
            self.write_run(self.room_beside())?;
        }
        self.merge_runs()
    }

    /// Writes a row as a run of its own, behind what came before it.
    #[cold]
    fn append_large(&mut self, hash: u64, timestamp: i64, key: &[u8], value: &[u8]) -> Result<()> {
        if self.has_rows() {
            self.write_run(self.room_beside())?;
        }
        failpoint::check("shuffle.run")?;
        let builder = RunBuilder::on_disk(self.partitioning.count(), 0);
        let timestamps = self.context.timestamps;
        let mut writer =
            RunWriter::new(&self.partitioning, &mut self.spiller, builder, timestamps, self.block_bytes);
        writer.push(NEW, hash, timestamp, key, value)?;
        self.runs.push(writer.finish()?.0);
        self.spills += 1;
        self.unsettled = true;
        Ok(())
    }

    fn has_rows(&self) -> bool {
        !self.chunk.is_empty() || !self.chunks.is_empty()
    }

    /// Sorts what is in the arena into a run, in memory if it takes at most so many bytes.
    fn write_run(&mut self, memory_limit: usize) -> Result<()> {
        failpoint::check("shuffle.run")?;
        let mut chunks = std::mem::take(&mut self.chunks);
        chunks.push(std::mem::take(&mut self.chunk));
        let Buckets { mut entries, ends } = radix::scatter(chunks, self.lowest, self.highest);
        let widest = ends.iter().scan(0, |start, &end| Some(end - std::mem::replace(start, end))).max();
        let mut scratch = vec![Entry::default(); widest.unwrap_or(0)];
        let builder = RunBuilder::new(self.partitioning.count(), memory_limit, 0);
        let mut writer = RunWriter::new(
            &self.partitioning,
            &mut self.spiller,
            builder,
            self.context.timestamps,
            self.block_bytes,
        );
        let mut start = 0;
        for end in ends {
            let bucket = &mut entries[start..end];
            radix::sort(bucket, &mut scratch);
            gather(bucket, &mut scratch, &self.arena, &self.order, &mut writer)?;
            start = end;
        }
        let (run, is_on_disk) = writer.finish()?;
        self.spills += is_on_disk as u64;
        self.runs_bytes += run.memory_bytes();
        self.runs.push(run);
        self.arena.clear();
        self.entry_capacity = 0;
        (self.lowest, self.highest) = (u64::MAX, 0);
        Ok(())
    }

    /// Merges the runs of each level that has as many in the file as can be merged at once.
    fn merge_runs(&mut self) -> Result<()> {
        let mut level = 0;
        while self.runs.iter().any(|run| run.level >= level && run.file().is_some()) {
            let is_due = |run: &Run| run.level == level && run.file().is_some();
            let due = self.runs.iter().filter(|run| is_due(run)).count();
            match self.runs.iter().position(is_due) {
                Some(first) if due >= self.fan_in => {
                    let len = self.mergeable(first);
                    self.merge_window(first, len, level + 1)?;
                }
                _ => level += 1,
            }
        }
        Ok(())
    }

    /// How many runs from `first` on can be merged at once: those whose cursors fit the memory of the empty arena, at
    /// least two.
    fn mergeable(&self, first: usize) -> usize {
        let mut bytes = 0;
        let fitting = self.runs[first..].iter().take_while(|run| {
            bytes += run.segments.iter().map(Segment::cursor_bytes).max().unwrap_or(0);
            bytes <= self.working_bytes_max
        });
        fitting.count().max(2).min(self.runs.len() - first)
    }

    /// Replaces neighbouring runs by one in a file of its own.
    fn merge_window(&mut self, first: usize, len: usize, level: u32) -> Result<()> {
        debug_assert!(!self.has_rows(), "rows of the arena would be lost");
        let merged: Vec<Run> = self.runs.splice(first..first + len, []).collect();
        self.arena.free();
        self.spiller.close()?;
        let files = self.spiller.files().to_vec();
        let (partitions, timestamps) = (self.partitioning.count(), self.context.timestamps);
        let builder = RunBuilder::on_disk(partitions, level);
        let mut writer =
            RunWriter::new(&self.partitioning, &mut self.spiller, builder, timestamps, self.block_bytes);
        for partition in 0..partitions {
            let mut cursors = Vec::with_capacity(len);
            for run in &merged {
                cursors.extend(Cursor::open(&run.segments[partition], &files, partition, timestamps, 0)?);
            }
            Merger::new(cursors, self.order.clone())?.drain_into(&mut writer)?;
        }
        let (run, _) = writer.finish()?;
        self.runs.insert(first, run);
        self.spiller.close()?;
        self.runs_bytes = self.runs.iter().map(Run::memory_bytes).sum();
        let used: Vec<_> = self.runs.iter().filter_map(Run::file).collect();
        self.spiller.retain(|file| used.contains(&file));
        Ok(())
    }

    /// Sorts the rest and hands everything over.
    ///
    /// # Errors
    /// If spilling fails.
    pub fn finish(mut self, remainder: Remainder) -> Result<ShuffleOutput> {
        if self.has_rows() {
            let held = WRITER_BLOCKS * self.block_bytes + self.runs_bytes + self.working_bytes();
            let room = match remainder {
                Remainder::Memory => self.context.share_bytes.saturating_sub(held),
                Remainder::Disk => 0,
            };
            self.write_run(room)?;
        }
        self.arena.free();
        if remainder == Remainder::Disk {
            for run in std::mem::take(&mut self.runs) {
                self.runs.push(run.into_file(&mut self.spiller)?);
            }
        }
        self.merge_runs()?;
        let (partitions, timestamps) = (self.partitioning.count(), self.context.timestamps);
        let output = ShuffleOutput::new(self.runs, self.spiller, partitions, timestamps, self.spills)?;
        Ok(output.with_sample(self.sample.unwrap_or_default()))
    }
}

#[cold]
pub(super) fn refused(row_bytes: usize, has_timestamp: bool) -> Error {
    if row_bytes > ROW_BYTES_MAX {
        return Error::Codec(format!(
            "a record takes {row_bytes} bytes with its key, but a shuffle carries at most {ROW_BYTES_MAX}; \
             split it, or pass a reference to it"
        ));
    }
    let (has, edge) = if has_timestamp { ("has a", "has none") } else { ("has no", "has them") };
    Error::Internal(format!("a row {has} timestamp, but its edge {edge}"))
}

/// Writes the rows of a sorted bucket in order. No other bucket has a hash of this one.
fn gather(
    entries: &[Entry],
    scratch: &mut [Entry],
    arena: &Arena,
    order: &KeyOrder,
    writer: &mut RunWriter<'_>,
) -> Result<()> {
    for entry in entries.iter().take(PREFETCH_ROWS) {
        arena.prefetch(entry.address);
    }
    let mut start = 0;
    while let Some(&Entry { hash, address }) = entries.get(start) {
        let mut end = start + 1;
        while entries.get(end).is_some_and(|next| next.hash == hash) {
            end += 1;
        }
        for entry in entries.iter().skip(start + PREFETCH_ROWS).take((end - start).min(PREFETCH_ROWS)) {
            arena.prefetch(entry.address);
        }
        if end == start + 1 {
            let row = arena.row(address);
            writer.push(NEW, hash, row.timestamp, row.key, row.value)?;
        } else {
            gather_group(&entries[start..end], scratch, arena, order, writer)?;
        }
        start = end;
    }
    Ok(())
}

/// Writes rows of equal hash, given in arrival order, by key, timestamp and arrival.
fn gather_group(
    group: &[Entry],
    scratch: &mut [Entry],
    arena: &Arena,
    order: &KeyOrder,
    writer: &mut RunWriter<'_>,
) -> Result<()> {
    let first = arena.row(group[0].address);
    let (mut is_one_key, mut is_in_order, mut last) = (true, true, first.timestamp);
    for (index, entry) in group.iter().enumerate().skip(1) {
        if let Some(ahead) = group.get(index + PREFETCH_ROWS) {
            arena.prefetch(ahead.address);
        }
        let row = arena.row(entry.address);
        is_one_key &= equal_bytes(row.key, first.key);
        is_in_order &= row.timestamp >= last;
        last = row.timestamp;
    }
    let hash = group[0].hash;
    if is_one_key && is_in_order {
        for (index, entry) in group.iter().enumerate() {
            if let Some(ahead) = group.get(index + PREFETCH_ROWS) {
                arena.prefetch(ahead.address);
            }
            let row = arena.row(entry.address);
            writer.push(if index == 0 { NEW } else { SAME }, hash, row.timestamp, first.key, row.value)?;
        }
        return Ok(());
    }
    // The timestamp takes the place of the hash, as a number that sorts alike; addresses are arrival.
    let sorted = &mut scratch[..group.len()];
    for (slot, entry) in sorted.iter_mut().zip(group) {
        let timestamp = arena.row(entry.address).timestamp;
        *slot = Entry { hash: timestamp as u64 ^ 1 << 63, address: entry.address };
    }
    if is_one_key {
        sorted.sort_unstable_by_key(|e| (e.hash, e.address));
    } else {
        sorted.sort_unstable_by(|a, b| {
            let keys = compare_keys(order, arena.row(a.address).key, arena.row(b.address).key);
            keys.then((a.hash, a.address).cmp(&(b.hash, b.address)))
        });
    }
    let mut before: Option<&[u8]> = None;
    for entry in sorted.iter() {
        let row = arena.row(entry.address);
        let mark = match before {
            Some(key) if key == row.key => SAME,
            Some(key) if order(key, row.key) == Ordering::Equal => RESTATED,
            _ => NEW,
        };
        writer.push(mark, hash, row.timestamp, row.key, row.value)?;
        before = Some(row.key);
    }
    Ok(())
}
