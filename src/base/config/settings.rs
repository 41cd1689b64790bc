//! Settings: everything a job can be told, with units, defaults and limits.

use super::checkpoints::{CheckpointSettings, CheckpointStorage, PartialCheckpoints, Restore};
use super::machine::Machine;
use super::values::{BufferTimeout, Driver, ExecutionMode, ExplainFormat, Progress};
use crate::base::error::{Error, Result};
use crate::base::memory::ByteSize;
use crate::base::restart::RestartStrategy;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The highest parallelism and number of key groups: a key group must fit 15 bits of the hash.
pub const PARALLELISM_MAX: usize = 32_768;
/// The smallest memory a job can be given: a few batches per edge and one merge of sorted runs.
pub const MEMORY_MIN: ByteSize = ByteSize::mib(8);
/// The smallest default for the memory, however small the machine is.
const MEMORY_DEFAULT_MIN: ByteSize = ByteSize::mib(256);

/// The settings of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How the plan is run. Default: streaming.
    pub execution_mode: ExecutionMode,
    /// Subtasks per operator where the operator says nothing, 1 to [`PARALLELISM_MAX`]. Default: the available cores.
    pub parallelism: usize,
    /// Whether `parallelism` is a default rather than somebody's wish; a default gives way to a lower
    /// `max_parallelism`, a wish does not.
    pub parallelism_is_default: bool,
    /// Number of key groups and upper limit of every parallelism. Default: chosen by the planner.
    pub max_parallelism: Option<usize>,
    /// Bytes that state, sorting and shuffles of the job may use together; what does not fit is spilled. At least
    /// [`MEMORY_MIN`]. Default: half of the memory of the machine or its control group, at least 256 MiB.
    pub memory: ByteSize,
    /// Directory for shuffle and spill files. Default: the temporary directory of the system.
    pub temp_dir: PathBuf,
    /// How long a record may wait in an output batch that is not full (streaming). Default: 100 ms.
    pub buffer_timeout: BufferTimeout,
    /// Whether neighbouring operators joined by forward edges run as one. Default: true.
    pub chaining: bool,
    /// How often periodic watermarks are produced, in processing time; at least 1 ms. Default: 200 ms.
    pub auto_watermark_interval: Duration,
    /// Whether a progress line is drawn on stderr. Default: auto.
    pub progress: Progress,
    /// Explain the plan in this format instead of running it. Default: run it.
    pub explain: Option<ExplainFormat>,
    /// What steps the subtasks. Default: threads.
    pub driver: Driver,
    /// How failures are answered. Default: in STREAMING with checkpoints by [`RestartStrategy::STREAMING`], without them the
    /// first one ends the job; in BATCH a unit of work that failed for want of the outside world is tried again a few
    /// times, and code that fails is not.
    pub restart_strategy: Option<RestartStrategy>,
    /// Directory in which the job keeps what it needs to go on after the death of the process. Default: none, and
    /// then nothing is left behind.
    pub job_dir: Option<PathBuf>,
    /// Go on with the job that a process before this one has left in this job directory. Default: start a new one.
    pub resume: Option<PathBuf>,
    /// Whether a job is resumed though the executable is another one than the one that began it. Default: false.
    pub resume_other_executable: bool,
    /// When and how checkpoints are taken (streaming). Default: none are.
    pub checkpoints: CheckpointSettings,
    /// The checkpoint or savepoint that the job goes on from. Default: none, it begins at the beginning.
    pub restore: Option<Restore>,
    /// Whether state of a checkpoint that no operator of the program is for is left out. Default: it is an error.
    pub allow_non_restored_state: bool,
    /// Whether output that became visible after the checkpoint that the job goes back to is taken back, where a sink can do
    /// that. Default: it is an error, since who has read that output would read its records again.
    pub allow_output_rollback: bool,
    /// Directory in which the job can be asked for its status, for savepoints and to end, while it runs. Default: none,
    /// and then nobody can.
    pub control: Option<PathBuf>,
}

/// Settings of one origin: only what it says. See [`Settings`] for the meaning of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are those of `Settings`, where they are described.
pub struct PartialSettings {
    pub execution_mode: Option<ExecutionMode>,
    pub parallelism: Option<usize>,
    pub max_parallelism: Option<usize>,
    pub memory: Option<ByteSize>,
    pub temp_dir: Option<PathBuf>,
    pub buffer_timeout: Option<BufferTimeout>,
    pub chaining: Option<bool>,
    pub auto_watermark_interval: Option<Duration>,
    pub progress: Option<Progress>,
    pub explain: Option<ExplainFormat>,
    pub driver: Option<Driver>,
    pub restart_strategy: Option<RestartStrategy>,
    pub job_dir: Option<PathBuf>,
    pub resume: Option<PathBuf>,
    pub resume_other_executable: Option<bool>,
    pub checkpoints: PartialCheckpoints,
    pub restore: Option<Restore>,
    pub allow_non_restored_state: Option<bool>,
    pub allow_output_rollback: Option<bool>,
    pub control: Option<PathBuf>,
}

