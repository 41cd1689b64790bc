//! Joins of streams that end: by key, sorted or hashed, and all pairs.

use super::bounded_node;
use crate::api::connected::second;
use crate::api::data_stream::{DataStream, pristine_two};
use crate::api::keyed_stream::KeyedStream;
use crate::api::window_join::{CoGroup, Join, WindowPair};
use crate::base::data::{Data, Key};
use crate::operator::bounded::{
    self, Arrangement, AtEnd, Cross, FullOuter, HashJoin, Inner, LeftOuter, Meets, MergeJoin, Pairing, Pairs,
    Probe, Records, RightOuter, SemiJoin,
};
use crate::operator::exchange::{ExchangeType, Partitioning, Unkeyed};
use crate::plan::{Bounded, LogicalEdge, OperatorFactory};
use std::sync::Arc;

const WHY: &str = "it joins all records of two streams";

/// The node of an operator with two inputs, which STREAMING holds back in an arrangement.
fn add<L: Data, R: Data, U: Data>(
    name: &str,
    streams: (&DataStream<L>, &DataStream<R>),
    exchanges: [Arc<dyn ExchangeType>; 2],
    arrangement: Arrangement,
    batch: OperatorFactory,
) -> DataStream<U> {
    let (left, right) = streams;
    let [a, b] = &exchanges;
    let from_right: Vec<LogicalEdge> = second(left, right).iter().map(|edge| edge.by(b.clone())).collect();
    let inputs = vec![left.edges_by(a), from_right];
    let inner = batch.clone();
    let streaming = Arc::new(move || AtEnd::boxed(inner(), arrangement, &exchanges));
    let operation = Bounded { streaming, batch, batch_exchange: None, whole: false };
    let node = bounded_node(name, WHY, inputs, operation);
    DataStream::of_node(&left.env, left.env.add(node))
}

impl<K: Key, L: Data, R: Data> WindowPair<K, L, R, Join> {
    fn merged<P: Pairing<L, R> + Clone>(&self, name: &str, pairing: P) -> DataStream<P::Out> {
        let factory = pristine_two(pairing, MergeJoin::<L, R, P>::new);
        self.add_grouped(name, factory)
    }

    /// Joins all records of both streams, without windows: each pair of records of the same key gives a record, and what has no
    /// partner gives nothing. Both streams must end.
    ///
    /// Both sides are shuffled and sorted by key; of one key what fits the share of the subtask is in memory, the rest on disk. Where one
    /// side is small, [`broadcast_right`](WindowPair::broadcast_right) saves that. Results carry no timestamp. In STREAMING
    /// both sides are kept until the end, when the same results come out; an unbounded source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let people = env.from_iter([(1, "Ann"), (2, "Bob")].map(|(id, name)| (id, name.to_string())));
    /// let orders = env.from_iter([(2, 30), (3, 40), (2, 50)]);
    /// let joined = people.key_by(|person| person.0)
    ///     .join(&orders.key_by(|order| order.0))
    ///     .apply(|person, order| (person.1.clone(), order.1));
    /// let mut joined = joined.execute_and_collect("joined")?.into_vec()?;
    /// joined.sort();
    /// assert_eq!(joined, [("Bob".to_string(), 30), ("Bob".to_string(), 50)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn apply<U: Data>(&self, f: impl FnMut(&L, &R) -> U + Clone + Send + 'static) -> DataStream<U> {
        self.merged("join", Inner::new(f))
    }
    /// As [`apply`](WindowPair::apply); a left record without a partner gives a record, too (left outer join).
    pub fn apply_left<U: Data>(
        &self,
        f: impl FnMut(&L, Option<&R>) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.merged("left join", LeftOuter::new(f))
    }
    /// As [`apply`](WindowPair::apply); a right record without a partner gives a record, too (right outer join).
    pub fn apply_right<U: Data>(
        &self,
        f: impl FnMut(Option<&L>, &R) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.merged("right join", RightOuter::new(f))
    }
    /// As [`apply`](WindowPair::apply); a record of either side without a partner gives a record, too (full outer join). At
    /// least one of both is there.
    pub fn apply_full<U: Data>(
        &self,
        f: impl FnMut(Option<&L>, Option<&R>) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.merged("full join", FullOuter::new(f))
    }
    /// The left records whose key the right stream has (semi join), each once. Otherwise as [`apply`](WindowPair::apply).
    pub fn semi(&self) -> DataStream<L> {
        self.add_grouped("semi join", pristine_two(true, SemiJoin::<L, R>::new))
    }
    /// The left records whose key the right stream does not have (anti join). Otherwise as [`apply`](WindowPair::apply).
    pub fn anti(&self) -> DataStream<L> {
        self.add_grouped("anti join", pristine_two(false, SemiJoin::<L, R>::new))
    }

    /// Says that the right stream is small: it goes to every subtask of the left one, which is not shuffled, and is kept there
    /// in a table. If it does not fit the share of a subtask the job fails and says so.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let orders = env.from_iter([("de", 30), ("fr", 40), ("de", 50)].map(|(c, n)| (c.to_string(), n)));
    /// let names = env.from_iter([("de".to_string(), "Germany".to_string())]);
    /// let joined = orders.key_by(|order| order.0.clone())
    ///     .join(&names.key_by(|name| name.0.clone()))
    ///     .broadcast_right()
    ///     .apply_left(|order, name| (name.map_or("?".to_string(), |name| name.1.clone()), order.1));
    /// let mut joined = joined.execute_and_collect("joined")?.into_vec()?;
    /// joined.sort();
    /// assert_eq!(joined[0], ("?".to_string(), 40));
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn broadcast_right(&self) -> BroadcastJoin<K, L, R> {
        BroadcastJoin { left: self.left.clone(), right: self.right.clone() }
    }
}

