//! Streams that end: operators over all records of a subtask, of a key, or of two streams.
//!
//! All of them run in both modes with the same results: in BATCH where the stages before have left the records, in
//! STREAMING when the input ends, until when they are kept within the memory of the job and on disk. Behind a source
//! that does not end they are refused when the plan is built.
//! What comes of several records carries no timestamp; records that pass as they are keep theirs.

mod distinct;
mod group;
mod iterate;
mod join;
mod partition;
mod sort;

pub use iterate::{Iterated, IterationStep};
pub use join::BroadcastJoin;

use super::data_stream::DataStream;
use crate::base::data::Data;
use crate::operator::exchange::ExchangeType;
use crate::plan::{Bounded, LogicalEdge, Node, Operation, OperatorFactory};
use std::sync::Arc;

/// A node that needs all of its input; `why` is a clause that says what for.
fn bounded_node(name: &str, why: &'static str, inputs: Vec<Vec<LogicalEdge>>, operation: Bounded) -> Node {
    let mut node = Node::new(name, Operation::Bounded(operation), inputs);
    node.needs_end = Some(why);
    node.semantics.stateful = true;
    node
}

/// The same operator in both modes.
fn same_in_both(factory: OperatorFactory, whole: bool) -> Bounded {
    Bounded { streaming: factory.clone(), batch: factory, batch_exchange: None, whole }
}

impl<T: Data> DataStream<T> {
    /// The edges of this stream, by another exchange.
    fn edges_by(&self, exchange: &Arc<dyn ExchangeType>) -> Vec<LogicalEdge> {
        self.from.iter().map(|edge| edge.by(exchange.clone())).collect()
    }
}