impl Default for Settings {
    /// The defaults on this machine.
    fn default() -> Self {
        Settings::defaults_on(&Machine::detect())
    }
}

impl Settings {
    /// The defaults on a machine.
    pub fn defaults_on(machine: &Machine) -> Settings {
        Settings {
            execution_mode: ExecutionMode::default(),
            parallelism: machine.cores.clamp(1, PARALLELISM_MAX),
            parallelism_is_default: true,
            max_parallelism: None,
            memory: ByteSize(machine.memory / 2).max(MEMORY_DEFAULT_MIN),
            temp_dir: machine.temp_dir.clone(),
            buffer_timeout: BufferTimeout::default(),
            chaining: true,
            auto_watermark_interval: Duration::from_millis(200),
            progress: Progress::default(),
            explain: None,
            driver: Driver::default(),
            restart_strategy: None,
            job_dir: None,
            resume: None,
            resume_other_executable: false,
            checkpoints: CheckpointSettings::default(),
            restore: None,
            allow_non_restored_state: false,
            allow_output_rollback: false,
            control: None,
        }
    }

    /// The directory of the job, whether it begins there or is resumed from there.
    pub fn job_directory(&self) -> Option<&Path> {
        self.resume.as_deref().or(self.job_dir.as_deref())
    }

    /// The directory that keeps the checkpoints of the job.
    pub fn checkpoint_directory(&self) -> Option<&Path> {
        self.checkpoints.dir.as_deref().or(self.job_directory())
    }

    /// Lays `over` these settings, as the calls of a builder do, and checks the result.
    ///
    /// # Errors
    /// When a value or the combination is not possible; the settings are unchanged then.
    pub fn apply(&mut self, over: &PartialSettings) -> Result<()> {
        let mut new = self.clone();
        // Named one by one, so that a new field cannot be forgotten here.
        let PartialSettings {
            execution_mode,
            parallelism,
            max_parallelism,
            memory,
            temp_dir,
            buffer_timeout,
            chaining,
            auto_watermark_interval,
            progress,
            explain,
            driver,
            restart_strategy,
            job_dir,
            resume,
            resume_other_executable,
            checkpoints,
            restore,
            allow_non_restored_state,
            allow_output_rollback,
            control,
        } = over.clone();
        set(&mut new.execution_mode, execution_mode);
        set(&mut new.parallelism_is_default, parallelism.map(|_| false));
        set(&mut new.parallelism, parallelism);
        new.max_parallelism = max_parallelism.or(new.max_parallelism);
        set(&mut new.memory, memory);
        set(&mut new.temp_dir, temp_dir);
        set(&mut new.buffer_timeout, buffer_timeout);
        set(&mut new.chaining, chaining);
        set(&mut new.auto_watermark_interval, auto_watermark_interval);
        set(&mut new.progress, progress);
        new.explain = explain.or(new.explain);
        set(&mut new.driver, driver);
        new.restart_strategy = restart_strategy.or(new.restart_strategy);
        new.job_dir = job_dir.or(new.job_dir);
        new.resume = resume.or(new.resume);
        set(&mut new.resume_other_executable, resume_other_executable);
        new.checkpoints.apply(&checkpoints);
        new.restore = restore.or(new.restore);
        set(&mut new.allow_non_restored_state, allow_non_restored_state);
        set(&mut new.allow_output_rollback, allow_output_rollback);
        new.control = control.or(new.control);
        if let Some(max) = new.max_parallelism.filter(|_| new.parallelism_is_default) {
            new.parallelism = new.parallelism.min(max);
        }
        new.check()?;
        *self = new;
        Ok(())
    }

