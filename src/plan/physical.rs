//! PhysicalPlan: steps with their parallelism, grouped into tasks, for one execution mode.
//!
//! Method:
//! 1. Check the logical plan; drop nodes that lead to no sink.
//! 2. One step for each node; in BATCH a combining node becomes a combine step at each producer and a merge
//!    step behind the shuffle.
//! 3. Fix parallelism, and with it what an edge without explicit partitioning does.
//! 4. Group steps into tasks: chains when pipelined, stages when staged (see `stages`).
//!
//! The outcome is plain data: equal programs and options give equal plans.

use super::logical::{Chaining, LogicalEdge, LogicalPlan, Node, NodeId, Operation, OperatorFactory};
use super::loops::{self, Loop};
use super::stages;
use crate::base::config::ExecutionMode;
use crate::base::error::{Error, Result};
use crate::base::hash::default_max_parallelism;
use crate::operator::exchange::{ExchangeType, Partitioning};
use crate::operator::output::{MAIN, Port};
use crate::operator::side_output::SidePort;
use crate::operator::sink::AnySink;
use crate::operator::source::AnySource;
use crate::operator::source::Boundedness;
use std::any::Any;
use std::sync::Arc;

/// What the plan depends on beside the program.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// As asked for; AUTOMATIC is resolved here.
    pub mode: ExecutionMode,
    /// Number of subtasks where an operator has none of its own.
    pub parallelism: usize,
    /// Number of key groups where an operator has none of its own.
    pub max_parallelism: Option<usize>,
    /// Whether neighbouring operators may share a chain.
    pub chaining: bool,
}

/// One operator of the running job.
pub struct Step {
    /// Index in [`PhysicalPlan::steps`], in an order in which edges point forward.
    pub id: usize,
    /// The node it came from.
    pub node: NodeId,
    /// Name for people.
    pub name: String,
    /// Name for restores.
    pub uid: Option<String>,
    /// What is done.
    pub operation: StepOperation,
    /// Number of logical inputs.
    pub inputs: usize,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Number of key groups.
    pub max_parallelism: usize,
    /// The task it runs in.
    pub task: usize,
    /// Whether its input is grouped by key (BATCH, behind a hash edge).
    pub grouped: bool,
    /// Whether its records come divided among the units of work of a subtask: its input is grouped, or that of a step before it
    /// in the same task.
    pub divided: bool,
    /// Whether it holds a table in memory that counts against the budget.
    pub combines: bool,
    /// Whether it must see all records of its subtask in one unit of work (BATCH).
    pub whole: bool,
    /// Whether it is a function of the user that lives as long as its unit of work, and may keep something.
    pub stateful: bool,
    /// Side outputs that somebody reads.
    pub side_outputs: Vec<Arc<dyn SidePort>>,
    pub(super) chaining: Chaining,
    pub(super) slot_group: String,
    pub(super) blocking: bool,
}

/// What a step does.
#[derive(Clone)]
pub enum StepOperation {
    /// Reads input, with timestamps and watermarks after a strategy if there is one.
    Source(Arc<dyn AnySource>, Option<Arc<dyn Any + Send + Sync>>),
    /// Runs an operator.
    Operator(OperatorFactory),
    /// Writes output.
    Sink(Arc<dyn AnySink>),
}

/// An edge between two steps.
pub struct Edge {
    /// Index in [`PhysicalPlan::edges`].
    pub id: usize,
    /// Producing step.
    pub from: usize,
    /// Consuming step.
    pub to: usize,
    /// Output of the producer.
    pub port: Port,
    /// Logical input of the consumer.
    pub input: usize,
    /// How records travel, with their type.
    pub exchange: Arc<dyn ExchangeType>,
    /// The partitioning, with nothing left open.
    pub partitioning: Partitioning,
    /// Both ends run in the same subtask: records are handed over directly.
    pub local: bool,
    /// It leads back to the head of a loop.
    pub feedback: bool,
}

