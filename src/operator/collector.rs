//! Collector: what user code emits into.

use super::output::Out;
use super::side_output::SideOutput;
use crate::base::data::{Data, Timestamp};

/// Takes the records that a user function emits. They carry the timestamp of the record being processed.
pub struct Collector<'a, T: Data> {
    out: &'a mut Out<T>,
    timestamp: Option<Timestamp>,
}

impl<'a, T: Data> Collector<'a, T> {
    /// A collector whose records carry `timestamp`.
    #[inline(always)]
    pub fn new(out: &'a mut Out<T>, timestamp: Option<Timestamp>) -> Self {
        Collector { out, timestamp }
    }
    /// Emits one record.
    #[inline(always)]
    pub fn emit(&mut self, value: T) {
        self.out.push(value, self.timestamp);
    }
    /// Emits one record to a side output, where it is dropped if the program does not read that output.
    #[inline]
    pub fn emit_to<U: Data>(&mut self, output: &SideOutput<U>, value: U) {
        self.out.push_to(output, value, self.timestamp);
    }
    /// What a record emitted now would carry.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }
}

impl<T: Data> Extend<T> for Collector<'_, T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.emit(value));
    }
}
