//! Layers: settings as text from a configuration file and from environment variables, laid over each other.

use super::machine::Machine;
use super::settings::{PartialSettings, Settings, check_memory, check_parallelism, check_watermark_interval};
use super::values::Driver;
use crate::base::error::{Error, Result};
use crate::base::text;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The names of all options: keys of the configuration file and, after `--`, of the command line.
pub const OPTIONS: [&str; 29] = [
    "execution-mode",
    "parallelism",
    "max-parallelism",
    "memory",
    "temp-dir",
    "buffer-timeout",
    "chaining",
    "auto-watermark-interval",
    "progress",
    "explain",
    "seed",
    "restart-strategy",
    "job-dir",
    "resume",
    "resume-other-executable",
    "checkpoint-interval",
    "checkpoint-mode",
    "checkpoint-timeout",
    "checkpoint-min-pause",
    "checkpoint-max-concurrent",
    "checkpoint-tolerable-failures",
    "checkpoint-retained",
    "checkpoint-storage",
    "checkpoint-lossy-loops",
    "checkpoint-dir",
    "restore",
    "allow-non-restored-state",
    "allow-output-rollback",
    "control",
];

/// The environment variable of an option: `MAINSTEM_` and the name in capitals, `-` as `_`.
pub fn environment_name(option: &str) -> String {
    format!("MAINSTEM_{}", option.replace('-', "_").to_ascii_uppercase())
}

/// A configuration file that has been read.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a> {
    /// Where it was read; only for messages.
    pub path: &'a Path,
    /// What is in it: TOML with the names of [`OPTIONS`] as keys.
    pub text: &'a str,
}

impl Settings {
    /// Command line over environment over file over the defaults of this machine. `env` looks a variable up; an
    /// empty variable counts as not set. What a builder call says comes on top with [`Settings::apply`].
    ///
    /// # Errors
    /// A value that cannot be used or an unknown key, with the place where it stands.
    pub fn merge(
        file: Option<ConfigFile<'_>>,
        env: impl Fn(&str) -> Option<String>,
        args: PartialSettings,
    ) -> Result<Settings> {
        let file = file.map(PartialSettings::from_file).transpose()?.unwrap_or_default();
        args.or(PartialSettings::from_environment(env)?).or(file).resolve(&Machine::detect())
    }
}