/// Steps that run together in each subtask: a chain (pipelined) or a stage (staged).
pub struct Task {
    /// Index in [`PhysicalPlan::tasks`], in an order in which edges between tasks point forward.
    pub id: usize,
    /// Names of its steps, for people.
    pub name: String,
    /// Its steps, in order.
    pub steps: Vec<usize>,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Tasks of different groups never share a thread.
    pub slot_group: String,
    /// User code may block: each subtask has a thread of its own.
    pub blocking: bool,
    /// Whether what a source in it reads may come in several units of work for each subtask (BATCH).
    pub divides_sources: bool,
}

/// What an executor runs.
pub struct PhysicalPlan {
    /// STREAMING or BATCH.
    pub mode: ExecutionMode,
    /// All steps; edges point to higher indices, but for those that lead back.
    pub steps: Vec<Step>,
    /// All edges.
    pub edges: Vec<Edge>,
    /// All tasks.
    pub tasks: Vec<Task>,
    /// The loops among the steps.
    pub loops: Vec<Loop>,
    /// The highest parallelism of any step.
    pub parallelism: usize,
}

impl PhysicalPlan {
    /// Checks the plan and lays it out for a mode.
    pub fn new(logical: &LogicalPlan, options: &PlanOptions) -> Result<PhysicalPlan> {
        logical.check()?;
        let mode = resolve_mode(logical, options.mode)?;
        refuse_endless(logical)?;
        loops::check(logical, mode)?;
        let (mut steps, mut edges) = lower(logical, options, mode)?;
        resolve_edges(&steps, &mut edges)?;
        let tasks = if mode == ExecutionMode::Batch {
            stages::stages(&mut steps, &mut edges)
        } else {
            stages::chains(&mut steps, &mut edges, options.chaining)
        };
        for step in &mut steps {
            let keyed = edges.iter().any(|e| e.to == step.id && e.exchange.is_sorted());
            step.grouped = keyed && mode == ExecutionMode::Batch;
        }
        for id in 0..steps.len() {
            let from_divided = |e: &Edge| e.to == id && e.local && steps[e.from].divided;
            let source = matches!(steps[id].operation, StepOperation::Source(..))
                && tasks[steps[id].task].divides_sources
                && mode == ExecutionMode::Batch;
            steps[id].divided = source || steps[id].grouped || edges.iter().any(from_divided);
        }
        let parallelism = steps.iter().map(|s| s.parallelism).max().unwrap_or(1);
        let loops = loops::find(&steps, &edges);
        Ok(PhysicalPlan { mode, steps, edges, tasks, loops, parallelism })
    }

    /// The edges into a step, those that lead back to it among them.
    pub fn edges_into(&self, step: usize) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |e| e.to == step)
    }

    /// The edges out of a step.
    pub fn edges_from(&self, step: usize) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |e| e.from == step)
    }
}

/// M1: AUTOMATIC is BATCH exactly if all sources are bounded; BATCH with an unbounded source is an error.
fn resolve_mode(logical: &LogicalPlan, mode: ExecutionMode) -> Result<ExecutionMode> {
    let needed = logical.needed();
    let unbounded =
        logical.nodes.iter().filter(|n| needed[n.id]).find(
            |n| matches!(&n.operation, Operation::Source(s) if s.boundedness() == Boundedness::Unbounded),
        );
    match (mode, unbounded) {
        (ExecutionMode::Streaming, _) => Ok(ExecutionMode::Streaming),
        (ExecutionMode::Automatic, Some(_)) => Ok(ExecutionMode::Streaming),
        (ExecutionMode::Automatic | ExecutionMode::Batch, None) => Ok(ExecutionMode::Batch),
        (ExecutionMode::Batch, Some(source)) => Err(Error::plan(
            &source.name,
            "the source is unbounded, and BATCH needs input that ends; use --execution-mode streaming or automatic",
        )),
    }
}

/// An operator that needs all of its input gets none where a source before it does not end.
fn refuse_endless(logical: &LogicalPlan) -> Result<()> {
    let needed = logical.needed();
    let mut endless: Vec<Option<&str>> = Vec::with_capacity(logical.nodes.len());
    for node in &logical.nodes {
        let source = match &node.operation {
            Operation::Source(s) if s.boundedness() == Boundedness::Unbounded => Some(node.name.as_str()),
            _ => node.edges().find_map(|e| endless[e.from]),
        };
        if let (Some(source), Some(why), true) = (source, node.needs_end, needed[node.id]) {
            return Err(Error::plan(
                &node.name,
                format!(
                    "{why}, but the source '{source}' is unbounded and its records never end; read a bounded source, or \
                     use a window"
                ),
            ));
        }
        endless.push(source);
    }
    Ok(())
}

