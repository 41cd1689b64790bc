//! LogicalPlan: the user's transformations as nodes and edges, without parallelism, chains or threads.

use crate::base::error::{Error, Result};
use crate::operator::erased::AnyOperator;
use crate::operator::exchange::ExchangeType;
use crate::operator::output::{MAIN, Port};
use crate::operator::side_output::SidePort;
use crate::operator::sink::AnySink;
use crate::operator::source::AnySource;
use crate::semantics::state::StateDescriptor;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Index of a node, in the order in which the program was built.
pub type NodeId = usize;

/// Makes a fresh operator for an attempt of a subtask, from a pristine copy of the user's function.
pub type OperatorFactory = Arc<dyn Fn() -> Box<dyn AnyOperator> + Send + Sync>;

/// One transformation.
pub struct Node {
    /// Index in the plan.
    pub id: NodeId,
    /// Name for people: given, or made from the operation.
    pub name: String,
    /// Name for restores, unique in the plan.
    pub uid: Option<String>,
    /// What is done.
    pub operation: Operation,
    /// The edges of each logical input; several where streams were united.
    pub inputs: Vec<Vec<LogicalEdge>>,
    /// Edges from later nodes back to this one, into its first input: then it is the head of a loop.
    pub feedback: Vec<LogicalEdge>,
    /// Number of subtasks; the job's if not given.
    pub parallelism: Option<usize>,
    /// The only parallelism that makes sense for the operation, and why.
    pub required_parallelism: Option<(usize, &'static str)>,
    /// Number of key groups.
    pub max_parallelism: Option<usize>,
    /// Whether it may share a chain with its neighbours.
    pub chaining: Chaining,
    /// Operators of different groups never share a thread. Inherited from the first input if not given.
    pub slot_group: Option<String>,
    /// User code may block: gets a thread of its own.
    pub blocking: bool,
    /// Declared state.
    pub states: Vec<StateDescriptor>,
    /// Side outputs that somebody reads; the first one is port 1.
    pub side_outputs: Vec<Arc<dyn SidePort>>,
    /// Which of several implementations the planner has chosen, for readers of the plan.
    pub implementation: Option<String>,
    /// Why the operator needs all of its input before it emits anything, where it does: then no source before it may be
    /// unbounded.
    pub needs_end: Option<&'static str>,
    /// What a reader of the plan should know of its meaning.
    pub semantics: Semantics,
    /// Mistakes found while the node was built, reported when the plan is checked.
    pub mistakes: Vec<String>,
}

/// Traits of an operation that decide which warnings apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Semantics {
    /// Emits an updated result for each record in STREAMING and only the final one in BATCH.
    pub rolling: bool,
    /// Keeps state, so that it matters how many records arrive.
    pub stateful: bool,
    /// Uses the clock.
    pub processing_time: bool,
    /// Drops late records, or sends them elsewhere.
    pub drops_late: bool,
    /// Depends on the order of records: count windows, count triggers.
    pub ordered: bool,
    /// Joins streams of which at least one has no timestamps, or does not use them.
    pub interleaved: bool,
    /// User code may read the watermark.
    pub reads_watermark: bool,
    /// May emit a result before the last one, or an updated one after it.
    pub fires_repeatedly: bool,
}

/// What a node does.
#[derive(Clone)]
pub enum Operation {
    /// Reads input.
    Source(Arc<dyn AnySource>),
    /// Runs an operator, the same in both modes.
    Operator(OperatorFactory),
    /// Gives records timestamps and watermarks.
    Timestamps(Timestamps),
    /// Folds the records of a key.
    Combining(Combining),
    /// Needs all of its input at once, which each mode brings together in its own way.
    Bounded(Bounded),
    /// Writes output.
    Sink(Arc<dyn AnySink>),
}

/// Timestamps and watermarks, after a strategy. Directly behind a source the planner moves it into the source.
#[derive(Clone)]
pub struct Timestamps {
    /// STREAMING: timestamps and watermarks.
    pub streaming: OperatorFactory,
    /// BATCH: timestamps.
    pub batch: OperatorFactory,
    /// The [`WatermarkStrategy`](crate::semantics::time::WatermarkStrategy) of STREAMING, for a source.
    pub streaming_strategy: Arc<dyn Any + Send + Sync>,
    /// That of BATCH.
    pub batch_strategy: Arc<dyn Any + Send + Sync>,
}

/// A fold over the records of a key: each mode has its own best operators, and the planner chooses.
#[derive(Clone)]
pub struct Combining {
    /// STREAMING: one output for each input, or, where the node [needs the end](Node::needs_end), all results at the end.
    pub rolling: OperatorFactory,
    /// BATCH, before the shuffle: folds what it can.
    pub combine: OperatorFactory,
    /// BATCH: the edge that carries partial results by key.
    pub exchange: Arc<dyn ExchangeType>,
    /// BATCH, after the shuffle: folds the partial results of a key into the final one.
    pub merge: OperatorFactory,
}

/// An operator over all of its input. The edges of the node are those of STREAMING.
#[derive(Clone)]
pub struct Bounded {
    /// STREAMING: keeps the input until its end, in the order in which BATCH reads it.
    pub streaming: OperatorFactory,
    /// BATCH: takes the input as the stages before have left it.
    pub batch: OperatorFactory,
    /// BATCH: how records come to it, where that differs.
    pub batch_exchange: Option<Arc<dyn ExchangeType>>,
    /// Whether it must see all records of its subtask together: then BATCH begins a stage with it where the stage before
    /// divides its subtasks.
    pub whole: bool,
}

