//! Wiring: from a physical plan to subtasks joined by channels.

use super::channel::{Channel, Waker};
use super::checkpoints::{Port, Restored, keeps_state_at_end};
use super::exit::ChannelExit;
use super::gate::InputGate;
use super::subtask::Subtask;
use crate::base::config::BufferTimeout;
use crate::base::error::Result;
use crate::base::hash::hash_of;
use crate::executors::chain::{Chain, ChainPosition};
use crate::executors::job::JobEnvironment;
use crate::operator::exchange::{RouteContext, consumers_of};
use crate::plan::PhysicalPlan;
use crate::services::shuffle::{Identity, ShuffleContext};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The subtasks of a job, with the wakers that their channels use.
pub struct Wiring {
    /// All subtasks, those of a task together, tasks in order: downstream ones last.
    pub subtasks: Vec<Subtask>,
    /// A waker for each subtask, to be bound to the worker that drives it.
    pub wakers: Vec<Waker>,
}

/// How subtasks are joined, and what an attempt begins with.
pub struct Wires<'a> {
    /// How long a record may wait in a batch that is not full.
    pub timeout: BufferTimeout,
    /// Number of the attempt.
    pub attempt: usize,
    /// Whether inputs wait for each other at a barrier.
    pub aligned: bool,
    /// What the attempt goes on from.
    pub restored: Option<Arc<Restored>>,
    /// The port of a subtask, where the job takes checkpoints.
    pub port: &'a dyn Fn(usize) -> Option<Port>,
}

impl Wires<'_> {
    /// Of a job that takes no checkpoints.
    pub fn new(timeout: BufferTimeout) -> Wires<'static> {
        Wires { timeout, attempt: 0, aligned: true, restored: None, port: &|_| None }
    }
}

/// Builds all subtasks of a job that takes no checkpoints. `channel_elements` is asked once for each channel.
pub fn wire(
    plan: &PhysicalPlan,
    job: &JobEnvironment,
    timeout: BufferTimeout,
    channel_elements: impl FnMut() -> usize,
) -> Result<Wiring> {
    wire_with(plan, job, Wires::new(timeout), channel_elements)
}

/// Builds all subtasks. `channel_elements` is asked once for each channel.
pub fn wire_with(
    plan: &PhysicalPlan,
    job: &JobEnvironment,
    wires: Wires<'_>,
    mut channel_elements: impl FnMut() -> usize,
) -> Result<Wiring> {
    let mut first = Vec::with_capacity(plan.tasks.len());
    let mut count = 0;
    for task in &plan.tasks {
        first.push(count);
        count += task.parallelism;
    }
    let wakers: Vec<Waker> = (0..count).map(|_| Waker::default()).collect();

    // Channels by edge, producer and consumer.
    let mut channels: BTreeMap<(usize, usize, usize), Arc<Channel>> = BTreeMap::new();
    for edge in plan.edges.iter().filter(|e| !e.local) {
        let (from, to) = (&plan.steps[edge.from], &plan.steps[edge.to]);
        for producer in 0..from.parallelism {
            for consumer in consumers_of(edge.partitioning, producer, from.parallelism, to.parallelism) {
                let ends = (first[from.task] + producer, first[to.task] + consumer);
                let channel =
                    Channel::new(channel_elements(), wakers[ends.0].clone(), wakers[ends.1].clone());
                channels.insert((edge.id, producer, consumer), channel);
            }
        }
    }

    let holders = plan.steps.iter().filter(|step| step.combines).map(|step| step.parallelism).sum::<usize>();
    let (bounded_bytes, dir) = &job.bounded;
    let share = bounded_bytes / holders.max(1) as u64;

    let mut subtasks = Vec::with_capacity(count);
    for task in &plan.tasks {
        for index in 0..task.parallelism {
            let at = ChainPosition {
                subtask: index,
                unit: 0,
                attempt: wires.attempt,
                table_bytes: share,
                spill: Some(ShuffleContext {
                    vfs: job.vfs.clone(),
                    dir: dir.clone(),
                    name: None,
                    identity: Identity {
                        job: hash_of(job.context.id.as_str()),
                        stage: task.id as u32,
                        attempt: wires.attempt as u32,
                        producer: index as u32,
                    },
                    share_bytes: usize::try_from(share).unwrap_or(usize::MAX),
                    timestamps: false,
                }),
                short_calls: true,
                perfect_watermarks: false,
            };
            let chain = Chain::new(plan, task, at, job, |edge| {
                let to = &plan.steps[edge.to];
                let consumers = consumers_of(edge.partitioning, index, task.parallelism, to.parallelism);
                let ctx = RouteContext {
                    subtask: index,
                    parallelism: task.parallelism,
                    targets: consumers.len(),
                    max_parallelism: to.max_parallelism,
                };
                let channels =
                    consumers.map(|consumer| channels[&(edge.id, index, consumer)].clone()).collect();
                Box::new(ChannelExit::new(edge.exchange.router(&ctx), channels))
            })?;
            // A chain has one head; only the head has edges from outside.
            let head = &plan.steps[task.steps[0]];
            let mut inputs = Vec::new();
            for edge in plan.edges_into(head.id).filter(|e| !e.local) {
                for producer in 0..plan.steps[edge.from].parallelism {
                    if let Some(channel) = channels.get(&(edge.id, producer, index)) {
                        inputs.push((edge.input, channel.clone()));
                    }
                }
            }
            let gate =
                (head.inputs > 0).then(|| (InputGate::new(head.inputs, inputs, wires.aligned), head.inputs));
            // Workers are in no span of their own.
            let span = tracing::info_span!(
                parent: job.span.id(),
                "subtask",
                task = task.id,
                operators = %task.name,
                subtask = index,
            );
            let mut subtask = Subtask::new(task.id, index, chain, gate, job, span, wires.timeout);
            subtask.notices(wakers[subtasks.len()].clone());
            if let Some(port) = (wires.port)(subtasks.len()) {
                let keeps = task.steps.iter().copied().filter(|&step| keeps_state_at_end(plan, step));
                subtask.takes_checkpoints(port, keeps.collect());
            }
            if let Some(restored) = &wires.restored {
                let finished = restored.is_finished(task.id, index);
                subtask.goes_on_from(restored.clone(), finished);
            }
            subtasks.push(subtask);
        }
    }
    Ok(Wiring { subtasks, wakers })
}
