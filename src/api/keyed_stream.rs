//! KeyedStream: a stream whose records meet the others of their key.

use super::connected::{ConnectedKeyedStreams, KeyedBroadcastConnected};
use super::data_stream::{DataStream, no_broadcast_state, pristine, stateful};
use crate::base::data::State;
use crate::base::data::{Data, Key};
use crate::operator::UserResult;
use crate::operator::aggregate::{
    Aggregate, Aggregator, Combine, Count, Fold, Merge, Reduce, Rolling, extreme_field, extreme_record,
    sum_field,
};
use crate::operator::collector::Collector;
use crate::operator::erased::OneInput;
use crate::operator::exchange::{FnKey, KeySelector, Keyed};
use crate::operator::process::{KeyedContext, KeyedProcess, KeyedProcessFunction};
use crate::plan::{Combining, Node, Operation, Semantics};
use crate::semantics::state::{States, ValueState};
use std::cmp::Ordering;
use std::ops::AddAssign;
use std::sync::Arc;

/// Records of type `T` grouped by keys of type `K`.
///
/// *Rolling* operators (`reduce`, `aggregate`, `sum`, ...) emit an updated result for each record in STREAMING, and
/// one final result for each key in BATCH, where they also fold before the shuffle what can be folded.
pub struct KeyedStream<K, T> {
    pub(super) stream: DataStream<T>,
    pub(super) selector: Arc<dyn KeySelector<T, K>>,
}

impl<K, T> Clone for KeyedStream<K, T> {
    fn clone(&self) -> Self {
        KeyedStream { stream: self.stream.clone(), selector: self.selector.clone() }
    }
}

impl<K: Key, T: Data> KeyedStream<K, T> {
    pub(super) fn new(stream: DataStream<T>, selector: Arc<dyn KeySelector<T, K>>) -> Self {
        KeyedStream { stream, selector }
    }

    fn fold<F: Fold<K, T>>(&self, name: &str, fold: F) -> DataStream<F::Out> {
        let (a, b) = (self.selector.clone(), self.selector.clone());
        let partials = FnKey(|(key, _): &(K, F::Acc)| key.clone());
        let combining = Combining {
            rolling: pristine(fold.clone(), move |fold| Rolling::<K, T, F>::new(fold, a.clone())),
            combine: pristine(fold.clone(), move |fold| Combine::<K, T, F>::new(fold, b.clone())),
            exchange: Arc::new(Keyed::<(K, F::Acc), K>::unsorted(Arc::new(partials))),
            merge: pristine(fold, Merge::<K, T, F>::new),
        };
        let mut node = Node::new(name, Operation::Combining(combining), vec![self.stream.from.clone()]);
        node.semantics = Semantics { rolling: true, stateful: true, ..Semantics::default() };
        DataStream::of_node(&self.stream.env, self.stream.env.add(node))
    }

