//! ShuffleContext: what every buffer and merge is told from outside: who it is, its memory, its disk.

use crate::base::vfs::SharedVfs;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::path::PathBuf;
use std::sync::Arc;

/// Who wrote a block. Stored in every block and compared on every read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Hash of the job's id, and in a job directory of the process, too.
    pub job: u64,
    /// The stage that produced it.
    pub stage: u32,
    /// The attempt of the unit of work, from 0.
    pub attempt: u32,
    /// The producing unit of work within the stage.
    pub producer: u32,
}

/// Order of two encoded keys whose hashes are equal and whose bytes differ. It may say `Equal`.
///
/// It must be a total order that agrees with the user's `Ord`. Keys with equal bytes are equal without asking.
pub type KeyOrder = Arc<dyn Fn(&[u8], &[u8]) -> Ordering + Send + Sync>;

/// The order of keys by their encoded bytes: for keys whose encoding is unique.
pub fn key_bytes_order() -> KeyOrder {
    Arc::new(|a, b| a.cmp(b))
}

/// What a buffer or a merge is told from outside.
#[derive(Clone)]
pub struct ShuffleContext {
    /// The file system that spill files go to.
    pub vfs: SharedVfs,
    /// The directory of the spill files; it must exist when the first one is written.
    pub dir: PathBuf,
    /// How the names of spill files begin, for those that outlive the process; without it they have none.
    pub name: Option<Arc<str>>,
    /// Who writes.
    pub identity: Identity,
    /// Bytes that may be held; fixed, so that the same input spills at the same rows.
    pub share_bytes: usize,
    /// Whether the rows that are written have timestamps: all of an edge, or none.
    pub timestamps: bool,
}

/// The largest size of a block before compression, unless a single row is larger.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Below this a block is mostly header.
const BLOCK_BYTES_MIN: usize = 512;

impl ShuffleContext {
    /// Size of a block: `1 / parts` of the share within bounds.
    pub(super) fn block_bytes(&self, parts: usize) -> usize {
        (self.share_bytes / parts.max(1)).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
    }
}
