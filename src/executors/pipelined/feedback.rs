//! Feedback: the edges that lead back to the head of a loop, and what the head reads.
//!
//! Place: the producer's end is an exit of its chain, the other one in the head's [`LoopGate`]; nothing else knows both.
//! Method: a channel back is never full, or a loop whose body multiplies records would wait for itself. It keeps a few
//! batches, then it encodes what comes into a buffer, which spills at its share of memory. What was written is read when what
//! came before it has been. So the order is that of arrival.
//! Only records are fed back: watermarks, idleness, barriers and the end of the body's output stop here. The time of the loop is
//! that of its input.
//! What would be fed back when the loop is over is dropped and counted: it comes of the end itself.
//! Costs: a lock for each batch. Records that waited on disk are encoded and decoded once.

use super::channel::Waker;
use super::gate::InputGate;
use super::rest::{Loops, Phase, Rest};
use crate::base::batch::{BATCH_RECORDS, Element, ErasedBatch};
use crate::base::data::WATERMARK_MAX;
use crate::base::error::Result;
use crate::base::metrics::Counter;
use crate::executors::chain::Exit;
use crate::operator::exchange::{
    ExchangeType, ReadState, RouteContext, Router, RowReader, RowWriter, WriteContext,
};
use crate::operator::output::BATCH_BYTES;
use crate::services::shuffle::{Concat, MergeInput, Partitioning as Ranges, Remainder, ShuffleContext};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Counter of records that the body would have fed back when its loop was over: they went nowhere.
pub const FEEDBACK_DROPPED_AT_END: &str = "feedback_dropped_at_end";
/// Counter of bytes that were written to disk while they waited to be fed back.
pub const FEEDBACK_SPILLED_BYTES: &str = "feedback_spilled_bytes";

/// Batches that the channels into one head keep as they are: enough that a loop in which little waits encodes nothing.
pub(super) const FEEDBACK_BATCHES: usize = 4;

/// Batches that are fed back before the input has a turn: what goes round comes first, so that little of it waits, but what never
/// ends must not keep barriers and watermarks out.
const FEEDBACK_TURNS: usize = 16;

/// A channel that takes whatever comes.
pub(super) struct FeedbackChannel {
    queue: Mutex<Queue>,
    /// Batches that are kept as they are.
    elements: usize,
    /// The loop that it makes.
    rest: Arc<Rest>,
    /// That loop, and those around it.
    loops: Loops,
    /// Whether nobody will read.
    closed: bool,
    consumer: Waker,
    exchange: Arc<dyn ExchangeType>,
    spill: ShuffleContext,
    dropped: Counter,
    spilled: Counter,
}

/// What waits: batches, before those that are read, before those that are written.
struct Queue {
    batches: VecDeque<ErasedBatch>,
    reading: Option<(Concat, usize)>,
    writing: Option<Box<dyn RowWriter>>,
    reader: Box<dyn RowReader>,
    /// Counted as something that is not at rest.
    waits: bool,
}

/// How a channel back is made.
pub(super) struct FeedbackParts {
    /// Batches that are kept as they are.
    pub elements: usize,
    pub rest: Arc<Rest>,
    pub loops: Loops,
    /// Whether the consumer had finished before.
    pub closed: bool,
    pub consumer: Waker,
    pub exchange: Arc<dyn ExchangeType>,
    /// Where records go that have to wait, and what memory they may have before.
    pub spill: ShuffleContext,
    pub dropped: Counter,
    pub spilled: Counter,
}

impl FeedbackChannel {
    pub(super) fn new(parts: FeedbackParts) -> Arc<FeedbackChannel> {
        let FeedbackParts { elements, rest, loops, closed, consumer, exchange, mut spill, dropped, spilled } =
            parts;
        // What is read and what is written may be in memory at once.
        spill.share_bytes /= 2;
        // To one consumer, which has been chosen.
        let exchange = exchange.forward();
        let reader = exchange.row_reader();
        let queue = Queue { batches: VecDeque::new(), reading: None, writing: None, reader, waits: false };
        let queue = Mutex::new(queue);
        Arc::new(FeedbackChannel {
            queue,
            elements,
            rest,
            loops,
            closed,
            consumer,
            exchange,
            spill,
            dropped,
            spilled,
        })
    }

    fn send(&self, mut batch: ErasedBatch) -> Result<()> {
        if self.closed || self.rest.phase() == Phase::Over {
            self.dropped.add(batch.len() as u64);
            return Ok(());
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut queue.waits, true) {
            self.loops.begin();
        }
        let all_kept = queue.reading.is_none() && queue.writing.is_none();
        if all_kept && queue.batches.len() < self.elements {
            queue.batches.push_back(batch);
        } else {
            let writing = queue.writing.get_or_insert_with(|| self.writer());
            writing.write(&mut batch)?;
        }
        drop(queue);
        self.consumer.wake();
        Ok(())
    }

