//! Run: drives the stages of a job on a pool of threads, or one unit after the other in a seeded order.

use super::layout::StageLayout;
use super::schedule::{Schedule, UnitId};
use super::unit::{Outputs, UnitContext, UnitOutputs};
use crate::base::config::Settings;
use crate::base::error::{Error, Result};
use crate::base::memory::{MemoryBudget, Reservation};
use crate::executors::job::JobEnvironment;
use crate::executors::pipelined::simulation::Random;
use crate::executors::report::{ProgressPhase, StageStats};
use crate::operator::exchange::Partitioning;
use crate::plan::PhysicalPlan;
use crate::services::shuffle::{Remainder, ShuffleOutput, ShuffleStats};
use crossbeam::channel::{RecvTimeoutError, unbounded};
use std::collections::BTreeMap;
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

/// Outputs of finished units, with the memory they hold reserved.
struct Kept {
    outputs: Outputs,
    reservations: BTreeMap<usize, Reservation>,
    retained: MemoryBudget,
}

/// What a finished unit hands over.
type Finished = (UnitId, Result<Vec<(usize, Arc<ShuffleOutput>, Reservation)>>);

/// Runs all stages. With a seed, on this thread and in an order drawn from it.
pub fn run(
    plan: &Arc<PhysicalPlan>,
    job: &JobEnvironment,
    settings: &Settings,
    seed: Option<u64>,
    tick: &mut dyn FnMut(ProgressPhase),
) -> Result<StagedOutcome> {
    let workers = plan.parallelism;
    let budget = settings.memory.0;
    let layouts: Vec<StageLayout> = plan.tasks.iter().map(|task| StageLayout::of(plan, task)).collect();
    let retained = MemoryBudget::new(budget / 2);
    let simulated = seed.is_some();
    let unit_context = Arc::new(UnitContext {
        plan: plan.clone(),
        job: job.clone(),
        layouts: layouts.clone(),
        temp_dir: settings.temp_dir.clone(),
        share_bytes: budget / 2 / workers as u64,
        running: Mutex::default(),
        wait: Box::new(move |time| {
            if !simulated {
                std::thread::sleep(time.min(LOOK));
            }
        }),
    });
    let mut state = State {
        plan,
        schedule: Schedule::new(plan.tasks.iter().zip(&layouts).map(|(task, layout)| {
            let inputs = plan.edges.iter().filter(|e| !e.local && plan.steps[e.to].task == task.id);
            (inputs.map(|e| plan.steps[e.from].task).collect(), layout.units())
        })),
        layouts,
        pending: BTreeMap::new(),
        kept: Arc::new(Mutex::new(Kept {
            outputs: Outputs::new(),
            reservations: BTreeMap::new(),
            retained: retained.clone(),
        })),
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

struct State<'a> {
    plan: &'a PhysicalPlan,
    schedule: Schedule,
    layouts: Vec<StageLayout>,
    /// Outputs of units whose stage is not complete, by edge and unit.
    pending: BTreeMap<usize, BTreeMap<usize, Arc<ShuffleOutput>>>,
    kept: Arc<Mutex<Kept>>,
    /// Totals, start and duration of each stage.
    stats: Vec<(ShuffleStats, Option<Instant>, Duration)>,
}

/// Runs one unit and ends its outputs: in memory where the budget has room, else on disk.
fn run_unit(context: &UnitContext, id: UnitId, kept: &Mutex<Kept>) -> Finished {
    let (inputs, retained) = {
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.outputs.clone(), kept.retained.clone())
    };
    let task = &context.plan.tasks[id.stage];
    let span = tracing::info_span!("unit", stage = id.stage, unit = id.unit, operators = %task.name);
    let _in_span = span.enter();
    let run = || {
        let writers = context.run(task, id.unit, &inputs)?;
        finish(context, id, writers, &retained)
    };
    // Sorting compares keys and may drop records: code of the user, outside of any operator.
    let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        Err(Error::panic(payload).in_operator(&task.name, context.layouts[id.stage].subtask(id.unit)))
    });
    context.running().remove(&(id.stage, id.unit));
    (id, outcome)
}

fn finish(
    context: &UnitContext,
    id: UnitId,
    writers: UnitOutputs,
    retained: &MemoryBudget,
) -> Result<Vec<(usize, Arc<ShuffleOutput>, Reservation)>> {
    let mut outputs = Vec::with_capacity(writers.len());
    let share = context.share_bytes / writers.len().max(1) as u64;
    for (edge, writer) in writers {
        // Reserved for the most that it can hold, given back once it is known.
        let mut reservation = retained.reservation();
        let fits = reservation.try_grow(share);
        let output = writer.finish(if fits { Remainder::Memory } else { Remainder::Disk });
        let output = output.map_err(|e| {
            let step = &context.plan.steps[context.plan.edges[edge].from];
            e.in_operator(&step.name, context.layouts[id.stage].subtask(id.unit))
        })?;
        reservation.shrink(reservation.bytes().saturating_sub(output.memory_bytes() as u64));
        outputs.push((edge, Arc::new(output), reservation));
    }
    Ok(outputs)
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
        for (edge, output, reservation) in outputs {
            add(&mut self.stats[id.stage].0, output.stats());
            self.pending.entry(edge).or_default().insert(id.unit, output);
            let held = reservation.bytes();
            let of_edge = kept.retained.reservation();
            let of_edge = kept.reservations.entry(edge).or_insert(of_edge);
            // Handed from the unit to its edge: the bytes come back and are taken again.
            drop(reservation);
            let _ = of_edge.try_grow(held);
        }
        // Partitions that only this unit reads are no longer needed.
        for edge in self.plan.edges.iter().filter(|e| !e.local && self.plan.steps[e.to].task == id.stage) {
            if edge.partitioning == Partitioning::Hash {
                let freed: usize =
                    kept.outputs.get(&edge.id).into_iter().flatten().map(|output| output.release(id.unit)).sum();
                if let Some(reservation) = kept.reservations.get_mut(&edge.id) {
                    reservation.shrink(freed as u64);
                }
            }
        }
        if self.schedule.done(id) {
            if let Some(start) = self.stats[id.stage].1 {
                self.stats[id.stage].2 = start.elapsed();
            }
            for edge in self.plan.edges.iter().filter(|e| !e.local) {
                if self.plan.steps[edge.from].task == id.stage {
                    let units = self.pending.remove(&edge.id).unwrap_or_default();
                    kept.outputs.insert(edge.id, units.into_values().collect());
                }
                if self.plan.steps[edge.to].task == id.stage {
                    kept.outputs.remove(&edge.id);
                    kept.reservations.remove(&edge.id);
                }
            }
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
            .map_err(|e| Error::Memory(format!("cannot start {workers} worker threads: {e}; use a lower parallelism")))?;
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
        let running =
            self.plan.tasks.iter().filter(|t| self.schedule.is_running(t.id)).map(|t| t.name.clone()).collect();
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