    /// Checks every value and their combination.
    ///
    /// # Errors
    /// A sentence naming the option, what it is and what it may be.
    pub fn check(&self) -> Result<()> {
        check_parallelism("parallelism", self.parallelism)?;
        if let Some(max) = self.max_parallelism {
            check_parallelism("max-parallelism", max)?;
            if self.parallelism > max {
                return Err(Error::config(format!(
                    "parallelism {} is above max-parallelism {max}; lower the one or raise the other",
                    self.parallelism
                )));
            }
        }
        check_memory(self.memory)?;
        if self.temp_dir.as_os_str().is_empty() {
            return Err(Error::config("temp-dir is empty; give a directory for temporary files"));
        }
        if let Some(strategy) = &self.restart_strategy {
            strategy.check()?;
        }
        for (option, dir) in [("job-dir", &self.job_dir), ("resume", &self.resume)] {
            if dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
                return Err(Error::config(format!("{option} is empty; give the directory of a job")));
            }
        }
        if let (Some(dir), Some(resume)) = (&self.job_dir, &self.resume)
            && dir != resume
        {
            return Err(Error::config(format!(
                "job-dir is '{}' and resume is '{}'; a job that is resumed stays in its directory: give resume only",
                dir.display(),
                resume.display()
            )));
        }
        self.checkpoints.check()?;
        check_watermark_interval(self.auto_watermark_interval)?;
        if let BufferTimeout::After(timeout) = self.buffer_timeout
            && timeout < Duration::from_millis(1)
        {
            return Err(Error::config(format!(
                "buffer-timeout {timeout:?} is below 1 ms; use BufferTimeout::EveryRecord to send every record at once"
            )));
        }
        Ok(())
    }
}

