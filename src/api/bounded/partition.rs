//! All records of a subtask, and of all subtasks: map_partition, aggregate_partition, count, first_n, top_n.

use super::{bounded_node, same_in_both};
use crate::api::data_stream::{DataStream, pristine};
use crate::base::data::Data;
use crate::operator::aggregate::{Aggregator, Count, Fold, Reduce};
use crate::operator::bounded::{CountAll, FirstN, FoldPartition, MapPartition, Records, TopN, Whole};
use crate::operator::erased::OneInput;
use crate::plan::{Node, Operation, OperatorFactory};
use std::sync::Arc;

/// Why an operator after all subtasks has one of its own.
const ONE: &str = "it puts the results of all subtasks together";

impl<T: Data> DataStream<T> {
    /// A function over all records of a subtask: it gets an iterator over them, in their order, and returns an iterator, or a
    /// collection, of what comes out. It is called once for each subtask, also where there is no record, when the input has
    /// ended (Flink's `fullWindowPartition().mapPartition`). Neither iterator need fit into memory: records
    /// are kept within the share of the subtask and on disk, and what is returned is drawn from as the next operator
    /// takes it. No shuffle. Results carry no timestamp. An unbounded source is refused.
    ///
    /// Which records are in a subtask is up to the partitioning before: give one, such as
    /// [`rebalance`](DataStream::rebalance), where it matters.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let differences = env.from_iter([1, 4, 9, 16]).map_partition(|records| {
    ///     let mut last = 0;
    ///     records.map(move |n| n - std::mem::replace(&mut last, n))
    /// });
    /// assert_eq!(differences.execute_and_collect("differences")?.into_vec()?, [1, 3, 5, 7]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn map_partition<U, I>(
        &self,
        f: impl FnMut(Records<T>) -> I + Clone + Send + 'static,
    ) -> DataStream<U>
    where
        U: Data,
        I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    {
        let factory = pristine(f, MapPartition::<T, I, _>::new);
        self.whole_subtask("map_partition", "it calls its function with all records of a subtask", factory)
    }

    /// Folds the records of each subtask into one, `f(folded, record)`, which comes out at the end of the input; nothing comes
    /// out of a subtask without records. Holds one record. No shuffle. The result carries no timestamp. An
    /// unbounded source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let largest = env.from_iter([3, 9, 4]).reduce_partition(|most, n| *most = n.max(*most));
    /// assert_eq!(largest.execute_and_collect("largest")?.into_vec()?, [9]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn reduce_partition(&self, f: impl FnMut(&mut T, T) + Clone + Send + 'static) -> DataStream<T> {
        self.fold_partition("reduce_partition", Reduce::new(f))
    }

    /// Aggregates the records of each subtask into one result, which comes out at the end of the input; nothing comes out of
    /// a subtask without records. Holds one accumulator. No shuffle. The result carries no timestamp. An unbounded
    /// source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let count = env.from_iter(["a", "b"].map(String::from)).aggregate_partition(Count);
    /// assert_eq!(count.execute_and_collect("count")?.into_vec()?, [2]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn aggregate_partition<A: Aggregator<T>>(&self, aggregator: A) -> DataStream<A::Out> {
        self.fold_partition("aggregate_partition", Whole(aggregator))
    }

    fn fold_partition<F: Fold<(), T>>(&self, name: &str, fold: F) -> DataStream<F::Out> {
        let factory = pristine(fold, FoldPartition::<T, F>::new);
        self.whole_subtask(name, "its result depends on all records of a subtask", factory)
    }

    fn whole_subtask<U: Data>(
        &self,
        name: &str,
        why: &'static str,
        factory: OperatorFactory,
    ) -> DataStream<U> {
        let node = bounded_node(name, why, vec![self.from.clone()], same_in_both(factory, true));
        DataStream::of_node(&self.env, self.env.add(node))
    }

    /// The same for all subtasks of this stream, in one. What it emits goes to one subtask, so that the order stays.
    fn in_one<U: Data>(&self, name: &str, why: &'static str, factory: OperatorFactory) -> DataStream<U> {
        let mut node = bounded_node(name, why, vec![self.global().from], same_in_both(factory, true));
        node.required_parallelism = Some((1, ONE));
        DataStream::of_node(&self.env, self.env.add(node)).global()
    }

    /// The number of records: one record, at the end of the input, 0 where there are none. Each subtask counts its own, so
    /// that hardly anything is shuffled; the result has parallelism 1. An unbounded source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// assert_eq!(env.from_iter(0..1000).count().execute_and_collect("count")?.into_vec()?, [1000]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn count(&self) -> DataStream<u64> {
        let factory = pristine(Whole(Count), FoldPartition::<T, Whole<Count>>::new);
        let why = "it counts all records";
        let node =
            bounded_node("count partition", why, vec![self.from.clone()], same_in_both(factory, false));
        let partial: DataStream<u64> = DataStream::of_node(&self.env, self.env.add(node));
        partial.in_one("count", why, Arc::new(|| OneInput::boxed(CountAll::default())))
    }

    /// The first `n` records, or all where there are fewer: in STREAMING those that arrive first, and as they arrive, so that
    /// the source may be unbounded; in BATCH those of the first subtasks. Each subtask passes at most `n` on,
    /// to a single subtask. Records keep their timestamps.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// assert_eq!(env.from_iter(0..1000).first_n(3).execute_and_collect("first")?.into_vec()?.len(), 3);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn first_n(&self, n: u64) -> DataStream<T> {
        let factory: OperatorFactory = Arc::new(move || OneInput::boxed(FirstN::<T>::new(n)));
        let partial: DataStream<T> = self.add("first_n of a subtask", Operation::Operator(factory.clone()));
        let mut node = Node::new("first_n", Operation::Operator(factory), vec![partial.global().from]);
        node.required_parallelism = Some((1, ONE));
        node.semantics.ordered = true;
        DataStream::of_node(&self.env, self.env.add(node)).global()
    }

    /// The `n` largest records by a key, the largest first, at the end of the input. Each subtask holds up to twice as many and
    /// passes its own `n` on, to a single subtask. Which of several records with the same key is among them
    /// depends on the order in which they come. Use [`Reverse`](std::cmp::Reverse) for the smallest. They carry no
    /// timestamp. An unbounded source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let top = env.from_iter([5, 40, 7, 30, 12]).top_n(2, |n| *n);
    /// assert_eq!(top.execute_and_collect("top")?.into_vec()?, [40, 30]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn top_n<K: Ord + Clone + Send + 'static>(
        &self,
        n: usize,
        key: impl FnMut(&T) -> K + Clone + Send + 'static,
    ) -> DataStream<T> {
        let why = "it compares all records";
        let factory = pristine(key, move |key| TopN::<T, K, _>::new(key, n));
        let operation = same_in_both(factory.clone(), false);
        let node = bounded_node("top_n of a subtask", why, vec![self.from.clone()], operation);
        let partial: DataStream<T> = DataStream::of_node(&self.env, self.env.add(node));
        partial.in_one("top_n", why, factory)
    }
}
