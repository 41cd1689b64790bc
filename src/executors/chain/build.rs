//! How the steps of a task become a chain.

use super::cut::Cuts;
use super::link::{Call, Consumer, Link, Pace, Tally, Target};
use super::{Chain, Exit, Whereabouts};
use crate::base::error::Result;
use crate::executors::job::JobEnvironment;
use crate::operator::Context;
use crate::plan::{Edge, PhysicalPlan, StepOperation, Task};
use crate::semantics::state::StateScope;
use crate::semantics::time::WatermarkMerge;
use crate::services::shuffle::ShuffleContext;
use std::collections::VecDeque;

/// What distinguishes this attempt from others of its task.
#[derive(Clone)]
pub struct ChainPosition {
    /// Index of the subtask.
    pub subtask: usize,
    /// Unit of work within the subtask.
    pub unit: usize,
    /// Units of work that share what the sources of the subtask read, if they do.
    pub source_parts: Option<usize>,
    /// Number of the attempt.
    pub attempt: usize,
    /// Bytes for each table that a step of the chain holds.
    pub table_bytes: u64,
    /// Whether batches may be cut so that calls of slow user code stay short.
    pub short_calls: bool,
    /// Whether event time stands still until the end of a key, or of the input: what sources promise is left out.
    pub perfect_watermarks: bool,
    /// Where a table that has grown too large goes.
    pub spill: Option<ShuffleContext>,
}

impl Chain {
    /// Builds the chain of a task. `exit` makes the sending end of each edge that leaves it.
    pub fn new(
        plan: &PhysicalPlan,
        task: &Task,
        at: ChainPosition,
        job: &JobEnvironment,
        mut exit: impl FnMut(&Edge) -> Box<dyn Exit>,
    ) -> Result<Chain> {
        let mut links: Vec<Link> = Vec::with_capacity(task.steps.len());
        let mut exits = Vec::new();
        let accumulators = job.accumulators.attempt();
        for &id in &task.steps {
            let step = &plan.steps[id];
            let (mut operator, is_source) = match &step.operation {
                StepOperation::Operator(factory) => (factory(), false),
                StepOperation::Source(..) => match at.source_parts {
                    Some(parts) => (job.sources[&id].operator_of_part(at.subtask, at.unit, parts), true),
                    None => (job.sources[&id].operator(at.subtask), true),
                },
                StepOperation::Sink(_) => (job.sinks[&id].operator(), false),
            };
            operator.out().attach(&step.side_outputs);
            let runtime = job.runtime(step, at.subtask, at.unit, at.attempt, &accumulators);
            let name = runtime.operator.clone();
            let _ = job.metrics[id].operator_type.set(operator.type_name());
            let scope = if step.grouped { StateScope::OneKey } else { StateScope::AllKeys };
            let mut feeders = Vec::new();
            for edge in plan.edges_into(id).filter(|e| e.local) {
                let from = position(task, edge.from);
                let link = links.len();
                let to = Consumer::Link { link, feeder: feeders.len() };
                links[from].targets.push(Target { port: edge.port, to });
                feeders.push((edge.input, Some((from, edge.port))));
            }
            // What comes from outside arrives merged: one feeder for each logical input that has such edges.
            for input in 0..step.inputs {
                if plan.edges_into(id).any(|e| !e.local && e.input == input) {
                    feeders.push((input, None));
                }
            }
            let targets = plan
                .edges_from(id)
                .filter(|e| !e.local)
                .map(|edge| {
                    exits.push(exit(edge));
                    Target { port: edge.port, to: Consumer::Exit(exits.len() - 1) }
                })
                .collect();
            let open = (0..step.inputs).map(|i| feeders.iter().filter(|f| f.0 == i).count()).collect();
            links.push(Link {
                step: id,
                name,
                makes_watermarks: operator.makes_watermarks() || operator.emits_at_end(),
                emits_at_end: operator.emits_at_end(),
                next_timer: None,
                clock_reached: None,
                operator,
                context: Context::new(runtime, scope, at.table_bytes, at.spill.clone(), job.clock.clone()),
                after: None,
                merge: WatermarkMerge::new(feeders.len()),
                feeders,
                queue: VecDeque::new(),
                call: Call::None,
                open,
                barrier: None,
                unfinished: None,
                control: VecDeque::new(),
                targets,
                metrics: job.metrics[id].clone(),
                tally: Tally::default(),
                pace: Pace::new(at.short_calls),
                is_source,
            });
        }
        let whereabouts = Whereabouts::new(links.iter().map(|link| link.name.clone()), at.subtask);
        let cancellation = job.cancellation.clone();
        Ok(Chain {
            links,
            exits,
            accumulators: Some(accumulators),
            at: whereabouts,
            cancellation,
            perfect_watermarks: at.perfect_watermarks,
            calls: 0,
            closed: 0,
            cuts: Cuts::default(),
        })
    }
}

fn position(task: &Task, step: usize) -> usize {
    task.steps.iter().position(|&s| s == step).unwrap_or(0)
}