impl Settings {
    /// Checks what may still be missing while settings come together: asked before a job starts.
    ///
    /// # Errors
    /// As [`Settings::check`].
    pub fn check_complete(&self) -> Result<()> {
        self.check()?;
        let in_directory = self.checkpoints.storage == CheckpointStorage::Directory;
        if self.checkpoints.is_on() && in_directory && self.checkpoint_directory().is_none() {
            return Err(Error::config(
                "checkpoints need a directory; give job-dir or checkpoint-dir, or keep them with checkpoint-storage memory where they need \
                 not survive the process",
            ));
        }
        if self.restore == Some(Restore::Latest) && self.checkpoint_directory().is_none() {
            return Err(Error::config(
                "restore latest looks for checkpoints in the directory of the job; give job-dir or checkpoint-dir, or the \
                 path of a checkpoint",
            ));
        }
        Ok(())
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

pub(super) fn check_parallelism(option: &str, n: usize) -> Result<usize> {
    match n {
        1..=PARALLELISM_MAX => Ok(n),
        _ => Err(Error::config(format!("{option} {n} is not possible; choose 1 to {PARALLELISM_MAX}"))),
    }
}

pub(super) fn check_memory(memory: ByteSize) -> Result<ByteSize> {
    if memory < MEMORY_MIN {
        return Err(Error::config(format!(
            "memory {memory} is below the minimum of {MEMORY_MIN}, the least that sorts and shuffles need; give \
             {MEMORY_MIN} or more"
        )));
    }
    Ok(memory)
}

pub(super) fn check_watermark_interval(interval: Duration) -> Result<Duration> {
    if interval < Duration::from_millis(1) {
        return Err(Error::config(format!(
            "auto-watermark-interval {interval:?} is not possible; choose 1 ms or more"
        )));
    }
    Ok(interval)
}

impl PartialSettings {
    /// What this origin says, and where it says nothing, what `lower` says.
    #[must_use]
    pub fn or(self, lower: PartialSettings) -> PartialSettings {
        PartialSettings {
            execution_mode: self.execution_mode.or(lower.execution_mode),
            parallelism: self.parallelism.or(lower.parallelism),
            max_parallelism: self.max_parallelism.or(lower.max_parallelism),
            memory: self.memory.or(lower.memory),
            temp_dir: self.temp_dir.or(lower.temp_dir),
            buffer_timeout: self.buffer_timeout.or(lower.buffer_timeout),
            chaining: self.chaining.or(lower.chaining),
            auto_watermark_interval: self.auto_watermark_interval.or(lower.auto_watermark_interval),
            progress: self.progress.or(lower.progress),
            explain: self.explain.or(lower.explain),
            driver: self.driver.or(lower.driver),
            restart_strategy: self.restart_strategy.or(lower.restart_strategy),
            job_dir: self.job_dir.or(lower.job_dir),
            resume: self.resume.or(lower.resume),
            resume_other_executable: self.resume_other_executable.or(lower.resume_other_executable),
            checkpoints: self.checkpoints.or(lower.checkpoints),
            restore: self.restore.or(lower.restore),
            allow_non_restored_state: self.allow_non_restored_state.or(lower.allow_non_restored_state),
            allow_output_rollback: self.allow_output_rollback.or(lower.allow_output_rollback),
            control: self.control.or(lower.control),
        }
    }

    /// Fills what is missing with the defaults on `machine` and checks the result.
    ///
    /// # Errors
    /// As [`Settings::check`].
    pub fn resolve(&self, machine: &Machine) -> Result<Settings> {
        let mut settings = Settings::defaults_on(machine);
        settings.apply(self)?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { cores: 6, memory: 4 << 30, temp_dir: "/scratch".into() }
    }

    fn message(partial: PartialSettings) -> String {
        partial.resolve(&machine()).unwrap_err().to_string()
    }

    #[test]
    fn defaults_follow_the_machine() {
        let s = PartialSettings::default().resolve(&machine()).unwrap();
        assert_eq!((s.parallelism, s.memory), (6, ByteSize(2 << 30)));
        assert_eq!(s.temp_dir, PathBuf::from("/scratch"));
        assert_eq!(s.execution_mode, ExecutionMode::Streaming);
        assert_eq!(s.auto_watermark_interval, Duration::from_millis(200));
        assert!(s.chaining && s.explain.is_none() && s.max_parallelism.is_none());
        let tiny = Machine { cores: 0, memory: 0, ..machine() };
        let s = Settings::defaults_on(&tiny);
        assert_eq!((s.parallelism, s.memory), (1, ByteSize::mib(256)));
        s.check().unwrap();
        let huge = Machine { cores: 1 << 20, ..machine() };
        assert_eq!(Settings::defaults_on(&huge).parallelism, PARALLELISM_MAX);
    }

    /// A17: a parallelism above the maximum is an error before anything runs.
    #[test]
    fn impossible_values_name_their_option() {
        let none = PartialSettings::default;
        for n in [0, 32_769] {
            let expected = format!("parallelism {n} is not possible; choose 1 to 32768");
            assert_eq!(message(PartialSettings { parallelism: Some(n), ..none() }), expected);
            assert_eq!(
                message(PartialSettings { max_parallelism: Some(n), parallelism: Some(1), ..none() }),
                format!("max-{expected}")
            );
        }
        assert_eq!(
            message(PartialSettings { parallelism: Some(8), max_parallelism: Some(4), ..none() }),
            "parallelism 8 is above max-parallelism 4; lower the one or raise the other"
        );
        let m = message(PartialSettings { memory: Some(ByteSize::mib(4)), ..none() });
        assert!(m.starts_with("memory 4MiB is below the minimum of 8MiB"), "{m}");
        let m = message(PartialSettings { temp_dir: Some(PathBuf::new()), ..none() });
        assert!(m.starts_with("temp-dir is empty"), "{m}");
        let m = message(PartialSettings { auto_watermark_interval: Some(Duration::ZERO), ..none() });
        assert!(m.starts_with("auto-watermark-interval 0ns is not possible"), "{m}");
        let m =
            message(PartialSettings { buffer_timeout: Some(BufferTimeout::After(Duration::ZERO)), ..none() });
        assert!(m.starts_with("buffer-timeout 0ns is below 1 ms"), "{m}");
        let m = message(PartialSettings { job_dir: Some(PathBuf::new()), ..none() });
        assert_eq!(m, "job-dir is empty; give the directory of a job");
        let both = PartialSettings { job_dir: Some("/a".into()), resume: Some("/b".into()), ..none() };
        assert!(message(both).starts_with("job-dir is '/a' and resume is '/b'"));
    }

    #[test]
    fn a_resumed_job_stays_in_its_directory() {
        let of = |job_dir: Option<&str>, resume: Option<&str>| {
            let partial = PartialSettings {
                job_dir: job_dir.map(PathBuf::from),
                resume: resume.map(PathBuf::from),
                ..PartialSettings::default()
            };
            partial.resolve(&machine()).unwrap().job_directory().map(Path::to_path_buf)
        };
        assert_eq!(of(None, None), None);
        for (job_dir, resume) in [(Some("/a"), None), (None, Some("/a")), (Some("/a"), Some("/a"))] {
            assert_eq!(of(job_dir, resume), Some("/a".into()));
        }
    }

    #[test]
    fn a_default_parallelism_gives_way_to_the_maximum_but_a_wish_does_not() {
        let max = PartialSettings { max_parallelism: Some(4), ..Default::default() };
        assert_eq!(max.resolve(&machine()).unwrap().parallelism, 4);
        let wish = PartialSettings { parallelism: Some(6), ..Default::default() };
        let mut settings = wish.resolve(&machine()).unwrap();
        let before = settings.clone();
        assert!(settings.apply(&max).is_err());
        assert_eq!(settings, before, "a rejected change leaves the settings as they were");
    }
}
