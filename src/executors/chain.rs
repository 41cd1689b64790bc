//! Chain: the steps of one task inside one attempt of one subtask, driven by one thread.
//!
//! Place: both executors build a chain from a task of the plan, push elements in at its heads (or poll its
//! sources) and let it run; what leaves it goes to [`Exit`]s. It knows nothing of channels, files or threads.
//! Method: each step has a small queue. The step furthest downstream that has work and room to emit runs next, so
//! that what is in flight stays small; a step whose output is full keeps its cursor and is called again.
//! Invariants: a step's control elements leave after everything it emitted before them; a queue holds at most
//! [`QUEUE_ELEMENTS`] elements, so memory in a chain is bounded by its length.

use super::job::{JobEnvironment, StepMetrics};
use crate::base::accumulator::AttemptAccumulators;
use crate::base::batch::{CheckpointId, Element, ErasedBatch};
use crate::base::data::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::Result;
use crate::connectors::source::Poll;
use crate::operator::erased::AnyOperator;
use crate::operator::{Context, Progress};
use crate::plan::{Edge, PhysicalPlan, StepOperation, Task};
use crate::semantics::state::StateScope;
use crate::semantics::time::{MergeChange, WatermarkMerge};
use std::collections::VecDeque;
use std::sync::Arc;

/// Elements that may wait before a step: one being taken, one behind it.
const QUEUE_ELEMENTS: usize = 2;

/// Where elements leave a chain.
pub trait Exit: Send {
    /// Takes an element. A batch that has been emptied comes back for reuse.
    fn push(&mut self, element: Element) -> Result<Option<ErasedBatch>>;
    /// Whether nothing should be pushed at the moment.
    fn is_full(&mut self) -> bool;
    /// Makes what waits for a full batch available.
    fn flush(&mut self);
}

/// How far a chain came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainState {
    /// All steps are waiting for input.
    Drained,
    /// An exit is full.
    Full,
    /// Something outside the job must act first.
    Blocked,
}

/// What distinguishes this attempt from others of its task.
#[derive(Clone, Copy, Debug)]
pub struct ChainPosition {
    /// Index of the subtask.
    pub subtask: usize,
    /// Unit of work within the subtask.
    pub unit: usize,
    /// Number of the attempt.
    pub attempt: usize,
    /// Bytes for each table that a step of the chain holds.
    pub table_bytes: u64,
}

/// A running chain.
pub struct Chain {
    links: Vec<Link>,
    exits: Vec<Box<dyn Exit>>,
    accumulators: Option<AttemptAccumulators>,
    /// The step whose operator was called last, for errors and panics.
    at: usize,
    /// Links that have been closed, each once, whatever the others did.
    closed: usize,
}

struct Link {
    step: usize,
    name: Arc<str>,
    operator: Box<dyn AnyOperator>,
    context: Context,
    /// Logical input and, for an edge within the chain, the producing link of each feeder.
    feeders: Vec<(usize, Option<usize>)>,
    queue: VecDeque<(usize, Element)>,
    call: Call,
    merge: WatermarkMerge,
    /// Feeders that have not ended, for each logical input.
    open: Vec<usize>,
    barrier: Option<(CheckpointId, usize)>,
    /// Leaves after what the operator has emitted.
    control: VecDeque<Element>,
    targets: Vec<Target>,
    metrics: Arc<StepMetrics>,
    is_source: bool,
}

/// What came of moving a link's output on.
struct Delivered {
    /// Something moved.
    moved: bool,
    /// Nothing is left.
    all: bool,
}

/// The call that is to be made, or repeated.
enum Call {
    None,
    Process { feeder: usize, batch: ErasedBatch },
    Watermark(Timestamp),
    EndOfInput(usize),
}

