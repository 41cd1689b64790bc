//! Args: the engine's share of a program's command line.
//!
//! Place: `main` of a program. A program with its own clap struct flattens [`EngineArgs`] into it; a program
//! without one calls [`Settings::from_args_iter`], which takes the options of the engine and leaves the rest as
//! [`Parameters`].
//! Method: the arguments become one more [`PartialSettings`], laid over environment and configuration file.
//! Invariants: everything but [`EngineArgs::settings`] and [`Settings::from_args_iter`] is a pure function of what
//! it is given.

use super::checkpoint_args::CheckpointArgs;
use crate::base::config::{
    BufferTimeout, ConfigFile, Driver, ExecutionMode, ExplainFormat, PartialSettings, Progress, Settings,
    parse_memory, parse_parallelism, parse_seed, parse_watermark_interval,
};
use crate::base::error::{Error, Result};
use crate::base::memory::ByteSize;
use crate::base::parameters::Parameters;
use crate::base::restart::RestartStrategy;
use crate::base::text;
use clap::{Args, Command, FromArgMatches};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const HEADING: &str = "Engine options";
/// The variable with the path of a configuration file, used when `--config` is not given.
const CONFIG_VARIABLE: &str = "MAINSTEM_CONFIG";

/// The engine's options, to flatten into a program's own clap struct.
///
/// ```
/// use clap::Parser;
///
/// #[derive(clap::Parser)]
/// struct Options {
///     /// Where the words are.
///     #[arg(long)]
///     input: String,
///     #[command(flatten)]
///     engine: mainstem::api::args::EngineArgs,
/// }
///
/// let options = Options::parse_from(["count", "--input", "words.txt", "--parallelism", "4"]);
/// let settings = options.engine.settings()?;
/// assert_eq!((options.input.as_str(), settings.parallelism), ("words.txt", 4));
/// # Ok::<(), mainstem::Error>(())
/// ```
// The ids are prefixed so that a program may have fields of the same names.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "mainstem-options")]
pub struct EngineArgs {
    /// How the plan is run: streaming, batch or automatic [default: streaming]
    #[arg(id = "mainstem-execution-mode", long = "execution-mode", value_name = "MODE", help_heading = HEADING)]
    execution_mode: Option<ExecutionMode>,
    /// Subtasks per operator [default: available cores]
    #[arg(id = "mainstem-parallelism", long = "parallelism", value_name = "N", help_heading = HEADING,
        allow_negative_numbers = true, value_parser = |v: &str| parse_parallelism("parallelism", v))]
    parallelism: Option<usize>,
    /// Number of key groups, the upper limit of every parallelism
    #[arg(id = "mainstem-max-parallelism", long = "max-parallelism", value_name = "N", help_heading = HEADING,
        allow_negative_numbers = true, value_parser = |v: &str| parse_parallelism("max-parallelism", v))]
    max_parallelism: Option<usize>,
    /// Memory for state, sorting and shuffles, for example 2GiB [default: half of the machine's]
    #[arg(id = "mainstem-memory", long = "memory", value_name = "SIZE", help_heading = HEADING,
        value_parser = parse_memory)]
    memory: Option<ByteSize>,
    /// Directory for shuffle and spill files [default: the system's]
    #[arg(id = "mainstem-temp-dir", long = "temp-dir", value_name = "DIR", help_heading = HEADING)]
    temp_dir: Option<PathBuf>,
    /// Milliseconds a record may wait in a batch; 0: none, -1: until the batch is full [default: 100]
    #[arg(id = "mainstem-buffer-timeout", long = "buffer-timeout", value_name = "MS", help_heading = HEADING,
        allow_negative_numbers = true)]
    buffer_timeout: Option<BufferTimeout>,
    /// Join neighbouring operators into one task, against a file or variable that says otherwise
    #[arg(id = "mainstem-chaining", long = "chaining", help_heading = HEADING, hide = true)]
    chaining: bool,
    /// Run every operator as a task of its own
    #[arg(id = "mainstem-no-chaining", long = "no-chaining", help_heading = HEADING,
        overrides_with = "mainstem-chaining")]
    no_chaining: bool,
    /// Milliseconds between periodic watermarks [default: 200]
    #[arg(id = "mainstem-auto-watermark-interval", long = "auto-watermark-interval", value_name = "MS",
        help_heading = HEADING, allow_negative_numbers = true, value_parser = parse_watermark_interval)]
    auto_watermark_interval: Option<Duration>,
    /// Show a progress line: never, auto or always [default: auto]
    #[arg(id = "mainstem-progress", long = "progress", value_name = "WHEN", help_heading = HEADING)]
    progress: Option<Progress>,
    /// Explain the plan instead of running it: text or graph
    #[arg(id = "mainstem-explain", long = "explain", value_name = "FORMAT", help_heading = HEADING,
        num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    explain: Option<ExplainFormat>,
    /// Run as a simulation: one thread, virtual time, a schedule chosen by this seed
    #[arg(id = "mainstem-seed", long = "seed", value_name = "N", help_heading = HEADING,
        allow_negative_numbers = true, value_parser = parse_seed)]
    seed: Option<u64>,
    /// How failures are answered: none, fixed-delay:ATTEMPTS:DELAY, exponential[:INITIAL:MAX:MULTIPLIER:JITTER] or
    /// failure-rate:MAX:INTERVAL:DELAY [default: failure-rate:60:10min:1s with checkpoints; of a batch only what the
    /// outside world did to a unit is tried again]
    #[arg(id = "mainstem-restart-strategy", long = "restart-strategy", value_name = "STRATEGY",
        help_heading = HEADING)]
    restart_strategy: Option<RestartStrategy>,
    /// Keep in DIR what the job needs to go on after the death of the process
    #[arg(id = "mainstem-job-dir", long = "job-dir", value_name = "DIR", help_heading = HEADING)]
    job_dir: Option<PathBuf>,
    /// Go on with the job in DIR, which a process before this one has left
    #[arg(id = "mainstem-resume", long = "resume", value_name = "DIR", help_heading = HEADING)]
    resume: Option<PathBuf>,
    /// Resume though the executable is another one than the one that began the job
    #[arg(id = "mainstem-resume-other-executable", long = "resume-other-executable", help_heading = HEADING)]
    resume_other_executable: bool,
    /// Listen in DIR, for the program mainstem: status, savepoints, stop, cancel
    #[arg(id = "mainstem-control", long = "control", value_name = "DIR", help_heading = HEADING)]
    control: Option<PathBuf>,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
    /// Configuration file (TOML) with the same names as these options
    #[arg(id = "mainstem-config", long = "config", value_name = "FILE", help_heading = HEADING)]
    config: Option<PathBuf>,
}

