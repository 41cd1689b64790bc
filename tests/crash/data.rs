//! Data: records that tell their own number, so that a lost, a doubled and a misplaced one can be told apart.

use serde::{Deserialize, Serialize};

/// Keys. A multiple of every number of splits that a job may begin with, 1 to 4, so that all records of a key are in one split.
pub const KEYS: u64 = 48;
/// Event time between two records.
pub const STEP_MS: i64 = 8;
/// The length of a window.
pub const WINDOW_MS: i64 = 4_096;

/// Record `seq` of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rec {
    pub key: u64,
    pub seq: u64,
}

/// The record of an index.
pub fn record(index: u64) -> Rec {
    Rec { key: index % KEYS, seq: index / KEYS }
}

impl Rec {
    pub fn index(self) -> u64 {
        self.seq * KEYS + self.key
    }
    pub fn timestamp(self) -> i64 {
        self.index() as i64 * STEP_MS
    }
    /// When the record's timer of event time fires: each of a key at another time.
    pub fn timer(self) -> i64 {
        let rounds = mixed(self.index()) % 5;
        (self.index() + KEYS * rounds) as i64 * STEP_MS + (self.seq % STEP_MS as u64) as i64
    }
    /// Whether the record deletes the timer of the one before it of its key.
    pub fn deletes_the_timer_before(self) -> bool {
        self.seq % 5 == 4 && Rec { seq: self.seq - 1, ..self }.timer() > self.timestamp()
    }
    /// Whether the record registers a timer of processing time.
    pub fn has_processing_timer(self) -> bool {
        self.seq % 7 == 3
    }
}

/// Bits of `n`, mixed (the finalizer of SplitMix64).
pub fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}