impl PartialSettings {
    /// Sets one option from its text.
    ///
    /// # Errors
    /// When there is no such option or the text is not a value of it.
    pub fn set(&mut self, option: &str, value: &str) -> Result<()> {
        let value = value.trim();
        match option {
            "execution-mode" => self.execution_mode = Some(value.parse()?),
            "parallelism" => self.parallelism = Some(parse_parallelism(option, value)?),
            "max-parallelism" => self.max_parallelism = Some(parse_parallelism(option, value)?),
            "memory" => self.memory = Some(parse_memory(value)?),
            "temp-dir" if value.is_empty() => {
                return Err(Error::config("temp-dir is empty; give a directory for temporary files"));
            }
            "temp-dir" => self.temp_dir = Some(PathBuf::from(value)),
            "buffer-timeout" => self.buffer_timeout = Some(value.parse()?),
            "chaining" => self.chaining = Some(boolean(option, value)?),
            "auto-watermark-interval" => {
                self.auto_watermark_interval = Some(parse_watermark_interval(value)?)
            }
            "progress" => self.progress = Some(value.parse()?),
            "explain" => self.explain = Some(value.parse()?),
            "restart-strategy" => self.restart_strategy = Some(value.parse()?),
            "job-dir" | "resume" if value.is_empty() => {
                return Err(Error::config(format!("{option} is empty; give the directory of a job")));
            }
            "control" if value.is_empty() => {
                return Err(Error::config("control is empty; give a directory, such as that of the job"));
            }
            "control" => self.control = Some(PathBuf::from(value)),
            "job-dir" => self.job_dir = Some(PathBuf::from(value)),
            "resume" => self.resume = Some(PathBuf::from(value)),
            "resume-other-executable" => self.resume_other_executable = Some(boolean(option, value)?),
            "seed" => self.driver = Some(Driver::Simulation { seed: parse_seed(value)? }),
            "restore" => self.restore = Some(value.parse()?),
            "allow-non-restored-state" => {
                self.allow_non_restored_state = Some(boolean(option, value)?);
            }
            "allow-output-rollback" => self.allow_output_rollback = Some(boolean(option, value)?),
            _ if self.checkpoints.set(option, value)? => {}
            _ => {
                return Err(Error::config(format!(
                    "there is no option '{option}'{}; the options are: {}",
                    text::did_you_mean(option, OPTIONS),
                    OPTIONS.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// What the environment variables say, looked up with `env`. An empty variable counts as not set.
    ///
    /// # Errors
    /// A value that cannot be used, with the name of its variable.
    pub fn from_environment(env: impl Fn(&str) -> Option<String>) -> Result<PartialSettings> {
        let mut settings = PartialSettings::default();
        for option in OPTIONS {
            let name = environment_name(option);
            if let Some(value) = env(&name).filter(|value| !value.trim().is_empty()) {
                settings
                    .set(option, &value)
                    .map_err(|e| Error::config(format!("environment variable {name}: {e}")))?;
            }
        }
        Ok(settings)
    }

    /// What a configuration file says.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown key, or a value that cannot be used; with path and line or key.
    pub fn from_file(file: ConfigFile<'_>) -> Result<PartialSettings> {
        let path = file.path.display();
        let table = parse_toml(file)?;
        let mut settings = PartialSettings::default();
        for (key, value) in &table {
            let Some(value) = toml_scalar(value) else {
                return Err(Error::config(format!(
                    "configuration file '{path}': the value of '{key}' is of type {}; write one text, number or \
                     true/false",
                    value.type_str()
                )));
            };
            settings
                .set(key, &value)
                .map_err(|e| Error::config(format!("configuration file '{path}': {e}")))?;
        }
        Ok(settings)
    }
}

/// A TOML file as a table.
///
/// # Errors
/// With path, line and column of the mistake.
pub(crate) fn parse_toml(file: ConfigFile<'_>) -> Result<toml::Table> {
    file.text.parse::<toml::Table>().map_err(|e| {
        let (line, column) = text::line_and_column(file.text, e.span().map_or(0, |span| span.start));
        Error::config(format!(
            "'{}' line {line}, column {column}: {}; the file must be TOML",
            file.path.display(),
            e.message().replace('\n', ", ")
        ))
    })
}

/// A TOML value as the text it would have on a command line; `None` for arrays and tables.
pub(crate) fn toml_scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(s) => Some(s.clone()),
        toml::Value::Integer(i) => Some(i.to_string()),
        toml::Value::Float(f) => Some(f.to_string()),
        toml::Value::Boolean(b) => Some(b.to_string()),
        toml::Value::Datetime(d) => Some(d.to_string()),
        toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

/// A parallelism from its text.
pub(crate) fn parse_parallelism(option: &str, value: &str) -> Result<usize> {
    let n = value.trim().parse().map_err(|_| {
        Error::config(format!(
            "{option} '{value}' is not a whole number; choose 1 to {}",
            super::PARALLELISM_MAX
        ))
    })?;
    check_parallelism(option, n)
}

/// The memory from its text.
pub(crate) fn parse_memory(value: &str) -> Result<crate::base::memory::ByteSize> {
    check_memory(value.parse().map_err(|e| Error::config(format!("memory {e}")))?)
}

/// The watermark interval from its milliseconds.
pub(crate) fn parse_watermark_interval(value: &str) -> Result<Duration> {
    let ms = value.trim().parse().map_err(|_| {
        Error::config(format!(
            "auto-watermark-interval '{value}' is not a whole number; give milliseconds, for example 200"
        ))
    })?;
    check_watermark_interval(Duration::from_millis(ms))
}

/// The seed of a simulation from its text.
pub(crate) fn parse_seed(value: &str) -> Result<u64> {
    value.trim().parse().map_err(|_| {
        Error::config(format!("seed '{value}' is not a whole number; give one from 0 to {}", u64::MAX))
    })
}

pub(super) fn boolean(option: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::config(format!("{option} '{value}' is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{
        BufferTimeout, ExecutionMode, ExplainFormat, PartialCheckpoints, Progress, Restore,
    };
    use crate::base::memory::ByteSize;
    use crate::base::restart::RestartStrategy;

    fn file(text: &str) -> ConfigFile<'_> {
        ConfigFile { path: Path::new("job.toml"), text }
    }

    /// Two different values of each option, as text.
    const VALUES: [(&str, [&str; 4]); 29] = [
        ("execution-mode", ["batch", "streaming", "automatic", "batch"]),
        ("parallelism", ["3", "4", "5", "6"]),
        ("max-parallelism", ["30000", "30001", "30002", "30003"]),
        ("memory", ["9MiB", "10MiB", "11MiB", "12MiB"]),
        ("temp-dir", ["/a", "/b", "/c", "/d"]),
        ("buffer-timeout", ["-1", "0", "7", "8"]),
        ("chaining", ["false", "true", "false", "true"]),
        ("auto-watermark-interval", ["1", "2", "3", "4"]),
        ("progress", ["never", "auto", "always", "never"]),
        ("explain", ["text", "graph", "text", "graph"]),
        ("seed", ["1", "2", "3", "4"]),
        ("restart-strategy", ["none", "fixed-delay:1:1s", "exponential", "failure-rate:1:1s:1s"]),
        ("job-dir", ["/a", "/b", "/c", "/d"]),
        ("resume", ["/a", "/b", "/c", "/d"]),
        ("resume-other-executable", ["true", "false", "true", "false"]),
        ("checkpoint-interval", ["1s", "2s", "3s", "4s"]),
        ("checkpoint-mode", ["exactly-once", "at-least-once", "exactly-once", "at-least-once"]),
        ("checkpoint-timeout", ["1s", "2s", "3s", "4s"]),
        ("checkpoint-min-pause", ["1s", "2s", "3s", "4s"]),
        ("checkpoint-max-concurrent", ["1", "2", "3", "4"]),
        ("checkpoint-tolerable-failures", ["1", "2", "3", "4"]),
        ("checkpoint-retained", ["2", "3", "4", "5"]),
        ("checkpoint-storage", ["memory", "directory", "memory", "directory"]),
        ("checkpoint-lossy-loops", ["true", "false", "true", "false"]),
        ("checkpoint-dir", ["/a", "/b", "/c", "/d"]),
        ("restore", ["/a", "/b", "/c", "/d"]),
        ("allow-non-restored-state", ["true", "false", "true", "false"]),
        ("allow-output-rollback", ["true", "false", "true", "false"]),
        ("control", ["/a", "/b", "/c", "/d"]),
    ];

    fn one(option: &str, value: &str) -> PartialSettings {
        let mut settings = PartialSettings::default();
        settings.set(option, value).unwrap();
        settings
    }

    /// M1, A16, A17: every option can come from each of four places, and of two places the stronger wins.
    #[test]
    fn the_stronger_of_two_places_wins_for_every_option() {
        assert_eq!(VALUES.map(|(option, _)| option), OPTIONS);
        for (option, values) in VALUES {
            for places in 0u8..16 {
                let given = |place: usize| (places & (1 << place) != 0).then_some(values[place]);
                // Place 3 is the builder, 2 the command line, 1 the environment, 0 the file.
                let text = given(0).map(|v| format!("{option} = {v:?}"));
                let mut settings = Settings::merge(
                    text.as_deref().map(file),
                    |name| (name == environment_name(option)).then(|| given(1).map(str::to_string))?,
                    given(2).map(|v| one(option, v)).unwrap_or_default(),
                )
                .unwrap();
                settings.apply(&given(3).map(|v| one(option, v)).unwrap_or_default()).unwrap();
                let strongest = (0..4).rev().find_map(given);
                let expected = strongest.map(|v| one(option, v)).unwrap_or_default();
                assert_eq!(
                    settings,
                    expected.resolve(&Machine::detect()).unwrap(),
                    "{option}, places {places:04b}"
                );
            }
        }
    }

    #[test]
    fn a_file_may_say_everything() {
        let text = "
            execution-mode = \"Batch\"   # a comment
            parallelism = 4
            max-parallelism = 128
            memory = \"64MiB\"
            temp-dir = '/tmp/x'
            buffer-timeout = -1
            chaining = false
            auto-watermark-interval = 50
            progress = \"never\"
            explain = \"graph\"
            seed = 42
            restart-strategy = 'fixed-delay:3:10s'
            job-dir = '/job'
            resume = '/job'
            resume-other-executable = true
            checkpoint-interval = '1s'
            checkpoint-retained = 3
            restore = 'latest'
            allow-non-restored-state = true
            allow-output-rollback = true
            control = '/job'";
        let s = PartialSettings::from_file(file(text)).unwrap();
        let expected = PartialSettings {
            execution_mode: Some(ExecutionMode::Batch),
            parallelism: Some(4),
            max_parallelism: Some(128),
            memory: Some(ByteSize::mib(64)),
            temp_dir: Some("/tmp/x".into()),
            buffer_timeout: Some(BufferTimeout::WhenFull),
            chaining: Some(false),
            auto_watermark_interval: Some(Duration::from_millis(50)),
            progress: Some(Progress::Never),
            explain: Some(ExplainFormat::Graph),
            driver: Some(Driver::Simulation { seed: 42 }),
            restart_strategy: Some(RestartStrategy::FixedDelay {
                attempts: 3,
                delay: Duration::from_secs(10),
            }),
            job_dir: Some("/job".into()),
            resume: Some("/job".into()),
            resume_other_executable: Some(true),
            checkpoints: PartialCheckpoints {
                interval: Some(Duration::from_secs(1)),
                retained: Some(3),
                ..PartialCheckpoints::default()
            },
            restore: Some(Restore::Latest),
            allow_non_restored_state: Some(true),
            allow_output_rollback: Some(true),
            control: Some("/job".into()),
        };
        assert_eq!(s, expected);
        assert_eq!(PartialSettings::from_file(file("")).unwrap(), PartialSettings::default());
    }

    #[test]
    fn bad_files_name_file_and_key() {
        for (text, expected) in [
            (
                "execution_mode = \"batch\"",
                "configuration file 'job.toml': there is no option 'execution_mode' (did you mean 'execution-mode'?); \
                 the options are: execution-mode, parallelism,",
            ),
            (
                "no-chaining = true",
                "configuration file 'job.toml': there is no option 'no-chaining' (did you mean 'chaining'?)",
            ),
            ("colour = 1", "configuration file 'job.toml': there is no option 'colour'; the options are"),
            ("[memory]\nmax = 1", "configuration file 'job.toml': the value of 'memory' is of type table"),
            ("seed = [1]", "configuration file 'job.toml': the value of 'seed' is of type array"),
            (
                "parallelism = 0",
                "configuration file 'job.toml': parallelism 0 is not possible; choose 1 to 32768",
            ),
            ("seed = -1", "configuration file 'job.toml': seed '-1' is not a whole number"),
            ("memory = 1\nmemory = 2", "'job.toml' line 2, column 1: duplicate key"),
            ("\nparallelism = = 3", "'job.toml' line 2, column 1"),
        ] {
            let e = PartialSettings::from_file(file(text)).unwrap_err().to_string();
            assert!(e.starts_with(expected), "{text:?} gave: {e}");
        }
    }

    #[test]
    fn bad_values_name_option_and_variable() {
        for (option, value, expected) in [
            ("execution-mode", "both", "execution-mode 'both' does not exist"),
            ("parallelism", "0", "parallelism 0 is not possible; choose 1 to 32768"),
            ("parallelism", "four", "parallelism 'four' is not a whole number; choose 1 to 32768"),
            ("parallelism", "-1", "parallelism '-1' is not a whole number"),
            ("max-parallelism", "32769", "max-parallelism 32769 is not possible"),
            ("memory", "4MiB", "memory 4MiB is below the minimum of 8MiB"),
            ("memory", "much", "memory 'much' is not a size; write for example 512MiB"),
            ("buffer-timeout", "-5", "buffer-timeout -5 has no meaning"),
            ("chaining", "maybe", "chaining 'maybe' is neither true nor false"),
            (
                "auto-watermark-interval",
                "0",
                "auto-watermark-interval 0ns is not possible; choose 1 ms or more",
            ),
            ("auto-watermark-interval", "1s", "auto-watermark-interval '1s' is not a whole number"),
            ("progress", "on", "progress 'on' does not exist"),
            ("explain", "yes", "explain 'yes' does not exist"),
            ("seed", "x", "seed 'x' is not a whole number"),
            ("restart-strategy", "always", "restart-strategy: 'always' does not exist; write none,"),
            ("resume-other-executable", "yes", "resume-other-executable 'yes' is neither true nor false"),
        ] {
            let name = environment_name(option);
            let e = PartialSettings::from_environment(|n| (n == name).then(|| value.to_string()))
                .unwrap_err()
                .to_string();
            assert!(e.starts_with(&format!("environment variable {name}: {expected}")), "{e}");
        }
        assert_eq!(environment_name("execution-mode"), "MAINSTEM_EXECUTION_MODE");
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let s = PartialSettings::from_environment(|_| Some(" ".into())).unwrap();
        assert_eq!(s, PartialSettings::default());
    }

    /// Each origin can be fine on its own and impossible together.
    #[test]
    fn origins_that_contradict_each_other_are_an_error() {
        let e = Settings::merge(Some(file("max-parallelism = 2")), |_| None, one("parallelism", "3"));
        assert_eq!(
            e.unwrap_err().to_string(),
            "parallelism 3 is above max-parallelism 2; lower the one or raise the other"
        );
    }
}
