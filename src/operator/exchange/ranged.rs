//! Ranged: an edge whose stored rows are in the order of a sort key, of which each consumer reads a range.
//!
//! Method: a producer sorts its rows and does not cut them: the ranges are known only when all producers are done.
//! A consumer finds its own by the samples that the producers took (see
//! [`RangeCut`](crate::services::shuffle::RangeCut)) and the index of their blocks. So records are written once, and no
//! pass over them is needed for a sample.

use super::rows::{KeyedWriter, SortOrder, TypedReader};
use super::select::Select;
use super::{
    ExchangeType, KeySelector, Partitioning, RouteContext, Router, RowReader, RowWriter, Scatter, Unkeyed,
    WriteContext,
};
use crate::base::data::Data;
use crate::base::sort_key::SortKey;
use crate::services::shuffle::KeyOrder;
use std::sync::Arc;

/// An edge sorted by a key.
pub struct Ranged<T, K> {
    selector: Arc<dyn KeySelector<T, K>>,
}

impl<T: Data, K: SortKey> Ranged<T, K> {
    /// An edge sorted by the keys of `selector`.
    pub fn new(selector: Arc<dyn KeySelector<T, K>>) -> Self {
        Ranged { selector }
    }
}

impl<T: Data, K: SortKey> ExchangeType for Ranged<T, K> {
    fn partitioning(&self) -> Partitioning {
        Partitioning::Range
    }
    fn record_type(&self) -> &'static str {
        std::any::type_name::<T>()
    }
    fn key_type(&self) -> Option<&'static str> {
        Some(std::any::type_name::<K>())
    }
    fn is_sorted(&self) -> bool {
        false
    }
    fn router(&self, ctx: &RouteContext) -> Box<dyn Router> {
        // Never in a plan of STREAMING, which sends everything to one consumer instead.
        Box::new(Scatter::<T>::new(Select::unkeyed(Partitioning::Global, None, ctx), ctx.targets))
    }
    fn row_writer(&self, ctx: WriteContext) -> Box<dyn RowWriter> {
        let order = SortOrder { hash: K::prefix, keys: Arc::new(K::compare_encoded), sampled: true };
        Box::new(KeyedWriter::new(self.selector.clone(), order, ctx))
    }
    fn row_reader(&self) -> Box<dyn RowReader> {
        Box::new(TypedReader::<T>::new())
    }
    fn key_order(&self) -> Option<KeyOrder> {
        Some(Arc::new(K::compare_encoded))
    }
    fn forward(&self) -> Arc<dyn ExchangeType> {
        Arc::new(Unkeyed::<T>::new(Partitioning::Forward))
    }
}
