//! AtEnd: keeps the inputs of an operator until they end, then hands them to it in order.
//!
//! Place: STREAMING, around an operator over bounded input; for an order within a subtask also BATCH.
//! Method: records go through the writers of their edges, as between the stages of BATCH: sorted, in memory as far as
//! the share allows, then on disk. At the end one merge reads all inputs: key by key with `end_of_key` after each, or,
//! where only the order matters, from the first to the last.
//! Invariant: the operator sees what it would see in BATCH at the same place.
//! A snapshot holds all records that were kept so far, one of changes those that are new; it is restored at any parallelism: grouped ones go to the
//! subtask of their key, copied ones to all, others to one.
//! Costs: each record is encoded and decoded once. Half of the share for what is written, half for the merge.

use super::sealed::Sealed;
use crate::base::batch::{BATCH_RECORDS, Barrier, ErasedBatch};
use crate::base::codec;
use crate::base::data::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::operator::erased::AnyOperator;
use crate::operator::exchange::{
    ExchangeType, Partitioning, ReadState, RouteContext, RowReader, RowWriter, WriteContext,
};
use crate::operator::output::AnyOut;
use crate::operator::{Context, Progress};
use crate::semantics::state::{OperatorSnapshot, OperatorState};
use crate::services::shuffle::{Concat, Merge, Partitioning as Ranges, Remainder, ShuffleContext};
use std::sync::Arc;

/// How the operator wants its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Key by key.
    Grouped,
    /// In the order of the key, without regard to where one ends.
    Sorted,
    /// The same, in a single subtask that all records come to.
    SortedInOne,
    /// The inputs one after the other, the last one first, each in the order of arrival.
    LastInputFirst,
}

/// An operator with its input held back.
pub struct AtEnd {
    inner: Box<dyn AnyOperator>,
    arrangement: Arrangement,
    lanes: Vec<Lane>,
    open: usize,
    stage: Stage,
}

/// One input.
struct Lane {
    exchange: Arc<dyn ExchangeType>,
    writer: Option<Box<dyn RowWriter>>,
    /// What was written before a snapshot.
    sealed: Sealed,
    reader: Box<dyn RowReader>,
    batch: ErasedBatch,
}

enum Stage {
    Reading,
    Merging { rows: Box<Merge>, lane: usize, state: Handing },
    Joining { rows: Option<Box<Concat>>, lane: usize, ended: bool },
    Ending(usize),
    Done,
}

/// What is to be done with the batch at hand.
#[derive(Clone, Copy, PartialEq)]
enum Handing {
    /// Read the next one.
    Read,
    /// Hand it over; then end the key, or everything.
    Batch(ReadState),
    EndOfKey(ReadState),
}

impl AtEnd {
    /// `inner` behind inputs that come over these edges.
    pub fn boxed(
        inner: Box<dyn AnyOperator>,
        arrangement: Arrangement,
        exchanges: &[Arc<dyn ExchangeType>],
    ) -> Box<dyn AnyOperator> {
        let lane = |exchange: &Arc<dyn ExchangeType>| {
            let reader = exchange.row_reader();
            let batch = reader.new_batch();
            Lane { exchange: exchange.clone(), writer: None, sealed: Sealed::default(), reader, batch }
        };
        let lanes: Vec<Lane> = exchanges.iter().map(lane).collect();
        let open = lanes.len();
        Box::new(AtEnd { inner, arrangement, lanes, open, stage: Stage::Reading })
    }

    fn shuffle_context(ctx: &Context, share_bytes: u64) -> Result<ShuffleContext> {
        let mut context = ctx.spill.clone().ok_or_else(|| {
            Error::Internal("an operator over bounded input has nowhere to spill to".into())
        })?;
        context.share_bytes = usize::try_from(share_bytes).unwrap_or(usize::MAX);
        Ok(context)
    }

    fn merge(&mut self, ctx: &Context) -> Result<()> {
        let mut inputs = Vec::new();
        for (input, lane) in self.lanes.iter_mut().enumerate() {
            lane.seal(Remainder::Memory)?;
            inputs.extend(lane.sealed.inputs(input));
        }
        if self.arrangement == Arrangement::LastInputFirst {
            self.stage = Stage::Joining { rows: None, lane: self.lanes.len(), ended: true };
            return Ok(());
        }
        self.lanes.iter_mut().for_each(|lane| lane.sealed.clear());
        let order = self.lanes.first().and_then(|lane| lane.exchange.key_order());
        let order = order.ok_or_else(|| Error::Internal("an edge that is sorted has no key".into()))?;
        let context = Self::shuffle_context(ctx, ctx.memory_bytes / 2)?;
        let mut rows = Box::new(Merge::open(context, 0, &inputs, order)?);
        self.stage = match rows.advance()? {
            Some(first) => Stage::Merging { lane: first.input, rows, state: Handing::Read },
            None => Stage::Ending(0),
        };
        Ok(())
    }