fn lower(
    logical: &LogicalPlan,
    options: &PlanOptions,
    mode: ExecutionMode,
) -> Result<(Vec<Step>, Vec<Edge>)> {
    let needed = logical.needed();
    let groups = logical.slot_groups();
    let mut steps: Vec<Step> = Vec::new();
    let mut edges: Vec<Edge> = Vec::new();
    let mut step_of = vec![usize::MAX; logical.nodes.len()];
    for node in logical.nodes.iter().filter(|n| needed[n.id]) {
        let parallelism = match (node.parallelism, node.required_parallelism) {
            (Some(0), _) => return Err(Error::plan(&node.name, "parallelism 0; it must be at least 1")),
            (Some(p), Some((required, why))) if p != required => {
                return Err(Error::plan(
                    &node.name,
                    format!("parallelism {p}, but {why}; it must be {required}"),
                ));
            }
            (_, Some((required, _))) => required,
            (Some(p), None) => p,
            (None, None) => options.parallelism,
        };
        let max_parallelism = node
            .max_parallelism
            .or(options.max_parallelism)
            .unwrap_or_else(|| default_max_parallelism(parallelism));
        if parallelism > max_parallelism {
            return Err(Error::plan(
                &node.name,
                format!("parallelism {parallelism} is above max parallelism {max_parallelism}"),
            ));
        }
        if max_parallelism > 32_768 {
            return Err(Error::plan(&node.name, format!("max parallelism {max_parallelism} is above 32768")));
        }
        let step = |id: usize, name: String, operation: StepOperation, inputs: usize| Step {
            id,
            node: node.id,
            name,
            uid: node.uid.clone(),
            operation,
            inputs,
            parallelism,
            max_parallelism,
            task: 0,
            grouped: false,
            divided: false,
            combines: false,
            whole: false,
            stateful: false,
            side_outputs: node.side_outputs.clone(),
            chaining: node.chaining,
            slot_group: groups[node.id].clone(),
            blocking: node.blocking,
        };
        let connect = |edges: &mut Vec<Edge>, (from, port), to, input, exchange: Arc<dyn ExchangeType>| {
            let partitioning = exchange.partitioning();
            let id = edges.len();
            let (local, feedback) = (false, false);
            edges.push(Edge { id, from, port, to, input, exchange, partitioning, local, feedback });
        };
        let batch = mode == ExecutionMode::Batch;
        if let Operation::Timestamps(timestamps) = &node.operation
            && let Some(source) = source_before(logical, &needed, node)
            && let from = &mut steps[step_of[source]]
            && node.parallelism.is_none_or(|own| own == from.parallelism)
            && let StepOperation::Source(_, strategy) = &mut from.operation
        {
            let (streaming, batched) = (&timestamps.streaming_strategy, &timestamps.batch_strategy);
            *strategy = Some(if batch { batched.clone() } else { streaming.clone() });
            // The two are one operator now.
            from.uid = from.uid.take().or_else(|| node.uid.clone());
            step_of[node.id] = step_of[source];
            continue;
        }
        let combining = match &node.operation {
            Operation::Combining(c) if batch => Some(c),
            _ => None,
        };
        if let Some(combining) = combining {
            let mut partials = Vec::new();
            for edge in node.edges() {
                let from = step_of[edge.from];
                let mut combine = step(
                    steps.len(),
                    format!("combine {}", node.name),
                    StepOperation::Operator(combining.combine.clone()),
                    1,
                );
                combine.parallelism = steps[from].parallelism;
                combine.combines = true;
                combine.side_outputs.clear();
                connect(&mut edges, (from, edge.port), combine.id, 0, edge.exchange.forward());
                partials.push(combine.id);
                steps.push(combine);
            }
            let mut merge =
                step(steps.len(), node.name.clone(), StepOperation::Operator(combining.merge.clone()), 1);
            merge.combines = true;
            for from in partials {
                connect(&mut edges, (from, MAIN), merge.id, 0, combining.exchange.clone());
            }
            step_of[node.id] = merge.id;
            steps.push(merge);
            continue;
        }
        let operation = match &node.operation {
            Operation::Source(source) => StepOperation::Source(source.clone(), None),
            Operation::Timestamps(t) if batch => StepOperation::Operator(t.batch.clone()),
            Operation::Timestamps(t) => StepOperation::Operator(t.streaming.clone()),
            Operation::Operator(factory) => StepOperation::Operator(factory.clone()),
            Operation::Combining(combining) => StepOperation::Operator(combining.rolling.clone()),
            Operation::Bounded(bounded) => {
                StepOperation::Operator(if batch { bounded.batch.clone() } else { bounded.streaming.clone() })
            }
            Operation::Sink(sink) => StepOperation::Sink(sink.clone()),
        };
        let id = steps.len();
        let mut made = step(id, node.name.clone(), operation, node.inputs.len());
        let exchange = match &node.operation {
            Operation::Bounded(bounded) if batch => bounded.batch_exchange.as_ref(),
            _ => None,
        };
        // What an edge has sorted need not be held.
        let holds = matches!(node.operation, Operation::Bounded(_)) && exchange.is_none();
        // What goes round and has to wait is held by the head.
        made.combines = holds || !node.feedback.is_empty();
        made.stateful = node.semantics.reads_watermark || !node.states.is_empty();
        made.whole = matches!(&node.operation, Operation::Bounded(bounded) if bounded.whole);
        steps.push(made);
        step_of[node.id] = id;
        for (input, from) in node.inputs.iter().enumerate() {
            for edge in from {
                let exchange = exchange.unwrap_or(&edge.exchange).clone();
                if exchange.partitioning() == Partitioning::Range && !batch {
                    return Err(Error::plan(
                        &node.name,
                        "its records come by ranges of a key, which are known only when all records are there; run the \
                         job in BATCH, or name the ranges with partition_custom",
                    ));
                }
                connect(&mut edges, (step_of[edge.from], edge.port), id, input, exchange);
            }
        }
    }
    for node in logical.nodes.iter().filter(|n| needed[n.id]) {
        for LogicalEdge { from, port, exchange } in node.feedback.iter().cloned() {
            let (id, from, to) = (edges.len(), step_of[from], step_of[node.id]);
            let (partitioning, input, local) = (exchange.partitioning(), 0, false);
            edges.push(Edge { id, from, port, to, input, exchange, partitioning, local, feedback: true });
        }
    }
    Ok((steps, edges))
}

