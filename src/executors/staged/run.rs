//! Run: drives the stages of a job on a pool of threads, or one unit after the other in a seeded order.

use super::kept::{self, Kept, Left};
use super::layout::{StageLayout, partition_of_unit};
use super::schedule::{Schedule, UnitId};
use super::unit::{UnitContext, UnitOutputs};
use crate::base::clock::VirtualClock;
use crate::base::config::Settings;
use crate::base::error::{Error, Result};
use crate::base::memory::MemoryBudget;
use crate::executors::job::JobEnvironment;
use crate::executors::pipelined::simulation::Random;
use crate::executors::report::{ProgressPhase, StageStats};
use crate::executors::times::{Lack, Stopwatch};
use crate::operator::exchange::{Partitioning, RowWriter};
use crate::plan::{Edge, PhysicalPlan};
use crate::services::shuffle::ShuffleStats;
use crossbeam::channel::{RecvTimeoutError, unbounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a cancelled job waits for user code to return.
const CANCEL_GRACE: Duration = Duration::from_secs(1);
/// How often somebody looks at progress and cancellation while units run.
const LOOK: Duration = Duration::from_millis(20);

/// What a staged run came to.
pub struct StagedOutcome {
    /// The stages in the order of the plan.
    pub stages: Vec<StageStats>,
    /// The most memory that finished outputs held at once.
    pub budget_peak_bytes: u64,
}

/// What a finished unit hands over.
type Finished = (UnitId, Result<Vec<Left>>);

/// Runs all stages. With a seed, on this thread, in an order drawn from it and under a virtual clock.
pub fn run(
    plan: &Arc<PhysicalPlan>,
    job: &JobEnvironment,
    settings: &Settings,
    simulated: Option<(Arc<VirtualClock>, u64)>,
    tick: &mut dyn FnMut(ProgressPhase),
) -> Result<StagedOutcome> {
    let workers = plan.parallelism;
    let budget = settings.memory.0;
    let layouts: Vec<StageLayout> = plan.tasks.iter().map(|task| StageLayout::of(plan, task)).collect();
    let retained = MemoryBudget::new(budget / 2);
    let (clock, seed) = simulated.unzip();
    let unit_context = Arc::new(UnitContext {
        plan: plan.clone(),
        job: job.clone(),
        layouts: layouts.clone(),
        temp_dir: settings.temp_dir.clone(),
        share_bytes: budget / 2 / workers as u64,
        running: Mutex::default(),
        wait: Box::new(move |time| match &clock {
            // A source that waits for the clock would wait for ever if nothing moved it.
            Some(clock) => clock.advance(time.max(Duration::from_micros(1))),
            None => std::thread::sleep(time.min(LOOK)),
        }),
    });
    let mut state = State {
        plan,
        schedule: Schedule::new(plan.tasks.iter().zip(&layouts).map(|(task, layout)| {
            let inputs = edges_into(plan, task.id).map(|e| plan.steps[e.from].task);
            (inputs.collect(), layout.units())
        })),
        layouts,
        kept: Arc::new(Mutex::new(Kept::new(retained.clone()))),
        stats: plan.tasks.iter().map(|_| (ShuffleStats::default(), None, Duration::ZERO)).collect(),
    };
    match seed {
        Some(seed) => state.run_in_turn(&unit_context, &mut Random::new(seed))?,
        None => state.run_on_pool(&unit_context, workers, tick)?,
    }
    // A wish that came while the last unit ran.
    job.cancellation.check()?;
    Ok(StagedOutcome { stages: state.stage_stats(job), budget_peak_bytes: retained.peak() })
}

/// The edges that a stage reads from others.
fn edges_into(plan: &PhysicalPlan, stage: usize) -> impl Iterator<Item = &Edge> {
    plan.edges.iter().filter(move |e| !e.local && plan.steps[e.to].task == stage)
}

struct State<'a> {
    plan: &'a PhysicalPlan,
    schedule: Schedule,
    layouts: Vec<StageLayout>,
    kept: Arc<Mutex<Kept>>,
    /// Totals, start and duration of each stage.
    stats: Vec<(ShuffleStats, Option<Instant>, Duration)>,
}

