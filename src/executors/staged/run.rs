//! Run: drives the stages of a job on a pool of threads, or one unit after the other in a seeded order.

use super::attempt::{Finished, edges_into, run_attempt};
use super::kept::Kept;
use super::layout::StageLayout;
use super::ledger::Ledger;
use super::recovery::Policy;
use super::schedule::{Attempt, Schedule, UnitId};
use super::summary::Summary;
use super::totals::StageTotals;
use super::unit::UnitContext;
use crate::base::clock::VirtualClock;
use crate::base::config::Settings;
use crate::base::error::{Error, Result};
use crate::base::memory::MemoryBudget;
use crate::executors::job::JobEnvironment;
use crate::executors::pipelined::simulation::Random;
use crate::executors::report::{ProgressPhase, StageStats};
use crate::executors::resume::ResumableJob;
use crate::plan::PhysicalPlan;
use crossbeam::channel::{RecvTimeoutError, unbounded};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
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
    /// What the units have counted.
    pub summaries: Vec<Summary>,
}

/// Runs all stages, or what a process before this one has left of them. With a seed, on this thread, in an order drawn from it and under a virtual clock.
pub fn run(
    plan: &Arc<PhysicalPlan>,
    job: &JobEnvironment,
    settings: &Settings,
    simulated: Option<(Arc<VirtualClock>, u64)>,
    resumable: Option<&ResumableJob>,
    tick: &mut dyn FnMut(ProgressPhase),
) -> Result<StagedOutcome> {
    let workers = plan.parallelism;
    let budget = settings.memory.0;
    let layouts: Vec<StageLayout> =
        plan.tasks.iter().map(|task| StageLayout::of(plan, task, &job.sources)).collect();
    let retained = MemoryBudget::new(budget / 2);
    let ledger = match resumable {
        Some(job) => {
            let directory = job.directory();
            Some(Ledger::open(directory.vfs().clone(), directory.stages(), job.id())?)
        }
        None => None,
    };
    let clock = simulated.as_ref().map(|(clock, _)| clock.clone());
    let unit_context = Arc::new(UnitContext {
        plan: plan.clone(),
        job: job.clone(),
        layouts: layouts.clone(),
        temp_dir: settings.temp_dir.clone(),
        stages_dir: resumable.map(|job| (job.directory().stages(), job.directory().attempt())),
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
        job,
        schedule: Schedule::new(plan.tasks.iter().zip(&layouts).map(|(task, layout)| {
            let inputs = edges_into(plan, task.id).map(|e| plan.steps[e.from].task);
            (inputs.collect(), layout.units())
        })),
        layouts,
        kept: Arc::new(Mutex::new(Kept::new(retained.clone()))),
        stages: plan.tasks.iter().map(|_| StageTotals::default()).collect(),
        summaries: BTreeMap::new(),
        policy: Policy::new(settings.restart_strategy.clone()),
        held: Vec::new(),
        durable: plan.tasks.iter().map(|task| is_durable(job, &task.steps)).collect(),
        ledger: None,
    };
    if let Some(ledger) = ledger {
        match resumable.is_some_and(ResumableJob::is_resumed) {
            true => state.restore(&ledger)?,
            false => ledger.clear()?,
        }
        state.ledger = Some(ledger);
    }
    match simulated {
        Some((clock, seed)) => state.run_in_turn(&unit_context, &mut Random::new(seed), &clock)?,
        None => state.run_on_pool(&unit_context, workers, tick)?,
    }
    // A wish that came while the last unit ran.
    job.cancellation.check()?;
    if !state.schedule.is_finished() {
        return Err(Error::Internal("a staged run ended before its last stage".into()));
    }
    state.summaries.values().try_for_each(|summary| summary.take_in(job))?;
    let (stages, budget_peak_bytes) = (state.stage_stats(), retained.peak());
    Ok(StagedOutcome { stages, budget_peak_bytes, summaries: state.summaries.into_values().collect() })
}

/// What the thread that runs the job knows of it.
pub struct State<'a> {
    pub plan: &'a PhysicalPlan,
    pub job: &'a JobEnvironment,
    pub schedule: Schedule,
    pub layouts: Vec<StageLayout>,
    pub kept: Arc<Mutex<Kept>>,
    pub stages: Vec<StageTotals>,
    /// Of units that are done.
    pub summaries: BTreeMap<UnitId, Summary>,
    pub policy: Policy,
    /// Units that wait for another try, with the time of it.
    pub held: Vec<(Duration, UnitId)>,
    /// By stage: whether all of its sinks can be committed by another process.
    pub durable: Vec<bool>,
    /// Where finished units are written down, if the job has a directory.
    pub ledger: Option<Ledger>,
}

