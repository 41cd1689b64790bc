//! DataStream: a handle to the records that an operator of the plan emits.

use super::connected::{BroadcastConnected, ConnectedStreams};
use super::environment::Environment;
use super::keyed_stream::KeyedStream;
use crate::base::data::{Data, Key};
use crate::base::error::BoxError;
use crate::connectors::sink::Sink;
use crate::operator::collector::Collector;
use crate::operator::erased::{AnyOperator, OneInput, TwoInput};
use crate::operator::exchange::{CustomPartitioner, ExchangeType, FnKey, Keyed, Partitioning, Unkeyed};
use crate::operator::filter::{Filter, TryFilter};
use crate::operator::flat_map::{FlatMap, TryFlatMap};
use crate::operator::map::{Map, TryMap};
use crate::operator::process::{Process, ProcessFunction};
use crate::operator::side_output::SideOutput;
use crate::operator::sink::TypedSink;
use crate::operator::timestamps::AssignTimestamps;
use crate::operator::{Operator, TwoInputOperator};
use crate::plan::{Chaining, LogicalEdge, Node, NodeId, Operation, OperatorFactory, Semantics, Timestamps};
use crate::semantics::state::States;
use crate::semantics::time::WatermarkStrategy;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// Records of type `T` as they leave an operator (or several, after [`union`](DataStream::union)). A cheap handle
/// that can be cloned and used several times; each use sees all records. Nothing runs before `execute`.
pub struct DataStream<T> {
    pub(crate) env: Environment,
    pub(crate) from: Vec<LogicalEdge>,
    pub(super) types: PhantomData<fn() -> T>,
}

impl<T> Clone for DataStream<T> {
    fn clone(&self) -> Self {
        DataStream { env: self.env.clone(), from: self.from.clone(), types: PhantomData }
    }
}

/// A factory that gives each attempt a copy of a user's function as it was when the plan was built.
pub(super) fn pristine<F, O>(
    function: F,
    operator: impl Fn(F) -> O + Send + Sync + 'static,
) -> OperatorFactory
where
    F: Clone + Send + 'static,
    O: Operator,
{
    copies(function, move |function| OneInput::boxed(operator(function)))
}

/// The same for an operator with two inputs.
pub(super) fn pristine_two<F, O>(
    function: F,
    operator: impl Fn(F) -> O + Send + Sync + 'static,
) -> OperatorFactory
where
    F: Clone + Send + 'static,
    O: TwoInputOperator,
{
    copies(function, move |function| TwoInput::boxed(operator(function)))
}

fn copies<F: Clone + Send + 'static>(
    function: F,
    boxed: impl Fn(F) -> Box<dyn AnyOperator> + Send + Sync + 'static,
) -> OperatorFactory {
    let pristine = Mutex::new(function);
    Arc::new(move || boxed(pristine.lock().unwrap_or_else(PoisonError::into_inner).clone()))
}

/// A node of a function that declares its state: `make` is called here, to learn the names, and for each attempt.
pub(super) fn stateful<P>(
    name: &str,
    inputs: Vec<Vec<LogicalEdge>>,
    make: impl Fn(&mut States) -> P + Send + Sync + 'static,
    boxed: impl Fn(P, States) -> Box<dyn AnyOperator> + Send + Sync + 'static,
) -> Node {
    let mut declared = States::default();
    drop(make(&mut declared));
    let factory: OperatorFactory = Arc::new(move || {
        let mut states = States::default();
        let function = make(&mut states);
        boxed(function, states)
    });
    let mut node = Node::new(name, Operation::Operator(factory), inputs);
    if let Some(name) = declared.duplicate() {
        node.mistakes
            .push(format!("state '{name}' is declared twice; a state name is unique in its operator"));
    }
    node.states = declared.descriptors().to_vec();
    let processing_time = declared.has_ttl();
    node.semantics =
        Semantics { stateful: true, reads_watermark: true, processing_time, ..Semantics::default() };
    node
}

