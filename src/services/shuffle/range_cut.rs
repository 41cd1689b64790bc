//! RangeCut: where sorted outputs are cut, so that each of several consumers reads a range of about equal size.
//!
//! Place: for rows whose hash is the prefix of a sort key (see [`SortKey`](crate::SortKey)). Every consumer computes the cut for itself and
//! comes to the same.
//! Method: the index of the outputs is the sample: the first hash of each block, weighted with the block's size. Where
//! there are too few blocks for that, all rows are looked at, which then are few. The cut is at the quantiles.
//! Invariants: rows of equal hash are in one range. The same outputs give the same cut.
//! Costs and limits: 16 bytes for each block while it is computed; a range is off by at most a block of each run, unless
//! one hash has more rows than a range should.

use super::merge::{MergeInput, in_order};
use super::row::first_hash;
use super::run::Place;
use crate::base::error::Result;
use std::ops::RangeInclusive;

/// Blocks for each range from which their first rows are sample enough.
const BLOCKS_PER_RANGE: usize = 64;

/// The hashes at which ranges start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeCut {
    /// Lowest hash of each range but the first.
    starts: Vec<u64>,
}

impl RangeCut {
    /// Cuts a partition of the outputs into so many ranges.
    ///
    /// # Errors
    /// If rows have to be read and cannot be.
    pub fn new(count: usize, partition: usize, inputs: &[MergeInput]) -> Result<RangeCut> {
        if count <= 1 {
            return Ok(RangeCut { starts: Vec::new() });
        }
        let mut sample = blocks(partition, inputs);
        if sample.len() < count.saturating_mul(BLOCKS_PER_RANGE) {
            sample = rows(partition, inputs)?;
        }
        sample.sort_unstable();
        let total: u128 = sample.iter().map(|&(_, bytes)| u128::from(bytes)).sum();
        let mut starts = Vec::with_capacity(count - 1);
        let (mut before, mut at) = (0u128, 0);
        for range in 1..count {
            let wanted = total * range as u128 / count as u128;
            while at < sample.len() && before < wanted {
                before += u128::from(sample[at].1);
                at += 1;
            }
            starts.push(sample.get(at).map_or(u64::MAX, |&(hash, _)| hash));
        }
        Ok(RangeCut { starts })
    }

    /// The hashes of a range; none if there is no such range, or nothing is in it.
    pub fn hashes(&self, range: usize) -> Option<RangeInclusive<u64>> {
        let first = match range.checked_sub(1) {
            None => 0,
            Some(before) => *self.starts.get(before)?,
        };
        let last = match self.starts.get(range) {
            Some(next) => next.checked_sub(1)?,
            None => u64::MAX,
        };
        (first <= last).then_some(first..=last)
    }
}

/// The first hash and the bytes of each block.
fn blocks(partition: usize, inputs: &[MergeInput]) -> Vec<(u64, u64)> {
    let mut sample = Vec::new();
    for segment in in_order(inputs).into_iter().flat_map(|i| i.output.segments(partition)) {
        match &segment.place {
            Place::File { blocks, heads, .. } => {
                sample.extend(heads.iter().zip(blocks.iter()).map(|(&hash, b)| (hash, u64::from(b.raw))));
            }
            Place::Memory(_) => {
                let blocks = segment.memory();
                let blocks = blocks.iter().flat_map(|blocks| blocks.iter());
                sample.extend(blocks.map(|block| (first_hash(block), block.len() as u64)));
            }
        }
    }
    sample
}

/// The hash and the bytes of each row.
fn rows(partition: usize, inputs: &[MergeInput]) -> Result<Vec<(u64, u64)>> {
    let mut sample = Vec::new();
    for input in in_order(inputs) {
        for run in 0..input.output.run_count() {
            let Some(mut cursor) = input.output.cursor(run, partition, input.input)? else { continue };
            while cursor.advance()? {
                sample.push((cursor.hash, (cursor.key().len() + cursor.value().len()) as u64 + 1));
            }
        }
    }
    Ok(sample)
}
