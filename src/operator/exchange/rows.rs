//! Rows: the records of an edge as bytes and back, for edges that are stored between stages.
//!
//! Place: a producing unit of work owns a [`RowWriter`] for each edge out of its stage; a consuming one owns a
//! [`RowReader`] for each input. Both run typed loops over a whole batch or a whole key. A merge may hold the rows of
//! several inputs, of different types: each is read by its own reader, one run of neighbouring rows at a time.

use super::check::RecordCheck;
use super::select::Select;
use super::{KeySelector, RouteContext};
use crate::base::batch::{Batch, ErasedBatch, typed};
use crate::base::codec::{decode, encode, keep_small};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::output::BATCH_BYTES;
use crate::services::shuffle::{
    Concat, KeyOrder, Merge, PartitionBuffer, Partitioning as Ranges, Remainder, RowRef, ShuffleContext,
    ShuffleOutput, SortBuffer,
};
use std::marker::PhantomData;
use std::sync::Arc;

/// What a writer is told about its edge.
pub struct WriteContext {
    /// The producer among the producing subtasks, and the consumers it may choose from.
    pub route: RouteContext,
    /// Partition of the first consumer that it may choose.
    pub first_partition: usize,
    /// Number of partitions of the edge.
    pub partitions: usize,
    /// Memory, disk and identity; whether rows have timestamps is found out with the first batch.
    pub shuffle: ShuffleContext,
    /// The ranges of hashes that are the partitions of a keyed edge.
    pub ranges: Ranges,
}

/// Takes the batches of one producing unit of work.
pub trait RowWriter: Send {
    /// Encodes all records of a batch.
    fn write(&mut self, batch: &mut ErasedBatch) -> Result<()>;
    /// Ends the output.
    fn finish(self: Box<Self>, remainder: Remainder) -> Result<ShuffleOutput>;
}

/// Where a reader stands after a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// The batch is full, and more of the same key and input follow.
    Full,
    /// Records of the same key but of another input follow.
    OtherInput,
    /// The batch ends the records of its key, and another key follows.
    KeyEnd,
    /// All has been read (and with it the key).
    End,
}

/// Decodes the rows of one input. It keeps nothing between two calls: where reading goes on is known by what it
/// reads from.
pub trait RowReader: Send {
    /// An empty batch to read into.
    fn new_batch(&self) -> ErasedBatch;
    /// Appends the current row of a merge and those that follow it and have its key and its input, until the batch
    /// has `max` records, or fewer large ones. The merge then stands at the first row that was not read; it must stand at one of this
    /// reader's input when this is called, or at the end.
    fn read_run(&self, from: &mut Merge, max: usize, into: &mut ErasedBatch) -> Result<ReadState>;
    /// Appends the rows of a merge of this reader's input from its current one on, whatever their keys, at most `max`.
    /// The merge then stands at the first row that was not read.
    fn read_merged(&self, from: &mut Merge, max: usize, into: &mut ErasedBatch) -> Result<ReadState>;
    /// Appends one record, as it was encoded.
    fn read_value(&self, value: &[u8], timestamp: Option<Timestamp>, into: &mut ErasedBatch) -> Result<()>;
    /// Appends records, at most `max`.
    fn read(&self, from: &mut Concat, max: usize, into: &mut ErasedBatch) -> Result<ReadState>;
}

fn mixed_timestamps() -> Error {
    Error::user(
        "records with and without timestamps are shuffled together; give all streams of a union timestamps, or none",
    )
}

/// A buffer that is made when the first batch shows whether records have timestamps.
enum Lazy<B> {
    Waiting(ShuffleContext),
    Open { buffer: B, timestamps: bool },
}

impl<B> Lazy<B> {
    fn open(&mut self, timestamps: bool, make: impl FnOnce(ShuffleContext) -> B) -> Result<&mut B> {
        if let Lazy::Waiting(context) = self {
            let mut context = context.clone();
            context.timestamps = timestamps;
            *self = Lazy::Open { buffer: make(context), timestamps };
        }
        match self {
            Lazy::Open { buffer, timestamps: expected } if *expected == timestamps => Ok(buffer),
            _ => Err(mixed_timestamps()),
        }
    }

    fn into_buffer(self, make: impl FnOnce(ShuffleContext) -> B) -> B {
        match self {
            Lazy::Waiting(context) => make(context),
            Lazy::Open { buffer, .. } => buffer,
        }
    }
}

