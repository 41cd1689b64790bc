//! Wiring: from a physical plan to subtasks joined by channels.

use super::channel::{Channel, Waker};
use super::checkpoints::{Port, Restored, keeps_state_at_end};
use super::exit::ChannelExit;
use super::feedback::{
    FEEDBACK_BATCHES, FEEDBACK_DROPPED_AT_END, FEEDBACK_SPILLED_BYTES, FeedbackChannel, FeedbackExit,
    FeedbackParts, LoopGate,
};
use super::gate::InputGate;
use super::rest::{Loops, Rest};
use super::subtask::Subtask;
use crate::base::config::BufferTimeout;
use crate::base::error::Result;
use crate::base::hash::hash_of;
use crate::executors::chain::{Chain, ChainPosition};
use crate::executors::job::JobEnvironment;
use crate::operator::exchange::{RouteContext, consumers_of};
use crate::plan::{Loop, PhysicalPlan};
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

    let finished = |task: usize, index: usize| {
        wires.restored.as_ref().is_some_and(|restored| restored.is_finished(task, index))
    };
    let rests: Vec<Arc<Rest>> = plan
        .loops
        .iter()
        .map(|of| {
            let task = plan.steps[of.head].task;
            let heads = (0..plan.tasks[task].parallelism).filter(|&index| !finished(task, index));
            Rest::new(heads.map(|index| wakers[first[task] + index].clone()).collect())
        })
        .collect();
    let loops_where = |is: &dyn Fn(&Loop) -> bool| {
        let mut loops = Loops::default();
        plan.loops.iter().zip(&rests).filter(|(of, _)| is(of)).for_each(|(_, rest)| loops.add(rest));
        loops
    };

    // Channels by edge, producer and consumer.
    let mut channels: BTreeMap<(usize, usize, usize), Arc<Channel>> = BTreeMap::new();
    for edge in plan.edges.iter().filter(|e| !e.local && !e.feedback) {
        let (from, to) = (&plan.steps[edge.from], &plan.steps[edge.to]);
        let has = |of: &Loop| (of.tasks.contains(&from.task), of.tasks.contains(&to.task));
        let within = loops_where(&|of| has(of) == (true, true));
        let into = loops_where(&|of| has(of) == (false, true));
        for producer in 0..from.parallelism {
            for consumer in consumers_of(edge.partitioning, producer, from.parallelism, to.parallelism) {
                let ends = (&wakers[first[from.task] + producer], &wakers[first[to.task] + consumer]);
                // Who has finished reads nothing, not even the end.
                let into = if finished(to.task, consumer) { Loops::default() } else { into.clone() };
                let (within, elements) = (within.clone(), channel_elements());
                let channel = Channel::among(elements, ends.0.clone(), ends.1.clone(), within, into);
                channels.insert((edge.id, producer, consumer), channel);
            }
        }
    }

    let holders = plan.steps.iter().filter(|step| step.combines).map(|step| step.parallelism).sum::<usize>();
    let (bounded_bytes, dir) = &job.bounded;
    let share = bounded_bytes / holders.max(1) as u64;
    let spill_of = |task: usize, index: usize, share: u64| ShuffleContext {
        vfs: job.vfs.clone(),
        dir: dir.clone(),
        name: None,
        identity: Identity {
            job: hash_of(job.context.id.as_str()),
            stage: task as u32,
            attempt: wires.attempt as u32,
            producer: index as u32,
        },
        share_bytes: usize::try_from(share).unwrap_or(usize::MAX),
        timestamps: false,
    };

    // Those that lead back, likewise.
    let mut back: BTreeMap<(usize, usize, usize), Arc<FeedbackChannel>> = BTreeMap::new();
    for (of, rest) in plan.loops.iter().zip(&rests) {
        let head = &plan.steps[of.head];
        let edges = || plan.edges_into(of.head).filter(|e| e.feedback);
        let into_each = edges().map(|e| plan.steps[e.from].parallelism as u64).sum::<u64>().max(1);
        let counters = &job.metrics[of.head].counters;
        for edge in edges() {
            let from = &plan.steps[edge.from];
            for producer in 0..from.parallelism {
                for consumer in consumers_of(edge.partitioning, producer, from.parallelism, head.parallelism)
                {
                    let channel = FeedbackChannel::new(FeedbackParts {
                        elements: channel_elements().min(FEEDBACK_BATCHES / into_each as usize).max(1),
                        rest: rest.clone(),
                        loops: loops_where(&|of| of.tasks.contains(&head.task)),
                        closed: finished(head.task, consumer),
                        consumer: wakers[first[head.task] + consumer].clone(),
                        exchange: edge.exchange.clone(),
                        spill: spill_of(head.task, consumer, share / into_each),
                        dropped: counters.counter(FEEDBACK_DROPPED_AT_END),
                        spilled: counters.counter(FEEDBACK_SPILLED_BYTES),
                    });
                    back.insert((edge.id, producer, consumer), channel);
                }
            }
        }
    }

    let mut subtasks = Vec::with_capacity(count);
    for task in &plan.tasks {
        for index in 0..task.parallelism {
            let at = ChainPosition {
                subtask: index,
                unit: 0,
                source_parts: None,
                attempt: wires.attempt,
                table_bytes: share,
                spill: Some(spill_of(task.id, index, share)),
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
                let router = edge.exchange.router(&ctx);
                if edge.feedback {
                    let channels = consumers.map(|consumer| back[&(edge.id, index, consumer)].clone());
                    return Box::new(FeedbackExit::new(router, channels.collect()));
                }
                let channels =
                    consumers.map(|consumer| channels[&(edge.id, index, consumer)].clone()).collect();
                Box::new(ChannelExit::new(router, channels))
            })?;
            // A chain has one head; only the head has edges from outside.
            let head = &plan.steps[task.steps[0]];
            let mut inputs = Vec::new();
            for edge in plan.edges_into(head.id).filter(|e| !e.local && !e.feedback) {
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
            let had_finished = finished(task.id, index);
            if !had_finished {
                subtask.is_in(loops_where(&|of| of.tasks.contains(&task.id)));
                if let Some((_, rest)) = plan.loops.iter().zip(&rests).find(|(of, _)| of.head == head.id) {
                    let feedback = back.iter().filter(|((edge, _, consumer), _)| {
                        plan.edges[*edge].to == head.id && *consumer == index
                    });
                    let feedback = feedback.map(|(_, channel)| channel.clone()).collect();
                    subtask.is_head(|input| LoopGate::new(input, feedback, rest.clone()));
                }
            }
            if let Some(restored) = &wires.restored {
                subtask.goes_on_from(restored.clone(), had_finished);
            }
            subtasks.push(subtask);
        }
    }
    Ok(Wiring { subtasks, wakers })
}
