//! All records of a key: reduce_group, combine_group, first_n and top_n of each key.

use super::{bounded_node, same_in_both};
use crate::api::data_stream::{DataStream, pristine};
use crate::api::keyed_stream::KeyedStream;
use crate::base::data::{Data, Key};
use crate::operator::UserResult;
use crate::operator::bounded::{Arrangement, AtEnd, CombineGroup, GroupReduce, Records, TopOfKey};
use crate::operator::collector::Collector;
use crate::operator::exchange::{ExchangeType, Keyed, Partitioning, Unkeyed};
use crate::operator::process::{KeyedContext, KeyedProcessFunction};
use crate::plan::Bounded;
use crate::semantics::state::ValueState;
use std::sync::Arc;

impl<K: Key, T: Data> KeyedStream<K, T> {
    pub(super) fn exchange(&self) -> Arc<dyn ExchangeType> {
        Arc::new(Keyed::<T, K>::new(self.selector.clone()))
    }

    /// A function over all records of a key: it gets the key and an iterator over its records, and returns an iterator, or a
    /// collection, of what comes out (Flink's `reduceGroup`). Records are in the order of their timestamps, if they have any,
    /// then in that in which they came. Of a key what fits the share of the subtask is in memory, the rest on disk; what
    /// is returned is drawn from as the next operator takes it, so neither need fit into memory.
    /// Prefer [`reduce`](KeyedStream::reduce) or [`aggregate`](KeyedStream::aggregate) where they can say the same: they fold
    /// before the shuffle. Results carry no timestamp. In STREAMING all records are kept until the end of the input, when the
    /// same results come out; an unbounded source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let sales = env.from_iter([("north", 3), ("south", 8), ("north", 5)].map(|(r, n)| (r.to_string(), n)));
    /// let spread = sales.key_by(|sale| sale.0.clone()).reduce_group(|region, sales| {
    ///     let (least, most) = sales.fold((u32::MAX, 0), |(a, b), sale| (a.min(sale.1), b.max(sale.1)));
    ///     [(region.clone(), most - least)]
    /// });
    /// let mut spread = spread.execute_and_collect("spread")?.into_vec()?;
    /// spread.sort();
    /// assert_eq!(spread, [("north".to_string(), 2), ("south".to_string(), 0)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn reduce_group<U, I>(
        &self,
        f: impl FnMut(&K, Records<T>) -> I + Clone + Send + 'static,
    ) -> DataStream<U>
    where
        U: Data,
        I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    {
        let (selector, exchange) = (self.selector.clone(), self.exchange());
        let batch = pristine(f, move |f| GroupReduce::<K, T, I, _>::new(f, selector.clone()));
        let inner = batch.clone();
        let streaming =
            Arc::new(move || AtEnd::boxed(inner(), Arrangement::Grouped, std::slice::from_ref(&exchange)));
        let operation = Bounded { streaming, batch, batch_exchange: None, whole: false };
        let why = "it calls its function with all records of a key";
        let node = bounded_node("reduce_group", why, vec![self.stream.from.clone()], operation);
        DataStream::of_node(&self.stream.env, self.stream.env.add(node))
    }

    /// A function over those records of a key that are together in a subtask before the shuffle, as many as its memory allows
    /// (Flink's `combineGroup`): for partial results that a [`reduce_group`](KeyedStream::reduce_group) puts together. A key may
    /// come several times. No shuffle. Which records come together depends on the parallelism and the memory. Results
    /// carry no timestamp. In both modes they come when the memory is used up, and at the end of the input; an unbounded source
    /// is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let words = env.from_iter(["to", "be", "or", "not", "to", "be"].map(String::from));
    /// let partial = words.key_by(|word| word.clone()).combine_group(|word, records| [(word.clone(), records.count())]);
    /// let counts = partial.key_by(|partial| partial.0.clone())
    ///     .reduce_group(|word, partial| [(word.clone(), partial.map(|(_, n)| n).sum::<usize>())]);
    /// let mut counts = counts.execute_and_collect("counts")?.into_vec()?;
    /// counts.sort();
    /// assert_eq!(counts[0], ("be".to_string(), 2));
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn combine_group<U, I>(
        &self,
        f: impl FnMut(&K, Records<T>) -> I + Clone + Send + 'static,
    ) -> DataStream<U>
    where
        U: Data,
        I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    {
        let selector = self.selector.clone();
        let factory = pristine(f, move |f| CombineGroup::<K, T, I, _>::new(f, selector.clone()));
        let stays: Arc<dyn ExchangeType> = Arc::new(Unkeyed::<T>::new(Partitioning::Auto));
        let inputs = vec![self.stream.edges_by(&stays)];
        let why = "it puts the records of a key together, as many as come before the end";
        let node = bounded_node("combine_group", why, inputs, same_in_both(factory, false));
        DataStream::of_node(&self.stream.env, self.stream.env.add(node))
    }

    /// The first `n` records of each key, as they come: in STREAMING those that arrive first, in BATCH those of the lowest
    /// timestamps, or else of the first producers. State per key: a number. The source may be unbounded.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let first = env.from_iter([1, 11, 2, 21]).key_by(|n| n % 10).first_n(1);
    /// let mut first = first.execute_and_collect("first")?.into_vec()?;
    /// first.sort();
    /// assert_eq!(first, [1, 2]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn first_n(&self, n: u64) -> DataStream<T> {
        let first =
            self.process_named("first_n", false, move |states| FirstOfKey { n, seen: states.value("seen") });
        if let [edge] = &first.from[..] {
            first.env.change(edge.from, |node| node.semantics.ordered = true);
        }
        first
    }

    /// The `n` largest records of each key by something to compare, the largest first, at the end of the input. Holds up to twice as
    /// many for each key, and passes no more on before the shuffle. Which of several that compare equal are among them
    /// depends on the order in which they come. In both modes final results only; an unbounded source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let top = env.from_iter([1, 11, 21, 2, 12]).key_by(|n| n % 10).top_n(2, |n| *n);
    /// let mut top = top.execute_and_collect("top")?.into_vec()?;
    /// top.sort();
    /// assert_eq!(top, [2, 11, 12, 21]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn top_n<B: Ord>(&self, n: usize, by: impl FnMut(&T) -> B + Clone + Send + 'static) -> DataStream<T> {
        let fold = TopOfKey { n, by };
        let lists = self.fold_at_end("top_n", "it compares all records of a key", fold);
        lists.flat_map(|records, out| out.extend(records)).name("top_n records")
    }
}

struct FirstOfKey {
    n: u64,
    seen: ValueState<u64>,
}

impl<K: Key, T: Data> KeyedProcessFunction<K, T, T> for FirstOfKey {
    fn process(&mut self, record: T, ctx: &mut KeyedContext<K>, out: &mut Collector<'_, T>) -> UserResult {
        let seen = self.seen.take(ctx).unwrap_or(0);
        if seen < self.n {
            out.emit(record);
        }
        self.seen.set(ctx, (seen + 1).min(self.n));
        Ok(())
    }
}
