//! PartitionBuffer: keeps rows without keys by partition, in arrival order, within a fixed share of memory.
//!
//! Place: one per unit of work and unkeyed edge (rebalance, broadcast, global), on the thread that runs the unit.
//! Method: each partition fills blocks of its own. When the share is used up, all blocks go to the spill file, partition by
//! partition, as one run. Nothing is sorted; readers join the runs one after another. A row larger than the share, and
//! than a megabyte, is a run of its own, and is not copied.
//! Costs: one open block per partition, grown by doubling, so an edge with few rows takes little.

use super::context::ShuffleContext;
use super::output::ShuffleOutput;
use super::row::{HEAD_BYTES_MAX, LARGE_ROW_BYTES, NEW, ROW_BYTES_MAX, SAME, put_bytes, put_varint};
use super::run::{BLOCK_OVERHEAD_BYTES, LargeRow, Run, RunBuilder};
use super::sort_buffer::{Remainder, refused};
use super::spill::Spiller;
use crate::base::error::{Error, Result};
use bytes::Bytes;

/// First size of an open block.
const OPEN_BLOCK_BYTES_MIN: usize = 256;

#[derive(Default)]
struct Partition {
    /// Full blocks and their rows.
    sealed: Vec<(Bytes, u64)>,
    /// The block that is being filled, with zeros where nothing is yet.
    open: Vec<u8>,
    /// Where its next row goes.
    at: usize,
    open_rows: u64,
}

/// Takes rows for numbered partitions and leaves them in arrival order.
pub struct PartitionBuffer {
    context: ShuffleContext,
    block_bytes: usize,
    partitions: Vec<Partition>,
    used: usize,
    runs: Vec<Run>,
    spiller: Spiller,
    spills: u64,
}

impl PartitionBuffer {
    /// An empty buffer for so many partitions.
    pub fn new(context: ShuffleContext, partitions: usize) -> PartitionBuffer {
        let block_bytes = context.block_bytes(partitions.saturating_mul(4).max(16));
        PartitionBuffer {
            block_bytes,
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            used: 0,
            runs: Vec::new(),
            spiller: Spiller::new(context.clone(), block_bytes),
            spills: 0,
            context,
        }
    }

    /// Bytes held: blocks, full and open, and those on their way to disk.
    pub fn memory_bytes(&self) -> usize {
        self.used + self.spiller.memory_bytes()
    }

    /// Appends a row to a partition.
    ///
    /// # Errors
    /// If there is no such partition, if the row is larger than [`ROW_BYTES_MAX`], if it has a timestamp and the edge
    /// does not or the other way round, or if spilling fails.
    pub fn append(&mut self, partition: usize, timestamp: Option<i64>, value: &[u8]) -> Result<()> {
        if value.len() > ROW_BYTES_MAX || timestamp.is_some() != self.context.timestamps {
            return Err(refused(value.len(), timestamp.is_some()));
        }
        let need = value.len() + HEAD_BYTES_MAX;
        match self.partitions.get(partition) {
            Some(to) if to.open.len() - to.at >= need => {}
            Some(_) if value.len() > self.context.share_bytes.max(LARGE_ROW_BYTES) => {
                return self.append_large(partition, timestamp, value);
            }
            Some(_) => self.make_room(partition, need)?,
            None => {
                return Err(Error::Internal(format!(
                    "a row is for partition {partition} of {}",
                    self.partitions.len()
                )));
            }
        }
        let to = &mut self.partitions[partition];
        let mark = if to.at == 0 { NEW } else { SAME };
        let row = &mut to.open[to.at..to.at + need];
        let mut at = put_varint(row, 0, (value.len() as u64) << 2 | mark as u64);
        if mark != SAME {
            // Hash 0 and an empty key, once per block.
            at += 9;
        }
        if let Some(timestamp) = timestamp {
            row[at..at + 8].copy_from_slice(&timestamp.to_le_bytes());
            at += 8;
        }
        to.at += put_bytes(row, at, value);
        to.open_rows += 1;
        Ok(())
    }

    /// Makes the open block of a partition take `need` bytes more, by growing it, sealing it, or spilling everything.
    #[cold]
    fn make_room(&mut self, partition: usize, need: usize) -> Result<()> {
        let to = &mut self.partitions[partition];
        let (at, held) = (to.at, to.open.len());
        let is_full = at > 0 && at + need > self.block_bytes;
        let wanted = if is_full { need } else { at + need };
        let capacity = (2 * held).clamp(OPEN_BLOCK_BYTES_MIN, self.block_bytes).max(wanted);
        // Growing holds the old and the new block for a moment.
        let reserve = self.spiller.memory_bytes() + 2 * self.block_bytes;
        let growth = capacity + BLOCK_OVERHEAD_BYTES;
        if self.used > 0 && self.used + growth + reserve > self.context.share_bytes {
            self.spill()?;
        } else if is_full {
            to.seal(&mut self.used);
        }
        let to = &mut self.partitions[partition];
        self.used += capacity - to.open.len().min(capacity);
        if to.open.is_empty() {
            to.open = vec![0; capacity];
        } else {
            to.open.reserve_exact(capacity - to.open.len());
            to.open.resize(capacity, 0);
        }
        Ok(())
    }

    /// Writes a row as a run of its own, behind what came before it.
    #[cold]
    fn append_large(&mut self, partition: usize, timestamp: Option<i64>, value: &[u8]) -> Result<()> {
        self.spill()?;
        let mut builder = RunBuilder::on_disk(self.partitions.len(), 0);
        let row = LargeRow { mark: NEW, hash: 0, timestamp, key: b"", value };
        builder.add_large(partition, row, &mut self.spiller)?;
        self.runs.push(builder.finish().0);
        self.spills += 1;
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        let mut builder = RunBuilder::on_disk(self.partitions.len(), 0);
        let mut has_rows = false;
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            partition.seal(&mut self.used);
            for (block, rows) in partition.sealed.drain(..) {
                builder.add(index, &block, rows, &mut self.spiller)?;
                has_rows = true;
            }
            partition.sealed = Vec::new();
        }
        self.used = 0;
        if has_rows {
            self.runs.push(builder.finish().0);
            self.spills += 1;
        }
        Ok(())
    }

    /// Hands everything over.
    ///
    /// # Errors
    /// If spilling fails.
    pub fn finish(mut self, remainder: Remainder) -> Result<ShuffleOutput> {
        if remainder == Remainder::Disk {
            self.spill()?;
        } else {
            let mut builder = RunBuilder::new(self.partitions.len(), usize::MAX, 0);
            let mut has_rows = false;
            for (index, mut partition) in std::mem::take(&mut self.partitions).into_iter().enumerate() {
                partition.seal(&mut self.used);
                for (block, rows) in partition.sealed {
                    builder.add_owned(index, block, rows, &mut self.spiller)?;
                    has_rows = true;
                }
                self.partitions.push(Partition::default());
            }
            if has_rows {
                self.runs.push(builder.finish().0);
            }
        }
        let (partitions, timestamps) = (self.partitions.len(), self.context.timestamps);
        ShuffleOutput::new(self.runs, self.spiller, partitions, timestamps, self.spills)
    }
}

impl Partition {
    /// Makes the open block a full one of exact size.
    fn seal(&mut self, used: &mut usize) {
        let mut open = std::mem::take(&mut self.open);
        *used -= open.len();
        open.truncate(std::mem::take(&mut self.at));
        let rows = std::mem::take(&mut self.open_rows);
        if rows > 0 {
            *used += open.len() + BLOCK_OVERHEAD_BYTES;
            self.sealed.push((open.into_boxed_slice().into(), rows));
        }
    }
}
