//! Kept: the records of one job as the input of others in the same process, in memory and on disk.
//!
//! Place: made by [`DataStream::keep`](crate::api::DataStream::keep) and by iterations.
//! Method: each writer encodes its records into a buffer that spills into an unnamed file; the commit makes what the
//! writers left readable, in the order of subtasks and units. A split of the source is what one writer left.
//! Costs and limits: the buffers of all writers together hold their share of memory until nobody refers to the records any
//! more. Gone with the process. Records come back without timestamps if they had none.

use crate::base::batch::{BATCH_RECORDS, Batch};
use crate::base::codec::encode;
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::sink::{CommitPoint, Sink, SinkContext, SinkWriter};
use crate::operator::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader, divide};
use crate::services::shuffle::{
    Concat, Identity, MergeInput, PartitionBuffer, Remainder, ShuffleContext, ShuffleOutput,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which writer left something: subtask, unit, attempt.
type WriterId = (usize, usize, usize);

/// Records of type `T` that a job has left.
pub struct Kept<T> {
    shared: Arc<Shared>,
    types: PhantomData<fn() -> T>,
}

struct Shared {
    /// Bytes that all writers together may hold in memory.
    memory_bytes: u64,
    /// Writers at most.
    writers: u64,
    dir: PathBuf,
    outputs: Mutex<Outputs>,
}

#[derive(Default)]
struct Outputs {
    /// Of writers that have finished.
    written: BTreeMap<WriterId, Arc<ShuffleOutput>>,
    /// What the successful job left.
    committed: Vec<Arc<ShuffleOutput>>,
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Kept { shared: self.shared.clone(), types: PhantomData }
    }
}

impl<T> Kept<T> {
    /// Nothing yet. The buffers of at most so many writers share the memory; files go into `dir`.
    pub fn new(memory_bytes: u64, writers: usize, dir: PathBuf) -> Self {
        let shared = Shared {
            memory_bytes,
            writers: writers.max(1) as u64,
            dir,
            outputs: Mutex::new(Outputs::default()),
        };
        Kept { shared: Arc::new(shared), types: PhantomData }
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.shared.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of records.
    pub fn records(&self) -> u64 {
        self.outputs().committed.iter().map(|output| output.stats().rows).sum()
    }
}

impl<T: Data> Sink<T> for Kept<T> {
    type Committable = WriterId;
    type Writer = KeptWriter<T>;

    fn describe(&self) -> String {
        "keep".to_string()
    }
    fn writer(&self, ctx: &SinkContext) -> Result<KeptWriter<T>> {
        Ok(KeptWriter {
            kept: self.clone(),
            id: (ctx.subtask, ctx.unit, ctx.attempt),
            context: ShuffleContext {
                vfs: ctx.vfs.clone(),
                dir: self.shared.dir.clone(),
                name: None,
                identity: Identity {
                    job: hash_of(ctx.job_id.as_str()),
                    stage: u32::MAX,
                    attempt: ctx.attempt as u32,
                    producer: (ctx.subtask << 16 | ctx.unit) as u32,
                },
                share_bytes: usize::try_from(self.shared.memory_bytes / self.shared.writers)
                    .unwrap_or(usize::MAX),
                timestamps: false,
            },
            buffer: None,
            timestamps: false,
            encoded: Vec::new(),
        })
    }
    fn commit(&self, committables: Vec<WriterId>, _ctx: &SinkContext) -> Result<()> {
        let mut outputs = self.outputs();
        let mut ids = committables;
        ids.sort_unstable();
        for id in ids {
            let left = outputs.written.remove(&id);
            outputs.committed.extend(left);
        }
        outputs.written.clear();
        Ok(())
    }
    fn outlives_process(&self) -> bool {
        false
    }
    fn abort(&self, _ctx: &SinkContext) -> Result<()> {
        *self.outputs() = Outputs::default();
        Ok(())
    }
}

/// Keeps the records of one attempt of one subtask.
pub struct KeptWriter<T> {
    kept: Kept<T>,
    id: WriterId,
    context: ShuffleContext,
    buffer: Option<PartitionBuffer>,
    timestamps: bool,
    encoded: Vec<u8>,
}

impl<T: Data> SinkWriter<T> for KeptWriter<T> {
    type Committable = WriterId;

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let timestamps = !batch.timestamps.is_empty();
        if self.buffer.is_none() {
            self.context.timestamps = timestamps;
            self.timestamps = timestamps;
        }
        if self.timestamps != timestamps {
            return Err(Error::user(
                "records with and without timestamps are kept together; give all streams of a union timestamps, or none",
            ));
        }
        let context = &self.context;
        let buffer = self.buffer.get_or_insert_with(|| PartitionBuffer::new(context.clone(), 1));
        for (i, record) in batch.values.iter().enumerate() {
            self.encoded.clear();
            encode(record, &mut self.encoded)?;
            buffer.append(0, batch.timestamp(i), &self.encoded)?;
        }
        batch.clear();
        Ok(())
    }

