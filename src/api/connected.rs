//! Connected streams: two streams, of different types, into one operator.

use super::data_stream::{DataStream, no_broadcast_state, no_keyed_state, pristine_two, stateful};
use super::keyed_stream::KeyedStream;
use crate::base::data::{Data, Key};
use crate::operator::collector::Collector;
use crate::operator::erased::TwoInput;
use crate::operator::process::{
    BroadcastProcess, BroadcastProcessFunction, CoFlatMap, CoMap, CoProcess, CoProcessFunction,
    KeyedBroadcastProcess, KeyedBroadcastProcessFunction, KeyedCoProcess, KeyedCoProcessFunction,
};
use crate::plan::{LogicalEdge, Node, Operation, OperatorFactory, Semantics};
use crate::semantics::state::States;

/// The edges of a second stream into an operator of the first one's environment; none, and a mistake of the plan, if it
/// is another environment's.
pub(super) fn second<L: Data, R: Data>(left: &DataStream<L>, right: &DataStream<R>) -> Vec<LogicalEdge> {
    if left.env.same(&right.env) {
        return right.from.clone();
    }
    let (here, there) = (left.operator_name(), right.operator_name());
    left.env.mistake(&format!(
        "'{here}' is connected with '{there}', a stream of a different environment; a job reads and writes within \
         one environment"
    ));
    Vec::new()
}

/// Two streams side by side: one operator sees the records of both, each as its own type. Made by
/// [`DataStream::connect`].
///
/// Between the streams there is no order in STREAMING; in BATCH one comes after the other.
pub struct ConnectedStreams<L, R> {
    left: DataStream<L>,
    right: DataStream<R>,
}

impl<L, R> Clone for ConnectedStreams<L, R> {
    fn clone(&self) -> Self {
        ConnectedStreams { left: self.left.clone(), right: self.right.clone() }
    }
}

impl<L: Data, R: Data> ConnectedStreams<L, R> {
    pub(super) fn new(left: &DataStream<L>, right: &DataStream<R>) -> Self {
        ConnectedStreams { left: left.clone(), right: right.clone() }
    }

    fn add<U: Data>(&self, name: &str, factory: OperatorFactory, semantics: Semantics) -> DataStream<U> {
        let right = second(&self.left, &self.right);
        let mut node = Node::new(name, Operation::Operator(factory), vec![self.left.from.clone(), right]);
        node.semantics = Semantics { interleaved: true, ..semantics };
        DataStream::of_node(&self.left.env, self.left.env.add(node))
    }

