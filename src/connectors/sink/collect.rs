//! CollectSink: the records of a job as an iterator on the client's side.
//!
//! Place: writers in the subtasks, the iterator on a thread of the client's that reads while the job runs.
//! Method: one queue of batches shared by all writers. A writer never waits: it reports to be blocked while the
//! queue is full, and a batch it is given nevertheless is queued.
//! Invariants: the queue holds at most its capacity and one batch for each writer; the records of one writer stay
//! in order.
//! Costs and limits: records go out before the job has succeeded. A unit of work that is repeated from its start leaves out
//! as many as an attempt before it has sent: these are the same, unless user code is not deterministic. A job that
//! is resumed by another process sends all of them again. An attempt that goes on from a checkpoint sends again what came after
//! its barrier: each record comes at least once.

use super::{Sink, SinkContext, SinkWriter};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::base::metrics::Counter;
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sends the records of one job to a [`CollectedRecords`].
pub struct CollectSink<T> {
    /// Gone once the job has ended, so that the iterator ends, too.
    queue: Mutex<Option<Sender<Vec<T>>>>,
    capacity_batches: usize,
    /// The most records that an attempt of each unit has sent.
    sent: Mutex<BTreeMap<(usize, usize), Counter>>,
}

impl<T> CollectSink<T> {
    /// A sink and the records that arrive in it. About `capacity_batches` batches wait for the reader; when they
    /// do, the job waits, so read while it runs. Dropping the reader cancels the job.
    #[allow(clippy::new_ret_no_self)] // the two ends of one queue, as channels are made
    pub fn new(capacity_batches: usize) -> (CollectSink<T>, CollectedRecords<T>) {
        let (sender, receiver) = unbounded();
        let capacity_batches = capacity_batches.max(1);
        let sink = CollectSink { queue: Mutex::new(Some(sender)), capacity_batches, sent: Mutex::default() };
        (sink, CollectedRecords { queue: receiver, batch: Vec::new().into_iter() })
    }
    fn queue(&self) -> MutexGuard<'_, Option<Sender<Vec<T>>>> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl<T: Data> Sink<T> for CollectSink<T> {
    type Committable = ();
    type Writer = CollectWriter<T>;

    fn describe(&self) -> String {
        "collect".to_string()
    }
    fn outlives_process(&self) -> bool {
        false
    }
    fn writer(&self, ctx: &SinkContext) -> Result<CollectWriter<T>> {
        let sent = match ctx.from_start {
            true => {
                let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
                sent.entry((ctx.subtask, ctx.unit)).or_default().clone()
            }
            false => Counter::new(),
        };
        match &*self.queue() {
            Some(queue) => {
                let (queue, capacity_batches) = (queue.clone(), self.capacity_batches);
                Ok(CollectWriter { queue, capacity_batches, to_skip: sent.get(), sent })
            }
            None => Err(Error::config(
                "a collecting sink serves one job, and its job has ended; make a new one for the next",
            )),
        }
    }
    fn finish(&self, _ctx: &SinkContext) -> Result<()> {
        *self.queue() = None;
        Ok(())
    }
    fn suspend(&self, ctx: &SinkContext) -> Result<()> {
        Sink::<T>::abort(self, ctx)
    }
    fn abort(&self, _ctx: &SinkContext) -> Result<()> {
        *self.queue() = None;
        Ok(())
    }
}

/// Sends the records of one subtask.
pub struct CollectWriter<T> {
    queue: Sender<Vec<T>>,
    capacity_batches: usize,
    /// Records that attempts before this one have sent and that it has not yet come to.
    to_skip: u64,
    /// Records that attempts up to this one have sent.
    sent: Counter,
}

impl<T: Data> SinkWriter<T> for CollectWriter<T> {
    type Committable = ();

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let mut values = std::mem::take(&mut batch.values);
        batch.clear();
        if self.to_skip > 0 {
            let skipped = self.to_skip.min(values.len() as u64);
            values.drain(..skipped as usize);
            self.to_skip -= skipped;
        }
        if values.is_empty() {
            return Ok(());
        }
        let records = values.len() as u64;
        self.queue.send(values).map_err(|_| Error::Cancelled)?;
        self.sent.add(records);
        Ok(())
    }
    fn is_blocked(&self) -> bool {
        self.queue.len() >= self.capacity_batches
    }
}

