//! Joins of windows: two keyed streams, of which the records of the same key and window meet.
//!
//! Both streams become one of [`Either`], which goes through the general window operator.

use super::data_stream::DataStream;
use super::keyed_stream::KeyedStream;
use super::windowed_stream::{Declared, WindowedStream};
use crate::base::data::{Data, Key};
use crate::operator::collector::Collector;
use crate::operator::exchange::{ExchangeType, Partitioning, Unkeyed};
use crate::operator::window::Either;
use crate::operator::window::join::{CoGroupSides, JoinPairs};
use crate::semantics::window::{Evictor, Trigger, Window, WindowAssigner};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Two keyed streams to be joined: made by [`KeyedStream::join`] and [`KeyedStream::co_group`], continued by
/// [`WindowPair::window`], or, for all records of streams that end, by [`apply`](WindowPair::apply) and its like.
pub struct WindowPair<K, L, R, J> {
    pub(super) left: KeyedStream<K, L>,
    pub(super) right: KeyedStream<K, R>,
    kind: PhantomData<fn() -> J>,
}

/// A window join whose windows are known. Ends in [`apply`](WindowJoin::apply).
pub struct WindowJoin<K, L, R, W, G>(WindowedStream<K, Either<L, R>, W, G>);

/// A co-group whose windows are known. Ends in [`apply`](WindowCoGroup::apply).
pub struct WindowCoGroup<K, L, R, W, G>(WindowedStream<K, Either<L, R>, W, G>);

/// Says that a [`WindowPair`] becomes a join.
pub struct Join;
/// Says that a [`WindowPair`] becomes a co-group.
pub struct CoGroup;

/// The stream before it was distributed by key.
fn undistributed<K, T: Data>(keyed: &KeyedStream<K, T>) -> DataStream<T> {
    let exchange: Arc<dyn ExchangeType> = Arc::new(Unkeyed::<T>::new(Partitioning::Auto));
    let stream = &keyed.stream;
    DataStream {
        env: stream.env.clone(),
        from: stream.from.iter().map(|edge| edge.by(exchange.clone())).collect(),
        types: PhantomData,
    }
}

impl<K: Key, L: Data> KeyedStream<K, L> {
    /// Joins this stream with another in windows: each pair of records of the same key and window gives a record.
    /// Inner: what has no partner gives nothing. Windows of a length that slide let the same pair meet several times. State per
    /// key and window: all records of both sides.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// # use std::time::Duration;
    /// let env = Environment::new();
    /// let stamped = |records: Vec<(char, i64)>| env.from_iter(records)
    ///     .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|r: &(char, i64)| r.1));
    /// let (clicks, sales) = (stamped(vec![('a', 1), ('a', 15), ('b', 16)]), stamped(vec![('a', 8), ('a', 17)]));
    /// let joined = clicks.key_by(|click| click.0)
    ///     .join(&sales.key_by(|sale| sale.0))
    ///     .window(Tumbling::of(Duration::from_millis(10)))
    ///     .apply(|click, sale| (click.0, click.1, sale.1));
    /// let mut joined = joined.execute_and_collect("joined")?.into_vec()?;
    /// joined.sort();
    /// assert_eq!(joined, [('a', 1, 8), ('a', 15, 17)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn join<R: Data>(&self, right: &KeyedStream<K, R>) -> WindowPair<K, L, R, Join> {
        WindowPair { left: self.clone(), right: right.clone(), kind: PhantomData }
    }

    /// Groups this stream with another in windows: a function sees all records of both sides of a key and window, of which
    /// one side may have none. State per key and window: all records of both sides.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// # use std::time::Duration;
    /// let env = Environment::new();
    /// let stamped = |records: Vec<(char, i64)>| env.from_iter(records)
    ///     .assign_timestamps(WatermarkStrategy::monotonous().timestamp(|r: &(char, i64)| r.1));
    /// let (clicks, sales) = (stamped(vec![('a', 1), ('a', 2), ('b', 6)]), stamped(vec![('a', 8)]));
    /// let counts = clicks.key_by(|click| click.0)
    ///     .co_group(&sales.key_by(|sale| sale.0))
    ///     .window(Tumbling::of(Duration::from_millis(10)))
    ///     .apply(|key, _, clicks, sales, out| out.emit((*key, clicks.len(), sales.len())));
    /// let mut counts = counts.execute_and_collect("counts")?.into_vec()?;
    /// counts.sort();
    /// assert_eq!(counts, [('a', 2, 1), ('b', 1, 0)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn co_group<R: Data>(&self, right: &KeyedStream<K, R>) -> WindowPair<K, L, R, CoGroup> {
        WindowPair { left: self.clone(), right: right.clone(), kind: PhantomData }
    }
}

