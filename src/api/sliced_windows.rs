//! Windows by slices: what the planner runs for aligned windows of event time with a fold and the default trigger.

use super::data_stream::pristine;
use super::keyed_stream::KeyedStream;
use crate::base::data::{Data, Key, Timestamp};
use crate::operator::aggregate::Merge;
use crate::operator::exchange::{ExchangeType, FnKey, Keyed};
use crate::operator::side_output::SideOutput;
use crate::operator::window::WindowFold;
use crate::operator::window::slices::{
    CombineSlices, FoldPartials, Partial, SlidePartials, SlidingSlices, TumblingSlices,
};
use crate::plan::{Combining, Node, Operation, OperatorFactory, Semantics};
use crate::semantics::window::Aligned;
use std::sync::Arc;

/// The node, whose results are [`Windowed`](crate::operator::window::Windowed).
///
/// STREAMING: one operator behind the shuffle. BATCH: partial results of slices before it, which a fold (tumbling) or
/// an operator key by key (sliding) makes windows of.
pub(super) fn sliced<K: Key, T: Data, F: WindowFold<T>>(
    keyed: &KeyedStream<K, T>,
    name: &str,
    fold: F,
    aligned: Aligned,
    late_to: Option<SideOutput<T>>,
) -> Node {
    let tumbling = aligned.size_ms == aligned.slide_ms;
    let (streaming, before) = (keyed.selector.clone(), keyed.selector.clone());
    let key_of = FnKey(|((key, _), _): &Partial<K, F::Acc>| key.clone());
    let (rolling, exchange, merge): (OperatorFactory, Arc<dyn ExchangeType>, OperatorFactory) = if tumbling {
        (
            pristine(fold.clone(), move |fold| {
                TumblingSlices::<K, T, F>::new(fold, aligned, streaming.clone(), late_to.clone())
            }),
            Arc::new(Keyed::<Partial<K, F::Acc>, K>::unsorted(Arc::new(key_of))),
            pristine(fold.clone(), move |fold| {
                Merge::<(K, Timestamp), T, _>::new(FoldPartials::new(fold, aligned))
            }),
        )
    } else {
        (
            pristine(fold.clone(), move |fold| {
                SlidingSlices::<K, T, F>::new(fold, aligned, streaming.clone(), late_to.clone())
            }),
            Arc::new(Keyed::<Partial<K, F::Acc>, K>::new(Arc::new(key_of))),
            pristine(fold.clone(), move |fold| SlidePartials::<K, T, F>::new(fold, aligned)),
        )
    };
    let combine = pristine(fold, move |fold| CombineSlices::<K, T, F>::new(fold, aligned, before.clone()));
    let combining = Combining { rolling, combine, exchange, merge };
    let mut node = Node::new(name, Operation::Combining(combining), vec![keyed.stream.from.clone()]);
    node.semantics = Semantics { stateful: true, drops_late: true, ..Semantics::default() };
    node
}
