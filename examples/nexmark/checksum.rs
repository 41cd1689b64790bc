//! A checksum over the rows of a result that does not depend on their order, and the sink that computes it.
//!
//! Method: the wrapping sum of the XXH3 hashes of the encoded rows. Equal multisets of rows have equal checksums; a row
//! that is missing, changed or doubled changes it (a row doubled 2^64 times aside).
//! Invariants: only attempts that succeed count; the total is there when the job has succeeded, and 0 before.
//! Costs: a row is encoded and hashed; with [`ChecksumSink::last_per_key`] a hash is kept for each key.

use mainstem::base::batch::Batch;
use mainstem::base::codec;
use mainstem::connectors::sink::{CommitPoint, Section, Sink, SinkContext, SinkWriter, WriterStates};
use mainstem::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use xxhash_rust::xxh3::xxh3_64;

/// The number of rows and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How many.
    pub rows: u64,
    /// Of the hashes, modulo 2^64.
    pub sum: u64,
}

impl Checksum {
    fn add(&mut self, hash: u64) {
        self.merge(Checksum { rows: 1, sum: hash });
    }
    fn merge(&mut self, other: Checksum) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows={} checksum={:016x}", self.rows, self.sum)
    }
}

/// Where the checksum of a job is to be found when it has succeeded.
#[derive(Clone, Default)]
pub struct Total(Arc<Mutex<Checksum>>);

impl Total {
    /// The checksum of all rows.
    pub fn get(&self) -> Checksum {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn set(&self, total: Checksum) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = total;
    }
}

/// Computes a [`Checksum`] of the rows.
pub struct ChecksumSink<T> {
    /// Given: only the last row of each key counts.
    key: Option<fn(&T) -> u64>,
    total: Total,
}

impl<T> ChecksumSink<T> {
    /// Every row counts.
    pub fn all() -> (Self, Total) {
        Self::new(None)
    }
    /// The last row of each key counts: what is left of a result that is updated. The rows of a key must come to one
    /// subtask of the sink, so the stream must come from an operator that is keyed by it, by way of no partitioning.
    pub fn last_per_key(key: fn(&T) -> u64) -> (Self, Total) {
        Self::new(Some(key))
    }
    fn new(key: Option<fn(&T) -> u64>) -> (Self, Total) {
        let total = Total::default();
        (ChecksumSink { key, total: total.clone() }, total)
    }
}

impl<T: Data> Sink<T> for ChecksumSink<T> {
    type Committable = Checksum;
    type Writer = ChecksumWriter<T>;

    fn describe(&self) -> String {
        "checksum".to_string()
    }
    fn writer(&self, _ctx: &SinkContext) -> mainstem::Result<ChecksumWriter<T>> {
        Ok(ChecksumWriter {
            key: self.key,
            checksum: Checksum::default(),
            last: BTreeMap::new(),
            encoded: Vec::new(),
        })
    }
    fn commit(&self, checksums: Vec<Checksum>, _ctx: &SinkContext) -> mainstem::Result<()> {
        let mut total = Checksum::default();
        checksums.into_iter().for_each(|checksum| total.merge(checksum));
        self.total.set(total);
        Ok(())
    }
}

/// The checksum of one subtask.
pub struct ChecksumWriter<T> {
    key: Option<fn(&T) -> u64>,
    checksum: Checksum,
    /// Hash of the last row of each key.
    last: BTreeMap<u64, u64>,
    encoded: Vec<u8>,
}

impl<T: Data> SinkWriter<T> for ChecksumWriter<T> {
    type Committable = Checksum;

    fn write(&mut self, batch: &mut Batch<T>) -> mainstem::Result<()> {
        for row in &batch.values {
            self.encoded.clear();
            codec::encode(row, &mut self.encoded)?;
            let hash = xxh3_64(&self.encoded);
            match self.key {
                None => self.checksum.add(hash),
                Some(key) => _ = self.last.insert(key(row), hash),
            }
        }
        batch.clear();
        Ok(())
    }
    fn prepare_commit(&mut self, at: CommitPoint) -> mainstem::Result<Vec<Checksum>> {
        if at != CommitPoint::End {
            return Ok(Vec::new());
        }
        let mut checksum = self.checksum;
        self.last.values().for_each(|hash| checksum.add(*hash));
        Ok(vec![checksum])
    }
    fn snapshot(&mut self, states: &mut Section) -> mainstem::Result<()> {
        states.put(&(self.checksum, &self.last))
    }
    fn restore(&mut self, states: &WriterStates<'_>) -> mainstem::Result<()> {
        for entry in states.entries::<(Checksum, BTreeMap<u64, u64>)>() {
            let (_, (checksum, last)) = entry?;
            self.checksum.merge(checksum);
            self.last.extend(last);
        }
        Ok(())
    }
}
