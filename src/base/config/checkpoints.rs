//! Checkpoints: the settings of checkpoints and of what a job goes on from.

use crate::base::error::{Error, Result};
use crate::base::text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// The shortest time between two checkpoints, and the shortest timeout.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
/// The longest time that makes sense: longer ones are a mistake in the unit.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The most checkpoints that may be under way at once: each holds a cut of the state.
const CONCURRENT_MAX: usize = 16;
/// The fewest checkpoints that are kept: if the last one is damaged, there is the one before.
const RETAINED_MIN: usize = 2;
/// The most.
const RETAINED_MAX: usize = 1000;

/// What a checkpoint promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointMode {
    /// After a restore the state is as if each record had come once: inputs wait for each other at a barrier.
    #[default]
    ExactlyOnce,
    /// Records may count twice after a restore; no input ever waits.
    AtLeastOnce,
}

/// Where checkpoints are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointStorage {
    /// In the job directory: they survive the process.
    #[default]
    Directory,
    /// In memory: they survive a failure of the job, not of the process. For tests.
    Memory,
}

/// The checkpoint or savepoint that a job goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restore {
    /// The newest in the job directory that is whole. A job that has none yet goes on from where it was started from with a
    /// path; if it was not, it begins at the beginning.
    Latest,
    /// The one in this directory.
    Path(PathBuf),
}

/// When and how checkpoints are taken. See the fields of the same names in [`Settings`](super::Settings).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// Time between the begins of two checkpoints; without one there are none. Default: none.
    pub interval: Option<Duration>,
    /// Exactly once or at least once. Default: exactly once.
    pub mode: CheckpointMode,
    /// A checkpoint that is not complete after this time is given up. Default: 10 minutes.
    pub timeout: Duration,
    /// Time between the end of a checkpoint and the begin of the next. Default: none.
    pub min_pause: Duration,
    /// Checkpoints that may be under way at once; 1 if there is a pause. Default: 1.
    pub max_concurrent: usize,
    /// Checkpoints that may fail one after the other before the job fails. Default: 0.
    pub tolerable_failures: usize,
    /// Completed checkpoints that are kept, 2 or more. Default: 2.
    pub retained: usize,
    /// Where they are kept. Default: in the job directory.
    pub storage: CheckpointStorage,
    /// Whether they are taken though the job has a feedback edge, the records of which are part of none. Default: no.
    pub lossy_loops: bool,
    /// The directory that keeps them, such as one that other machines see; the job directory then has copies of the newest
    /// one's state, from which a restore reads if they are whole. Default: the job directory.
    pub dir: Option<PathBuf>,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        CheckpointSettings {
            interval: None,
            mode: CheckpointMode::default(),
            timeout: Duration::from_secs(600),
            min_pause: Duration::ZERO,
            max_concurrent: 1,
            tolerable_failures: 0,
            retained: RETAINED_MIN,
            storage: CheckpointStorage::default(),
            lossy_loops: false,
            dir: None,
        }
    }
}

/// What one origin says about checkpoints. See [`CheckpointSettings`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are those of `CheckpointSettings`, where they are described.
pub struct PartialCheckpoints {
    pub interval: Option<Duration>,
    pub mode: Option<CheckpointMode>,
    pub timeout: Option<Duration>,
    pub min_pause: Option<Duration>,
    pub max_concurrent: Option<usize>,
    pub tolerable_failures: Option<usize>,
    pub retained: Option<usize>,
    pub storage: Option<CheckpointStorage>,
    pub lossy_loops: Option<bool>,
    pub dir: Option<PathBuf>,
}