/// The source that a node reads, if it is the only one that reads it and takes its records as they come: then a
/// watermark strategy can be applied to each split.
fn source_before(logical: &LogicalPlan, needed: &[bool], node: &Node) -> Option<NodeId> {
    let mut edges = node.edges();
    let (edge, None) = (edges.next()?, edges.next()) else { return None };
    let readers = logical.nodes.iter().filter(|n| needed[n.id]).flat_map(Node::edges);
    let alone = readers.filter(|e| e.from == edge.from).count() == 1;
    let direct = matches!(edge.exchange.partitioning(), Partitioning::Auto | Partitioning::Forward);
    let is_source = matches!(logical.nodes[edge.from].operation, Operation::Source(_));
    (alone && direct && is_source).then_some(edge.from)
}

/// Decides what is still open about edges, now that parallelism is known.
fn resolve_edges(steps: &[Step], edges: &mut [Edge]) -> Result<()> {
    for edge in edges {
        let (from, to) = (&steps[edge.from], &steps[edge.to]);
        match edge.partitioning {
            Partitioning::Auto if from.parallelism == to.parallelism => {
                edge.partitioning = Partitioning::Forward
            }
            Partitioning::Auto => edge.partitioning = Partitioning::Rebalance,
            Partitioning::Forward if from.parallelism != to.parallelism => {
                return Err(Error::plan(
                    &to.name,
                    format!(
                        "a forward edge from '{}' needs equal parallelism, but it is {} there and {} here; use \
                         rebalance, or set the parallelism",
                        from.name, from.parallelism, to.parallelism
                    ),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