    /// One step of what is left to do at the end; true when nothing is.
    fn step(&mut self, ctx: &mut Context) -> Result<Option<Progress>> {
        match &mut self.stage {
            Stage::Reading => self.merge(ctx)?,
            Stage::Merging { rows, lane, state } => {
                let Lane { reader, batch, .. } = &mut self.lanes[*lane];
                match *state {
                    Handing::Read => {
                        let read = match self.arrangement {
                            Arrangement::Grouped => reader.read_run(rows, BATCH_RECORDS, batch)?,
                            _ => reader.read_merged(rows, BATCH_RECORDS, batch)?,
                        };
                        *state = Handing::Batch(read);
                    }
                    Handing::Batch(read) => {
                        if self.inner.process(*lane, batch, ctx)? == Progress::Yielded {
                            return Ok(Some(Progress::Yielded));
                        }
                        let key_ends = matches!(read, ReadState::KeyEnd | ReadState::End);
                        if key_ends && self.arrangement == Arrangement::Grouped {
                            *state = Handing::EndOfKey(read);
                        } else if read == ReadState::End {
                            self.stage = Stage::Ending(0);
                        } else {
                            *lane = rows.current_input().unwrap_or(*lane);
                            *state = Handing::Read;
                        }
                    }
                    Handing::EndOfKey(read) => {
                        ctx.watermark = WATERMARK_MAX;
                        let progress = self.inner.end_of_key(ctx);
                        ctx.watermark = WATERMARK_MIN;
                        if progress? == Progress::Yielded {
                            return Ok(Some(Progress::Yielded));
                        }
                        if read == ReadState::End {
                            self.stage = Stage::Ending(0);
                        } else {
                            *lane = rows.current_input().unwrap_or(*lane);
                            *state = Handing::Read;
                        }
                    }
                }
            }
            Stage::Joining { rows, lane, ended } => {
                if let Some(at) = self.lanes.get_mut(*lane).filter(|at| !at.batch.is_empty()) {
                    if self.inner.process(*lane, &mut at.batch, ctx)? == Progress::Yielded {
                        return Ok(Some(Progress::Yielded));
                    }
                } else if !*ended && let (Some(rows), Some(at)) = (rows.as_mut(), self.lanes.get_mut(*lane)) {
                    *ended = at.reader.read(rows, BATCH_RECORDS, &mut at.batch)? == ReadState::End;
                } else if let Some(next) = lane.checked_sub(1) {
                    *lane = next;
                    let inputs = self.lanes[next].sealed.inputs(next);
                    self.lanes[next].sealed.clear();
                    *rows = Some(Box::new(Concat::new(0, &inputs)));
                    *ended = false;
                } else {
                    self.stage = Stage::Ending(0);
                }
            }
            Stage::Ending(input) if *input < self.lanes.len() => {
                match self.inner.end_of_input(*input, ctx)? {
                    Progress::Done => *input += 1,
                    other => return Ok(Some(other)),
                }
            }
            Stage::Ending(_) | Stage::Done => {
                self.stage = Stage::Done;
                return Ok(Some(Progress::Done));
            }
        }
        Ok(None)
    }
}

impl Lane {
    /// The writer that records go to.
    fn writer(&mut self, ctx: &Context, share_bytes: u64) -> Result<&mut Box<dyn RowWriter>> {
        if self.writer.is_none() {
            let Lane { exchange, sealed, reader, batch, .. } = self;
            sealed.merge(|mut rows| {
                let mut writer = new_writer(&**exchange, ctx, share_bytes)?;
                while let Some(row) = rows.next_row()? {
                    reader.read_value(row.value, row.timestamp, batch)?;
                    writer.write(batch)?;
                }
                writer.finish(Remainder::Disk)
            })?;
        }
        open_writer(&mut self.writer, &*self.exchange, ctx, share_bytes)
    }

    /// Whether each subtask has all records of the input.
    fn is_copied(&self) -> bool {
        self.exchange.partitioning() == Partitioning::Broadcast
    }