/// Notes a mistake if the function of a node declares broadcast state, though no input is broadcast.
pub(super) fn no_broadcast_state(node: &mut Node) {
    if let Some(state) = node.states.iter().find(|state| state.kind == "broadcast") {
        node.mistakes.push(format!(
            "broadcast state '{}' is declared by a function without a broadcast input; use connect_broadcast",
            state.name
        ));
    }
}

/// Notes a mistake if the function of a node declares state of keys, though its input has none.
pub(super) fn no_keyed_state(node: &mut Node) {
    let is_of_keys = |kind: &str| kind != "broadcast" && !kind.ends_with(" list");
    if let Some(state) = node.states.iter().find(|state| is_of_keys(state.kind)) {
        node.mistakes.push(format!(
            "state '{}' is of keys, but the stream has none; call key_by before, or declare state of the subtask",
            state.name
        ));
    }
}

impl<T: Data> DataStream<T> {
    pub(super) fn of_node(env: &Environment, node: NodeId) -> DataStream<T> {
        let exchange: Arc<dyn ExchangeType> = Arc::new(Unkeyed::<T>::new(Partitioning::Auto));
        DataStream { env: env.clone(), from: vec![LogicalEdge::new(node, exchange)], types: PhantomData }
    }

    pub(crate) fn add<U: Data>(&self, name: &str, operation: Operation) -> DataStream<U> {
        let node = Node::new(name, operation, vec![self.from.clone()]);
        DataStream::of_node(&self.env, self.env.add(node))
    }

    fn add_operator<U, F, O>(&self, name: &str, function: F, make: fn(F) -> O) -> DataStream<U>
    where
        U: Data,
        F: Clone + Send + 'static,
        O: Operator<In = T, Out = U>,
    {
        self.add(name, Operation::Operator(pristine(function, make)))
    }

