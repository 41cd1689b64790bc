//! Exchange: how the records of an edge choose their consumer, with the edge's type captured once.
//!
//! Place: the typed API makes an [`ExchangeType`] for each edge of the plan; executors ask it for a [`Router`]
//! (pipelined: values move between subtasks) or for row codecs (staged: records become bytes) and know
//! nothing of the type themselves.

mod check;
mod deal;
mod key;
mod ranged;
mod router;
mod rows;
mod select;

pub(crate) use key::keys_and_hashes;
pub use key::{FnKey, KeySelector};
pub use ranged::Ranged;
pub use router::{RouteContext, Router};
pub(crate) use rows::key_order;
pub use rows::{ReadState, RowReader, RowWriter, WriteContext};
pub use select::{CustomPartitioner, Partitioning, consumers_of};

use crate::base::data::{Data, Key};
use crate::base::hash::hash_of;
use crate::services::shuffle::KeyOrder;
use router::Scatter;
use rows::{KeyedWriter, SortOrder, TypedReader, UnkeyedWriter};
use select::Select;
use std::sync::Arc;

/// An edge's partitioning together with its record type.
pub trait ExchangeType: Send + Sync {
    /// How records choose a consumer.
    fn partitioning(&self) -> Partitioning;
    /// The record type, for plans and errors.
    fn record_type(&self) -> &'static str;
    /// The key type, if the edge is keyed.
    fn key_type(&self) -> Option<&'static str>;
    /// Whether stored rows come back sorted by key, one key after the other.
    fn is_sorted(&self) -> bool;
    /// A router for one producing subtask.
    fn router(&self, ctx: &RouteContext) -> Box<dyn Router>;
    /// Encodes the records of one producing unit of work.
    fn row_writer(&self, ctx: WriteContext) -> Box<dyn RowWriter>;
    /// Decodes the records of one input.
    fn row_reader(&self) -> Box<dyn RowReader>;
    /// The order of encoded keys with equal hashes, if the edge is keyed.
    fn key_order(&self) -> Option<KeyOrder>;
    /// The edge that carries the same records from subtask to subtask of the same index.
    fn forward(&self) -> Arc<dyn ExchangeType>;
}

/// An edge whose records have no key.
pub struct Unkeyed<T> {
    partitioning: Partitioning,
    custom: Option<Arc<dyn CustomPartitioner<T>>>,
}

impl<T: Data> Unkeyed<T> {
    /// An edge of this partitioning.
    pub fn new(partitioning: Partitioning) -> Self {
        Unkeyed { partitioning, custom: None }
    }
    /// An edge whose records choose their consumer by a function of the user.
    pub fn custom(partitioner: Arc<dyn CustomPartitioner<T>>) -> Self {
        Unkeyed { partitioning: Partitioning::Custom, custom: Some(partitioner) }
    }
}

impl<T: Data> ExchangeType for Unkeyed<T> {
    fn partitioning(&self) -> Partitioning {
        self.partitioning
    }
    fn record_type(&self) -> &'static str {
        std::any::type_name::<T>()
    }
    fn key_type(&self) -> Option<&'static str> {
        None
    }
    fn is_sorted(&self) -> bool {
        false
    }
    fn router(&self, ctx: &RouteContext) -> Box<dyn Router> {
        Box::new(Scatter::<T>::new(Select::unkeyed(self.partitioning, self.custom.clone(), ctx), ctx.targets))
    }
    fn row_writer(&self, ctx: WriteContext) -> Box<dyn RowWriter> {
        let select = Select::unkeyed(self.partitioning, self.custom.clone(), &ctx.route);
        Box::new(UnkeyedWriter::<T>::new(select, ctx))
    }
    fn row_reader(&self) -> Box<dyn RowReader> {
        Box::new(TypedReader::<T>::new())
    }
    fn key_order(&self) -> Option<KeyOrder> {
        None
    }
    fn forward(&self) -> Arc<dyn ExchangeType> {
        Arc::new(Unkeyed::<T>::new(Partitioning::Forward))
    }
}

/// An edge whose records meet the others of their key in one subtask.
pub struct Keyed<T, K> {
    selector: Arc<dyn KeySelector<T, K>>,
    sorted: bool,
}

impl<T: Data, K: Key> Keyed<T, K> {
    /// An edge keyed by `selector`, whose stored rows come back sorted by key.
    pub fn new(selector: Arc<dyn KeySelector<T, K>>) -> Self {
        Keyed { selector, sorted: true }
    }
    /// An edge for a consumer that does not care: its stored rows come back in the order of their producers, all keys
    /// of a partition mixed.
    pub fn unsorted(selector: Arc<dyn KeySelector<T, K>>) -> Self {
        Keyed { selector, sorted: false }
    }
}

impl<T: Data, K: Key> ExchangeType for Keyed<T, K> {
    fn partitioning(&self) -> Partitioning {
        Partitioning::Hash
    }
    fn record_type(&self) -> &'static str {
        std::any::type_name::<T>()
    }
    fn key_type(&self) -> Option<&'static str> {
        Some(std::any::type_name::<K>())
    }
    fn is_sorted(&self) -> bool {
        self.sorted
    }
    fn router(&self, ctx: &RouteContext) -> Box<dyn Router> {
        Box::new(Scatter::<T>::new(Select::hash(self.selector.clone(), ctx), ctx.targets))
    }
    fn row_writer(&self, ctx: WriteContext) -> Box<dyn RowWriter> {
        match self.sorted {
            true => {
                let order = SortOrder { hash: hash_of, keys: rows::key_order::<K>(), sampled: false };
                Box::new(KeyedWriter::new(self.selector.clone(), order, ctx))
            }
            false => Box::new(UnkeyedWriter::<T>::new(Select::hash(self.selector.clone(), &ctx.route), ctx)),
        }
    }
    fn row_reader(&self) -> Box<dyn RowReader> {
        Box::new(TypedReader::<T>::new())
    }
    fn key_order(&self) -> Option<KeyOrder> {
        Some(rows::key_order::<K>())
    }
    fn forward(&self) -> Arc<dyn ExchangeType> {
        Arc::new(Unkeyed::<T>::new(Partitioning::Forward))
    }
}