impl EngineArgs {
    /// The settings: these options over environment variables over the configuration file over defaults.
    ///
    /// # Errors
    /// When the file cannot be read, or file or environment hold a value that cannot be used.
    pub fn settings(&self) -> Result<Settings> {
        self.settings_with(process_environment, text::read_small_file)
    }

    /// As [`EngineArgs::settings`], with another environment and another way to read the configuration file.
    ///
    /// # Errors
    /// As [`EngineArgs::settings`].
    pub fn settings_with(
        &self,
        env: impl Fn(&str) -> Option<String>,
        read: impl FnOnce(&Path) -> Result<String>,
    ) -> Result<Settings> {
        let variable = || env(CONFIG_VARIABLE).filter(|path| !path.trim().is_empty()).map(PathBuf::from);
        let path = self.config.clone().or_else(variable);
        let content = path.as_deref().map(read).transpose()?;
        let file = path.as_deref().zip(content.as_deref()).map(|(path, text)| ConfigFile { path, text });
        Settings::merge(file, env, self.partial())
    }

    /// What the command line itself says.
    pub fn partial(&self) -> PartialSettings {
        PartialSettings {
            execution_mode: self.execution_mode,
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism,
            memory: self.memory,
            temp_dir: self.temp_dir.clone(),
            buffer_timeout: self.buffer_timeout,
            chaining: (self.chaining || self.no_chaining).then_some(!self.no_chaining),
            auto_watermark_interval: self.auto_watermark_interval,
            progress: self.progress,
            explain: self.explain,
            driver: self.seed.map(|seed| Driver::Simulation { seed }),
            restart_strategy: self.restart_strategy.clone(),
            job_dir: self.job_dir.clone(),
            resume: self.resume.clone(),
            resume_other_executable: self.resume_other_executable.then_some(true),
            checkpoints: self.checkpoints.partial(),
            restore: self.checkpoints.restore.clone(),
            allow_non_restored_state: self.checkpoints.allow_non_restored_state.then_some(true),
            allow_output_rollback: self.checkpoints.allow_output_rollback.then_some(true),
            control: self.control.clone(),
        }
    }
}

