//! Concat: reads one partition of an unkeyed edge in the order (input, producer, sequence).
//!
//! Place: on the consumer's thread. One cursor is open at a time.

use super::cursor::Cursor;
use super::merge::{MergeInput, in_order};
use super::output::ShuffleOutput;
use super::row::RowRef;
use crate::base::error::Result;
use std::collections::VecDeque;
use std::sync::Arc;

/// The rows of one partition, producer after producer.
pub struct Concat {
    partition: usize,
    timestamps: bool,
    /// Runs that were not opened yet, with their inputs.
    pending: VecDeque<(Arc<ShuffleOutput>, usize, usize)>,
    cursor: Option<Cursor>,
}

impl Concat {
    /// A reader before the first row.
    pub fn new(partition: usize, inputs: &[MergeInput]) -> Concat {
        let pending = in_order(inputs)
            .into_iter()
            .flat_map(|i| (0..i.output.run_count()).map(move |run| (i.output.clone(), run, i.input)))
            .collect();
        let timestamps = inputs.iter().any(|i| i.output.has_timestamps());
        Concat { partition, timestamps, pending, cursor: None }
    }

    /// Bytes that reading takes at most: the buffers of one cursor.
    pub fn memory_needed(partition: usize, inputs: &[MergeInput]) -> usize {
        let runs = inputs.iter().flat_map(|i| (0..i.output.run_count()).map(move |run| (i, run)));
        runs.map(|(i, run)| i.output.cursor_bytes(run, partition)).max().unwrap_or(0)
    }

    /// The next row.
    ///
    /// # Errors
    /// [`Corrupt`](crate::Error::Corrupt) if a spill file does not hold what was written, `Io` if it cannot be read.
    pub fn next_row(&mut self) -> Result<Option<RowRef<'_>>> {
        loop {
            if let Some(cursor) = &mut self.cursor
                && cursor.advance()?
            {
                if cursor.is_partial() {
                    cursor.complete()?;
                }
                break;
            }
            let Some((output, run, input)) = self.pending.pop_front() else {
                self.cursor = None;
                return Ok(None);
            };
            // The old buffers go before the new ones come.
            self.cursor = None;
            self.cursor = output.cursor(run, self.partition, input)?;
        }
        Ok(self.cursor.as_ref().map(|cursor| RowRef {
            hash: cursor.hash,
            timestamp: self.timestamps.then_some(cursor.timestamp),
            input: cursor.input,
            key: cursor.key(),
            value: cursor.value(),
            value_onwards: cursor.value_onwards(),
            new_key: false,
        }))
    }
}