impl PartialCheckpoints {
    /// What this origin says, and where it says nothing, what `lower` says.
    #[must_use]
    pub fn or(self, lower: PartialCheckpoints) -> PartialCheckpoints {
        PartialCheckpoints {
            interval: self.interval.or(lower.interval),
            mode: self.mode.or(lower.mode),
            timeout: self.timeout.or(lower.timeout),
            min_pause: self.min_pause.or(lower.min_pause),
            max_concurrent: self.max_concurrent.or(lower.max_concurrent),
            tolerable_failures: self.tolerable_failures.or(lower.tolerable_failures),
            retained: self.retained.or(lower.retained),
            storage: self.storage.or(lower.storage),
            lossy_loops: self.lossy_loops.or(lower.lossy_loops),
            dir: self.dir.or(lower.dir),
        }
    }

    /// Sets one option from its text; false if it is none of these.
    pub(super) fn set(&mut self, option: &str, value: &str) -> Result<bool> {
        match option {
            "checkpoint-interval" => self.interval = Some(parse_duration(option, value)?),
            "checkpoint-mode" => self.mode = Some(value.parse()?),
            "checkpoint-timeout" => self.timeout = Some(parse_duration(option, value)?),
            "checkpoint-min-pause" => self.min_pause = Some(parse_duration(option, value)?),
            "checkpoint-max-concurrent" => self.max_concurrent = Some(parse_count(option, value)?),
            "checkpoint-tolerable-failures" => self.tolerable_failures = Some(parse_count(option, value)?),
            "checkpoint-retained" => self.retained = Some(parse_count(option, value)?),
            "checkpoint-storage" => self.storage = Some(value.parse()?),
            "checkpoint-lossy-loops" => self.lossy_loops = Some(super::layers::boolean(option, value)?),
            "checkpoint-dir" if value.is_empty() => {
                return Err(Error::config(
                    "checkpoint-dir is empty; give a directory for the checkpoints of one job",
                ));
            }
            "checkpoint-dir" => self.dir = Some(PathBuf::from(value)),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl CheckpointSettings {
    /// Whether checkpoints are taken.
    pub fn is_on(&self) -> bool {
        self.interval.is_some()
    }

    pub(super) fn apply(&mut self, over: &PartialCheckpoints) {
        // Named one by one, so that a new field cannot be forgotten here.
        let PartialCheckpoints {
            interval,
            mode,
            timeout,
            min_pause,
            max_concurrent,
            tolerable_failures,
            retained,
            storage,
            lossy_loops,
            dir,
        } = over.clone();
        self.interval = interval.or(self.interval);
        self.mode = mode.unwrap_or(self.mode);
        self.timeout = timeout.unwrap_or(self.timeout);
        self.min_pause = min_pause.unwrap_or(self.min_pause);
        self.max_concurrent = max_concurrent.unwrap_or(self.max_concurrent);
        self.tolerable_failures = tolerable_failures.unwrap_or(self.tolerable_failures);
        self.retained = retained.unwrap_or(self.retained);
        self.storage = storage.unwrap_or(self.storage);
        self.lossy_loops = lossy_loops.unwrap_or(self.lossy_loops);
        self.dir = dir.or(self.dir.take());
    }

    pub(super) fn check(&self) -> Result<()> {
        let times = [
            ("checkpoint-interval", self.interval.unwrap_or(INTERVAL_MIN), INTERVAL_MIN),
            ("checkpoint-timeout", self.timeout, INTERVAL_MIN),
            ("checkpoint-min-pause", self.min_pause, Duration::ZERO),
        ];
        for (option, time, least) in times {
            if !(least..=DURATION_MAX).contains(&time) {
                return Err(Error::config(format!(
                    "{option} {time:?} is not possible; choose {} to a year",
                    if least.is_zero() { "nothing" } else { "1 ms" }
                )));
            }
        }
        let counts = [
            ("checkpoint-max-concurrent", self.max_concurrent, 1, CONCURRENT_MAX),
            ("checkpoint-retained", self.retained, RETAINED_MIN, RETAINED_MAX),
        ];
        for (option, count, least, most) in counts {
            if !(least..=most).contains(&count) {
                return Err(Error::config(format!(
                    "{option} {count} is not possible; choose {least} to {most}"
                )));
            }
        }
        Ok(())
    }
}

/// A duration such as `500ms`, `10s`, `5min` or `1h`.
pub(crate) fn parse_duration(option: &str, value: &str) -> Result<Duration> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    let ms = match unit.trim().to_ascii_lowercase().as_str() {
        "ms" => Some(1),
        "s" => Some(1000),
        "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ if number == "0" && unit.is_empty() => Some(0),
        _ => None,
    };
    let ms = ms.and_then(|ms: u64| number.parse::<u64>().ok()?.checked_mul(ms));
    ms.map(Duration::from_millis).ok_or_else(|| {
        Error::config(format!("{option} '{value}' is not a time; write for example 500ms, 10s, 5min or 1h"))
    })
}

/// A whole number that is not negative.
pub(crate) fn parse_count(option: &str, value: &str) -> Result<usize> {
    let value = value.trim();
    value
        .parse()
        .map_err(|_| Error::config(format!("{option} '{value}' is not a whole number; give 0, 1, 2, ...")))
}

fn by_name<T: Copy>(option: &str, value: &str, names: [(&'static str, T); 2]) -> Result<T> {
    let wanted = value.trim();
    if let Some((_, value)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
        return Ok(*value);
    }
    let near = text::did_you_mean(wanted, names.map(|(name, _)| name));
    Err(Error::config(format!(
        "{option} '{value}' does not exist{near}; choose one of: {}, {}",
        names[0].0, names[1].0
    )))
}

impl FromStr for CheckpointMode {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        use CheckpointMode::{AtLeastOnce, ExactlyOnce};
        by_name("checkpoint-mode", text, [("exactly-once", ExactlyOnce), ("at-least-once", AtLeastOnce)])
    }
}

impl fmt::Display for CheckpointMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CheckpointMode::ExactlyOnce => "exactly-once",
            CheckpointMode::AtLeastOnce => "at-least-once",
        })
    }
}