#[derive(Clone, Copy)]
enum Target {
    Link { link: usize, feeder: usize },
    Exit(usize),
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
            let (operator, is_source) = match &step.operation {
                StepOperation::Operator(factory) => (factory(), false),
                StepOperation::Source(_) => (job.sources[&id].operator(at.subtask), true),
                StepOperation::Sink(_) => (job.sinks[&id].operator(), false),
            };
            let runtime = job.runtime(step, at.subtask, at.unit, at.attempt, &accumulators);
            let name = runtime.operator.clone();
            let _ = job.metrics[id].operator_type.set(operator.type_name());
            let scope = if step.grouped { StateScope::OneKey } else { StateScope::AllKeys };
            let mut feeders = Vec::new();
            for edge in plan.edges_into(id).filter(|e| e.local) {
                let from = position(task, edge.from);
                let link = links.len();
                links[from].targets.push(Target::Link { link, feeder: feeders.len() });
                feeders.push((edge.input, Some(from)));
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
                    Target::Exit(exits.len() - 1)
                })
                .collect();
            let open = (0..step.inputs).map(|i| feeders.iter().filter(|f| f.0 == i).count()).collect();
            links.push(Link {
                step: id,
                name,
                operator,
                context: Context::new(runtime, scope, at.table_bytes, job.clock.clone()),
                merge: WatermarkMerge::new(feeders.len()),
                feeders,
                queue: VecDeque::new(),
                call: Call::None,
                open,
                barrier: None,
                control: VecDeque::new(),
                targets,
                metrics: job.metrics[id].clone(),
                is_source,
            });
        }
        Ok(Chain { links, exits, accumulators: Some(accumulators), at: 0, closed: 0 })
    }

    /// Opens the operators, the last one first, so that an operator can emit as soon as it is open.
    pub fn open(&mut self) -> Result<()> {
        for i in (0..self.links.len()).rev() {
            self.at = i;
            let link = &mut self.links[i];
            link.operator.open(&mut link.context).map_err(|e| self.named(e))?;
        }
        Ok(())
    }

    /// Closes all operators; the first error is returned, but all are closed. Called again, also after a panic, it
    /// closes those that have not been.
    pub fn close(&mut self) -> Result<()> {
        let mut result = Ok(());
        while self.closed < self.links.len() {
            let i = self.closed;
            (self.at, self.closed) = (i, i + 1);
            let closed = self.links[i].operator.close().map_err(|e| self.named(e));
            result = result.and(closed);
        }
        result
    }

    /// Closes all operators after the last record and makes what user code accumulated count.
    pub fn finish(&mut self) -> Result<()> {
        self.close()?;
        self.accumulators.take().map_or(Ok(()), |accumulators| accumulators.publish())
    }

    /// Name of the operator that was called last, and the subtask.
    pub fn last_called(&self) -> (&str, usize) {
        let link = &self.links[self.at.min(self.links.len() - 1)];
        (&link.name, link.context.runtime.subtask)
    }

    fn named(&self, error: crate::base::error::Error) -> crate::base::error::Error {
        let (name, subtask) = self.last_called();
        error.in_operator(name, subtask)
    }

    /// Indices of the links that are sources.
    pub fn sources(&self) -> Vec<usize> {
        (0..self.links.len()).filter(|&i| self.links[i].is_source).collect()
    }

    /// The link of a step of the plan.
    pub fn link_of_step(&self, step: usize) -> Option<usize> {
        self.links.iter().position(|link| link.step == step)
    }

    /// Asks a source for records. At its end, its watermark rises to the maximum and its consumers see the end.
    pub fn poll(&mut self, source: usize) -> Result<Poll> {
        self.at = source;
        let link = &mut self.links[source];
        let mut watermark = None;
        let polled = link.operator.poll(&mut link.context, &mut watermark);
        if let Ok(Poll::End) = polled {
            link.operator.flush();
            link.control.extend([Element::Watermark(WATERMARK_MAX), Element::End]);
        } else if let Some(watermark) = watermark
            && watermark > link.context.watermark
        {
            link.context.watermark = watermark;
            link.operator.flush();
            link.control.push_back(Element::Watermark(watermark));
        }
        polled.map_err(|e| self.named(e))
    }

    /// Lets a control element out of a source, behind what it has emitted.
    pub fn inject(&mut self, source: usize, element: Element) {
        self.links[source].operator.flush();
        self.links[source].control.push_back(element);
    }

    /// Hands an element from outside to a link. Its queue must be empty: run the chain first.
    pub fn push(&mut self, link: usize, input: usize, element: Element) {
        let link = &mut self.links[link];
        if let Some(feeder) = link.feeders.iter().position(|f| *f == (input, None)) {
            link.queue.push_back((feeder, element));
        }
    }

    /// Hands records of the current key to a link that reads grouped input, and ends the key if they are the last.
    /// Spares the queue: a key may have a single record.
    pub fn push_grouped(&mut self, link: usize, input: usize, batch: &mut ErasedBatch, key_ends: bool) -> Result<()> {
        let records = batch.len() as u64;
        self.grouped_call(link, |link| link.operator.process(input, batch, &mut link.context))?;
        self.links[link].metrics.records_in.add(records);
        if key_ends {
            self.grouped_call(link, |link| {
                link.context.watermark = WATERMARK_MAX;
                let progress = link.operator.end_of_key(&mut link.context);
                link.context.watermark = WATERMARK_MIN;
                progress
            })?;
        }
        Ok(())
    }

    fn grouped_call(&mut self, link: usize, mut call: impl FnMut(&mut Link) -> Result<Progress>) -> Result<()> {
        loop {
            self.at = link;
            let progress = call(&mut self.links[link]).map_err(|e| self.named(e))?;
            if self.links[link].operator.is_full() {
                self.run()?;
            }
            if progress == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Runs until no step can go on.
    pub fn run(&mut self) -> Result<ChainState> {
        let mut i = self.links.len();
        let mut state = ChainState::Drained;
        while i > 0 {
            i -= 1;
            let delivered = self.deliver(i)?;
            if delivered.moved {
                // What moved on runs first.
                i = self.links.len();
                state = ChainState::Drained;
                continue;
            }
            if !delivered.all {
                if state == ChainState::Drained {
                    state = ChainState::Full;
                }
                continue;
            }
            if !self.links[i].has_work() {
                continue;
            }
            self.at = i;
            match self.links[i].work() {
                Ok(Progress::Blocked) => state = ChainState::Blocked,
                Ok(progress) => {
                    if progress == Progress::Done {
                        self.recycle(i);
                    }
                    // What it emitted runs first.
                    i = self.links.len();
                    state = ChainState::Drained;
                }
                Err(e) => return Err(self.named(e)),
            }
        }
        Ok(state)
    }

    /// Moves what link `i` has emitted to its consumers, as far as all of them have room.
    fn deliver(&mut self, i: usize) -> Result<Delivered> {
        let mut moved = false;
        loop {
            let link = &mut self.links[i];
            if !link.operator.is_full() && link.control.is_empty() {
                return Ok(Delivered { moved, all: true });
            }
            if !self.has_room(i) {
                return Ok(Delivered { moved, all: false });
            }
            let link = &mut self.links[i];
            let element = match link.operator.take() {
                Some(batch) => {
                    link.metrics.emitted(batch.len() as u64, link.operator.totals());
                    Element::Batch(batch)
                }
                None => match link.control.pop_front() {
                    Some(control) => control,
                    None => return Ok(Delivered { moved, all: true }),
                },
            };
            self.send(i, element)?;
            moved = true;
        }
    }

    fn has_room(&mut self, i: usize) -> bool {
        (0..self.links[i].targets.len()).all(|t| match self.links[i].targets[t] {
            Target::Link { link, .. } => self.links[link].queue.len() < QUEUE_ELEMENTS,
            Target::Exit(exit) => !self.exits[exit].is_full(),
        })
    }

    fn send(&mut self, i: usize, element: Element) -> Result<()> {
        let count = self.links[i].targets.len();
        for t in 1..count {
            self.send_to(i, self.links[i].targets[t], element.duplicate())?;
        }
        match count {
            0 => Ok(()),
            _ => self.send_to(i, self.links[i].targets[0], element),
        }
    }

    fn send_to(&mut self, from: usize, target: Target, element: Element) -> Result<()> {
        match target {
            Target::Link { link, feeder } => self.links[link].queue.push_back((feeder, element)),
            Target::Exit(exit) => {
                self.at = from;
                match self.exits[exit].push(element) {
                    Ok(Some(emptied)) => self.links[from].operator.recycle(emptied),
                    Ok(None) => {}
                    Err(e) => return Err(self.named(e)),
                }
            }
        }
        Ok(())
    }

    /// Gives a batch that link `i` has emptied back to the operator that filled it.
    fn recycle(&mut self, i: usize) {
        if !matches!(self.links[i].call, Call::Process { .. }) {
            return;
        }
        if let Call::Process { feeder, batch } = std::mem::replace(&mut self.links[i].call, Call::None)
            && let Some(from) = self.links[i].feeders[feeder].1
        {
            self.links[from].operator.recycle(batch);
        }
    }

    /// Makes what waits for a full batch available, everywhere in the chain. The caller runs the chain until it is
    /// drained between this call and the next. Says no where an exit was full, and something may wait still.
    pub fn flush(&mut self) -> Result<bool> {
        for i in 0..self.links.len() {
            self.links[i].operator.flush();
            if self.run()? != ChainState::Drained {
                return Ok(false);
            }
        }
        self.exits.iter_mut().for_each(|exit| exit.flush());
        Ok(true)
    }

    /// Tells the operators that there is nothing to do at the moment.
    pub fn idle(&mut self) -> Result<()> {
        for i in 0..self.links.len() {
            self.at = i;
            self.links[i].operator.idle().map_err(|e| self.named(e))?;
        }
        Ok(())
    }

    /// Whether all exits have passed on what they were given.
    pub fn exits_drained(&mut self) -> bool {
        self.exits.iter_mut().all(|exit| !exit.is_full())
    }

    /// The lowest watermark of any step.
    pub fn watermark(&self) -> Timestamp {
        self.links.iter().map(|l| l.context.watermark).min().unwrap_or(WATERMARK_MAX)
    }
}

fn position(task: &Task, step: usize) -> usize {
    task.steps.iter().position(|&s| s == step).unwrap_or(0)
}

impl Link {
    fn has_work(&self) -> bool {
        !matches!(self.call, Call::None) || !self.queue.is_empty()
    }

    /// Makes one call, or takes the next element.
    fn work(&mut self) -> Result<Progress> {
        if matches!(self.call, Call::None) {
            let Some((feeder, element)) = self.queue.pop_front() else { return Ok(Progress::Done) };
            self.take(feeder, element);
        }
        let progress = match &mut self.call {
            Call::None => return Ok(Progress::Done),
            Call::Process { feeder, batch } => {
                let input = self.feeders[*feeder].0;
                let before = batch.len();
                let progress = self.operator.process(input, batch, &mut self.context)?;
                self.metrics.records_in.add((before - batch.len()) as u64);
                // The emptied batch stays until it is given back.
                return Ok(progress);
            }
            Call::Watermark(watermark) => {
                self.context.watermark = *watermark;
                self.operator.watermark(*watermark, &mut self.context)?
            }
            Call::EndOfInput(input) => self.operator.end_of_input(*input, &mut self.context)?,
        };
        if progress == Progress::Done {
            match std::mem::replace(&mut self.call, Call::None) {
                Call::Watermark(watermark) => self.forward(Element::Watermark(watermark)),
                Call::EndOfInput(_) if self.open.iter().all(|&open| open == 0) => self.forward(Element::End),
                _ => {}
            }
        }
        Ok(progress)
    }

    /// Turns an element into the call it asks for.
    fn take(&mut self, feeder: usize, element: Element) {
        let change = match element {
            Element::Batch(batch) => {
                self.call = Call::Process { feeder, batch };
                return;
            }
            Element::Watermark(watermark) => self.merge.watermark_of(feeder, watermark),
            Element::Idle => self.merge.idle(feeder),
            Element::Active => self.merge.active(feeder),
            Element::Barrier(id) => {
                let seen = match self.barrier {
                    Some((current, seen)) if current == id => seen + 1,
                    _ => 1,
                };
                self.barrier = Some((id, seen));
                if seen == self.feeders.len() {
                    self.barrier = None;
                    self.forward(Element::Barrier(id));
                }
                return;
            }
            Element::End => {
                let input = self.feeders[feeder].0;
                self.open[input] -= 1;
                if self.open[input] == 0 {
                    self.call = Call::EndOfInput(input);
                }
                let change = self.merge.end(feeder);
                // The maximum has come before the end of the last feeder; of the others the minimum may rise.
                if let (Some(watermark), Call::None) = (change.watermark, &self.call) {
                    self.call = Call::Watermark(watermark);
                }
                return;
            }
        };
        self.apply(change);
    }

    fn apply(&mut self, change: MergeChange) {
        if let Some(watermark) = change.watermark {
            self.call = Call::Watermark(watermark);
        }
        match change.idle {
            Some(true) => self.forward(Element::Idle),
            Some(false) => self.forward(Element::Active),
            None => {}
        }
    }

    fn forward(&mut self, element: Element) {
        self.operator.flush();
        self.control.push_back(element);
    }
}