/// Runs one unit and ends its outputs: in memory where the budget has room, else on disk.
fn run_unit(context: &UnitContext, id: UnitId, kept: &Mutex<Kept>) -> Finished {
    let (inputs, budget) = {
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.inputs(edges_into(&context.plan, id.stage).map(|e| e.id)), kept.budget())
    };
    let task = &context.plan.tasks[id.stage];
    let subtask = context.layouts[id.stage].subtask(id.unit);
    // Threads of the pool are in no span of their own.
    let span = tracing::info_span!(
        parent: context.job.span.id(),
        "unit",
        stage = id.stage,
        unit = id.unit,
        operators = %task.name,
        subtask,
    );
    let _in_span = span.enter();
    let mut watch = Stopwatch::start(context.job.times.clone(), id.stage, context.job.clock.clone());
    // Sorting compares keys and may drop records: code of the user, outside of any operator.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let writers = context.run(task, id.unit, &inputs, &mut watch)?;
        finish(context, id, writers, &budget)
    }));
    let outcome =
        outcome.unwrap_or_else(|payload| Err(Error::panic(payload).in_operator(&task.name, subtask)));
    watch.pause(true, Lack::Input);
    context.running().remove(&(id.stage, id.unit));
    (id, outcome)
}

fn finish(
    context: &UnitContext,
    id: UnitId,
    writers: UnitOutputs,
    budget: &MemoryBudget,
) -> Result<Vec<Left>> {
    let share = context.part_bytes(&context.plan.tasks[id.stage]);
    let end = |(edge, writer): (usize, Box<dyn RowWriter>)| {
        let (output, reservation) = kept::finish(budget, share, |remainder| writer.finish(remainder))
            .map_err(|e| {
                let step = &context.plan.steps[context.plan.edges[edge].from];
                e.in_operator(&step.name, context.layouts[id.stage].subtask(id.unit))
            })?;
        Ok(Left { edge, output, reservation })
    };
    writers.into_iter().map(end).collect()
}

