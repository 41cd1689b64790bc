//! Spool: records of one subtask or key, kept in the order of arrival, in memory and then on disk.
//!
//! Place: inside an operator, which lives on one thread.
//! Method: the first records stay as they are while they take at most a quarter of the share, as estimated from
//! samples; those after them are encoded into a buffer, which spills. Reading begins with the former.
//! Costs: nothing beyond the records for those that fit; the others are encoded and decoded once for each reading.

use super::records::{Records, Shared};
use super::sealed::Sealed;
use crate::base::codec::{encode, keep_small};
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::operator::aggregate::HeapEstimate;
use crate::operator::{Context, Progress, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::Section;
use crate::services::shuffle::{PartitionBuffer, Remainder};
use std::ops::Range;
use std::sync::Arc;

/// Records that are kept whatever they take: that there is one tells that the spool is not empty.
const KEPT_RECORDS_MIN: usize = 1;

/// Records in the order of arrival.
pub(crate) struct Spool<T> {
    head: Vec<T>,
    heap: HeapEstimate,
    /// Those after the head, while they come.
    tail: Option<PartitionBuffer>,
    /// Those after the head that can be read; several where a snapshot was taken on the way.
    sealed: Sealed,
    /// Records of the head that are still to be put into the snapshot under way; those before are in it or in earlier ones.
    shown: Range<usize>,
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
            sealed: Sealed::default(),
            shown: 0..0,
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
            let Spool { sealed, share_bytes, .. } = self;
            sealed.merge(|mut rows| {
                let mut merged = new_tail(ctx, *share_bytes)?;
                while let Some(row) = rows.next_row()? {
                    merged.append(0, None, row.value)?;
                }
                merged.finish(Remainder::Disk)
            })?;
            self.tail = Some(new_tail(ctx, self.share_bytes)?);
        }
        self.encoded.clear();
        encode(record, &mut self.encoded)?;
        if let Some(tail) = &mut self.tail {
            tail.append(0, None, &self.encoded)?;
        }
        keep_small(&mut self.encoded);
        Ok(())
    }

    fn seal(&mut self, remainder: Remainder) -> Result<()> {
        if let Some(tail) = self.tail.take() {
            self.sealed.push(tail.finish(remainder)?);
        }
        Ok(())
    }

    /// The records behind the head, once more from their first on.
    pub(crate) fn tail(&mut self) -> Result<Records<T>> {
        self.seal(Remainder::Memory)?;
        Ok(Records::new(Vec::new(), &self.sealed.inputs(0), self.shared.clone()))
    }

    /// All records, which leaves the spool empty.
    pub(crate) fn take(&mut self) -> Result<Records<T>> {
        self.seal(Remainder::Memory)?;
        let head = std::mem::replace(&mut self.head, self.shared.spare());
        self.shown = 0..0;
        let records = Records::new(head, &self.sealed.inputs(0), self.shared.clone());
        self.sealed.clear();
        Ok(records)
    }

    /// All records again, copies of those in the head.
    pub(crate) fn copies(&mut self) -> Result<Records<T>> {
        self.seal(Remainder::Memory)?;
        Ok(Records::new(self.head.clone(), &self.sealed.inputs(0), self.shared.clone()))
    }

    /// A snapshot begins, of all records or of those that are new, after which more may come. What is not in the head is on
    /// disk then.
    pub(crate) fn show(&mut self, full: bool) -> Result<()> {
        let before = self.sealed.len();
        self.seal(Remainder::Disk)?;
        self.sealed.show(if full { 0 } else { before });
        self.shown = if full { 0 } else { self.shown.end }..self.head.len();
        Ok(())
    }

    /// Puts about a slice of the records into a section.
    pub(crate) fn show_more(&mut self, into: &mut Section) -> Result<Progress> {
        let end = into.bytes().len() + SNAPSHOT_SLICE_BYTES;
        while let Some(record) = self.head.get(self.shown.clone()).and_then(|left| left.first()) {
            into.put(record)?;
            self.shown.start += 1;
            if into.bytes().len() >= end {
                return Ok(Progress::Yielded);
            }
        }
        self.sealed.show_more(into, |row, into| {
            into.put_with(|bytes| {
                bytes.extend_from_slice(row.value);
                Ok(())
            })
        })
    }

    /// Forgets all records, keeps the memory of the head if it is small.
    pub(crate) fn clear(&mut self) {
        self.head.clear();
        self.shown = 0..0;
        self.tail = None;
        self.sealed.clear();
    }

    /// What went wrong while records were read, after which they seemed to end.
    pub(crate) fn check(&self) -> Result<()> {
        self.shared.check()
    }
}

fn new_tail(ctx: &Context, share_bytes: u64) -> Result<PartitionBuffer> {
    let mut context = ctx
        .spill
        .clone()
        .ok_or_else(|| Error::Internal("records that must spill have nowhere to go".into()))?;
    context.share_bytes = usize::try_from(share_bytes / 2).unwrap_or(usize::MAX);
    context.timestamps = false;
    Ok(PartitionBuffer::new(context, 1))
}
