//! Environment: where a program begins: its settings, its parameters and the plan it builds.

use super::client::JobClient;
use super::data_stream::DataStream;
use super::iterate::refuse_lossy;
use super::job::{self, JobPlan};
use super::result::JobResult;
use crate::base::clock::{Clock, SystemClock};
use crate::base::config::{
    BufferTimeout, CheckpointMode, CheckpointStorage, Driver, ExecutionMode, ExplainFormat,
    PartialCheckpoints, PartialSettings, Restore, Settings,
};
use crate::base::data::Data;
use crate::base::error::{Error, Result};
use crate::base::memory::ByteSize;
use crate::base::parameters::Parameters;
use crate::base::restart::RestartStrategy;
use crate::base::vfs::{OsVfs, SharedVfs};
use crate::connectors::source::{Generate, IterSource, Source};
use crate::executors::pipelined::simulation::StepHook;
use crate::plan::{
    LogicalPlan, Node, NodeId, Operation, PhysicalPlan, PlanOptions, explain, mermaid, without_uid,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where a program begins. Cloning gives another handle to the same plan.
///
/// Settings are given by calls, or all at once by [`from_args`](Environment::from_args) or
/// [`with_settings`](Environment::with_settings). A call with a value that cannot be used is reported by `execute` and `explain`, before
/// anything runs.
#[derive(Clone)]
pub struct Environment {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Mutex<Settings>,
    parameters: Mutex<Parameters>,
    plan: Mutex<LogicalPlan>,
    mistakes: Mutex<Vec<String>>,
    vfs: Mutex<SharedVfs>,
    clock: Mutex<Arc<dyn Clock>>,
    hook: Mutex<Option<StepHook>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Environment {
    fn default() -> Self {
        Environment::with_settings(Settings::default())
    }
}

/// A finite collection that can be read from the start again.
pub trait IntoRecords: IntoIterator + Clone + Send + Sync + 'static {}
impl<I: IntoIterator + Clone + Send + Sync + 'static> IntoRecords for I {}

impl Environment {
    /// An environment with the default settings: streaming, one subtask for each core.
    pub fn new() -> Self {
        Environment::default()
    }

    /// An environment with these settings.
    pub fn with_settings(settings: Settings) -> Self {
        Environment {
            shared: Arc::new(Shared {
                settings: Mutex::new(settings),
                parameters: Mutex::default(),
                plan: Mutex::default(),
                mistakes: Mutex::default(),
                vfs: Mutex::new(OsVfs::shared()),
                clock: Mutex::new(SystemClock::new()),
                hook: Mutex::default(),
            }),
        }
    }

    /// An environment from the command line, environment variables and a configuration file; what is not an option
    /// of the engine becomes a parameter. `--help` prints the options and ends the process. Programs with a clap
    /// struct of their own flatten [`EngineArgs`](super::args::EngineArgs) into it instead.
    ///
    /// # Errors
    /// An option, variable or entry that is unknown or cannot be used.
    pub fn from_args() -> Result<Self> {
        let (settings, parameters) = Settings::from_args_iter(std::env::args_os())?;
        Ok(Environment::with_settings(settings).parameters(parameters))
    }

    fn set(self, change: PartialSettings) -> Self {
        if let Err(e) = lock(&self.shared.settings).apply(&change) {
            self.mistake(&e.to_string());
        }
        self
    }

    /// How the plan is run; STREAMING if nothing is said.
    pub fn execution_mode(self, mode: ExecutionMode) -> Self {
        self.set(PartialSettings { execution_mode: Some(mode), ..Default::default() })
    }
    /// Subtasks per operator where the operator says nothing.
    pub fn parallelism(self, parallelism: usize) -> Self {
        self.set(PartialSettings { parallelism: Some(parallelism), ..Default::default() })
    }
    /// Number of key groups: the upper limit of every parallelism.
    pub fn max_parallelism(self, max_parallelism: usize) -> Self {
        self.set(PartialSettings { max_parallelism: Some(max_parallelism), ..Default::default() })
    }
    /// Memory for sorting, shuffles and tables of a batch job; half of the machine's if nothing is said. What does not
    /// fit is spilled. State of a streaming job is not counted.
    pub fn memory(self, memory: ByteSize) -> Self {
        self.set(PartialSettings { memory: Some(memory), ..Default::default() })
    }
    /// How long a record may wait in a batch that is not full (STREAMING).
    pub fn buffer_timeout(self, timeout: BufferTimeout) -> Self {
        self.set(PartialSettings { buffer_timeout: Some(timeout), ..Default::default() })
    }
    /// How often periodic watermarks are made, in processing time (STREAMING).
    pub fn auto_watermark_interval(self, interval: Duration) -> Self {
        self.set(PartialSettings { auto_watermark_interval: Some(interval), ..Default::default() })
    }
    /// Whether neighbouring operators may share a chain (STREAMING).
    pub fn chaining(self, chaining: bool) -> Self {
        self.set(PartialSettings { chaining: Some(chaining), ..Default::default() })
    }
    /// What steps the subtasks.
    pub fn driver(self, driver: Driver) -> Self {
        self.set(PartialSettings { driver: Some(driver), ..Default::default() })
    }
    /// Directory for spill files.
    pub fn temp_dir(self, dir: impl Into<std::path::PathBuf>) -> Self {
        self.set(PartialSettings { temp_dir: Some(dir.into()), ..Default::default() })
    }
    /// How failures are answered. If nothing is said, STREAMING with checkpoints restarts after a second and gives up after
    /// more than 60 failures within 10 minutes ([`RestartStrategy::STREAMING`]), STREAMING without them ends with the first
    /// failure, and BATCH tries a unit of work that failed for want of the outside world (a disk, a file) again a few
    /// times, and code that fails not at all.
    pub fn restart_strategy(self, strategy: RestartStrategy) -> Self {
        self.set(PartialSettings { restart_strategy: Some(strategy), ..Default::default() })
    }
    /// Directory in which the job keeps what it needs to go on after the death of the process.
    pub fn job_dir(self, dir: impl Into<std::path::PathBuf>) -> Self {
        self.set(PartialSettings { job_dir: Some(dir.into()), ..Default::default() })
    }
    /// Goes on with the job that a process before this one has left in this job directory.
    pub fn resume(self, dir: impl Into<std::path::PathBuf>) -> Self {
        self.set(PartialSettings { resume: Some(dir.into()), ..Default::default() })
    }
    /// Whether a job is resumed though the executable is another one than the one that began it.
    pub fn resume_other_executable(self, accept: bool) -> Self {
        self.set(PartialSettings { resume_other_executable: Some(accept), ..Default::default() })
    }
    fn checkpoints(self, change: PartialCheckpoints) -> Self {
        self.set(PartialSettings { checkpoints: change, ..Default::default() })
    }
    /// Takes checkpoints, each so long after the one before was begun (STREAMING). After a failure the job can go on from
    /// the last one that was completed. Kept in the [job directory](Environment::job_dir) unless
    /// [`checkpoint_storage`](Environment::checkpoint_storage) says otherwise.
    pub fn checkpoint_interval(self, interval: Duration) -> Self {
        self.checkpoints(PartialCheckpoints { interval: Some(interval), ..Default::default() })
    }
    /// What a checkpoint promises.
    pub fn checkpoint_mode(self, mode: CheckpointMode) -> Self {
        self.checkpoints(PartialCheckpoints { mode: Some(mode), ..Default::default() })
    }
    /// How long a checkpoint may take before it is given up.
    pub fn checkpoint_timeout(self, timeout: Duration) -> Self {
        self.checkpoints(PartialCheckpoints { timeout: Some(timeout), ..Default::default() })
    }
    /// How much time lies at least between the end of a checkpoint and the begin of the next; then only one is under
    /// way at once.
    pub fn checkpoint_min_pause(self, pause: Duration) -> Self {
        self.checkpoints(PartialCheckpoints { min_pause: Some(pause), ..Default::default() })
    }
    /// How many checkpoints may be under way at once.
    pub fn checkpoint_max_concurrent(self, checkpoints: usize) -> Self {
        self.checkpoints(PartialCheckpoints { max_concurrent: Some(checkpoints), ..Default::default() })
    }
    /// How many checkpoints may fail one after the other before the job fails.
    pub fn checkpoint_tolerable_failures(self, failures: usize) -> Self {
        self.checkpoints(PartialCheckpoints { tolerable_failures: Some(failures), ..Default::default() })
    }
    /// How many completed checkpoints are kept; 2 or more.
    pub fn checkpoint_retained(self, checkpoints: usize) -> Self {
        self.checkpoints(PartialCheckpoints { retained: Some(checkpoints), ..Default::default() })
    }
    /// Where checkpoints are kept.
    pub fn checkpoint_storage(self, storage: CheckpointStorage) -> Self {
        self.checkpoints(PartialCheckpoints { storage: Some(storage), ..Default::default() })
    }
    /// Whether checkpoints are taken though the job has a loop, made with [`iterate`](DataStream::iterate): what is in it at the time is
    /// part of no checkpoint, and lost when the job goes on after a failure. Without this such a job is refused.
    pub fn checkpoint_lossy_loops(self, accept: bool) -> Self {
        self.checkpoints(PartialCheckpoints { lossy_loops: Some(accept), ..Default::default() })
    }
    /// The directory that keeps the checkpoints of the job, such as one that other machines see. The job directory, if there
    /// is one, then has copies of the newest one's state, from which a restore reads if they are whole.
    pub fn checkpoint_dir(self, dir: impl Into<std::path::PathBuf>) -> Self {
        self.checkpoints(PartialCheckpoints { dir: Some(dir.into()), ..Default::default() })
    }
    /// The checkpoint that the job goes on from.
    pub fn restore(self, from: Restore) -> Self {
        self.set(PartialSettings { restore: Some(from), ..Default::default() })
    }
    /// Whether state of a checkpoint that no operator of the program is for is left out instead of being an error.
    pub fn allow_non_restored_state(self, allow: bool) -> Self {
        self.set(PartialSettings { allow_non_restored_state: Some(allow), ..Default::default() })
    }
    /// Whether output that became visible after the checkpoint that the job goes back to is taken back, where a sink can do
    /// that, instead of being an error. Such a checkpoint is one that was given by its path, or an older one where the
    /// newest is damaged. Who has read that output reads its records again.
    pub fn allow_output_rollback(self, allow: bool) -> Self {
        self.set(PartialSettings { allow_output_rollback: Some(allow), ..Default::default() })
    }
    /// Directory in which the job can be asked for its status, for savepoints and to end, while it runs; see
    /// [`control`](super::control).
    pub fn control(self, dir: impl Into<std::path::PathBuf>) -> Self {
        self.set(PartialSettings { control: Some(dir.into()), ..Default::default() })
    }
    /// Parameters for user code to read in `open`.
    pub fn parameters(self, parameters: Parameters) -> Self {
        *lock(&self.shared.parameters) = parameters;
        self
    }
    /// The file system that sources, sinks and spill files use: for tests with faults.
    pub fn vfs(self, vfs: SharedVfs) -> Self {
        *lock(&self.shared.vfs) = vfs;
        self
    }

    /// The clock that processing time and intervals follow, for tests. A simulation has one of its own.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        *lock(&self.shared.clock) = clock;
        self
    }

    /// Calls `hook` behind each step of a simulation, with the number of the step within the attempt and the time: an error
    /// fails the job at that place, for tests of what it does then.
    pub fn on_simulated_step(
        self,
        hook: impl Fn(u64, Duration) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        *lock(&self.shared.hook) = Some(Arc::new(hook));
        self
    }

    pub(crate) fn file_system(&self) -> SharedVfs {
        lock(&self.shared.vfs).clone()
    }

    /// The settings now.
    pub fn settings(&self) -> Settings {
        lock(&self.shared.settings).clone()
    }
    /// The parameters now.
    pub fn job_parameters(&self) -> Parameters {
        lock(&self.shared.parameters).clone()
    }

    /// Reads a source.
    pub fn read<S: Source>(&self, source: S) -> DataStream<S::Item> {
        let source = Arc::new(source);
        let name = Source::describe(&*source);
        let node = self.add(Node::new(name, Operation::Source(source), Vec::new()));
        DataStream::of_node(self, node)
    }

    /// Reads a collection, in order, with one subtask. Bounded.
    pub fn from_iter<I>(&self, records: I) -> DataStream<I::Item>
    where
        I: IntoRecords,
        I::Item: Data,
        I::IntoIter: Send,
    {
        let stream = self.read(IterSource::new(records));
        let why = "a collection is read by one subtask";
        self.change(stream.from[0].from, |node| node.required_parallelism = Some((1, why)));
        stream
    }

    /// Makes `count` records: `f(i)` for each index `i` below it. The indices are cut into one series for each of `p`
    /// subtasks: `s`, `s + p`, ... in order. In BATCH each subtask makes its own; in STREAMING one that has finished its series
    /// takes another's that nobody has begun.
    /// Bounded. For an unbounded source, a rate or timestamps, [`read`](Environment::read) a [`Generate`].
    pub fn generate<T: Data>(
        &self,
        count: u64,
        f: impl Fn(u64) -> T + Clone + Send + Sync + 'static,
    ) -> DataStream<T> {
        self.read(Generate::new(count, f))
    }

    pub(super) fn same(&self, other: &Environment) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
    pub(super) fn add(&self, node: Node) -> NodeId {
        lock(&self.shared.plan).add(node)
    }
    pub(super) fn change(&self, node: NodeId, change: impl FnOnce(&mut Node)) {
        if let Some(node) = lock(&self.shared.plan).nodes.get_mut(node) {
            change(node);
        }
    }
    pub(super) fn name_of(&self, node: NodeId) -> String {
        lock(&self.shared.plan).nodes.get(node).map_or(String::new(), |node| node.name.clone())
    }
    pub(super) fn withdraw(&self, node: NodeId) {
        lock(&self.shared.plan).withdraw(node);
    }
    pub(super) fn mistake(&self, mistake: &str) {
        lock(&self.shared.mistakes).push(mistake.to_string());
    }

    fn options(&self) -> PlanOptions {
        let settings = lock(&self.shared.settings);
        PlanOptions {
            mode: settings.execution_mode,
            parallelism: settings.parallelism,
            max_parallelism: settings.max_parallelism,
            chaining: settings.chaining,
        }
    }

    fn check(&self) -> Result<()> {
        lock(&self.shared.settings).check_complete()?;
        match lock(&self.shared.mistakes).first() {
            Some(mistake) => Err(Error::config(mistake)),
            None => Ok(()),
        }
    }

    /// The plan as text: what was asked for, what will run together, where it is cut, and where the execution modes
    /// differ for it.
    ///
    /// # Errors
    /// Every mistake that `execute` would report before anything runs.
    pub fn explain(&self) -> Result<String> {
        self.explain_as(ExplainFormat::Text)
    }

    /// The plan as a Mermaid flowchart.
    ///
    /// # Errors
    /// As [`explain`](Environment::explain).
    pub fn explain_graph(&self) -> Result<String> {
        self.explain_as(ExplainFormat::Graph)
    }

    /// What an executor would be given: the tasks, steps and edges for the execution mode of the settings, as data.
    ///
    /// # Errors
    /// As [`explain`](Environment::explain).
    pub fn physical_plan(&self) -> Result<PhysicalPlan> {
        self.check()?;
        PhysicalPlan::new(&lock(&self.shared.plan), &self.options())
    }

    fn explain_as(&self, format: ExplainFormat) -> Result<String> {
        self.check()?;
        let options = self.options();
        let logical = lock(&self.shared.plan);
        let physical = PhysicalPlan::new(&logical, &options)?;
        refuse_lossy(&physical, &self.settings())?;
        Ok(match format {
            ExplainFormat::Text => explain(&logical, &physical, self.settings().checkpoints.is_on()),
            ExplainFormat::Graph => mermaid(&physical),
        })
    }

    /// Runs what was built since the last execution and waits for its end.
    ///
    /// With `--explain` it prints the plan to standard output instead, and the result is
    /// [`explained`](JobResult::explained) and has no numbers.
    ///
    /// # Errors
    /// A mistake in the plan or the settings, before anything runs; else the first failure of the job. Then nothing
    /// of its output is visible.
    pub fn execute(&self, name: &str) -> Result<JobResult> {
        self.execute_async(name)?.result()
    }

    /// Starts what was built since the last execution; the client waits for it, asks for its status or cancels it.
    ///
    /// # Errors
    /// A mistake in the plan or the settings. Failures of the running job are in [`JobClient::result`].
    pub fn execute_async(&self, name: &str) -> Result<JobClient> {
        self.start(name, None)
    }

    /// Runs some sinks and leaves the others for [`execute`](Environment::execute).
    pub(super) fn execute_only(&self, name: &str, sinks: &[NodeId]) -> Result<JobResult> {
        self.start(name, Some(sinks))?.result()
    }

    fn start(&self, name: &str, only: Option<&[NodeId]>) -> Result<JobClient> {
        self.check()?;
        let settings = self.settings();
        let options = self.options();
        let mut logical = lock(&self.shared.plan);
        if let Some(sinks) = only {
            // Whatever comes of it, they are not left for others.
            logical.executed_alone(sinks);
        }
        logical.only(only);
        let physical = PhysicalPlan::new(&logical, &options);
        logical.only(None);
        let physical = physical?;
        refuse_lossy(&physical, &settings)?;
        if let Some(format) = settings.explain {
            let text = match format {
                ExplainFormat::Text => explain(&logical, &physical, settings.checkpoints.is_on()),
                ExplainFormat::Graph => mermaid(&physical),
            };
            println!("{text}");
            return Ok(JobClient::explained(name, physical.mode));
        }
        let nameless = if settings.checkpoints.is_on() { without_uid(&logical) } else { Vec::new() };
        if !nameless.is_empty() && physical.mode == ExecutionMode::Streaming {
            tracing::warn!(operators = nameless.join(", "), "operators that keep state have no uid");
        }
        let built = logical.nodes.len();
        drop(logical);
        let plan = JobPlan {
            physical: Arc::new(physical),
            settings,
            parameters: self.job_parameters(),
            vfs: lock(&self.shared.vfs).clone(),
            clock: lock(&self.shared.clock).clone(),
            hook: lock(&self.shared.hook).clone(),
        };
        let client = job::start(name, plan)?;
        // Only now: what could not start may be executed again.
        if only.is_none() {
            lock(&self.shared.plan).executed(built);
        }
        Ok(client)
    }
}
