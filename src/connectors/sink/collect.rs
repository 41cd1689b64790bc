//! CollectSink: the records of a job as an iterator on the client's side.
//!
//! Place: writers in the subtasks, the iterator on a thread of the client's that reads while the job runs.
//! Method: one queue of batches shared by all writers. A writer never waits: it reports to be blocked while the
//! queue is full, and a batch it is given nevertheless is queued.
//! Invariants: the queue holds at most its capacity and one batch for each writer; the records of one writer stay
//! in order.
//! Costs and limits: records go out before the job has succeeded, so a unit of work that is repeated after a
//! failure sends its records again.

use super::{Sink, SinkContext, SinkWriter};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crossbeam::channel::{Receiver, Sender, unbounded};
use std::sync::{Mutex, MutexGuard};

/// Sends the records of one job to a [`CollectedRecords`].
pub struct CollectSink<T> {
    /// Gone once the job has ended, so that the iterator ends, too.
    queue: Mutex<Option<Sender<Vec<T>>>>,
    capacity_batches: usize,
}

impl<T> CollectSink<T> {
    /// A sink and the records that arrive in it. About `capacity_batches` batches wait for the reader; when they
    /// do, the job waits, so read while it runs. Dropping the reader cancels the job.
    #[allow(clippy::new_ret_no_self)] // the two ends of one queue, as channels are made
    pub fn new(capacity_batches: usize) -> (CollectSink<T>, CollectedRecords<T>) {
        let (sender, receiver) = unbounded();
        let capacity_batches = capacity_batches.max(1);
        let sink = CollectSink { queue: Mutex::new(Some(sender)), capacity_batches };
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
    fn writer(&self, _ctx: &SinkContext) -> Result<CollectWriter<T>> {
        match &*self.queue() {
            Some(queue) => {
                Ok(CollectWriter { queue: queue.clone(), capacity_batches: self.capacity_batches })
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
}

impl<T: Data> SinkWriter<T> for CollectWriter<T> {
    type Committable = ();

    fn write(&mut self, batch: &mut Batch<T>) -> Result<()> {
        let values = std::mem::take(&mut batch.values);
        batch.clear();
        if values.is_empty() {
            return Ok(());
        }
        self.queue.send(values).map_err(|_| Error::Cancelled)
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