impl<K: Key, L: Data, R: Data, J> WindowPair<K, L, R, J> {
    fn add_grouped<U: Data>(&self, name: &str, factory: OperatorFactory) -> DataStream<U> {
        let exchanges = [self.left.exchange(), self.right.exchange()];
        add(name, (&self.left.stream, &self.right.stream), exchanges, Arrangement::Grouped, factory)
    }
}

impl<K: Key, L: Data, R: Data> WindowPair<K, L, R, CoGroup> {
    /// A function over all records of a key of both streams, without windows: it gets the key and an iterator over the records
    /// of each side, of which one may have none, and returns an iterator, or a collection, of what comes out. Both streams must end. As in
    /// [`reduce_group`](KeyedStream::reduce_group) nothing need fit into memory, and results carry no timestamp. An unbounded source is
    /// refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let (left, right) = (env.from_iter([1, 2, 2]), env.from_iter([2, 3]));
    /// let counts = left.key_by(|n| *n)
    ///     .co_group(&right.key_by(|n| *n))
    ///     .apply(|key, lefts, rights| [(*key, lefts.count(), rights.count())]);
    /// let mut counts = counts.execute_and_collect("counts")?.into_vec()?;
    /// counts.sort();
    /// assert_eq!(counts, [(1, 1, 0), (2, 2, 1), (3, 0, 1)]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn apply<U, I>(
        &self,
        f: impl FnMut(&K, Records<L>, Records<R>) -> I + Clone + Send + 'static,
    ) -> DataStream<U>
    where
        U: Data,
        I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    {
        let (a, b) = (self.left.selector.clone(), self.right.selector.clone());
        let factory =
            pristine_two(f, move |f| bounded::CoGroup::<K, L, R, I, _>::new(f, a.clone(), b.clone()));
        self.add_grouped("co_group", factory)
    }
}

/// A join whose right side is small: made by [`WindowPair::broadcast_right`]. Joins that give right records without a partner
/// are not here: no subtask knows all left records.
pub struct BroadcastJoin<K, L, R> {
    left: KeyedStream<K, L>,
    right: KeyedStream<K, R>,
}

impl<K: Key, L: Data, R: Data> BroadcastJoin<K, L, R> {
    fn hashed<P: Probe<L, R> + Clone>(&self, name: &str, probe: P) -> DataStream<P::Out> {
        let (a, b) = (self.left.selector.clone(), self.right.selector.clone());
        let factory =
            pristine_two(probe, move |probe| HashJoin::<K, L, R, P>::new(probe, a.clone(), b.clone()));
        broadcast(name, &self.left.stream, &self.right.stream, factory)
    }

    /// As [`WindowPair::apply`].
    pub fn apply<U: Data>(&self, f: impl FnMut(&L, &R) -> U + Clone + Send + 'static) -> DataStream<U> {
        self.hashed("broadcast join", Pairs(Inner::new(f)))
    }
    /// As [`WindowPair::apply_left`].
    pub fn apply_left<U: Data>(
        &self,
        f: impl FnMut(&L, Option<&R>) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.hashed("broadcast left join", Pairs(LeftOuter::new(f)))
    }
    /// As [`WindowPair::semi`].
    pub fn semi(&self) -> DataStream<L> {
        self.hashed("broadcast semi join", Meets(true))
    }
    /// As [`WindowPair::anti`].
    pub fn anti(&self) -> DataStream<L> {
        self.hashed("broadcast anti join", Meets(false))
    }
}

fn broadcast<L: Data, R: Data, U: Data>(
    name: &str,
    left: &DataStream<L>,
    right: &DataStream<R>,
    factory: OperatorFactory,
) -> DataStream<U> {
    let exchanges: [Arc<dyn ExchangeType>; 2] = [
        Arc::new(Unkeyed::<L>::new(Partitioning::Auto)),
        Arc::new(Unkeyed::<R>::new(Partitioning::Broadcast)),
    ];
    add(name, (left, right), exchanges, Arrangement::LastInputFirst, factory)
}

impl<L: Data> DataStream<L> {
    /// All pairs of the records of this stream and of another one: `f` makes a record of each. The other stream goes to every
    /// subtask, where it is kept in memory and on disk and read once for each batch of this one, which is not shuffled: the
    /// smaller one should be the other. Both must end. Results carry no timestamp. In STREAMING both are kept until the
    /// end; an unbounded source is refused.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new();
    /// let (ranks, suits) = (env.from_iter(['A', 'K']), env.from_iter(['s', 'h']));
    /// let mut cards = ranks.cross(&suits, |rank, suit| format!("{rank}{suit}")).execute_and_collect("cards")?.into_vec()?;
    /// cards.sort();
    /// assert_eq!(cards, ["Ah", "As", "Kh", "Ks"]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn cross<R: Data, U: Data>(
        &self,
        other: &DataStream<R>,
        f: impl FnMut(&L, &R) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        broadcast("cross", self, other, pristine_two(f, Cross::<L, R, _>::new))
    }
}
