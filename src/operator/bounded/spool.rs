//! Spool: records of one subtask or key, kept in the order of arrival, in memory and then on disk.
//!
//! Place: inside an operator, which lives on one thread.
//! Method: the first records stay as they are while they take at most a quarter of the share, as estimated from
//! samples; those after them are encoded into a buffer, which spills. Reading begins with the former.
//! Costs: nothing beyond the records for those that fit; the others are encoded and decoded once for each reading.

use super::records::{Records, Shared};
use crate::base::codec::encode;
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::operator::Context;
use crate::operator::aggregate::HeapEstimate;
use crate::services::shuffle::{MergeInput, PartitionBuffer, Remainder, ShuffleOutput};
use std::sync::Arc;

/// Records that are kept whatever they take: a record or two must be.
const KEPT_RECORDS_MIN: usize = 2;

/// Records in the order of arrival.
pub(crate) struct Spool<T> {
    head: Vec<T>,
    heap: HeapEstimate,
    /// Those after the head, while they come.
    tail: Option<PartitionBuffer>,
    /// Those after the head that can be read; several where a snapshot was taken on the way.
    sealed: Vec<Arc<ShuffleOutput>>,
    share_bytes: u64,
    encoded: Vec<u8>,
    shared: Arc<Shared<T>>,
}

impl<T: Data> Spool<T> {
    /// An empty spool that holds at most so many bytes.
    pub(crate) fn new(share_bytes: u64) -> Self {
        Spool {
            head: Vec::new(),
            heap: HeapEstimate::default(),
            tail: None,
            sealed: Vec::new(),
            share_bytes,
            encoded: Vec::new(),
            shared: Arc::default(),
        }
    }

    /// Whether there is no record.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Whether all records are in [`Spool::head`].
    pub(crate) fn is_in_memory(&self) -> bool {
        self.tail.is_none() && self.sealed.is_empty()
    }

    /// The records that are kept as they are: the first ones.
    pub(crate) fn head(&self) -> &[T] {
        &self.head
    }

    fn head_fits(&self) -> bool {
        let bytes = self.head.len() as u64 * size_of::<T>() as u64 + self.heap.bytes(self.head.len() as u64);
        bytes < self.share_bytes / 4 || self.head.len() < KEPT_RECORDS_MIN
    }

    /// Appends a record. Where it spills is up to the context.
    #[inline]
    pub(crate) fn push(&mut self, record: T, ctx: &Context) -> Result<()> {
        if self.is_in_memory() && self.head_fits() {
            self.heap.inserted(&record);
            self.head.push(record);
            return Ok(());
        }
        self.push_tail(&record, ctx)
    }

    #[inline(never)]
    fn push_tail(&mut self, record: &T, ctx: &Context) -> Result<()> {
        if self.tail.is_none() {
            let mut context = ctx
                .spill
                .clone()
                .ok_or_else(|| Error::Internal("records that must spill have nowhere to go".into()))?;
            context.share_bytes = usize::try_from(self.share_bytes / 2).unwrap_or(usize::MAX);
            context.timestamps = false;
            self.tail = Some(PartitionBuffer::new(context, 1));
        }
        self.encoded.clear();
        encode(record, &mut self.encoded)?;
        match &mut self.tail {
            Some(tail) => tail.append(0, None, &self.encoded),
            None => Ok(()),
        }
    }

    fn seal(&mut self, remainder: Remainder) -> Result<()> {
        if let Some(tail) = self.tail.take() {
            self.sealed.push(Arc::new(tail.finish(remainder)?));
        }
        Ok(())
    }

    fn tail_inputs(&self) -> Vec<MergeInput> {
        let sealed = self.sealed.iter().enumerate();
        sealed.map(|(producer, output)| MergeInput { input: 0, producer, output: output.clone() }).collect()
    }

    /// The records behind the head, once more from their first on.
    pub(crate) fn tail(&mut self) -> Result<Records<T>> {
        self.seal(Remainder::Memory)?;
        Ok(Records::new(Vec::new(), &self.tail_inputs(), self.shared.clone()))
    }

    /// All records, which leaves the spool empty.
    pub(crate) fn take(&mut self) -> Result<Records<T>> {
        self.seal(Remainder::Memory)?;
        let head = std::mem::replace(&mut self.head, self.shared.spare());
        let records = Records::new(head, &self.tail_inputs(), self.shared.clone());
        self.sealed.clear();
        Ok(records)
    }

    /// All records again, copies of those in the head.
    pub(crate) fn copies(&mut self) -> Result<Records<T>> {
        self.seal(Remainder::Memory)?;
        Ok(Records::new(self.head.clone(), &self.tail_inputs(), self.shared.clone()))
    }

    /// Shows all records, after which more may come: for a snapshot. What is not in the head is on disk then.
    pub(crate) fn show(&mut self, mut show: impl FnMut(&T) -> Result<()>) -> Result<()> {
        self.seal(Remainder::Disk)?;
        self.head.iter().try_for_each(&mut show)?;
        for record in Records::new(Vec::new(), &self.tail_inputs(), self.shared.clone()) {
            show(&record)?;
        }
        self.check()
    }

    /// Forgets all records, keeps the memory of the head if it is small.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.tail = None;
        self.sealed.clear();
    }

    /// What went wrong while records were read, after which they seemed to end.
    pub(crate) fn check(&self) -> Result<()> {
        self.shared.check()
    }
}