impl FromStr for CheckpointStorage {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        use CheckpointStorage::{Directory, Memory};
        by_name("checkpoint-storage", text, [("directory", Directory), ("memory", Memory)])
    }
}

impl fmt::Display for CheckpointStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CheckpointStorage::Directory => "directory",
            CheckpointStorage::Memory => "memory",
        })
    }
}

impl FromStr for Restore {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "" => Err(Error::config("restore is empty; write latest, or the directory of a checkpoint")),
            latest if latest.eq_ignore_ascii_case("latest") => Ok(Restore::Latest),
            path => Ok(Restore::Path(path.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), (" 5 min ", 300_000), ("1h", 3_600_000), ("0", 0)]
        {
            assert_eq!(parse_duration("x", text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "5", "ms", "1.5s", "-1s", "1 day", "99999999999999999999s", "9999999999999999999h"] {
            let e = parse_duration("checkpoint-interval", text).unwrap_err().to_string();
            assert!(e.starts_with("checkpoint-interval '") && e.contains("500ms"), "{e}");
        }
    }

    #[test]
    fn impossible_values_name_their_option() {
        let check = |change: fn(&mut CheckpointSettings)| {
            let mut settings = CheckpointSettings::default();
            settings.check().unwrap();
            change(&mut settings);
            settings.check().unwrap_err().to_string()
        };
        assert!(check(|s| s.interval = Some(Duration::ZERO)).starts_with("checkpoint-interval 0ns"));
        assert!(check(|s| s.timeout = Duration::MAX).starts_with("checkpoint-timeout"));
        assert_eq!(
            check(|s| s.max_concurrent = 0),
            "checkpoint-max-concurrent 0 is not possible; choose 1 to 16"
        );
        assert_eq!(check(|s| s.retained = 1), "checkpoint-retained 1 is not possible; choose 2 to 1000");
        assert!("exactly".parse::<CheckpointMode>().unwrap_err().to_string().contains("exactly-once"));
        assert_eq!("Latest".parse::<Restore>().unwrap(), Restore::Latest);
        assert_eq!("/a/chk-3".parse::<Restore>().unwrap(), Restore::Path("/a/chk-3".into()));
    }
}