    /// Ends what is being written.
    fn seal(&mut self, remainder: Remainder) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.sealed.push(writer.finish(remainder)?);
        }
        Ok(())
    }
}

fn open_writer<'a>(
    writer: &'a mut Option<Box<dyn RowWriter>>,
    exchange: &dyn ExchangeType,
    ctx: &Context,
    share_bytes: u64,
) -> Result<&'a mut Box<dyn RowWriter>> {
    match writer {
        Some(writer) => Ok(writer),
        none => Ok(none.insert(new_writer(exchange, ctx, share_bytes)?)),
    }
}

fn new_writer(exchange: &dyn ExchangeType, ctx: &Context, share_bytes: u64) -> Result<Box<dyn RowWriter>> {
    Ok(exchange.row_writer(WriteContext {
        route: RouteContext { subtask: 0, parallelism: 1, targets: 1, max_parallelism: 1 },
        first_partition: 0,
        partitions: 1,
        shuffle: AtEnd::shuffle_context(ctx, share_bytes)?,
        ranges: Ranges::single(),
    }))
}

impl AnyOperator for AtEnd {
    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.inner.open(ctx)
    }

    fn process(&mut self, input: usize, batch: &mut ErasedBatch, ctx: &mut Context) -> Result<Progress> {
        let share = ctx.memory_bytes / 2 / self.lanes.len().max(1) as u64;
        let lane = self
            .lanes
            .get_mut(input)
            .ok_or_else(|| Error::Internal("an operator was given an input that it does not have".into()))?;
        lane.writer(ctx, share)?.write(batch)?;
        Ok(Progress::Done)
    }

    fn watermark(&mut self, _watermark: Timestamp, ctx: &mut Context) -> Result<Progress> {
        // For the operator time stands still until the end of a key.
        ctx.watermark = WATERMARK_MIN;
        Ok(Progress::Done)
    }

    fn emits_at_end(&self) -> bool {
        true
    }

    fn end_of_input(&mut self, _input: usize, ctx: &mut Context) -> Result<Progress> {
        if self.open > 1 {
            self.open -= 1;
            return Ok(Progress::Done);
        }
        loop {
            if let Some(progress) = self.step(ctx)? {
                return Ok(progress);
            }
            if self.inner.out().is_full() {
                return Ok(Progress::Yielded);
            }
        }
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        for lane in &mut self.lanes {
            let before = lane.sealed.len();
            // What more comes has the memory for itself.
            lane.seal(Remainder::Disk)?;
            lane.sealed.show(if barrier.full { 0 } else { before });
        }
        self.snapshot_more(into)
    }

    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        for (input, lane) in self.lanes.iter_mut().enumerate() {
            let shown = lane.sealed.show_more(into.section(&section(input)), |row, into| {
                into.put(&(row.timestamp, row.hash, row.value))
            })?;
            if shown == Progress::Yielded {
                return Ok(Progress::Yielded);
            }
        }
        Ok(Progress::Done)
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        let share = ctx.memory_bytes / 2 / self.lanes.len().max(1) as u64;
        let (subtask, parallelism) = (ctx.runtime.subtask_index(), ctx.runtime.parallelism());
        for (input, lane) in self.lanes.iter_mut().enumerate() {
            let section = section(input);
            let part = if lane.is_copied() {
                // Those that have finished hold none any more, all others the same.
                let mut copies = state.subtasks().iter().map(|chain| chain.appended_len(&section));
                0..copies.find(|&len| len > 0).unwrap_or(0)
            } else {
                state.appended_part(&section, subtask, parallelism)
            };
            for (index, entry) in state.appended(&section).enumerate() {
                let (timestamp, hash, value): (Option<Timestamp>, u64, Vec<u8>) = codec::decode(entry?)?;
                let is_own = match self.arrangement {
                    Arrangement::Grouped => ctx.runtime.owns(hash),
                    Arrangement::SortedInOne => subtask == 0,
                    _ => part.contains(&index),
                };
                if is_own {
                    lane.reader.read_value(&value, timestamp, &mut lane.batch)?;
                    open_writer(&mut lane.writer, &*lane.exchange, ctx, share)?.write(&mut lane.batch)?;
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        self.inner.close()
    }
    fn out(&mut self) -> &mut dyn AnyOut {
        self.inner.out()
    }
    fn type_name(&self) -> &'static str {
        self.inner.type_name()
    }
}

/// The section of a snapshot that holds the records of an input.
fn section(input: usize) -> String {
    format!("input {input}")
}