/// What rows are sorted by before their keys are looked at, and how keys are compared then.
#[derive(Clone)]
pub(super) struct SortOrder<K> {
    pub(super) hash: fn(&K) -> u64,
    pub(super) keys: KeyOrder,
    /// Whether a sample is taken, by which consumers cut ranges.
    pub(super) sampled: bool,
}

impl<K> SortOrder<K> {
    fn buffer(&self, context: ShuffleContext, ranges: &Ranges) -> SortBuffer {
        let buffer = SortBuffer::new(context, ranges.clone(), self.keys.clone());
        if self.sampled { buffer.sampled() } else { buffer }
    }
}

/// Rows sorted by key.
pub(super) struct KeyedWriter<T, K> {
    selector: Arc<dyn KeySelector<T, K>>,
    order: SortOrder<K>,
    ranges: Ranges,
    buffer: Lazy<SortBuffer>,
    keys: Vec<K>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
    check: RecordCheck,
}

/// The order of encoded keys: that of the keys.
pub(crate) fn key_order<K: Key>() -> KeyOrder {
    Arc::new(|a, b| match (decode::<K>(a), decode::<K>(b)) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        // What was encoded decodes, or the first records of the edge had shown it; the bytes are an order, too.
        _ => a.cmp(b),
    })
}

impl<T: Data, K: Key> KeyedWriter<T, K> {
    pub(super) fn new(selector: Arc<dyn KeySelector<T, K>>, order: SortOrder<K>, ctx: WriteContext) -> Self {
        KeyedWriter {
            selector,
            order,
            ranges: ctx.ranges,
            buffer: Lazy::Waiting(ctx.shuffle),
            keys: Vec::new(),
            key_bytes: Vec::new(),
            value_bytes: Vec::new(),
            check: RecordCheck::default(),
        }
    }
}

impl<T: Data, K: Key> RowWriter for KeyedWriter<T, K> {
    fn write(&mut self, batch: &mut ErasedBatch) -> Result<()> {
        let batch = typed::<T>(&mut **batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.check.check(&batch.values, |value| self.selector.check(value))?;
        let (ranges, order) = (&self.ranges, &self.order);
        let buffer =
            self.buffer.open(!batch.timestamps.is_empty(), |context| order.buffer(context, ranges))?;
        self.keys.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        for (i, (value, key)) in batch.values.iter().zip(&self.keys).enumerate() {
            let hash = (order.hash)(key);
            self.key_bytes.clear();
            encode(key, &mut self.key_bytes)?;
            self.value_bytes.clear();
            encode(value, &mut self.value_bytes)?;
            buffer.append(hash, batch.timestamp(i), &self.key_bytes, &self.value_bytes)?;
            keep_small(&mut self.key_bytes);
            keep_small(&mut self.value_bytes);
        }
        self.keys.clear();
        batch.clear();
        buffer.settle()?;
        Ok(())
    }

    fn finish(self: Box<Self>, remainder: Remainder) -> Result<ShuffleOutput> {
        let (ranges, order) = (self.ranges, self.order);
        self.buffer.into_buffer(|context| order.buffer(context, &ranges)).finish(remainder)
    }
}

/// Rows by partition, in the order in which they come: of edges without a key, and of keyed ones that need no order.
pub(super) struct UnkeyedWriter<T> {
    select: Select<T>,
    first_partition: usize,
    partitions: usize,
    buffer: Lazy<PartitionBuffer>,
    chosen: Vec<u32>,
    value_bytes: Vec<u8>,
    check: RecordCheck,
}

impl<T: Data> UnkeyedWriter<T> {
    pub(super) fn new(select: Select<T>, ctx: WriteContext) -> Self {
        UnkeyedWriter {
            select,
            first_partition: ctx.first_partition,
            partitions: ctx.partitions,
            buffer: Lazy::Waiting(ctx.shuffle),
            chosen: Vec::new(),
            value_bytes: Vec::new(),
            check: RecordCheck::default(),
        }
    }
}

impl<T: Data> RowWriter for UnkeyedWriter<T> {
    fn write(&mut self, batch: &mut ErasedBatch) -> Result<()> {
        let batch = typed::<T>(&mut **batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.check.check(&batch.values, |value| self.select.check(value))?;
        let partitions = self.partitions;
        let buffer = self
            .buffer
            .open(!batch.timestamps.is_empty(), |context| PartitionBuffer::new(context, partitions))?;
        self.chosen.clear();
        if let Select::All = self.select {
            // Stored once; every consumer reads it.
            self.chosen.resize(batch.len(), 0);
        } else {
            self.select.choose(batch, &mut self.chosen)?;
        }
        for (i, (value, &to)) in batch.values.iter().zip(&self.chosen).enumerate() {
            self.value_bytes.clear();
            encode(value, &mut self.value_bytes)?;
            buffer.append(self.first_partition + to as usize, batch.timestamp(i), &self.value_bytes)?;
            keep_small(&mut self.value_bytes);
        }
        batch.clear();
        Ok(())
    }

    fn finish(self: Box<Self>, remainder: Remainder) -> Result<ShuffleOutput> {
        let partitions = self.partitions;
        self.buffer.into_buffer(|context| PartitionBuffer::new(context, partitions)).finish(remainder)
    }
}

/// Decodes rows of any edge that carries `T`.
pub(super) struct TypedReader<T> {
    types: PhantomData<fn() -> T>,
}

impl<T> TypedReader<T> {
    pub(super) fn new() -> Self {
        TypedReader { types: PhantomData }
    }
}

/// Bytes of rows that are read into a batch, and one row more.
const READ_BYTES: usize = BATCH_BYTES as usize;

#[inline(always)]
fn push_row<T: Data>(batch: &mut Batch<T>, row: &RowRef<'_>) -> Result<()> {
    row.decode_value_onto(&mut batch.values)?;
    if let Some(timestamp) = row.timestamp {
        batch.timestamps.push(timestamp);
    }
    Ok(())
}

#[inline(always)]
fn push<T>(batch: &mut Batch<T>, value: T, timestamp: Option<Timestamp>) {
    batch.values.push(value);
    if let Some(timestamp) = timestamp {
        batch.timestamps.push(timestamp);
    }
}

impl<T: Data> RowReader for TypedReader<T> {
    fn new_batch(&self) -> ErasedBatch {
        Box::new(Batch::<T>::new())
    }

