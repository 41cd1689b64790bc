//! Merge: reads one partition of a keyed edge in the order (hash, key, timestamp, input, producer, sequence).
//!
//! Place: on the consumer's thread, over the outputs of all producers of one or more inputs.
//! Method: one cursor per run. If the buffers of all cursors exceed the share, neighbouring runs of one input are
//! merged into temporary runs in an unnamed file first, as often as needed.
//! Inputs of which only some have timestamps: a row that has none comes before all rows of its key that have one,
//! like those of the earliest timestamp there is.
//! Costs: `cursors x (raw + stored block)` for runs in files, nothing for runs in memory; known before it starts
//! by [`Merge::memory_needed`]. Of rows of a megabyte and more it has the fronts, with the keys; the rest, which is not
//! counted, is read when the row's turn has come, one at a time. Two cursors per input are always opened, whatever the share.

use super::context::{KeyOrder, ShuffleContext};
use super::cursor::Cursor;
use super::merger::Merger;
use super::output::ShuffleOutput;
use super::partitioning::Partitioning;
use super::row::RowRef;
use super::run::{RunBuilder, RunWriter, WRITER_BLOCKS};
use super::spill::Spiller;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Blocks of a temporary run that the share would hold.
const CURSOR_BLOCKS: usize = 64;

/// The output of one producer, as an input of a reader.
#[derive(Clone)]
pub struct MergeInput {
    /// Which input of the consuming operator it belongs to.
    pub input: usize,
    /// The producer within the input.
    pub producer: usize,
    /// What it left.
    pub output: Arc<ShuffleOutput>,
}

/// The inputs by (input, producer).
pub(super) fn in_order(inputs: &[MergeInput]) -> Vec<&MergeInput> {
    let mut sorted: Vec<_> = inputs.iter().collect();
    sorted.sort_by_key(|i| (i.input, i.producer));
    sorted
}

/// A run that is to be merged: a partition of a producer's run, or of a temporary run.
#[derive(Clone)]
struct Part {
    output: Arc<ShuffleOutput>,
    run: usize,
    partition: usize,
    input: usize,
    hashes: RangeInclusive<u64>,
}

impl Part {
    fn cursor_bytes(&self) -> usize {
        self.output.cursor_bytes(self.run, self.partition)
    }
    fn cursor(&self) -> Result<Option<Cursor>> {
        self.output.cursor_over(self.run, self.partition, self.input, self.hashes.clone())
    }
}

/// The rows of one partition, merged.
pub struct Merge {
    merger: Merger,
    memory_bytes: usize,
    spilled_bytes: u64,
}

impl Merge {
    /// Bytes that merging takes if it is done in one pass.
    pub fn memory_needed(partition: usize, inputs: &[MergeInput]) -> usize {
        parts_of(partition, inputs, &(0..=u64::MAX)).iter().map(Part::cursor_bytes).sum()
    }

    /// Opens the partition of all inputs. `context` says how much memory cursors may take and where temporary runs go;
    /// its identity is that of the consumer. Whether rows have timestamps is taken from the outputs.
    ///
    /// # Errors
    /// If a partition does not exist or was released, if the producers of one input disagree about timestamps, or if
    /// the first blocks cannot be read.
    pub fn open(
        context: ShuffleContext,
        partition: usize,
        inputs: &[MergeInput],
        order: KeyOrder,
    ) -> Result<Merge> {
        Merge::open_range(context, partition, inputs, order, 0..=u64::MAX)
    }

    /// The same, over the rows whose hashes are in a range: see [`RangeCut`](super::RangeCut).
    ///
    /// # Errors
    /// As [`Merge::open`].
    pub fn open_range(
        context: ShuffleContext,
        partition: usize,
        inputs: &[MergeInput],
        order: KeyOrder,
        hashes: RangeInclusive<u64>,
    ) -> Result<Merge> {
        let differ = |a: &MergeInput, b: &MergeInput| {
            a.input == b.input && a.output.has_timestamps() != b.output.has_timestamps()
        };
        if in_order(inputs).windows(2).any(|pair| differ(pair[0], pair[1])) {
            return Err(Error::Internal(
                "some producers of an input of a merge have timestamps and some have none".into(),
            ));
        }
        if let Some(other) = inputs.iter().find(|i| partition >= i.output.partitions()) {
            return Err(Error::Internal(format!(
                "partition {partition} is read from a shuffle with {} partitions",
                other.output.partitions()
            )));
        }
        failpoint::check("shuffle.merge")?;
        let mut parts = parts_of(partition, inputs, &hashes);
        let mut spilled_bytes = 0;
        loop {
            let needed: usize = parts.iter().map(Part::cursor_bytes).sum();
            if needed <= context.share_bytes {
                break;
            }
            let windows = windows(&parts, context.share_bytes, context.block_bytes(CURSOR_BLOCKS));
            if windows.iter().all(|&len| len == 1) {
                break;
            }
            let mut rest = parts.into_iter();
            let mut merged = Vec::with_capacity(windows.len());
            for len in windows {
                let window: Vec<_> = rest.by_ref().take(len).collect();
                if len == 1 {
                    merged.extend(window);
                } else {
                    let part = merge_to_file(&context, &window, &order)?;
                    spilled_bytes += part.output.stats().spilled_bytes;
                    merged.push(part);
                }
            }
            parts = merged;
        }
        let mut cursors = Vec::with_capacity(parts.len());
        for part in &parts {
            cursors.extend(part.cursor()?);
        }
        let memory_bytes = parts.iter().map(Part::cursor_bytes).sum();
        let merger = Merger::new(cursors, order)?;
        Ok(Merge { merger, memory_bytes, spilled_bytes })
    }