impl State<'_> {
    fn started(&mut self, units: &[UnitId]) {
        for unit in units {
            self.stats[unit.stage].1.get_or_insert_with(Instant::now);
        }
    }

    /// Takes the outputs of a unit over; when its stage is complete they can be read, and what nobody will read any
    /// more is dropped.
    fn finished(&mut self, (id, outcome): Finished) -> Result<()> {
        let outputs = outcome?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for left in outputs {
            add(&mut self.stats[id.stage].0, left.output.stats());
            kept.put(id.unit, left);
        }
        let shared = [Partitioning::Broadcast, Partitioning::Range];
        for edge in edges_into(self.plan, id.stage).filter(|e| !shared.contains(&e.partitioning)) {
            // Only this unit reads its partition.
            let divided = self.plan.steps[edge.to].divided;
            if let Some(partition) = partition_of_unit(edge, divided, &self.layouts[id.stage], id.unit) {
                kept.release(edge.id, partition);
            }
        }
        if self.schedule.done(id) {
            if let Some(start) = self.stats[id.stage].1 {
                self.stats[id.stage].2 = start.elapsed();
            }
            for edge in
                self.plan.edges.iter().filter(|e| !e.local && self.plan.steps[e.from].task == id.stage)
            {
                kept.complete(edge.id);
            }
            edges_into(self.plan, id.stage).for_each(|edge| kept.forget(edge.id));
        }
        Ok(())
    }

    fn run_in_turn(&mut self, context: &Arc<UnitContext>, random: &mut Random) -> Result<()> {
        let mut ready: Vec<UnitId> = Vec::new();
        loop {
            let new = self.schedule.start();
            self.started(&new);
            ready.extend(new);
            if ready.is_empty() {
                return Ok(());
            }
            context.job.cancellation.check()?;
            let id = ready.swap_remove(random.below(ready.len()));
            let kept = self.kept.clone();
            self.finished(run_unit(context, id, &kept))?;
        }
    }

    fn run_on_pool(
        &mut self,
        context: &Arc<UnitContext>,
        workers: usize,
        tick: &mut dyn FnMut(ProgressPhase),
    ) -> Result<()> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .thread_name(|i| format!("unit-{i}"))
            .build()
            .map_err(|e| {
                Error::Memory(format!("cannot start {workers} worker threads: {e}; use a lower parallelism"))
            })?;
        let (send, receive) = unbounded::<Finished>();
        let mut running: Vec<UnitId> = Vec::new();
        let mut result = Ok(());
        let mut deadline: Option<Instant> = None;
        loop {
            if result.is_ok() {
                let new = self.schedule.start();
                self.started(&new);
                for id in new {
                    running.push(id);
                    let (send, context, kept) = (send.clone(), context.clone(), self.kept.clone());
                    // First in, first out: units of an earlier stage before those of a later one.
                    pool.spawn_fifo(move || {
                        let finished = match context.job.cancellation.check() {
                            Ok(()) => run_unit(&context, id, &kept),
                            Err(e) => (id, Err(e)),
                        };
                        let _ = send.send(finished);
                    });
                }
            }
            if running.is_empty() {
                break;
            }
            match receive.recv_timeout(LOOK) {
                Ok(finished) => {
                    running.retain(|id| *id != finished.0);
                    if result.is_err() {
                        continue;
                    }
                    if let Err(e) = self.finished(finished) {
                        // The others stop at their next batch.
                        context.job.cancellation.cancel();
                        result = Err(e);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            tick(self.phase());
            if context.job.cancellation.is_cancelled() {
                let until = *deadline.get_or_insert_with(|| Instant::now() + CANCEL_GRACE);
                if Instant::now() > until {
                    for unit in context.running().values() {
                        let stuck = unit.does_not_return(CANCEL_GRACE);
                        if result.is_ok() || matches!(result, Err(Error::Cancelled)) {
                            result = Err(stuck);
                        }
                    }
                    // Dropping a pool waits for its threads; this one has a thread that may never end.
                    std::mem::forget(pool);
                    return result;
                }
            }
        }
        result
    }

    fn phase(&self) -> ProgressPhase {
        let (stages_done, stages_total, units_done, units_total) = self.schedule.progress();
        let running = self
            .plan
            .tasks
            .iter()
            .filter(|t| self.schedule.is_running(t.id))
            .map(|t| t.name.clone())
            .collect();
        ProgressPhase::Batch { stages_done, stages_total, units_done, units_total, running }
    }

    fn stage_stats(&self, job: &JobEnvironment) -> Vec<StageStats> {
        self.plan
            .tasks
            .iter()
            .zip(&self.stats)
            .map(|(task, (totals, _, duration))| {
                let last = task.steps.iter().filter(|&&s| self.plan.edges_from(s).all(|e| !e.local));
                StageStats {
                    id: task.id,
                    name: task.name.clone(),
                    operators: task.steps.iter().map(|&s| self.plan.steps[s].name.clone()).collect(),
                    units: self.layouts[task.id].units(),
                    attempts: self.layouts[task.id].units(),
                    duration: *duration,
                    shuffle_bytes: totals.stored_bytes,
                    spilled_bytes: totals.spilled_bytes,
                    spills: totals.spills,
                    records_out: last.map(|&s| job.metrics[s].records_out.get()).sum(),
                }
            })
            .collect()
    }
}

fn add(total: &mut ShuffleStats, more: ShuffleStats) {
    total.rows += more.rows;
    total.raw_bytes += more.raw_bytes;
    total.stored_bytes += more.stored_bytes;
    total.spilled_bytes += more.spilled_bytes;
    total.runs += more.runs;
    total.spills += more.spills;
}