fn process_environment(name: &str) -> Option<String> {
    // A value that is not UTF-8 becomes one that no option accepts, and is shown in the message.
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// What a command line of a program without its own clap struct asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandLine {
    /// To run, with these settings and these parameters of its own.
    Run(Box<Settings>, Parameters),
    /// `--help` or `-h`: this text.
    Help(String),
}

impl CommandLine {
    /// Takes the engine's options out of `args`, whose first is the name of the program. All others, and
    /// everything after `--`, are parameters in the forms of [`Parameters::from_args`].
    ///
    /// # Errors
    /// An option with a bad value, an argument that is neither an option nor a parameter, or what
    /// [`EngineArgs::settings_with`] says.
    pub fn parse<S: Into<OsString>>(
        args: impl IntoIterator<Item = S>,
        env: impl Fn(&str) -> Option<String>,
        read: impl FnOnce(&Path) -> Result<String>,
    ) -> Result<CommandLine> {
        let mut args = args.into_iter().map(Into::into);
        let program = args.next().unwrap_or_else(|| "program".into());
        let name = Path::new(&program).file_name().unwrap_or(&program).to_string_lossy().into_owned();
        let mut command = EngineArgs::augment_args(
            Command::new("program")
                .disable_version_flag(true)
                .override_usage(format!("{name} [ENGINE OPTIONS] [--KEY VALUE]..."))
                .after_help(
                    "All other options are parameters of the program: --KEY VALUE, --KEY=VALUE or --FLAG.",
                ),
        );
        let Some((engine, own)) = separate(&command, args)? else {
            return Ok(CommandLine::Help(command.render_help().to_string()));
        };
        let matches = command.try_get_matches_from_mut(engine).map_err(|e| sentence(&e))?;
        let options = EngineArgs::from_arg_matches(&matches).map_err(|e| sentence(&e))?;
        let parameters = Parameters::from_args(own)?;
        Ok(CommandLine::Run(Box::new(options.settings_with(env, read)?), parameters))
    }
}

/// The arguments of the engine, with a program name before them, and all others; `None` if help is asked for.
fn separate(
    command: &Command,
    args: impl Iterator<Item = OsString>,
) -> Result<Option<(Vec<OsString>, Vec<String>)>> {
    let mut engine = vec![OsString::from("program")];
    let mut own = Vec::new();
    let mut args = args.peekable();
    let mut only_own = false;
    while let Some(arg) = args.next() {
        if let Some(text) = arg.to_str().filter(|_| !only_own) {
            if text == "--help" || text == "-h" {
                return Ok(None);
            }
            if text == "--" {
                only_own = true;
                continue;
            }
        }
        let lossy = arg.to_string_lossy();
        let long =
            lossy.strip_prefix("--").filter(|_| !only_own).map(|body| body.split('=').next().unwrap_or(body));
        let option = long.and_then(|long| command.get_arguments().find(|o| o.get_long() == Some(long)));
        match option {
            Some(option) => {
                let wants_value = option.get_action().takes_values()
                    && !option.is_require_equals_set()
                    && !lossy.contains('=');
                engine.push(arg);
                engine.extend(args.next_if(|_| wants_value));
            }
            None => own.push(arg.into_string().map_err(|arg| {
                Error::config(format!("argument '{}' is not UTF-8 text", arg.to_string_lossy()))
            })?),
        }
    }
    Ok(Some((engine, own)))
}

/// The message of clap without its colours, prefix and advice.
fn sentence(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    Error::config(text.split("\n\n").next().unwrap_or(text).trim())
}