    /// Bytes that the cursors hold.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Bytes that were written to temporary runs because the share did not suffice for one pass.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled_bytes
    }

    /// The next row.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Error::Corrupt) if a spill file does not hold what was written, `Io` if it cannot be read.
    /// The merge is of no use afterwards.
    #[inline]
    pub fn next_row(&mut self) -> Result<Option<RowRef<'_>>> {
        let Some(new_key) = self.merger.step()? else { return Ok(None) };
        self.merger.complete()?;
        Ok(Some(self.merger.row(new_key)))
    }

    /// Goes to the next row without reading it if it is large: [`Merge::current_row`] does.
    ///
    /// # Errors
    /// As [`Merge::next_row`].
    #[inline(always)]
    pub fn advance(&mut self) -> Result<Option<Ahead>> {
        let Some(new_key) = self.merger.step()? else { return Ok(None) };
        Ok(Some(Ahead { input: self.merger.input(), new_key, is_large: self.merger.is_large() }))
    }

    /// The input of the current row; `None` before the first and after the last.
    pub fn current_input(&self) -> Option<usize> {
        self.merger.has_row().then(|| self.merger.input())
    }

    /// The row that was gone to last, once more; `None` before the first and after the last. Whether it starts a key was
    /// said then and is not repeated: `new_key` is false.
    ///
    /// # Errors
    /// As [`Merge::next_row`].
    #[inline]
    pub fn current_row(&mut self) -> Result<Option<RowRef<'_>>> {
        if !self.merger.has_row() {
            return Ok(None);
        }
        self.merger.complete()?;
        Ok(Some(self.merger.row(false)))
    }
}

/// What is known of the row that a merge has gone to.
#[derive(Clone, Copy, Debug)]
pub struct Ahead {
    /// The input it came from.
    pub input: usize,
    /// Whether its key differs from that of the row before.
    pub new_key: bool,
    /// Whether it takes a megabyte or more. From a file it has not been read yet; where it is makes no difference otherwise.
    pub is_large: bool,
}

fn parts_of(partition: usize, inputs: &[MergeInput], hashes: &RangeInclusive<u64>) -> Vec<Part> {
    in_order(inputs)
        .into_iter()
        .flat_map(|i| {
            let output = &i.output;
            (0..output.run_count()).map(move |run| Part {
                output: output.clone(),
                run,
                partition,
                input: i.input,
                hashes: hashes.clone(),
            })
        })
        .collect()
}

/// Lengths of windows of neighbouring parts of one input, to be merged if longer than 1: just so many that the
/// cursors fit the share afterwards, if one pass suffices for that.
fn windows(parts: &[Part], share_bytes: usize, block_bytes: usize) -> Vec<usize> {
    let mut needed: usize = parts.iter().map(Part::cursor_bytes).sum();
    let readers_bytes = share_bytes.saturating_sub(WRITER_BLOCKS * block_bytes);
    let mut lengths = Vec::new();
    let mut rest = parts;
    while let Some(first) = rest.first() {
        let mut len = 1;
        let mut bytes = first.cursor_bytes();
        if needed > share_bytes && bytes > 0 {
            let (mut total, mut spilled) = (bytes, 1);
            for (index, part) in rest.iter().enumerate().skip(1) {
                total += part.cursor_bytes();
                let is_too_wide = spilled >= 2 && total > readers_bytes;
                let is_enough = needed.saturating_sub(bytes) + 2 * block_bytes <= share_bytes;
                if part.input != first.input || is_too_wide || (spilled >= 2 && is_enough) {
                    break;
                }
                // A window ends with a part in a file: those in memory need no buffers.
                if part.cursor_bytes() > 0 {
                    (len, bytes, spilled) = (index + 1, total, spilled + 1);
                }
            }
            if len > 1 {
                needed = needed.saturating_sub(bytes) + 2 * block_bytes;
            }
        }
        lengths.push(len);
        rest = &rest[len..];
    }
    lengths
}

/// Merges neighbouring parts of one input into a temporary run of one partition.
fn merge_to_file(context: &ShuffleContext, parts: &[Part], order: &KeyOrder) -> Result<Part> {
    let block_bytes = context.block_bytes(CURSOR_BLOCKS);
    let partitioning = Partitioning::single();
    let timestamps = parts.iter().any(|part| part.output.has_timestamps());
    let mut spiller = Spiller::new(ShuffleContext { timestamps, ..context.clone() }, block_bytes);
    let builder = RunBuilder::on_disk(1, 0);
    let mut writer = RunWriter::new(&partitioning, &mut spiller, builder, timestamps, block_bytes);
    let mut cursors = Vec::with_capacity(parts.len());
    for part in parts {
        cursors.extend(part.cursor()?);
    }
    Merger::new(cursors, order.clone())?.drain_into(&mut writer)?;
    let (run, _) = writer.finish()?;
    let output = Arc::new(ShuffleOutput::new(vec![run], spiller, 1, timestamps, 1)?);
    let input = parts.first().map_or(0, |p| p.input);
    Ok(Part { output, run: 0, partition: 0, input, hashes: 0..=u64::MAX })
}
