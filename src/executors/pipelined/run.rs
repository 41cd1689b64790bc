//! Run: a pipelined job from its first attempt to its last.
//!
//! Method: an attempt that fails is followed by another one if the job takes checkpoints and the restart strategy says
//! so. It goes on from the newest completed checkpoint, or begins at the beginning if there is none.
//! Invariants: an attempt begins when all threads of the one before have ended; sources and sinks have been put back to
//! the checkpoint then.

use super::channel::CHANNEL_ELEMENTS;
use super::checkpoints::{CheckpointStats, Read, Restored, Shell, ShellParts, Verdict, restore};
use super::control::Control;
use super::savepoints::restore_savepoint;
use super::simulation::{Random, Simulated, StepHook, Trace};
use super::threads::{Checkpointing, Ended};
use super::wiring::{Wires, wire_with};
use super::{simulation, threads};
use crate::base::batch::CheckpointId;
use crate::base::clock::VirtualClock;
use crate::base::config::{CheckpointMode, Settings};
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::hash::hash_of;
use crate::base::restart::{Restart, RestartStrategy, Restarts, is_worth_retrying};
use crate::base::vfs::SharedVfs;
use crate::executors::job::JobEnvironment;
use crate::plan::PhysicalPlan;
use crate::semantics::state::OperatorState;
use crate::services::checkpoint::{Foreign, Metadata, Store};
use crate::services::savepoint::is_savepoint;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often somebody looks for a wish to stop while the job waits before a restart.
const LOOK: Duration = Duration::from_millis(20);

/// A pipelined job.
pub struct PipelinedJob<'a> {
    /// What is run.
    pub plan: &'a PhysicalPlan,
    /// What its subtasks share.
    pub job: &'a JobEnvironment,
    /// How.
    pub settings: &'a Settings,
    /// The clock and the seed of a simulation.
    pub simulated: Option<(Arc<VirtualClock>, u64)>,
    /// Fails the simulation where a test wants it to.
    pub hook: Option<StepHook>,
    /// Wishes of the client.
    pub control: Control,
    /// Where checkpoints are kept, if the job takes any.
    pub store: Option<Store>,
    /// What it goes on from.
    pub restored: Option<Restored>,
    /// Whether a process before this one has worked on the job: sinks look for what it has left.
    pub goes_on: bool,
}

/// What a job came to.
pub struct Outcome {
    /// What a simulation did.
    pub trace: Option<Trace>,
    /// It was asked to stop and has.
    pub stopped: bool,
    /// It has stopped in the middle of its input, and can go on from its last checkpoint.
    pub suspended: bool,
    /// Its checkpoints, if it took any.
    pub checkpoints: Option<CheckpointStats>,
}