    /// Folds each record into the one accumulated for its key: `f(accumulated, record)`. Must be associative.
    /// State per key: one record. Rolling.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().execution_mode(ExecutionMode::Batch);
    /// let sums = env.from_iter([("a", 1), ("b", 5), ("a", 2)].map(|(k, v)| (k.to_string(), v)))
    ///     .key_by(|(k, _)| k.clone())
    ///     .reduce(|sum, record| sum.1 += record.1);
    /// let mut sums = sums.execute_and_collect("sums")?.into_vec()?;
    /// sums.sort();
    /// assert_eq!(sums, [("a".to_string(), 3), ("b".to_string(), 5)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn reduce(&self, f: impl FnMut(&mut T, T) + Clone + Send + 'static) -> DataStream<T> {
        self.fold("reduce", Reduce::new(f))
    }

    /// Aggregates the records of each key into `(key, result)`. State per key: one accumulator. Rolling.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// #[derive(Clone)]
    /// struct Mean;
    /// impl Aggregator<u64> for Mean {
    ///     type Acc = (u64, u64);
    ///     type Out = f64;
    ///     fn create(&self) -> (u64, u64) {
    ///         (0, 0)
    ///     }
    ///     fn add(&self, acc: &mut (u64, u64), record: u64) {
    ///         *acc = (acc.0 + record, acc.1 + 1);
    ///     }
    ///     fn merge(&self, acc: &mut (u64, u64), other: (u64, u64)) {
    ///         *acc = (acc.0 + other.0, acc.1 + other.1);
    ///     }
    ///     fn result(&self, acc: &(u64, u64)) -> f64 {
    ///         acc.0 as f64 / acc.1 as f64
    ///     }
    /// }
    /// let env = Environment::new().execution_mode(ExecutionMode::Batch);
    /// let means = env.from_iter([1, 2, 4, 5]).key_by(|n| n % 2).aggregate(Mean);
    /// let mut means = means.execute_and_collect("means")?.into_vec()?;
    /// means.sort_by_key(|(key, _)| *key);
    /// assert_eq!(means, [(0, 3.0), (1, 3.0)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn aggregate<A: Aggregator<T>>(&self, aggregator: A) -> DataStream<(K, A::Out)> {
        self.fold("aggregate", Aggregate(aggregator))
    }

    /// Counts the records of each key. State per key: one counter. Rolling.
    pub fn count(&self) -> DataStream<(K, u64)> {
        self.fold("count", Aggregate(Count))
    }

    /// Sums one field: `sum(|record| &mut record.amount)`. The other fields are those of the key's first record.
    /// State per key: one record. Rolling.
    ///
    /// # Panics
    /// Integer overflow follows the build: it panics in debug builds, which fails the job, and wraps in release.
    pub fn sum<N: AddAssign + Clone + 'static>(
        &self,
        field: impl FnMut(&mut T) -> &mut N + Clone + Send + 'static,
    ) -> DataStream<T> {
        self.fold("sum", Reduce::new(sum_field(field)))
    }

    /// The smallest value of one field; the other fields are those of the key's first record. State per key: one
    /// record. Rolling.
    pub fn min<N: PartialOrd + Clone + 'static>(
        &self,
        field: impl FnMut(&mut T) -> &mut N + Clone + Send + 'static,
    ) -> DataStream<T> {
        self.fold("min", Reduce::new(extreme_field(Ordering::Less, field)))
    }

    /// The largest value of one field; the other fields are those of the key's first record. State per key: one
    /// record. Rolling.
    pub fn max<N: PartialOrd + Clone + 'static>(
        &self,
        field: impl FnMut(&mut T) -> &mut N + Clone + Send + 'static,
    ) -> DataStream<T> {
        self.fold("max", Reduce::new(extreme_field(Ordering::Greater, field)))
    }

    /// The whole record with the smallest value of one field, the first of several. State per key: one record.
    /// Rolling.
    pub fn min_by<N: PartialOrd + Clone + 'static>(
        &self,
        field: impl FnMut(&mut T) -> &mut N + Clone + Send + 'static,
    ) -> DataStream<T> {
        self.fold("min_by", Reduce::new(extreme_record(Ordering::Less, field)))
    }

    /// The whole record with the largest value of one field, the first of several. State per key: one record.
    /// Rolling.
    pub fn max_by<N: PartialOrd + Clone + 'static>(
        &self,
        field: impl FnMut(&mut T) -> &mut N + Clone + Send + 'static,
    ) -> DataStream<T> {
        self.fold("max_by", Reduce::new(extreme_record(Ordering::Greater, field)))
    }

    /// A function with state and timers for each key. `make` declares the state and makes the function: once when the plan is
    /// built, to learn the names, and once for each attempt of each subtask.
    ///
    /// In STREAMING state of all keys is kept; in BATCH the records of a key come together, in time order, and its
    /// state is dropped at its end. One function value serves all keys of a subtask in STREAMING, and a part of them in
    /// BATCH, where a subtask is up to 8 units of work: what is to be kept for a key belongs in its state.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// struct Running { total: ValueState<u64> }
    /// impl KeyedProcessFunction<u64, u64, u64> for Running {
    ///     fn process(&mut self, record: u64, ctx: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
    ///         let total = self.total.update(ctx, |total| { *total += record; *total });
    ///         out.emit(total);
    ///         Ok(())
    ///     }
    /// }
    /// let env = Environment::new();
    /// let totals = env.from_iter([1, 3, 2, 5])
    ///     .key_by(|n| n % 2)
    ///     .process(|states| Running { total: states.value("total") });
    /// let mut totals = totals.execute_and_collect("totals")?.into_vec()?;
    /// totals.sort();
    /// assert_eq!(totals, [1, 2, 4, 9]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn process<U: Data, P: KeyedProcessFunction<K, T, U>>(
        &self,
        make: impl Fn(&mut States) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.process_named("process", true, make)
    }

    pub(super) fn process_named<U: Data, P: KeyedProcessFunction<K, T, U>>(
        &self,
        name: &str,
        reads_watermark: bool,
        make: impl Fn(&mut States) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        let selector = self.selector.clone();
        let mut node = stateful(name, vec![self.stream.from.clone()], make, move |function, states| {
            OneInput::boxed(KeyedProcess::<K, T, U, P>::new(function, states, selector.clone()))
        });
        no_broadcast_state(&mut node);
        node.semantics.reads_watermark = reads_watermark;
        DataStream::of_node(&self.stream.env, self.stream.env.add(node))
    }

    /// This stream and another one that is grouped by keys of the same type, as the two inputs of one operator: records of
    /// equal keys meet and share state and timers. An environment joins only its own streams.
    pub fn connect<R: Data>(&self, other: &KeyedStream<K, R>) -> ConnectedKeyedStreams<K, T, R> {
        ConnectedKeyedStreams::new(self, other)
    }

    /// This stream, and another one of which every subtask sees all records, such as rules or settings: what it says
    /// is kept in broadcast state. In BATCH all its records come before this stream's.
    pub fn connect_broadcast<R: Data>(&self, other: &DataStream<R>) -> KeyedBroadcastConnected<K, T, R> {
        KeyedBroadcastConnected::new(self, other)
    }

    /// Maps each record with a value kept for its key: `f(record, state) -> (result, new state)`; `None` clears
    /// it. State per key: one value. A result for each record in both modes.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let numbered = env.from_iter(["a", "b", "a"].map(String::from)).key_by(|word| word.clone()).map_with_state(
    ///     |word, seen: Option<u32>| {
    ///         let seen = seen.unwrap_or(0) + 1;
    ///         (format!("{word}{seen}"), Some(seen))
    ///     },
    /// );
    /// assert_eq!(numbered.execute_and_collect("numbered")?.into_vec()?, ["a1", "b1", "a2"]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn map_with_state<U: Data, S: State>(
        &self,
        f: impl FnMut(T, Option<S>) -> (U, Option<S>) + Clone + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.process_named("map_with_state", false, move |states| MapWithState {
            f: f.clone(),
            state: states.value("state"),
        })
    }
}

struct MapWithState<F, S> {
    f: F,
    state: ValueState<S>,
}

impl<K, T, U, S, F> KeyedProcessFunction<K, T, U> for MapWithState<F, S>
where
    K: Key,
    U: Data,
    S: State,
    F: FnMut(T, Option<S>) -> (U, Option<S>) + Send + 'static,
{
    fn process(&mut self, record: T, ctx: &mut KeyedContext<K>, out: &mut Collector<'_, U>) -> UserResult {
        let old = self.state.take(ctx);
        let (result, new) = (self.f)(record, old);
        if let Some(new) = new {
            self.state.set(ctx, new);
        }
        out.emit(result);
        Ok(())
    }
}