impl Settings {
    /// The settings and the program's own parameters from a command line such as `std::env::args_os()`, the
    /// environment and the configuration file. `--help` prints the options and ends the process, as clap does;
    /// [`CommandLine::parse`] is the way without that.
    ///
    /// # Errors
    /// As [`CommandLine::parse`].
    pub fn from_args_iter<S: Into<OsString>>(
        args: impl IntoIterator<Item = S>,
    ) -> Result<(Settings, Parameters)> {
        match CommandLine::parse(args, process_environment, text::read_small_file)? {
            CommandLine::Run(settings, parameters) => Ok((*settings, parameters)),
            CommandLine::Help(help) => {
                // A reader that has gone away does not change that the process ends here.
                let _ = std::io::stdout().write_all(help.as_bytes());
                std::process::exit(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parse(line: &str) -> Result<CommandLine> {
        let args = std::iter::once("bin/job").chain(line.split_whitespace());
        CommandLine::parse(args, |_| None, |path| Err(Error::config(format!("read {}", path.display()))))
    }

    fn run(line: &str) -> (Settings, Parameters) {
        match parse(line).unwrap() {
            CommandLine::Run(settings, parameters) => (*settings, parameters),
            CommandLine::Help(text) => panic!("{text}"),
        }
    }

    #[derive(Parser)]
    struct Own {
        #[arg(long)]
        input: String,
        memory: Option<String>,
        #[command(flatten)]
        engine: EngineArgs,
        #[arg(long)]
        last: bool,
    }

    #[test]
    fn the_clap_definition_is_sound_and_leaves_the_users_names_alone() {
        use clap::CommandFactory;
        Own::command().debug_assert();
        let own = Own::parse_from(["p", "--input", "x", "mine", "--memory", "9MiB", "--explain", "--last"]);
        assert_eq!((own.input.as_str(), own.memory.as_deref(), own.last), ("x", Some("mine"), true));
        let partial = own.engine.partial();
        assert_eq!((partial.memory, partial.explain), (Some(ByteSize::mib(9)), Some(ExplainFormat::Text)));
        let help = Own::command().render_help().to_string();
        let (users, engine) = help.split_once("Engine options:").unwrap();
        assert!(users.contains("--last") && !engine.contains("--last"), "{help}");
    }

    #[test]
    fn every_option_is_taken_and_the_rest_are_parameters() {
        let (s, p) = run(
            "--execution-mode batch --input a.txt --parallelism=3 --max-parallelism 64 --memory 1GiB \
             --temp-dir /t --buffer-timeout -1 --no-chaining --auto-watermark-interval 5 --progress never \
             --explain=graph --verbose --seed 9 -k -3 --restart-strategy fixed-delay:2:1s --job-dir /j --resume=/j \
             --resume-other-executable --checkpoint-interval 5s --checkpoint-retained=4 --restore latest \
             --allow-non-restored-state --allow-output-rollback",
        );
        assert_eq!(s.execution_mode, ExecutionMode::Batch);
        assert_eq!((s.parallelism, s.max_parallelism, s.memory), (3, Some(64), ByteSize(1 << 30)));
        assert_eq!((s.temp_dir, s.buffer_timeout), (PathBuf::from("/t"), BufferTimeout::WhenFull));
        assert_eq!((s.chaining, s.auto_watermark_interval), (false, Duration::from_millis(5)));
        assert_eq!((s.progress, s.explain), (Progress::Never, Some(ExplainFormat::Graph)));
        assert_eq!(s.driver, Driver::Simulation { seed: 9 });
        assert_eq!(s.restart_strategy.map(|r| r.to_string()).as_deref(), Some("fixed-delay:2:1000ms"));
        assert_eq!((s.job_dir, s.resume), (Some("/j".into()), Some("/j".into())));
        assert!(s.resume_other_executable && s.allow_non_restored_state && s.allow_output_rollback);
        assert_eq!((s.checkpoints.interval, s.checkpoints.retained), (Some(Duration::from_secs(5)), 4));
        assert_eq!(s.restore, Some(crate::base::config::Restore::Latest));
        assert_eq!(p.to_string(), "input   = a.txt\nk       = -3\nverbose\n");
    }

    #[test]
    fn explain_takes_no_separate_word_and_the_last_chaining_option_wins() {
        let (s, p) = run("--explain --a b --no-chaining --chaining");
        assert_eq!((s.explain, s.chaining, p.get("a")), (Some(ExplainFormat::Text), true, Some("b")));
        assert!(!run("--chaining --no-chaining").0.chaining);
    }

    #[test]
    fn everything_after_two_dashes_is_the_programs() {
        let (s, p) = run("--parallelism 2 -- --parallelism 7 --help");
        assert_eq!((s.parallelism, p.get("parallelism"), p.has("help")), (2, Some("7"), true));
    }

    #[test]
    fn bad_values_are_sentences_with_option_and_limit() {
        for (line, expected) in [
            ("--parallelism 0", "invalid value '0' for '--parallelism <N>': parallelism 0 is not possible"),
            (
                "--max-parallelism -1",
                "invalid value '-1' for '--max-parallelism <N>': max-parallelism '-1' is not",
            ),
            (
                "--memory 4MiB",
                "invalid value '4MiB' for '--memory <SIZE>': memory 4MiB is below the minimum of 8MiB",
            ),
            (
                "--execution-mode x",
                "invalid value 'x' for '--execution-mode <MODE>': execution-mode 'x' does not",
            ),
            (
                "--buffer-timeout -7",
                "invalid value '-7' for '--buffer-timeout <MS>': buffer-timeout -7 has no",
            ),
            ("--explain=pdf", "invalid value 'pdf' for '--explain[=<FORMAT>]': explain 'pdf' does not exist"),
            (
                "--restart-strategy x",
                "invalid value 'x' for '--restart-strategy <STRATEGY>': restart-strategy: 'x'",
            ),
            ("--seed -1", "invalid value '-1' for '--seed <N>': seed '-1' is not a whole number"),
            ("--memory", "a value is required for '--memory <SIZE>' but none was supplied"),
            (
                "--parallelism 1 --parallelism 2",
                "the argument '--parallelism <N>' cannot be used multiple times",
            ),
            ("stray", "argument 'stray' belongs to no key"),
            ("--parallelism 3 --max-parallelism 2", "parallelism 3 is above max-parallelism 2"),
        ] {
            let e = parse(line).unwrap_err().to_string();
            assert!(e.starts_with(expected), "{line}: {e}");
            assert!(!e.contains("--help"), "{e}");
        }
    }

    #[test]
    fn config_comes_from_the_option_before_the_variable() {
        let env = |name: &str| match name {
            "MAINSTEM_CONFIG" => Some("env.toml".to_string()),
            "MAINSTEM_SEED" => Some("5".to_string()),
            _ => None,
        };
        let read = |path: &Path| {
            let parallelism = if path == Path::new("env.toml") { 3 } else { 4 };
            Ok(format!("parallelism = {parallelism}\nseed = 1\nmemory = '9MiB'"))
        };
        for (line, parallelism) in [(vec!["p"], 3), (vec!["p", "--config", "own.toml"], 4)] {
            let CommandLine::Run(s, _) = CommandLine::parse(line, env, read).unwrap() else { panic!() };
            assert_eq!((s.parallelism, s.memory), (parallelism, ByteSize::mib(9)));
            assert_eq!(s.driver, Driver::Simulation { seed: 5 }, "the variable is above the file");
        }
        assert_eq!(parse("--config x.toml").unwrap_err().to_string(), "read x.toml");
    }

    #[test]
    fn help_lists_every_option() {
        for line in ["--help", "--top 3 -h"] {
            let CommandLine::Help(text) = parse(line).unwrap() else { panic!("{line}") };
            for option in crate::base::config::OPTIONS {
                let option = if option == "chaining" { "no-chaining" } else { option };
                assert!(text.contains(&format!("--{option}")), "{option} is missing in {text}");
            }
            assert!(text.contains("Usage: job [ENGINE OPTIONS] [--KEY VALUE]..."), "{text}");
            assert!(text.contains("--config <FILE>") && text.contains("All other options are parameters"));
        }
    }
}