/// Whether another process can commit what these steps write.
fn is_durable(job: &JobEnvironment, steps: &[usize]) -> bool {
    steps.iter().filter_map(|step| job.sinks.get(step)).all(|sink| sink.outlives_process())
}

impl State<'_> {
    fn start(&mut self) -> Vec<Attempt> {
        let attempts = self.schedule.start();
        for attempt in &attempts {
            self.stages[attempt.id.stage].started();
        }
        attempts
    }

    fn run_in_turn(
        &mut self,
        context: &Arc<UnitContext>,
        random: &mut Random,
        clock: &VirtualClock,
    ) -> Result<()> {
        let mut ready: Vec<Attempt> = Vec::new();
        loop {
            let next = self.release_held();
            ready.extend(self.start());
            context.job.cancellation.check()?;
            if ready.is_empty() {
                let Some(next) = next else { return Ok(()) };
                clock.advance(next.saturating_sub(context.job.clock.monotonic()));
                continue;
            }
            let attempt = ready.swap_remove(random.below(ready.len()));
            let kept = self.kept.clone();
            self.finished(run_attempt(context, attempt, &kept))?;
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
        let mut running = 0;
        let mut result = Ok(());
        let mut deadline: Option<Instant> = None;
        loop {
            let mut look = LOOK;
            if result.is_ok() {
                if let Some(next) = self.release_held() {
                    look = look.min(next.saturating_sub(context.job.clock.monotonic()));
                }
                for attempt in self.start() {
                    running += 1;
                    let (send, context, kept) = (send.clone(), context.clone(), self.kept.clone());
                    // First in, first out: units of an earlier stage before those of a later one.
                    pool.spawn_fifo(move || {
                        let finished = match context.job.cancellation.check() {
                            Ok(()) => run_attempt(&context, attempt, &kept),
                            Err(e) => Finished { attempt, outcome: e.into() },
                        };
                        let _ = send.send(finished);
                    });
                }
            }
            if running == 0 && (result.is_err() || self.held.is_empty()) {
                break;
            }
            match receive.recv_timeout(look) {
                Ok(finished) => {
                    running -= 1;
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
                if result.is_ok() && running == 0 {
                    // Only units that wait for another try are left.
                    return Err(Error::Cancelled);
                }
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

    fn stage_stats(&self) -> Vec<StageStats> {
        self.plan
            .tasks
            .iter()
            .zip(&self.stages)
            .map(|(task, totals)| {
                let last = task.steps.iter().filter(|&&s| self.plan.edges_from(s).all(|e| !e.local));
                let sum = totals.sum();
                StageStats {
                    id: task.id,
                    name: task.name.clone(),
                    operators: task.steps.iter().map(|&s| self.plan.steps[s].name.clone()).collect(),
                    units: self.layouts[task.id].units(),
                    attempts: self.schedule.attempts(task.id),
                    duration: totals.duration,
                    shuffle_rows: sum.rows,
                    shuffle_bytes: sum.stored_bytes,
                    skew: totals.skew(),
                    spilled_bytes: sum.spilled_bytes,
                    spills: sum.spills,
                    records_out: last.map(|&s| self.job.metrics[s].records_out.get()).sum(),
                }
            })
            .collect()
    }
}
