//! Role names for the bounds that records and keys must meet.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hash::Hash;

/// What may be a record: a value that can be copied to several consumers, moved to another thread and written
/// to a shuffle file or a checkpoint. Implemented for every type that meets the bounds.
pub trait Data: Clone + Send + Serialize + DeserializeOwned + 'static {}
impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Data for T {}

/// What may be a key. `Eq`, `Hash` and `Ord` must agree with each other and survive encoding:
/// `decode(encode(k)) == k` with an equal hash.
pub trait Key: Data + Eq + Hash + Ord {}
impl<K: Data + Eq + Hash + Ord> Key for K {}

/// What may be kept as state of a key. `Sync` because a state handle is shared between the user's function and
/// the engine that stores its column.
pub trait State: Data + Sync {}
impl<S: Data + Sync> State for S {}

/// Event time in milliseconds since the epoch; negative before it.
pub type Timestamp = i64;

/// The watermark before any record: nothing is promised.
pub const WATERMARK_MIN: Timestamp = Timestamp::MIN;
/// The watermark at the end of a bounded input: no record will follow.
pub const WATERMARK_MAX: Timestamp = Timestamp::MAX;
