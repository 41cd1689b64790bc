//! Unit: one attempt of one unit of work: reads its inputs, drives its chain, leaves its outputs.
//!
//! Order of inputs: broadcast edges, then sources, then other edges, then keyed ones. Within an input: by producer,
//! then sequence. The keyed inputs of a step are read as one: all records of one key, of whichever input, come
//! before the next key's, and those of a key by timestamp, then input, then producer, then sequence. Records of an
//! input without timestamps count as the earliest there can be.

use super::kept::Outputs;
use super::layout::{StageLayout, partition_of_unit, partitions};
use super::schedule::{Attempt, UnitId};
use super::summary::Summary;
use crate::base::accumulator::{Accumulated, AttemptAccumulators};
use crate::base::batch::{BATCH_RECORDS, Element, ErasedBatch};
use crate::base::data::WATERMARK_MAX;
use crate::base::error::{Error, Result};
use crate::base::hash::{hash_of, key_group, subtask_of_group};
use crate::executors::chain::{Chain, ChainPosition, ChainState, Exit, Whereabouts};
use crate::executors::job::{JobEnvironment, StepMetrics};
use crate::executors::times::{Lack, Stopwatch};
use crate::operator::exchange::{
    Partitioning, ReadState, RouteContext, RowReader, RowWriter, WriteContext, consumers_of,
};
use crate::operator::source::Poll;
use crate::plan::{Edge, PhysicalPlan, Step, Task};
use crate::services::shuffle::{
    Concat, Identity, Merge, MergeInput, Partitioning as Ranges, RangeCut, ShuffleContext,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Everything a unit needs; shared by all units of the job.
pub struct UnitContext {
    pub plan: Arc<PhysicalPlan>,
    pub job: JobEnvironment,
    pub layouts: Vec<StageLayout>,
    pub temp_dir: PathBuf,
    /// Where finished outputs go that outlive the process, and its number among those of the job.
    pub stages_dir: Option<(PathBuf, u64)>,
    /// Memory of one worker.
    pub share_bytes: u64,
    /// Where the units that run are, by stage and unit.
    pub running: Mutex<BTreeMap<(usize, usize), Whereabouts>>,
    /// Lets time pass while a source has nothing.
    pub wait: Box<dyn Fn(Duration) + Send + Sync>,
}

/// The writers of a unit's edges, still to be ended.
pub type UnitOutputs = Vec<(usize, Box<dyn RowWriter>)>;

/// How the files of a unit are called.
pub fn unit_name(id: UnitId) -> String {
    format!("stage{:03}-unit{:05}", id.stage, id.unit)
}

type SharedWriter = Arc<Mutex<Option<Box<dyn RowWriter>>>>;

/// Encodes what leaves the chain.
struct RowExit {
    writer: SharedWriter,
}

impl Exit for RowExit {
    fn push(&mut self, element: Element) -> Result<Option<ErasedBatch>> {
        let Element::Batch(mut batch) = element else { return Ok(None) };
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.as_mut() {
            Some(writer) => writer.write(&mut batch)?,
            None => return Err(Error::Internal("a unit of work emits after its end".into())),
        }
        Ok(Some(batch))
    }
    fn is_full(&mut self) -> bool {
        false
    }
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

impl UnitContext {
    /// The part of a worker's memory that each holder of memory in a unit has: its writers, tables and merges.
    pub fn part_bytes(&self, task: &Task) -> u64 {
        let exits =
            self.plan.edges.iter().filter(|e| !e.local && self.plan.steps[e.from].task == task.id).count();
        let tables = task.steps.iter().filter(|&&s| self.plan.steps[s].combines).count();
        let merges = |s: &&usize| {
            self.plan.steps[**s].grouped
                || self.plan.edges_into(**s).any(|e| !e.local && e.partitioning == Partitioning::Range)
        };
        let merges = task.steps.iter().filter(merges).count();
        self.share_bytes / (exits + tables + merges).max(1) as u64
    }

    /// Runs one attempt. A panic of user code becomes an error. What a failed attempt has counted is taken back.
    pub fn run(
        &self,
        task: &Task,
        attempt: Attempt,
        inputs: &Outputs,
        watch: &mut Stopwatch,
    ) -> Result<(UnitOutputs, Summary)> {
        let mut metrics = (*self.job.metrics).clone();
        for &step in &task.steps {
            metrics[step] = StepMetrics::of_attempt(&metrics[step]);
        }
        let job = JobEnvironment { metrics: Arc::new(metrics), ..self.job.clone() };
        let ran = self.drive(&job, task, attempt, inputs, watch);
        let mut summary = Summary::of(task, &job.metrics);
        match ran {
            Ok((writers, accumulated)) => {
                summary.accumulated = accumulated;
                for &step in &task.steps {
                    if let Some(name) = job.metrics[step].operator_type.get() {
                        let _ = self.job.metrics[step].operator_type.set(name);
                    }
                }
                Ok((writers, summary))
            }
            Err(e) => {
                summary.take_back(&self.job);
                Err(e)
            }
        }
    }

    fn drive(
        &self,
        job: &JobEnvironment,
        task: &Task,
        attempt: Attempt,
        inputs: &Outputs,
        watch: &mut Stopwatch,
    ) -> Result<(UnitOutputs, Vec<Accumulated>)> {
        let layout = self.layouts[task.id];
        let unit = attempt.id.unit;
        let share = self.part_bytes(task);
        let at = ChainPosition {
            subtask: layout.subtask(unit),
            unit: unit % layout.units_per_subtask,
            source_parts: layout.divides_sources.then_some(layout.units_per_subtask),
            attempt: attempt.number as usize,
            table_bytes: share,
            spill: Some(self.shuffle_context(attempt, share)),
            short_calls: false,
            perfect_watermarks: true,
        };
        let mut writers: Vec<(usize, SharedWriter)> = Vec::new();
        let mut refused = Ok(());
        let mut chain = Chain::new(&self.plan, task, at, job, |edge| {
            let writer = self
                .write_context(edge, task, attempt, share)
                .map(|context| edge.exchange.row_writer(context));
            let writer: SharedWriter = Arc::new(Mutex::new(writer.map_err(|e| refused = Err(e)).ok()));
            writers.push((edge.id, writer.clone()));
            Box::new(RowExit { writer })
        })?;
        refused?;
        self.running().insert((task.id, unit), chain.whereabouts());
        let driven = catch_unwind(AssertUnwindSafe(|| {
            chain.open()?;
            self.feed(&mut chain, task, attempt, inputs, watch)?;
            chain.end()
        }));
        let outcome = driven.unwrap_or_else(|payload| {
            let (operator, subtask) = chain.last_called();
            Err(Error::panic(payload).in_operator(operator, subtask))
        });
        let accumulators = match outcome {
            Ok(accumulators) => accumulators,
            Err(e) => {
                // A destructor that panics, too, does not hide the failure.
                let _ = catch_unwind(AssertUnwindSafe(|| chain.close()));
                let _ = catch_unwind(AssertUnwindSafe(|| drop(chain)));
                return Err(e);
            }
        };
        drop(chain);
        let accumulated = accumulators.map_or(Ok(Vec::new()), AttemptAccumulators::take)?;
        let mut outputs = Vec::with_capacity(writers.len());
        for (edge, writer) in writers {
            let writer = writer.lock().unwrap_or_else(PoisonError::into_inner).take();
            outputs.push((edge, writer.ok_or_else(|| Error::Internal("an edge lost its writer".into()))?));
        }
        Ok((outputs, accumulated))
    }

    /// Where the units that run are, by stage and unit.
    pub fn running(&self) -> MutexGuard<'_, BTreeMap<(usize, usize), Whereabouts>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what an attempt holds while it runs: in files without a name.
    fn shuffle_context(&self, attempt: Attempt, share: u64) -> ShuffleContext {
        let process = self.stages_dir.as_ref().map_or(0, |(_, process)| *process);
        ShuffleContext {
            vfs: self.job.vfs.clone(),
            dir: self.temp_dir.clone(),
            name: None,
            identity: Identity {
                // Attempts of another process of the job are other attempts.
                job: hash_of(&(self.job.context.id.as_str(), process)),
                stage: attempt.id.stage as u32,
                attempt: attempt.number,
                producer: attempt.id.unit as u32,
            },
            share_bytes: usize::try_from(share).unwrap_or(usize::MAX),
            timestamps: false,
        }
    }

    /// For what an attempt leaves on an edge: in files with a name if there is a job directory.
    fn edge_context(&self, attempt: Attempt, edge: usize, share: u64) -> ShuffleContext {
        let mut context = self.shuffle_context(attempt, share);
        if let Some((dir, process)) = &self.stages_dir {
            context.dir.clone_from(dir);
            let Attempt { id, number } = attempt;
            context.name = Some(format!("{}-edge{edge}-attempt{process}.{number}", unit_name(id)).into());
        }
        context
    }

    fn write_context(&self, edge: &Edge, task: &Task, attempt: Attempt, share: u64) -> Result<WriteContext> {
        let unit = attempt.id.unit;
        let to = &self.plan.steps[edge.to];
        let (producer, consumer) = (&self.layouts[task.id], &self.layouts[to.task]);
        let subtask = producer.subtask(unit);
        let consumers = match edge.partitioning {
            Partitioning::Broadcast | Partitioning::Range => 0..1,
            Partitioning::Hash => 0..consumer.units(),
            other => consumers_of(other, subtask, producer.subtasks, consumer.subtasks),
        };
        let units = consumer.units();
        let groups = to.max_parallelism;
        let ranges = match edge.partitioning {
            Partitioning::Hash => {
                Ranges::new(units, |hash| subtask_of_group(key_group(hash, groups), units, groups))?
            }
            _ => Ranges::single(),
        };
        Ok(WriteContext {
            // Units of a subtask draw different random numbers.
            route: RouteContext {
                subtask: unit,
                parallelism: producer.units(),
                targets: consumers.len(),
                max_parallelism: groups,
            },
            first_partition: consumers.start,
            partitions: partitions(edge, consumer),
            shuffle: self.edge_context(attempt, edge.id, share),
            ranges,
        })
    }

    fn feed(
        &self,
        chain: &mut Chain,
        task: &Task,
        attempt: Attempt,
        outputs: &Outputs,
        watch: &mut Stopwatch,
    ) -> Result<()> {
        let unit = attempt.id.unit;
        let mut sides = self.sides(task);
        sides.sort();
        let broadcast = sides.partition_point(|side| side.rank == Side::BROADCAST);
        let (broadcast, others) = sides.split_at(broadcast);
        self.feed_sides(chain, task, attempt, outputs, broadcast)?;
        for source in chain.sources() {
            if self.layouts[task.id].divides_sources || self.layouts[task.id].is_first(unit) {
                self.read_source(chain, source, watch)?;
            } else {
                chain.inject(source, Element::Watermark(WATERMARK_MAX));
                chain.inject(source, Element::End);
                self.run_chain(chain)?;
            }
        }
        self.feed_sides(chain, task, attempt, outputs, others)
    }

    /// Reads inputs of a stage that come from others, in their order.
    fn feed_sides(
        &self,
        chain: &mut Chain,
        task: &Task,
        attempt: Attempt,
        outputs: &Outputs,
        sides: &[Side],
    ) -> Result<()> {
        let unit = attempt.id.unit;
        let share = self.part_bytes(task);
        let layout = self.layouts[task.id];
        for together in sides.chunk_by(|a, b| a.is_read_with(b)) {
            let step = &self.plan.steps[together[0].step];
            let link =
                chain.link_of_step(step.id).ok_or_else(|| Error::Internal("a stage lost a step".into()))?;
            let inputs: Vec<usize> = together.iter().map(|side| side.input).collect();
            let place = Place { step, link, layout: &layout, attempt, unit, outputs, share };
            self.read_inputs(chain, &place, &inputs)
                .map_err(|e| e.in_operator(&step.name, layout.subtask(unit)))?;
            for &input in &inputs {
                for element in [Element::Watermark(WATERMARK_MAX), Element::End] {
                    chain.push(link, input, element);
                    self.run_chain(chain)?;
                }
            }
        }
        Ok(())
    }

    /// The inputs of a stage that come from others.
    fn sides(&self, task: &Task) -> Vec<Side> {
        let mut sides = Vec::new();
        for &step in &task.steps {
            for input in 0..self.plan.steps[step].inputs {
                let outside = |e: &&Edge| !e.local && e.input == input;
                if let Some(edge) = self.plan.edges_into(step).find(outside) {
                    let rank = match edge.partitioning {
                        Partitioning::Broadcast => Side::BROADCAST,
                        Partitioning::Hash => 2,
                        _ => 1,
                    };
                    sides.push(Side { rank, step, sorted: edge.exchange.is_sorted(), input });
                }
            }
        }
        sides
    }

    fn read_source(&self, chain: &mut Chain, source: usize, watch: &mut Stopwatch) -> Result<()> {
        loop {
            self.job.cancellation.check()?;
            let polled = chain.poll(source)?;
            self.run_chain(chain)?;
            match polled {
                Poll::More => {}
                Poll::Idle(hint) => {
                    watch.pause(true, Lack::Input);
                    (self.wait)(hint.unwrap_or(Duration::from_millis(1)));
                    watch.resume();
                }
                Poll::End => return Ok(()),
            }
        }
    }

    /// Runs the chain until it wants input. Only a sink outside the job can make it wait.
    fn run_chain(&self, chain: &mut Chain) -> Result<()> {
        loop {
            match chain.run()? {
                ChainState::Drained => return Ok(()),
                ChainState::Full | ChainState::Blocked => self.pause()?,
            }
        }
    }

    /// Lets the reader of a collected stream act.
    fn pause(&self) -> Result<()> {
        self.job.cancellation.check()?;
        std::thread::sleep(Duration::from_micros(200));
        Ok(())
    }

    /// Reads one input, or several that have their keys in common: these as one, key by key.
    fn read_inputs(&self, chain: &mut Chain, place: &Place<'_>, inputs: &[usize]) -> Result<()> {
        let mut merge_inputs = Vec::new();
        let mut lanes: Vec<Lane> = Vec::new();
        let mut order = None;
        for &input in inputs {
            let outside = self.plan.edges_into(place.step.id).filter(|e| !e.local && e.input == input);
            let (keyed, unkeyed): (Vec<&Edge>, Vec<&Edge>) = outside.partition(|e| e.exchange.is_sorted());
            for edge in unkeyed {
                match edge.partitioning {
                    Partitioning::Range => self.read_range(chain, place, edge)?,
                    _ => self.read_unkeyed(chain, place, edge)?,
                }
            }
            let Some(first) = keyed.first() else { continue };
            merge_inputs.extend(producers(&keyed, lanes.len(), place.outputs)?);
            let reader = first.exchange.row_reader();
            lanes.push(Lane { input, batch: reader.new_batch(), reader });
            order = order.or_else(|| first.exchange.key_order());
        }
        if merge_inputs.is_empty() {
            return Ok(());
        }
        let order = order.ok_or_else(|| Error::Internal("a hash edge has no key".into()))?;
        let context = self.shuffle_context(place.attempt, place.share);
        let mut rows = Merge::open(context, place.unit, &merge_inputs, order)?;
        self.read_keyed(chain, place, &mut rows, &mut lanes)
    }

    fn read_unkeyed(&self, chain: &mut Chain, place: &Place<'_>, edge: &Edge) -> Result<()> {
        let Some(partition) = partition_of_unit(edge, place.step.divided, place.layout, place.unit) else {
            return Ok(());
        };
        let mut rows = Concat::new(partition, &producers(&[edge], edge.input, place.outputs)?);
        let reader = edge.exchange.row_reader();
        loop {
            self.job.cancellation.check()?;
            let mut batch = reader.new_batch();
            let state = reader.read(&mut rows, BATCH_RECORDS, &mut batch)?;
            if !batch.is_empty() {
                chain.push(place.link, edge.input, Element::Batch(batch));
                self.run_chain(chain)?;
            }
            if state == ReadState::End {
                return Ok(());
            }
        }
    }

    /// Reads the range of a sorted edge that belongs to this unit's subtask, in order.
    fn read_range(&self, chain: &mut Chain, place: &Place<'_>, edge: &Edge) -> Result<()> {
        let Some(partition) = partition_of_unit(edge, place.step.divided, place.layout, place.unit) else {
            return Ok(());
        };
        let inputs = producers(&[edge], 0, place.outputs)?;
        let cut = RangeCut::new(place.layout.subtasks, &inputs);
        let Some(hashes) = cut.hashes(place.layout.subtask(place.unit)) else { return Ok(()) };
        let order = edge.exchange.key_order();
        let order = order.ok_or_else(|| Error::Internal("a range edge has no key".into()))?;
        let context = self.shuffle_context(place.attempt, place.share);
        let mut rows = Merge::open_range(context, partition, &inputs, order, hashes)?;
        if rows.advance()?.is_none() {
            return Ok(());
        }
        let reader = edge.exchange.row_reader();
        loop {
            self.job.cancellation.check()?;
            let mut batch = reader.new_batch();
            let state = reader.read_merged(&mut rows, BATCH_RECORDS, &mut batch)?;
            chain.push(place.link, edge.input, Element::Batch(batch));
            self.run_chain(chain)?;
            if state == ReadState::End {
                return Ok(());
            }
        }
    }

    /// Hands the rows of a merge to their inputs, whose indices in the merge are those of the lanes.
    fn read_keyed(
        &self,
        chain: &mut Chain,
        place: &Place<'_>,
        rows: &mut Merge,
        lanes: &mut [Lane],
    ) -> Result<()> {
        let Some(first) = rows.advance()? else { return Ok(()) };
        let mut at = first.input;
        let several = lanes.len() > 1;
        let mut runs = 0u64;
        loop {
            let lane = lanes.get_mut(at).ok_or_else(|| {
                Error::Internal("a merge has a row of an input that it was not given".into())
            })?;
            let state = lane.reader.read_run(rows, BATCH_RECORDS, &mut lane.batch)?;
            let key_ends = matches!(state, ReadState::KeyEnd | ReadState::End);
            chain.push_grouped((place.link, lane.input), &mut lane.batch, key_ends, &|| self.pause())?;
            if state == ReadState::End {
                return Ok(());
            }
            if several {
                at = rows.current_input().unwrap_or(at);
            }
            runs += 1;
            if runs.is_multiple_of(1024) {
                self.job.cancellation.check()?;
            }
        }
    }
}

/// An input of a step that comes from other stages. Their order is that in which they are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    rank: u8,
    step: usize,
    sorted: bool,
    input: usize,
}

impl Side {
    /// The rank of inputs that all units read: what they say is known before anything else comes.
    const BROADCAST: u8 = 0;

    /// Whether both have their keys in common: all of a key comes before the next one, from either.
    fn is_read_with(&self, other: &Side) -> bool {
        self.sorted && other.sorted && self.step == other.step
    }
}

/// Who reads, and what.
struct Place<'a> {
    step: &'a Step,
    link: usize,
    layout: &'a StageLayout,
    attempt: Attempt,
    unit: usize,
    outputs: &'a Outputs,
    share: u64,
}

/// One input of those that are read key by key.
struct Lane {
    input: usize,
    reader: Box<dyn RowReader>,
    batch: ErasedBatch,
}

/// The producers of an input, those of its edges one after the other, as input `input` of a reader. Outputs without
/// rows say nothing about timestamps and are left out.
fn producers(edges: &[&Edge], input: usize, outputs: &Outputs) -> Result<Vec<MergeInput>> {
    let mut inputs = Vec::new();
    let mut producer = 0;
    for edge in edges {
        for output in outputs.get(&edge.id).into_iter().flatten() {
            if output.stats().rows > 0 {
                inputs.push(MergeInput { input, producer, output: output.clone() });
            }
            producer += 1;
        }
    }
    if inputs.iter().any(|m: &MergeInput| m.output.has_timestamps() != inputs[0].output.has_timestamps()) {
        return Err(Error::user(
            "some of the united streams have timestamps and some have none; give all or none",
        ));
    }
    Ok(inputs)
}