impl<K: Key, L: Data, R: Data, J> WindowPair<K, L, R, J> {
    /// Both streams as one.
    fn both(&self) -> KeyedStream<K, Either<L, R>> {
        let lefts = undistributed(&self.left).map(Either::<L, R>::Left).name("left");
        let rights = undistributed(&self.right).map(Either::<L, R>::Right).name("right");
        let (left, right) = (self.left.selector.clone(), self.right.selector.clone());
        lefts.union(&[&rights]).key_by(move |record| match record {
            Either::Left(record) => left.key(record),
            Either::Right(record) => right.key(record),
        })
    }
}

impl<K: Key, L: Data, R: Data> WindowPair<K, L, R, Join> {
    /// The windows in which records meet.
    pub fn window<W: WindowAssigner<Either<L, R>>>(&self, assigner: W) -> WindowJoin<K, L, R, W, W::Trigger> {
        WindowJoin(self.both().window(assigner))
    }
}

impl<K: Key, L: Data, R: Data> WindowPair<K, L, R, CoGroup> {
    /// The windows in which records meet.
    pub fn window<W: WindowAssigner<Either<L, R>>>(
        &self,
        assigner: W,
    ) -> WindowCoGroup<K, L, R, W, W::Trigger> {
        WindowCoGroup(self.both().window(assigner))
    }
}

macro_rules! builders {
    ($name:ident) => {
        impl<K, L, R, W, G> $name<K, L, R, W, G>
        where
            K: Key,
            L: Data,
            R: Data,
            W: WindowAssigner<Either<L, R>>,
            G: Trigger<Either<L, R>>,
        {
            /// See [`WindowedStream::trigger`].
            #[must_use]
            pub fn trigger<H: Trigger<Either<L, R>>>(self, trigger: H) -> $name<K, L, R, W, H> {
                $name(self.0.trigger(trigger))
            }
            /// See [`WindowedStream::evictor`].
            #[must_use]
            pub fn evictor<E: Evictor<Either<L, R>>>(self, evictor: E) -> Self {
                $name(self.0.evictor(evictor))
            }
            /// See [`WindowedStream::allowed_lateness`].
            #[must_use]
            pub fn allowed_lateness(self, lateness: Duration) -> Self {
                $name(self.0.allowed_lateness(lateness))
            }
        }
    };
}

builders!(WindowJoin);
builders!(WindowCoGroup);

impl<K, L, R, W, G> WindowJoin<K, L, R, W, G>
where
    K: Key,
    L: Data,
    R: Data,
    W: WindowAssigner<Either<L, R>>,
    G: Trigger<Either<L, R>>,
{
    /// Makes a record of each pair: `f(left, right)`. It carries the last timestamp of the window.
    pub fn apply<U: Data>(&self, f: impl FnMut(&L, &R) -> U + Clone + Send + 'static) -> DataStream<U> {
        self.0.operate("window join", f, Declared::default(), |f, _| JoinPairs::new(f))
    }
}

impl<K, L, R, W, G> WindowCoGroup<K, L, R, W, G>
where
    K: Key,
    L: Data,
    R: Data,
    W: WindowAssigner<Either<L, R>>,
    G: Trigger<Either<L, R>>,
{
    /// Calls a function for each key and window: `f(key, window, lefts, rights, out)`. What it emits carries the
    /// last timestamp of the window.
    pub fn apply<U: Data>(
        &self,
        f: impl FnMut(&K, Window, &[L], &[R], &mut Collector<'_, U>) + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.0.operate("window co-group", f, Declared::default(), |f, _| CoGroupSides::new(f))
    }
}
