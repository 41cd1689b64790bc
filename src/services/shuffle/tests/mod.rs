//! The whole path, from rows appended to rows merged, against a sorted `Vec`.

mod faults;
mod model;
mod ranges;
mod speed;

use super::*;
use crate::base::vfs::{OsVfs, SharedVfs};
use std::path::Path;
use std::sync::Arc;

/// A row with everything that orders it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    hash: u64,
    timestamp: Option<i64>,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A fixed sequence of numbers for a seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        crate::base::hash::hash_of(&self.0)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn context(vfs: SharedVfs, dir: &Path, share_bytes: usize, timestamps: bool) -> ShuffleContext {
    let identity = Identity { job: 77, stage: 1, attempt: 0, producer: 0 };
    ShuffleContext { vfs, dir: dir.to_path_buf(), name: None, identity, share_bytes, timestamps }
}

fn os_context(dir: &Path, share_bytes: usize, timestamps: bool) -> ShuffleContext {
    context(OsVfs::shared(), dir, share_bytes, timestamps)
}

fn partitioning(count: usize) -> Partitioning {
    Partitioning::new(count, |hash| ((hash as u128 * count as u128) >> 64) as usize).unwrap()
}

fn sorted_output(
    context: ShuffleContext,
    partitions: usize,
    order: &KeyOrder,
    rows: &[Row],
    remainder: Remainder,
) -> ShuffleOutput {
    let mut buffer = SortBuffer::new(context, partitioning(partitions), order.clone());
    for (i, row) in rows.iter().enumerate() {
        buffer.append(row.hash, row.timestamp, &row.key, &row.value).unwrap();
        if i % 3 == 0 {
            buffer.settle().unwrap();
        }
    }
    buffer.finish(remainder).unwrap()
}

fn input(input: usize, producer: usize, output: &Arc<ShuffleOutput>) -> MergeInput {
    MergeInput { input, producer, output: output.clone() }
}

/// All rows of a merge with their inputs and whether they start a key.
fn read_all(merge: &mut Merge) -> crate::Result<Vec<(Row, usize, bool)>> {
    let mut rows = Vec::new();
    while let Some(r) = merge.next_row()? {
        let row = Row { hash: r.hash, timestamp: r.timestamp, key: r.key.to_vec(), value: r.value.to_vec() };
        rows.push((row, r.input, r.new_key));
    }
    Ok(rows)
}