    fn read_run(&self, from: &mut Merge, max: usize, into: &mut ErasedBatch) -> Result<ReadState> {
        let batch = typed::<T>(&mut **into);
        let Some(input) = from.current_input() else { return Ok(ReadState::End) };
        let mut bytes = 0;
        while let Some(row) = from.current_row()? {
            bytes += row.value.len();
            push_row(batch, &row)?;
            match from.advance()? {
                None => return Ok(ReadState::End),
                Some(next) if next.new_key => return Ok(ReadState::KeyEnd),
                Some(next) if next.input != input => return Ok(ReadState::OtherInput),
                Some(_) if batch.len() >= max || bytes >= READ_BYTES => return Ok(ReadState::Full),
                // It gets a batch of its own, and is not read before this one has been used.
                Some(next) if next.is_large => return Ok(ReadState::Full),
                Some(_) => {}
            }
        }
        Ok(ReadState::End)
    }

    fn read_merged(&self, from: &mut Merge, max: usize, into: &mut ErasedBatch) -> Result<ReadState> {
        let batch = typed::<T>(&mut **into);
        let Some(input) = from.current_input() else { return Ok(ReadState::End) };
        let mut bytes = 0;
        while let Some(row) = from.current_row()? {
            bytes += row.value.len();
            push_row(batch, &row)?;
            match from.advance()? {
                None => return Ok(ReadState::End),
                Some(next) if next.input != input => return Ok(ReadState::OtherInput),
                Some(_) if batch.len() >= max || bytes >= READ_BYTES => return Ok(ReadState::Full),
                // It gets a batch of its own, and is not read before this one has been used.
                Some(next) if next.is_large => return Ok(ReadState::Full),
                Some(_) => {}
            }
        }
        Ok(ReadState::End)
    }

    fn read_value(&self, value: &[u8], timestamp: Option<Timestamp>, into: &mut ErasedBatch) -> Result<()> {
        push(typed::<T>(&mut **into), decode(value)?, timestamp);
        Ok(())
    }

    fn read(&self, from: &mut Concat, max: usize, into: &mut ErasedBatch) -> Result<ReadState> {
        let batch = typed::<T>(&mut **into);
        let mut bytes = 0;
        while batch.len() < max && bytes < READ_BYTES {
            let Some(row) = from.next_row()? else { return Ok(ReadState::End) };
            bytes += row.value.len();
            push_row(batch, &row)?;
        }
        Ok(ReadState::Full)
    }
}
