//! Exit: where elements leave a chain, as its executor provides it.

use crate::base::batch::{BATCH_RECORDS, Element, ErasedBatch};
use crate::base::error::Result;

/// Where elements leave a chain.
pub trait Exit: Send {
    /// Takes an element. A batch that has been emptied comes back for reuse.
    fn push(&mut self, element: Element) -> Result<Option<ErasedBatch>>;
    /// Whether nothing should be pushed at the moment.
    fn is_full(&mut self) -> bool;
    /// Makes what waits for a full batch available.
    fn flush(&mut self) -> Result<()>;
    /// Looks how many records a batch for it should hold at most.
    fn batch_records(&mut self) -> usize {
        BATCH_RECORDS
    }
    /// What has gone out, and how much may wait there.
    fn outlet(&self) -> Outlet {
        Outlet { records: 0, records_max: usize::MAX }
    }
}

/// What an exit lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlet {
    /// Records that have gone out.
    pub records: u64,
    /// Records that may wait for its consumers, all of them together.
    pub records_max: usize,
}