    /// One record out for each record in. Keeps timestamps and the order within a partition; no shuffle.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let doubled = env.from_iter([1, 2, 3]).map(|x| 2 * x).execute_and_collect("doubled")?.into_vec()?;
    /// assert_eq!(doubled, [2, 4, 6]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn map<U: Data>(&self, f: impl FnMut(T) -> U + Clone + Send + 'static) -> DataStream<U> {
        self.add_operator("map", f, Map::new)
    }

    /// As [`map`](DataStream::map), with a function that may fail: an error fails the job and names the operator.
    pub fn try_map<U: Data, E: Into<BoxError> + 'static>(
        &self,
        f: impl FnMut(T) -> Result<U, E> + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.add_operator("map", f, TryMap::new)
    }

    /// The records for which `f` says true, in order. No shuffle.
    pub fn filter(&self, f: impl FnMut(&T) -> bool + Clone + Send + 'static) -> DataStream<T> {
        self.add_operator("filter", f, Filter::new)
    }

    /// As [`filter`](DataStream::filter), with a function that may fail: an error fails the job and names the operator.
    pub fn try_filter<E: Into<BoxError> + 'static>(
        &self,
        f: impl FnMut(&T) -> Result<bool, E> + Clone + Send + 'static,
    ) -> DataStream<T> {
        self.add_operator("filter", f, TryFilter::new)
    }

    /// Any number of records out for each record in: `f` emits them into the collector. They carry the timestamp
    /// of the record they came from. No shuffle.
    ///
    /// ```
    /// # use mainstem::prelude::*;
    /// let env = Environment::new().parallelism(1);
    /// let words = env.from_iter(["to be", "or not"].map(String::from)).flat_map(|line, out| {
    ///     line.split_whitespace().for_each(|word| out.emit(word.to_string()));
    /// });
    /// assert_eq!(words.execute_and_collect("words")?.into_vec()?, ["to", "be", "or", "not"]);
    /// # Ok::<(), mainstem::Error>(())
    /// ```
    pub fn flat_map<U: Data>(
        &self,
        f: impl FnMut(T, &mut Collector<'_, U>) + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.add_operator("flat_map", f, FlatMap::new)
    }

    /// As [`flat_map`](DataStream::flat_map), with a function that may fail: an error fails the job and names the
    /// operator.
    pub fn try_flat_map<U: Data, E: Into<BoxError> + 'static>(
        &self,
        f: impl FnMut(T, &mut Collector<'_, U>) -> Result<(), E> + Clone + Send + 'static,
    ) -> DataStream<U> {
        self.add_operator("flat_map", f, TryFlatMap::new)
    }

    /// A function with `open` and `close`, called for each record. No shuffle. Each attempt of each subtask
    /// gets a clone of the function as it was given. In BATCH, behind keyed input in the same stage, a subtask is several
    /// units of work, each an attempt of its own.
    pub fn process<U: Data>(&self, function: impl ProcessFunction<T, U> + Clone) -> DataStream<U> {
        let factory = pristine(function, Process::<T, U, _>::new);
        let mut node = Node::new("process", Operation::Operator(factory), vec![self.from.clone()]);
        node.semantics.reads_watermark = true;
        DataStream::of_node(&self.env, self.env.add(node))
    }

    /// As [`process`](DataStream::process), with a function that keeps operator state: lists of the subtask
    /// ([`States::operator_list`], [`States::union_list`]). `make` declares them and is called once for the plan and once for
    /// each attempt of each subtask. State of keys needs a [`key_by`](DataStream::key_by) before.
    pub fn process_with_states<U: Data, P: ProcessFunction<T, U>>(
        &self,
        make: impl Fn(&mut States) -> P + Send + Sync + 'static,
    ) -> DataStream<U> {
        let mut node = stateful("process", vec![self.from.clone()], make, |function, states| {
            OneInput::boxed(Process::<T, U, P>::with_states(function, states))
        });
        no_broadcast_state(&mut node);
        no_keyed_state(&mut node);
        DataStream::of_node(&self.env, self.env.add(node))
    }

    /// All records of this stream and of the others. A stream united with itself doubles. No shuffle of its own: the
    /// next operator says how each of the streams reaches it. In STREAMING records come as they arrive, in BATCH one
    /// stream after the other, unless the next operator is keyed. A union is not an operator: it has no name and
    /// no parallelism.
    pub fn union(&self, others: &[&DataStream<T>]) -> DataStream<T> {
        let mut union = self.clone();
        for other in others {
            if !self.env.same(&other.env) {
                let [here, there] = [self, other].map(|stream| stream.operator_name());
                self.env.mistake(&format!(
                    "the union of '{here}' and '{there}' joins streams of different environments; a job reads and \
                     writes within one environment"
                ));
                continue;
            }
            union.from.extend(other.from.iter().cloned());
        }
        union
    }

    /// This stream and another, of whatever type, as the two inputs of one operator. An environment joins only its own
    /// streams.
    pub fn connect<R: Data>(&self, other: &DataStream<R>) -> ConnectedStreams<T, R> {
        ConnectedStreams::new(self, other)
    }

    /// This stream, and another one of which every subtask sees all records, such as rules or settings: what it says
    /// is kept in broadcast state. In BATCH all its records come before this stream's.
    pub fn connect_broadcast<R: Data>(&self, other: &DataStream<R>) -> BroadcastConnected<T, R> {
        BroadcastConnected::new(self, other)
    }

    /// Groups records by a key, computed for each record with `f`, which must be deterministic: all records of a
    /// key are processed by one subtask. Shuffles.
    ///
    /// In STREAMING the records of a key come as they arrive, those of one producing subtask in its order. In BATCH all records of
    /// a key come before the next key's, by timestamp where they have one, then by producer and its order.
    pub fn key_by<K: Key>(&self, f: impl Fn(&T) -> K + Send + Sync + 'static) -> KeyedStream<K, T> {
        let selector = Arc::new(FnKey(f));
        let exchange: Arc<dyn ExchangeType> = Arc::new(Keyed::<T, K>::new(selector.clone()));
        KeyedStream::new(self.redistributed(exchange), selector)
    }

    /// Gives records event time: timestamps, and watermarks that say how far it has come. No shuffle.
    ///
    /// Directly behind a source each split has a watermark of its own and that of a subtask is the lowest of them;
    /// elsewhere there is one for each subtask, and those of the streams before end here. So call it on the source's
    /// stream: behind a `filter` or `map` a subtask that reads several splits has one watermark for all of them, the split
    /// that is ahead moves it, and records of the others may be late. This holds for generators of your own, too. In
    /// BATCH only timestamps are assigned: there nothing is late.
    pub fn assign_timestamps(&self, strategy: WatermarkStrategy<T>) -> DataStream<T> {
        fn factory<T: Data>(strategy: WatermarkStrategy<T>) -> OperatorFactory {
            Arc::new(move || OneInput::boxed(AssignTimestamps::new(strategy.clone())))
        }
        let (mistake, uses_clock) = (strategy.mistake(), strategy.uses_clock());
        let batch = strategy.timestamps_only();
        let timestamps = Timestamps {
            streaming: factory(strategy.clone()),
            batch: factory(batch.clone()),
            streaming_strategy: Arc::new(strategy),
            batch_strategy: Arc::new(batch),
        };
        let mut node = Node::new("timestamps", Operation::Timestamps(timestamps), vec![self.from.clone()]);
        node.mistakes.extend(mistake);
        node.semantics.processing_time = uses_clock;
        DataStream::of_node(&self.env, self.env.add(node))
    }

    /// The records that the operator emits to a side output. A program may read it any number of times; what nobody reads
    /// is dropped. No shuffle.
    pub fn side_output<U: Data>(&self, output: &SideOutput<U>) -> DataStream<U> {
        let exchange: Arc<dyn ExchangeType> = Arc::new(Unkeyed::<U>::new(Partitioning::Auto));
        let mut from = Vec::with_capacity(self.from.len());
        for edge in &self.from {
            self.env.change(edge.from, |node| {
                let known = node.side_outputs.iter().position(|side| side.name() == output.name());
                let index = known.unwrap_or_else(|| {
                    node.side_outputs.push(Arc::new(output.clone()));
                    node.side_outputs.len() - 1
                });
                let (here, there) = (std::any::type_name::<U>(), node.side_outputs[index].record_type());
                if here != there {
                    node.mistakes.push(format!(
                        "side output '{}' is read as {here} and as {there}; a side output has one type",
                        output.name()
                    ));
                }
                from.push(LogicalEdge { from: edge.from, port: index + 1, exchange: exchange.clone() });
            });
        }
        DataStream { env: self.env.clone(), from, types: PhantomData }
    }

    /// Name of the operator that the stream, or the first of a union, comes from.
    pub(super) fn operator_name(&self) -> String {
        self.from.first().map_or(String::new(), |edge| self.env.name_of(edge.from))
    }

    fn redistributed(&self, exchange: Arc<dyn ExchangeType>) -> DataStream<T> {
        let from = self.from.iter().map(|e| e.by(exchange.clone())).collect();
        DataStream { env: self.env.clone(), from, types: PhantomData }
    }

    fn partitioned(&self, partitioning: Partitioning) -> DataStream<T> {
        self.redistributed(Arc::new(Unkeyed::<T>::new(partitioning)))
    }

    /// Sends records to the subtasks of the next operator in turn: counts per sender differ by at most one. Shuffles, as
    /// all partitionings but `forward` do: ends the chain (STREAMING) or the stage (BATCH).
    pub fn rebalance(&self) -> DataStream<T> {
        self.partitioned(Partitioning::Rebalance)
    }
    /// As [`rebalance`](DataStream::rebalance), but each subtask only reaches its share of the next operator's
    /// subtasks: from 2 to 4, the first reaches 0 and 1, the second 2 and 3.
    pub fn rescale(&self) -> DataStream<T> {
        self.partitioned(Partitioning::Rescale)
    }
    /// Sends each record to a random subtask of the next operator, with a fixed seed: a repeated BATCH run sends each
    /// record to where it went before.
    pub fn shuffle(&self) -> DataStream<T> {
        self.partitioned(Partitioning::Shuffle)
    }
    /// Sends each record to every subtask of the next operator. In BATCH it is stored once and read by all.
    pub fn broadcast(&self) -> DataStream<T> {
        self.partitioned(Partitioning::Broadcast)
    }
    /// Sends all records to the first subtask of the next operator.
    pub fn global(&self) -> DataStream<T> {
        self.partitioned(Partitioning::Global)
    }
    /// Sends records to the subtask of the same index. Unequal parallelism is an error when the plan is built.
    pub fn forward(&self) -> DataStream<T> {
        self.partitioned(Partitioning::Forward)
    }
    /// Sends each record to the subtask whose index `partitioner` returns, given the number of subtasks. An index
    /// out of range fails the job.
    pub fn partition_custom(
        &self,
        partitioner: impl Fn(&T, usize) -> usize + Send + Sync + 'static,
    ) -> DataStream<T> {
        let partitioner: Arc<dyn CustomPartitioner<T>> = Arc::new(partitioner);
        self.redistributed(Arc::new(Unkeyed::custom(partitioner)))
    }

    /// Ends the stream in a sink, with as many subtasks as the job unless the handle that comes back, which names and configures the
    /// sink, says otherwise. No shuffle. When the output becomes visible is up to the sink: files when the
    /// whole job has succeeded or, in STREAMING with checkpoints, each with a checkpoint; printed lines at once.
    pub fn sink_to<S: Sink<T>>(&self, sink: S) -> DataStream<()> {
        let sink = Arc::new(TypedSink::<T, S>::new(sink));
        let name = crate::operator::sink::AnySink::describe(&*sink);
        self.add(&name, Operation::Sink(sink))
    }

    fn configure(&self, what: &str, change: impl FnOnce(&mut Node)) -> DataStream<T> {
        match &self.from[..] {
            [edge] => self.env.change(edge.from, change),
            _ => self.env.mistake(&format!("{what} was called on a union, which is not an operator")),
        }
        self.clone()
    }

    /// Names the operator for people: plans, errors, results.
    pub fn name(&self, name: &str) -> DataStream<T> {
        self.configure("name", |node| node.name = name.to_string())
    }
    /// Names the operator for restores; unique in the program.
    pub fn uid(&self, uid: &str) -> DataStream<T> {
        self.configure("uid", |node| node.uid = Some(uid.to_string()))
    }
    /// Number of subtasks of the operator, whatever that of the job. Where it differs from that of its neighbour records
    /// are redistributed in turn. Parallelism 0 is an error when the plan is built.
    pub fn parallelism(&self, parallelism: usize) -> DataStream<T> {
        self.configure("parallelism", |node| node.parallelism = Some(parallelism))
    }
    /// Number of key groups of the operator: the limit of its parallelism for all time.
    pub fn max_parallelism(&self, max_parallelism: usize) -> DataStream<T> {
        self.configure("max_parallelism", |node| node.max_parallelism = Some(max_parallelism))
    }
    /// Begins a new chain at the operator (STREAMING).
    pub fn start_new_chain(&self) -> DataStream<T> {
        self.configure("start_new_chain", |node| node.chaining = Chaining::Head)
    }
    /// Keeps the operator out of chains with its neighbours (STREAMING).
    pub fn disable_chaining(&self) -> DataStream<T> {
        self.configure("disable_chaining", |node| node.chaining = Chaining::Never)
    }
    /// Puts the operator, and what follows it, into a group whose threads no other group shares (STREAMING).
    pub fn slot_group(&self, group: &str) -> DataStream<T> {
        self.configure("slot_group", |node| node.slot_group = Some(group.to_string()))
    }
    /// Says that the operator's code may block: each subtask gets a thread of its own (STREAMING).
    pub fn blocking(&self) -> DataStream<T> {
        self.configure("blocking", |node| node.blocking = true)
    }
}
