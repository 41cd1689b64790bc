//! Sorting: within a subtask, and over all of them.

use super::bounded_node;
use crate::api::data_stream::DataStream;
use crate::base::data::Data;
use crate::base::sort_key::SortKey;
use crate::operator::bounded::{Arrangement, AtEnd};
use crate::operator::erased::OneInput;
use crate::operator::exchange::{ExchangeType, FnKey, Ranged};
use crate::operator::pass::Pass;
use crate::plan::{Bounded, OperatorFactory};
use std::sync::Arc;

fn ranged<T: Data, K: SortKey>(key: impl Fn(&T) -> K + Send + Sync + 'static) -> Arc<dyn ExchangeType> {
    Arc::new(Ranged::<T, K>::new(Arc::new(FnKey(key))))
}

/// Keeps records and passes them on in the order of the edge.
fn sorting<T: Data>(exchange: Arc<dyn ExchangeType>, arrangement: Arrangement) -> OperatorFactory {
    Arc::new(move || {
        let pass = OneInput::boxed(Pass::<T>::at_end());
        AtEnd::boxed(pass, arrangement, std::slice::from_ref(&exchange))
    })
}

impl<T: Data> DataStream<T> {
    /// The records of each subtask in the order of a key, at the end of the input (Flink's
    /// `fullWindowPartition().sortPartition`); for descending order wrap the key into [`Reverse`](std::cmp::Reverse).
    /// Records of equal keys are in the order of their timestamps, if they have any, and else in that in which they came. Sorts within
    /// the memory of the subtask and on disk. No shuffle. Records keep their timestamps. An unbounded source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let sorted = env.from_iter([3, 1, 2]).sort_partition(|n| *n);
    /// assert_eq!(sorted.execute_and_collect("sorted")?.into_vec()?, [1, 2, 3]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn sort_partition<K: SortKey>(&self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> DataStream<T> {
        let factory = sorting::<T>(ranged(key), Arrangement::Sorted);
        let operation =
            Bounded { streaming: factory.clone(), batch: factory, batch_exchange: None, whole: true };
        let node = bounded_node(
            "sort_partition",
            "it sorts all records of a subtask before it emits the first",
            vec![self.from.clone()],
            operation,
        );
        DataStream::of_node(&self.env, self.env.add(node))
    }

    /// All records in the order of a key: those of the first subtask come before those of the second, and so on, so that the
    /// files of a [`FileSink`](crate::connectors::sink::FileSink) of the same parallelism, read in the order of their names,
    /// are sorted. For descending order wrap the key into [`Reverse`](std::cmp::Reverse). Records of equal keys are in the order of
    /// their timestamps, if they have any, and in BATCH in that of their producers. Records keep their timestamps. Shuffles. An
    /// unbounded source is refused.
    ///
    /// In BATCH each producer sorts its records, within its memory and on disk, and the subtasks behind merge a range of the
    /// keys each. The ranges are cut by samples that the producers take, so that they are of about equal size. All records
    /// of equal [`prefix`](SortKey::prefix) are in one range: keys that begin alike for eight bytes, or
    /// a type without a prefix, are sorted by a single subtask. The same input, parallelism and memory give the same bytes.
    ///
    /// In STREAMING the first subtask sorts everything when the input ends.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().execution_mode(ExecutionMode::Batch).parallelism(1);
    /// let words = env.from_iter(["to", "be", "or", "not"].map(String::from));
    /// let sorted = words.sort_by(|word| word.clone());
    /// assert_eq!(sorted.execute_and_collect("sorted")?.into_vec()?, ["be", "not", "or", "to"]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn sort_by<K: SortKey>(&self, key: impl Fn(&T) -> K + Send + Sync + 'static) -> DataStream<T> {
        let exchange = ranged(key);
        let operation = Bounded {
            streaming: sorting::<T>(exchange.clone(), Arrangement::SortedInOne),
            batch: Arc::new(|| OneInput::boxed(Pass::<T>::at_end())),
            batch_exchange: Some(exchange),
            whole: true,
        };
        let inputs = vec![self.global().from];
        let node =
            bounded_node("sort_by", "it sorts all records before it emits the first", inputs, operation);
        DataStream::of_node(&self.env, self.env.add(node))
    }

    /// Sends records to the subtasks of the next operator by ranges of a key, of about equal size: those of the first subtask
    /// come before those of the second. In BATCH only, where the ranges are cut when all records are there (see
    /// [`sort_by`](DataStream::sort_by)); in STREAMING the plan is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().execution_mode(ExecutionMode::Batch).parallelism(2);
    /// let bounds = env.from_iter(0..1000u32).partition_by_range(|n| *n).map_partition(|records| {
    ///     let (least, most) = records.fold((u32::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
    ///     [(least, most)]
    /// });
    /// let mut bounds = bounds.execute_and_collect("bounds")?.into_vec()?;
    /// bounds.sort();
    /// assert!(bounds[0].1 < bounds[1].0);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn partition_by_range<K: SortKey>(
        &self,
        key: impl Fn(&T) -> K + Send + Sync + 'static,
    ) -> DataStream<T> {
        let from = self.edges_by(&ranged(key));
        DataStream { from, ..self.clone() }
    }
}