/// An edge into a node.
#[derive(Clone)]
pub struct LogicalEdge {
    /// The node the records come from.
    pub from: NodeId,
    /// Which of its outputs they leave.
    pub port: Port,
    /// How they travel.
    pub exchange: Arc<dyn ExchangeType>,
}

impl LogicalEdge {
    /// An edge from the main output of a node.
    pub fn new(from: NodeId, exchange: Arc<dyn ExchangeType>) -> LogicalEdge {
        LogicalEdge { from, port: MAIN, exchange }
    }
    /// The same records, travelling in another way.
    pub fn by(&self, exchange: Arc<dyn ExchangeType>) -> LogicalEdge {
        LogicalEdge { exchange, ..self.clone() }
    }
}

/// Whether an operator may share a chain with its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chaining {
    /// With both.
    #[default]
    Always,
    /// Only with the operators after it: a new chain begins at this one.
    Head,
    /// With none.
    Never,
}

/// All transformations of a program, in the order in which they were built.
#[derive(Default)]
pub struct LogicalPlan {
    /// The nodes; an edge only points to a lower index, but for those of [`Node::feedback`].
    pub nodes: Vec<Node>,
    /// Sinks below this index have been executed and do not run again.
    executed: NodeId,
    /// Sinks that were executed by themselves.
    executed_alone: BTreeSet<NodeId>,
    /// The only sinks that run, where not all are asked for.
    only: Option<BTreeSet<NodeId>>,
}

impl Node {
    /// A node with nothing but its operation set.
    pub fn new(name: impl Into<String>, operation: Operation, inputs: Vec<Vec<LogicalEdge>>) -> Node {
        Node {
            id: 0,
            name: name.into(),
            uid: None,
            operation,
            inputs,
            feedback: Vec::new(),
            parallelism: None,
            required_parallelism: None,
            max_parallelism: None,
            chaining: Chaining::Always,
            slot_group: None,
            blocking: false,
            states: Vec::new(),
            side_outputs: Vec::new(),
            implementation: None,
            needs_end: None,
            semantics: Semantics::default(),
            mistakes: Vec::new(),
        }
    }

    /// All edges of all inputs, but not those that lead back.
    pub fn edges(&self) -> impl Iterator<Item = &LogicalEdge> {
        self.inputs.iter().flatten()
    }
}

impl LogicalPlan {
    /// Appends a node and returns its index.
    pub fn add(&mut self, mut node: Node) -> NodeId {
        node.id = self.nodes.len();
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Takes back the node that was added last.
    pub fn withdraw(&mut self, node: NodeId) {
        if node + 1 == self.nodes.len() {
            self.nodes.pop();
            self.executed = self.executed.min(node);
        }
    }

    /// Marks the sinks among the first `built` nodes as executed: the next execution runs the others.
    pub fn executed(&mut self, built: usize) {
        self.executed = built;
    }

    /// Asks for some sinks only, or again for all that were not executed.
    pub fn only(&mut self, sinks: Option<&[NodeId]>) {
        self.only = sinks.map(|sinks| sinks.iter().copied().collect());
    }

    /// Marks some sinks as executed.
    pub fn executed_alone(&mut self, sinks: &[NodeId]) {
        self.executed_alone.extend(sinks);
    }

    fn is_due(&self, node: &Node) -> bool {
        let asked = match &self.only {
            Some(only) => only.contains(&node.id),
            None => node.id >= self.executed && !self.executed_alone.contains(&node.id),
        };
        asked && matches!(node.operation, Operation::Sink(_))
    }

    /// The nodes that lead to a sink, sinks included: only these run.
    pub fn needed(&self) -> Vec<bool> {
        let mut needed = vec![false; self.nodes.len()];
        loop {
            let mut again = false;
            for node in self.nodes.iter().rev() {
                if needed[node.id] || self.is_due(node) {
                    needed[node.id] = true;
                    node.edges().for_each(|edge| needed[edge.from] = true);
                    // What is fed back comes from nodes that this pass has gone by.
                    for edge in node.feedback.iter() {
                        again |= !std::mem::replace(&mut needed[edge.from], true);
                    }
                }
            }
            if !again {
                return needed;
            }
        }
    }

    /// Finds the mistakes that do not depend on mode and parallelism.
    pub fn check(&self) -> Result<()> {
        if self.nodes.is_empty() {
            return Err(Error::config("the job has no operators; read a source and give it a sink"));
        }
        if !self.nodes.iter().any(|node| self.is_due(node)) {
            return Err(Error::config(
                "the job has no sink, so nothing would come out; end a stream with sink_to",
            ));
        }
        let mut uids: BTreeMap<&str, &str> = BTreeMap::new();
        for node in &self.nodes {
            if let Some(mistake) = node.mistakes.first() {
                return Err(Error::plan(&node.name, mistake));
            }
            if let Some(uid) = &node.uid
                && let Some(other) = uids.insert(uid, &node.name)
            {
                return Err(Error::plan(
                    &node.name,
                    format!("uid '{uid}' is already that of operator '{other}'; a uid names one operator"),
                ));
            }
        }
        Ok(())
    }

    /// Slot group of each node: given, or that of its first input.
    pub fn slot_groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inherited = node.edges().next().map(|edge| groups[edge.from].clone());
            groups.push(node.slot_group.clone().or(inherited).unwrap_or_else(|| "default".to_string()));
        }
        groups
    }
}