/// The records that arrive in a [`CollectSink`], until its job has ended; whether it succeeded is in the job's
/// result. Waits for records that are still to come.
pub struct CollectedRecords<T> {
    queue: Receiver<Vec<T>>,
    batch: std::vec::IntoIter<T>,
}

impl<T> Iterator for CollectedRecords<T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(record) = self.batch.next() {
                return Some(record);
            }
            self.batch = self.queue.recv().ok()?.into_iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::sink::testing::context;

    #[test]
    fn everything_arrives_in_the_order_of_each_writer_and_then_it_ends() {
        let (sink, records) = CollectSink::new(2);
        let ctx = context();
        let mut writers = [sink.writer(&ctx).unwrap(), sink.writer(&ctx).unwrap()];
        for i in 0..10 {
            writers[i % 2].write(&mut vec![i, i + 100].into()).unwrap();
        }
        drop(writers);
        sink.finish(&ctx).unwrap();
        let all: Vec<usize> = records.collect();
        assert_eq!(all, (0..10).flat_map(|i| [i, i + 100]).collect::<Vec<_>>());
    }

    /// C12: a unit that is tried again sends what its attempts before it have not sent.
    #[test]
    fn an_attempt_leaves_out_what_those_before_it_have_sent() {
        let (sink, records) = CollectSink::new(9);
        let ctx = |attempt, unit| SinkContext { attempt, unit, ..context() };
        for (attempt, until) in [(0, 3), (1, 2), (2, 7)] {
            let mut writer = sink.writer(&ctx(attempt, 0)).unwrap();
            for i in (0..until).step_by(2) {
                writer.write(&mut (i..(i + 2).min(until)).collect::<Vec<_>>().into()).unwrap();
            }
        }
        sink.writer(&ctx(0, 1)).unwrap().write(&mut vec![100].into()).unwrap();
        Sink::<i32>::finish(&sink, &context()).unwrap();
        assert_eq!(records.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 100]);
    }

    /// P7: a slow reader bounds the memory.
    #[test]
    fn a_full_queue_blocks_until_it_is_read() {
        let (sink, mut records) = CollectSink::new(2);
        let mut writer = sink.writer(&context()).unwrap();
        writer.write(&mut vec![1].into()).unwrap();
        assert!(!writer.is_blocked());
        writer.write(&mut vec![2].into()).unwrap();
        assert!(writer.is_blocked());
        let mut late = Batch::from(vec![3]);
        writer.write(&mut late).unwrap();
        assert!(late.is_empty(), "a batch that comes nevertheless is taken");
        assert_eq!(records.next(), Some(1));
        assert!(writer.is_blocked());
        assert_eq!(records.next(), Some(2));
        assert!(!writer.is_blocked());
        assert_eq!(records.next(), Some(3));
    }

    #[test]
    fn a_reader_that_goes_away_cancels_even_when_the_queue_was_full() {
        let (sink, records) = CollectSink::new(1);
        let mut writer = sink.writer(&context()).unwrap();
        writer.write(&mut vec![1].into()).unwrap();
        assert!(writer.is_blocked());
        drop(records);
        assert!(!writer.is_blocked());
        assert!(matches!(writer.write(&mut vec![2].into()), Err(Error::Cancelled)));
    }

    #[test]
    fn an_abort_ends_the_records_and_a_second_job_is_refused() {
        let (sink, mut records) = CollectSink::<u8>::new(0);
        let writer = sink.writer(&context()).unwrap();
        assert!(!writer.is_blocked(), "room for at least one batch");
        drop(writer);
        sink.abort(&context()).unwrap();
        assert_eq!(records.next(), None);
        assert!(sink.writer(&context()).is_err());
    }
}
