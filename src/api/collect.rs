//! Collected: the records of a running job as an iterator.

use super::client::JobClient;
use super::data_stream::DataStream;
use super::result::JobResult;
use crate::base::config::Driver;
use crate::base::data::Data;
use crate::base::error::Result;
use crate::connectors::sink::{CollectSink, CollectedRecords};

/// Batches that wait for the reader before the job does.
const WAITING_BATCHES: usize = 16;

/// An iterator over the records of a running job, in no particular order between subtasks. The job waits when the
/// reader is slow; dropping the iterator cancels the job. After the last record comes the job's error, if it
/// failed.
pub struct Collected<T> {
    records: Option<CollectedRecords<T>>,
    client: Option<JobClient>,
    result: Option<JobResult>,
}

impl<T: Data> DataStream<T> {
    /// Runs the job and iterates over the records of this stream while it runs.
    ///
    /// # Errors
    /// A mistake in the plan or the settings. Failures of the running job are items of the iterator.
    pub fn execute_and_collect(&self, name: &str) -> Result<Collected<T>> {
        // A simulated job must not depend on how fast somebody reads.
        let simulated = matches!(self.env.settings().driver, Driver::Simulation { .. });
        let (sink, records) = CollectSink::new(if simulated { usize::MAX } else { WAITING_BATCHES });
        let node = self.sink_to(sink).from[0].from;
        let client = self.env.execute_async(name).inspect_err(|_| self.env.withdraw(node))?;
        if !client.runs() {
            // The plan was explained: nothing will come.
            self.env.withdraw(node);
        }
        Ok(Collected { records: client.runs().then_some(records), client: Some(client), result: None })
    }
}

impl<T> Collected<T> {
    /// All records, when the job has ended.
    ///
    /// # Errors
    /// The first failure of the job.
    pub fn into_vec(self) -> Result<Vec<T>> {
        self.collect()
    }

    /// The job's result, once the iterator has ended without an error.
    pub fn result(&self) -> Option<&JobResult> {
        self.result.as_ref()
    }
}

impl<T> Iterator for Collected<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if let Some(record) = self.records.as_mut().and_then(Iterator::next) {
            return Some(Ok(record));
        }
        self.records = None;
        match self.client.take()?.result() {
            Ok(result) => {
                self.result = Some(result);
                None
            }
            Err(e) => Some(Err(e)),
        }
    }
}

impl<T> Drop for Collected<T> {
    fn drop(&mut self) {
        self.records = None;
        if let Some(client) = self.client.take() {
            client.cancel();
            let _ = client.result();
        }
    }
}