    /// One record out for each record in, made by `f` from those of the first stream and by `g` from those of the
    /// second. No shuffle.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let numbers = env.from_iter([1, 2]);
    /// let words = env.from_iter(["three".to_string()]);
    /// let lengths = numbers.connect(&words).co_map(|n: usize| n, |word: String| word.len());
    /// let mut lengths = lengths.execute_and_collect("lengths")?.into_vec()?;
    /// lengths.sort();
    /// assert_eq!(lengths, [1, 2, 5]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn co_map<U: Data>(
        &self,
        f: impl FnMut(L) -> U + Clone + Send + 'static,
        g: impl FnMut(R) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.add("co_map", pristine_two(CoMap(f, g), CoProcess::<L, R, U, _>::new), Semantics::default())
    }

    /// Any number of records out for each record in: `f` emits those for the first stream's, `g` those for the second's.
    /// No shuffle.
    pub fn co_flat_map<U: Data>(
        &self,
        f: impl FnMut(L, &mut Collector<'_, U>) + Clone + Send + 'static,
        g: impl FnMut(R, &mut Collector<'_, U>) + Clone + Send + 'static,
    ) -> DataStream<U> {
        let factory = pristine_two(CoFlatMap(f, g), CoProcess::<L, R, U, _>::new);
        self.add("co_flat_map", factory, Semantics::default())
    }

    /// A function that is called for each record of both streams. No shuffle. Each attempt of each subtask gets a clone
    /// of the function as it was given.
    pub fn process<U: Data>(&self, function: impl CoProcessFunction<L, R, U> + Clone) -> DataStream<U> {
        let semantics = Semantics { stateful: true, reads_watermark: true, ..Semantics::default() };
        self.add("co_process", pristine_two(function, CoProcess::<L, R, U, _>::new), semantics)
    }

    /// As [`process`](ConnectedStreams::process), with a function that keeps operator state: lists of the subtask. `make`
    /// declares them, as in [`DataStream::process_with_states`].
    pub fn process_with_states<U: Data, P: CoProcessFunction<L, R, U>>(
        &self,
        make: impl Fn(&mut States) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        let inputs = vec![self.left.from.clone(), second(&self.left, &self.right)];
        let mut node = stateful("co_process", inputs, make, |function, states| {
            TwoInput::boxed(CoProcess::<L, R, U, P>::with_states(function, states))
        });
        no_broadcast_state(&mut node);
        no_keyed_state(&mut node);
        add_interleaved(&self.left, node)
    }

    /// Groups both streams by a key, computed with `f` and `g`: records of equal keys meet in one subtask, whichever
    /// stream they are from. Shuffles.
    pub fn key_by<K: Key>(
        &self,
        f: impl Fn(&L) -> K + Send + Sync + 'static,
        g: impl Fn(&R) -> K + Send + Sync + 'static,
    ) -> ConnectedKeyedStreams<K, L, R> {
        ConnectedKeyedStreams::new(&self.left.key_by(f), &self.right.key_by(g))
    }
}

/// Two streams grouped by keys of the same type: records of equal keys meet, whichever stream they are from. Made by
/// [`KeyedStream::connect`].
pub struct ConnectedKeyedStreams<K, L, R> {
    left: KeyedStream<K, L>,
    right: KeyedStream<K, R>,
}

impl<K, L, R> Clone for ConnectedKeyedStreams<K, L, R> {
    fn clone(&self) -> Self {
        ConnectedKeyedStreams { left: self.left.clone(), right: self.right.clone() }
    }
}

impl<K: Key, L: Data, R: Data> ConnectedKeyedStreams<K, L, R> {
    pub(super) fn new(left: &KeyedStream<K, L>, right: &KeyedStream<K, R>) -> Self {
        ConnectedKeyedStreams { left: left.clone(), right: right.clone() }
    }

    /// As [`ConnectedStreams::co_map`]. In BATCH all records of a key come before the next key's.
    pub fn co_map<U: Data>(
        &self,
        f: impl FnMut(L) -> U + Clone + Send + 'static,
        g: impl FnMut(R) -> U + Clone + Send + 'static,
    ) -> DataStream<U> {
        ConnectedStreams::new(&self.left.stream, &self.right.stream).co_map(f, g)
    }

    /// As [`ConnectedStreams::co_flat_map`]. In BATCH all records of a key come before the next key's.
    pub fn co_flat_map<U: Data>(
        &self,
        f: impl FnMut(L, &mut Collector<'_, U>) + Clone + Send + 'static,
        g: impl FnMut(R, &mut Collector<'_, U>) + Clone + Send + 'static,
    ) -> DataStream<U> {
        ConnectedStreams::new(&self.left.stream, &self.right.stream).co_flat_map(f, g)
    }

    /// A function with state and timers for each key, which the records of both streams share. `make` declares the state
    /// and makes the function, as in [`KeyedStream::process`]. See [`KeyedCoProcessFunction`].
    pub fn process<U: Data, P: KeyedCoProcessFunction<K, L, R, U>>(
        &self,
        make: impl Fn(&mut States) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        let (left, right) = (&self.left.stream, &self.right.stream);
        let inputs = vec![left.from.clone(), second(left, right)];
        let (a, b) = (self.left.selector.clone(), self.right.selector.clone());
        let mut node = stateful("co_process", inputs, make, move |function, states| {
            TwoInput::boxed(KeyedCoProcess::<K, L, R, U, P>::new(function, states, a.clone(), b.clone()))
        });
        no_broadcast_state(&mut node);
        add_interleaved(left, node)
    }
}

/// A stream, and another one of which every subtask sees all records. Made by [`DataStream::connect_broadcast`].
pub struct BroadcastConnected<T, R> {
    stream: DataStream<T>,
    broadcast: DataStream<R>,
}

impl<T, R> Clone for BroadcastConnected<T, R> {
    fn clone(&self) -> Self {
        BroadcastConnected { stream: self.stream.clone(), broadcast: self.broadcast.clone() }
    }
}

impl<T: Data, R: Data> BroadcastConnected<T, R> {
    pub(super) fn new(stream: &DataStream<T>, broadcast: &DataStream<R>) -> Self {
        BroadcastConnected { stream: stream.clone(), broadcast: broadcast.broadcast() }
    }

    /// A function that keeps broadcast state. `make` declares the state with [`States::broadcast`] and makes the
    /// function: once when the plan is built, to learn the names, and once for each attempt of each subtask. See
    /// [`BroadcastProcessFunction`].
    pub fn process<U: Data, P: BroadcastProcessFunction<T, R, U>>(
        &self,
        make: impl Fn(&mut States) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        let broadcast = second(&self.stream, &self.broadcast);
        let inputs = vec![self.stream.from.clone(), broadcast];
        let mut node = stateful("broadcast_process", inputs, make, |function, states| {
            TwoInput::boxed(BroadcastProcess::<T, R, U, P>::new(function, states))
        });
        no_keyed_state(&mut node);
        add_interleaved(&self.stream, node)
    }
}

/// A stream grouped by keys, and another one of which every subtask sees all records. Made by
/// [`KeyedStream::connect_broadcast`].
pub struct KeyedBroadcastConnected<K, T, R> {
    keyed: KeyedStream<K, T>,
    broadcast: DataStream<R>,
}

impl<K, T, R> Clone for KeyedBroadcastConnected<K, T, R> {
    fn clone(&self) -> Self {
        KeyedBroadcastConnected { keyed: self.keyed.clone(), broadcast: self.broadcast.clone() }
    }
}

impl<K: Key, T: Data, R: Data> KeyedBroadcastConnected<K, T, R> {
    pub(super) fn new(keyed: &KeyedStream<K, T>, broadcast: &DataStream<R>) -> Self {
        KeyedBroadcastConnected { keyed: keyed.clone(), broadcast: broadcast.broadcast() }
    }

    /// A function with broadcast state, and with state and timers for each key. `make` declares the state and makes the
    /// function, as in [`KeyedStream::process`]. See [`KeyedBroadcastProcessFunction`].
    pub fn process<U: Data, P: KeyedBroadcastProcessFunction<K, T, R, U>>(
        &self,
        make: impl Fn(&mut States) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        let stream = &self.keyed.stream;
        let inputs = vec![stream.from.clone(), second(stream, &self.broadcast)];
        let selector = self.keyed.selector.clone();
        let node = stateful("broadcast_process", inputs, make, move |function, states| {
            let selector = selector.clone();
            TwoInput::boxed(KeyedBroadcastProcess::<K, T, R, U, P>::new(function, states, selector))
        });
        add_interleaved(stream, node)
    }
}

fn add_interleaved<T: Data, U: Data>(to: &DataStream<T>, mut node: Node) -> DataStream<U> {
    node.semantics.interleaved = true;
    DataStream::of_node(&to.env, to.env.add(node))
}