    fn writer(&self) -> Box<dyn RowWriter> {
        self.exchange.row_writer(WriteContext {
            route: RouteContext { subtask: 0, parallelism: 1, targets: 1, max_parallelism: 1 },
            first_partition: 0,
            partitions: 1,
            shuffle: self.spill.clone(),
            ranges: Ranges::single(),
        })
    }

    fn receive(&self) -> Result<Option<ErasedBatch>> {
        let mut guard = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = &mut *guard;
        loop {
            if let Some(batch) = queue.batches.pop_front() {
                return Ok(Some(batch));
            }
            if let Some((rows, records)) = &mut queue.reading {
                let mut batch = queue.reader.new_batch();
                if queue.reader.read(rows, *records, &mut batch)? == ReadState::End {
                    queue.reading = None;
                }
                if !batch.is_empty() {
                    return Ok(Some(batch));
                }
            } else if let Some(writing) = queue.writing.take() {
                let output = writing.finish(Remainder::Memory)?;
                let stats = output.stats();
                self.spilled.add(stats.spilled_bytes);
                let record_bytes = stats.raw_bytes / stats.rows.max(1);
                let records = ((BATCH_BYTES / record_bytes.max(1)) as usize).clamp(1, BATCH_RECORDS);
                let input = MergeInput { input: 0, producer: 0, output: Arc::new(output) };
                queue.reading = Some((Concat::new(0, &[input]), records));
            } else {
                if std::mem::take(&mut queue.waits) {
                    self.loops.end();
                }
                return Ok(None);
            }
        }
    }

    fn is_empty(&self) -> bool {
        !self.queue.lock().unwrap_or_else(PoisonError::into_inner).waits
    }
}

/// The sending end: routes records to the heads, and stops everything else.
pub(super) struct FeedbackExit {
    router: Box<dyn Router>,
    channels: Vec<Arc<FeedbackChannel>>,
}

impl FeedbackExit {
    pub(super) fn new(router: Box<dyn Router>, channels: Vec<Arc<FeedbackChannel>>) -> Self {
        FeedbackExit { router, channels }
    }

    fn send(&mut self) -> Result<()> {
        for (target, channel) in self.channels.iter().enumerate() {
            while let Some(batch) = self.router.take(target) {
                channel.send(batch)?;
            }
        }
        Ok(())
    }
}

impl Exit for FeedbackExit {
    fn push(&mut self, element: Element) -> Result<Option<ErasedBatch>> {
        match element {
            Element::Batch(mut batch) => {
                self.router.route(&mut batch)?;
                self.send()?;
                Ok(Some(batch))
            }
            Element::End => self.flush().map(|()| None),
            _ => Ok(None),
        }
    }

    fn is_full(&mut self) -> bool {
        false
    }

    fn flush(&mut self) -> Result<()> {
        self.router.flush();
        self.send()
    }
}

/// What the head of a loop reads: its input, and what is fed back.
pub(super) struct LoopGate {
    input: InputGate,
    feedback: Vec<Arc<FeedbackChannel>>,
    next: usize,
    /// Batches that were fed back since the input had a turn.
    turns: usize,
    rest: Arc<Rest>,
    /// What the loop was told.
    told: Phase,
}

impl LoopGate {
    pub(super) fn new(input: InputGate, feedback: Vec<Arc<FeedbackChannel>>, rest: Arc<Rest>) -> Self {
        LoopGate { input, feedback, next: 0, turns: 0, rest, told: Phase::Running }
    }

    /// The next element for the first input of the head; none if there is none at the moment. The maximum of the watermark and the end
    /// come when the loop is ready for them.
    pub(super) fn next(&mut self) -> Result<Option<Element>> {
        loop {
            if self.turns < FEEDBACK_TURNS
                && let Some(batch) = self.fed_back()?
            {
                self.turns += 1;
                return Ok(Some(Element::Batch(batch)));
            }
            let had_turns = std::mem::take(&mut self.turns);
            match self.input.next() {
                // They wait until the loop is empty.
                Some((_, Element::Watermark(WATERMARK_MAX) | Element::End)) => {}
                Some((_, element)) => return Ok(Some(element)),
                None if had_turns < FEEDBACK_TURNS => break,
                None => {}
            }
        }
        Ok(match (self.told, self.rest.phase()) {
            (Phase::Running, Phase::Closing) => {
                self.told = Phase::Closing;
                // The subtask is at work, and what it does with the watermark is part of that.
                self.rest.end();
                Some(Element::Watermark(WATERMARK_MAX))
            }
            (Phase::Closing, Phase::Over) => {
                self.told = Phase::Over;
                Some(Element::End)
            }
            _ => None,
        })
    }

    fn fed_back(&mut self) -> Result<Option<ErasedBatch>> {
        for _ in 0..self.feedback.len() {
            let channel = &self.feedback[self.next];
            self.next = (self.next + 1) % self.feedback.len();
            if let Some(batch) = channel.receive()? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Whether nothing waits to be read.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty() && self.feedback.iter().all(|channel| channel.is_empty())
    }
}