/// Runs a job to its end.
///
/// # Errors
/// The failure that was not answered by another attempt.
pub fn run(of: PipelinedJob<'_>, tick: &mut dyn FnMut()) -> Result<Outcome> {
    let PipelinedJob { plan, job, settings, simulated, hook, control, mut store, restored, goes_on } = of;
    let strategy = match settings.checkpoints.is_on() {
        true => settings.restart_strategy.clone().unwrap_or(RestartStrategy::STREAMING),
        // There is nothing to go on from.
        false => RestartStrategy::None,
    };
    let mut restarts = Restarts::new(strategy);
    let mut restored = restored;
    let mut stats = CheckpointStats::default();
    let mut trace: Option<Trace> = None;
    for attempt in 0.. {
        // A checkpoint that cannot be read now is a failure as any other.
        let found = match (attempt, &store) {
            (1.., Some(store)) => latest(plan, &job.vfs, store, settings.allow_non_restored_state),
            _ => Ok(restored.take()),
        };
        let Ended { result, all_ended } = match found {
            Err(error) => Ended { result: Err(error), all_ended: true },
            Ok(restored) => {
                stats.restored = restored.as_ref().map_or(0, |restored| restored.checkpoint);
                let parts = Attempt {
                    plan,
                    job,
                    settings,
                    number: attempt,
                    is_first: attempt == 0 && !goes_on,
                    restored: restored.map(Arc::new),
                    store: store.as_mut(),
                    stats: &mut stats,
                    control: control.clone(),
                };
                let simulation = simulated.as_ref().map(|(clock, seed)| (clock, *seed, hook.clone()));
                // User code also runs while operators are made.
                catch_unwind(AssertUnwindSafe(|| parts.run(simulation, &mut trace, tick)))
                    .unwrap_or_else(|panic| Ended { result: Err(Error::panic(panic)), all_ended: true })
            }
        };
        let error = match result {
            Ok(verdict) => {
                return Ok(Outcome {
                    trace,
                    stopped: verdict == Verdict::Stopped || control.is_draining(),
                    suspended: verdict == Verdict::Stopped,
                    checkpoints: store.is_some().then_some(stats),
                });
            }
            Err(error) => error,
        };
        let may_restart = all_ended && !job.cancellation.is_cancelled() && is_worth_retrying(error.kind());
        let Some(store) = store.as_mut().filter(|_| may_restart) else { return Err(error) };
        let random = simulated
            .as_ref()
            .map_or_else(|| hash_of(&Instant::now()), |(_, seed)| hash_of(&(seed, attempt)));
        let Restart::After(delay) = restarts.on_failure(job.clock.monotonic(), random) else {
            return Err(error);
        };
        tracing::warn!(%error, attempt, ?delay, "the job has failed and will be restarted");
        wait(delay, simulated.as_ref().map(|(clock, _)| clock), job)?;
        stats.restarts += 1;
        job.accumulators.reset();
        store.begin_attempt();
        control.begin_attempt();
    }
    Err(Error::Internal("there are no more attempts".into()))
}

