//! RecordCheck: encodes and decodes the first records of an edge, to find a type that does not survive it.

use crate::base::codec;
use crate::base::data::Data;
use crate::base::error::Result;

/// Records of an edge that are checked.
const CHECKED_RECORDS: usize = 8;

/// Checks the first records that it is shown.
#[derive(Default)]
pub(super) struct RecordCheck {
    checked: usize,
}

impl RecordCheck {
    /// Checks records, and with `key` their keys, until enough have been.
    #[inline]
    pub(super) fn check<T: Data>(&mut self, records: &[T], key: impl Fn(&T) -> Result<()>) -> Result<()> {
        for record in records.iter().take(CHECKED_RECORDS - self.checked) {
            codec::check_record(record)?;
            key(record)?;
            self.checked += 1;
        }
        Ok(())
    }
}