    fn prepare_commit(&mut self, at: CommitPoint) -> Result<Vec<WriterId>> {
        if at != CommitPoint::End {
            return Err(Error::config(
                "records that are kept for other jobs are in no checkpoint; keep them in a job without checkpoints",
            ));
        }
        let Some(buffer) = self.buffer.take() else { return Ok(Vec::new()) };
        let output = Arc::new(buffer.finish(Remainder::Memory)?);
        self.kept.outputs().written.insert(self.id, output);
        Ok(vec![self.id])
    }
}

/// A unit of work that reads fewer rows is not worth its costs.
const UNIT_ROWS_MIN: u64 = 1 << 16;

/// What one writer left, and how many of its records were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSplit {
    writer: usize,
    position: u64,
}

impl<T: Data> Source for Kept<T> {
    type Item = T;
    type Split = KeptSplit;
    type Reader = KeptReader<T>;

    fn describe(&self) -> String {
        "kept".to_string()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _ctx: &SourceContext) -> Result<Vec<KeptSplit>> {
        Ok((0..self.outputs().committed.len()).map(|writer| KeptSplit { writer, position: 0 }).collect())
    }
    fn weight(&self, split: &KeptSplit) -> u64 {
        self.outputs().committed.get(split.writer).map_or(0, |output| output.stats().rows)
    }
    fn divide(&self, splits: Vec<KeptSplit>, parts: usize) -> Vec<Vec<KeptSplit>> {
        let rows: u64 = splits.iter().map(|split| self.weight(split)).sum();
        // The rounds of an iteration are many, and often small.
        let parts = parts.min(usize::try_from(rows / UNIT_ROWS_MIN).unwrap_or(parts)).max(1);
        divide(splits, parts, |split| self.weight(split))
    }
    fn open(&self, split: KeptSplit, _ctx: &SourceContext) -> Result<KeptReader<T>> {
        let output = self.outputs().committed.get(split.writer).cloned();
        let output = output
            .ok_or_else(|| Error::config("records that were kept by another process cannot be read"))?;
        let mut rows = Concat::new(0, &[MergeInput { input: 0, producer: 0, output }]);
        for _ in 0..split.position {
            rows.next_row()?;
        }
        Ok(KeptReader { rows, split, types: PhantomData })
    }
}

/// Reads what one writer left.
pub struct KeptReader<T> {
    rows: Concat,
    split: KeptSplit,
    types: PhantomData<fn() -> T>,
}

impl<T: Data> SplitReader for KeptReader<T> {
    type Item = T;
    type Split = KeptSplit;

    fn poll(&mut self, out: &mut SourceOutput<T>) -> Result<Poll> {
        for _ in 0..BATCH_RECORDS {
            if out.is_full() {
                break;
            }
            let Some(row) = self.rows.next_row()? else { return Ok(Poll::End) };
            let record = row.decode_value()?;
            match row.timestamp {
                Some(timestamp) => out.emit_at(record, timestamp),
                None => out.emit(record),
            }
            self.split.position += 1;
        }
        Ok(Poll::More)
    }
    fn position(&self) -> KeptSplit {
        self.split
    }
}