fn wait(delay: Duration, clock: Option<&Arc<VirtualClock>>, job: &JobEnvironment) -> Result<()> {
    if let Some(clock) = clock {
        clock.advance(delay);
        return job.cancellation.check();
    }
    let start = Instant::now();
    loop {
        job.cancellation.check()?;
        let left = delay.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// The newest completed checkpoint of a job that is whole, or, if it has none yet, what the job was started from.
///
/// # Errors
/// If there are checkpoints and none can be read, or the one that can does not fit the plan.
pub fn latest(
    plan: &PhysicalPlan,
    vfs: &SharedVfs,
    store: &Store,
    allowed: bool,
) -> Result<Option<Restored>> {
    let load = |id: &CheckpointId| store.load(*id);
    match (
        first_whole(plan, store.own().iter(), load, &|handle, take| store.read(handle, take), allowed)?,
        store.origin(),
    ) {
        (None, Some(origin)) => at_path(plan, vfs, &origin.path, allowed).map(Some),
        (found, _) => Ok(found),
    }
}

/// The checkpoint or savepoint at a path.
///
/// # Errors
/// If there is none, it cannot be read, or it does not fit the plan.
pub fn at_path(plan: &PhysicalPlan, vfs: &SharedVfs, path: &Path, allowed: bool) -> Result<Restored> {
    if is_savepoint(&**vfs, path) {
        return restore_savepoint(plan, vfs, path, allowed);
    }
    let (foreign, candidates) = Foreign::find(vfs.clone(), path)?;
    let load = |dir: &std::path::PathBuf| foreign.load(dir);
    let found =
        first_whole(plan, candidates.iter(), load, &|handle, take| foreign.read(handle, take), allowed)?;
    found.ok_or_else(|| Error::Internal("a checkpoint that was found is not there".into()))
}

fn first_whole<C>(
    plan: &PhysicalPlan,
    candidates: impl Iterator<Item = C>,
    load: impl Fn(C) -> Result<Metadata>,
    read: Read<'_>,
    allowed: bool,
) -> Result<Option<Restored>> {
    let mut failure = None;
    for candidate in candidates {
        match load(candidate).and_then(|metadata| restore(plan, &metadata, read, allowed)) {
            Ok(restored) => return Ok(Some(restored)),
            Err(error) if is_damage(&error) => {
                tracing::warn!(%error, "a checkpoint cannot be read; the one before is tried");
                failure.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// Whether a checkpoint is damaged or lacks a file, so that the one before may be whole. A device that fails is none: what it holds may be
/// whole, and then the sinks have committed what goes with it; it is for the restart strategy, or the user, to try again.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } | Error::Codec(_) => true,
        Error::Io { source, .. } => matches!(source.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof),
        _ => false,
    }
}

struct Attempt<'a> {
    plan: &'a PhysicalPlan,
    job: &'a JobEnvironment,
    settings: &'a Settings,
    number: usize,
    /// Nobody has worked on the job before.
    is_first: bool,
    restored: Option<Arc<Restored>>,
    store: Option<&'a mut Store>,
    stats: &'a mut CheckpointStats,
    control: Control,
}

impl Attempt<'_> {
    fn run(
        self,
        simulation: Option<(&Arc<VirtualClock>, u64, Option<StepHook>)>,
        trace: &mut Option<Trace>,
        tick: &mut dyn FnMut(),
    ) -> Ended {
        match self.try_run(simulation, trace, tick) {
            Ok(ended) => ended,
            // Nothing was started yet.
            Err(error) => Ended { result: Err(error), all_ended: true },
        }
    }

    fn try_run(
        self,
        simulation: Option<(&Arc<VirtualClock>, u64, Option<StepHook>)>,
        trace: &mut Option<Trace>,
        tick: &mut dyn FnMut(),
    ) -> Result<Ended> {
        self.put_back()?;
        let Attempt { plan, job, settings, number, restored, store, stats, control, .. } = self;
        let parts = store.map(|store| {
            let settings = &settings.checkpoints;
            let parts = ShellParts { plan, job, settings, store, attempt: number as u64, stats, control };
            Shell::new(parts, restored.as_deref())
        });
        let parts = parts.transpose()?;
        let port = |subtask: usize| parts.as_ref().and_then(|(shell, ..)| shell.port(subtask));
        let wires = Wires {
            timeout: settings.buffer_timeout,
            attempt: number,
            aligned: settings.checkpoints.mode == CheckpointMode::ExactlyOnce,
            // State is handed on, so that the last subtask that takes it up lets go of it.
            restored,
            port: &port,
        };
        let Some((clock, seed, hook)) = simulation else {
            let wiring = wire_with(plan, job, wires, || CHANNEL_ELEMENTS)?;
            let checkpointing =
                parts.map(|(shell, writer, messages)| Checkpointing { shell, writer, messages });
            return Ok(threads::run(plan, wiring, &job.cancellation, checkpointing, tick));
        };
        // Each attempt has a schedule of its own.
        let seed = seed.wrapping_add((number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut random = Random::new(seed);
        let wiring = wire_with(plan, job, wires, || 1 + random.below(8))?;
        let checkpointing = parts.map(|(shell, writer, messages)| Checkpointing { shell, writer, messages });
        let mut random = Random::new(seed.wrapping_add(1));
        let cancellation = &job.cancellation;
        let simulated = Simulated { random: &mut random, clock, cancellation, checkpointing, hook };
        let (done, result) = simulation::run(wiring, simulated);
        *trace = Some(done.after(trace.take().unwrap_or_default()));
        Ok(Ended { result, all_ended: true })
    }

    /// Puts sources and sinks to where the attempt begins.
    fn put_back(&self) -> Result<()> {
        if self.is_first {
            return Ok(());
        }
        failpoint::check("restore.sources")?;
        let state = |step: usize| self.restored.as_ref().and_then(|restored| restored.state(step));
        let named = |step: usize, e: Error| e.in_operator(&self.plan.steps[step].name, 0);
        for (&step, source) in self.job.sources.iter() {
            let Some(of) = self.plan.steps.get(step) else { continue };
            let finished =
                |index| self.restored.as_ref().is_some_and(|restored| restored.is_finished(of.task, index));
            let finished: Vec<bool> = (0..of.parallelism).map(finished).collect();
            source.begin(state(step), &finished).map_err(|e| named(step, e))?;
        }
        let committed = self.restored.as_ref().is_some_and(|restored| restored.is_savepoint);
        for (&step, sink) in self.job.sinks.iter() {
            failpoint::check("restore.sinks")?;
            let none = OperatorState::default();
            sink.recover(state(step).unwrap_or(&none), committed).map_err(|e| named(step, e))?;
        }
        Ok(())
    }
}
