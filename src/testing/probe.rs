//! Probe: records what a stream carries: records, their timestamps, watermarks, in order.

use crate::api::DataStream;
use crate::base::batch::Batch;
use crate::base::data::{Data, Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::Result;
use crate::operator::erased::{AnyOperator, OneInput};
use crate::operator::sink::{AnySink, SinkContext, SinkRun};
use crate::operator::{Context, Operator, Out, Progress};
use crate::plan::{NodeId, Operation};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a stream carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<T> {
    /// A record with its timestamp, if it has one.
    Record(T, Option<Timestamp>),
    /// The watermark has risen.
    Watermark(Timestamp),
}

/// What has come out of a stream so far: a sink of one subtask that keeps everything, in the order in which it came.
/// A clone is a handle to the same.
///
/// ```
/// use mainstem::prelude::*;
/// use mainstem::testing::{Event, Probe};
/// let env = Environment::new().parallelism(2);
/// let probe = Probe::on(&env.from_iter([1, 2]).map(|n| n * 10));
/// env.execute("probed")?;
/// assert_eq!(probe.take(), [10, 20]);
/// assert_eq!(probe.watermarks(), [i64::MAX]);
/// # Ok::<(), mainstem::Error>(())
/// ```
pub struct Probe<T> {
    log: Arc<Mutex<Log<T>>>,
    pub(super) node: NodeId,
}

struct Log<T> {
    events: Vec<Event<T>>,
    /// All watermarks since the start.
    watermarks: Vec<Timestamp>,
}

impl<T> Clone for Probe<T> {
    fn clone(&self) -> Self {
        Probe { log: self.log.clone(), node: self.node }
    }
}

impl<T: Data> Probe<T> {
    /// A probe on the stream, whose environment has to be executed still. In BATCH it sees one watermark, at the end.
    pub fn on(stream: &DataStream<T>) -> Probe<T> {
        let log = Arc::new(Mutex::new(Log { events: Vec::new(), watermarks: Vec::new() }));
        let sink = stream.add::<()>("probe", Operation::Sink(Arc::new(ProbeSink { log: log.clone() })));
        let node = sink.parallelism(1).from.first().map_or(0, |edge| edge.from);
        Probe { log, node }
    }

    fn log(&self) -> MutexGuard<'_, Log<T>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the records that have come since the last `take...`.
    pub fn take(&self) -> Vec<T> {
        self.take_records().into_iter().map(|(value, _)| value).collect()
    }

    /// As [`take`](Probe::take), each with its timestamp.
    pub fn take_records(&self) -> Vec<(T, Option<Timestamp>)> {
        let records = self.take_events().into_iter().filter_map(|event| match event {
            Event::Record(value, timestamp) => Some((value, timestamp)),
            Event::Watermark(_) => None,
        });
        records.collect()
    }

    /// Takes records and watermarks that have come since the last `take...`, in order.
    pub fn take_events(&self) -> Vec<Event<T>> {
        std::mem::take(&mut self.log().events)
    }

    /// All watermarks that have come. The last one of a job that has ended is [`i64::MAX`].
    pub fn watermarks(&self) -> Vec<Timestamp> {
        self.log().watermarks.clone()
    }

    /// The highest watermark that has come; [`i64::MIN`] before the first.
    pub fn watermark(&self) -> Timestamp {
        self.log().watermarks.last().copied().unwrap_or(WATERMARK_MIN)
    }
}

struct ProbeSink<T> {
    log: Arc<Mutex<Log<T>>>,
}

impl<T: Data> AnySink for ProbeSink<T> {
    fn describe(&self) -> String {
        "probe".to_string()
    }
    fn start(self: Arc<Self>, _ctx: SinkContext) -> Result<Arc<dyn SinkRun>> {
        Ok(self)
    }
}

impl<T: Data> SinkRun for ProbeSink<T> {
    fn operator(&self) -> Box<dyn AnyOperator> {
        OneInput::boxed(Record { log: self.log.clone() })
    }
    fn commit(&self) -> Result<()> {
        Ok(())
    }
    fn abort(&self) -> Result<()> {
        Ok(())
    }
}

struct Record<T> {
    log: Arc<Mutex<Log<T>>>,
}

impl<T> Record<T> {
    fn watermark(&self, watermark: Timestamp) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.watermarks.last().is_none_or(|&last| watermark > last) {
            log.watermarks.push(watermark);
            log.events.push(Event::Watermark(watermark));
        }
    }
}

impl<T: Data> Operator for Record<T> {
    type In = T;
    type Out = ();

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, _out: &mut Out<()>) -> Result<Progress> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut timestamps = batch.timestamps.drain(..);
        log.events.extend(batch.values.drain(..).map(|value| Event::Record(value, timestamps.next())));
        drop(timestamps);
        batch.clear();
        Ok(Progress::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        _ctx: &mut Context,
        _out: &mut Out<()>,
    ) -> Result<Progress> {
        Record::watermark(self, watermark);
        Ok(Progress::Done)
    }

    fn end_of_input(&mut self, _ctx: &mut Context, _out: &mut Out<()>) -> Result<Progress> {
        // BATCH has told no watermark.
        Record::watermark(self, WATERMARK_MAX);
        Ok(Progress::Done)
    }
}
