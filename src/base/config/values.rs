//! Values: the choices that settings are made of, as they are written in files, variables and on command lines.

use crate::base::error::{Error, Result};
use crate::base::text;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a plan is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionMode {
    /// Pipelined: every operator is live at once and records flow in small batches.
    #[default]
    Streaming,
    /// Staged: the plan is cut at shuffles and the stages run one after another. All sources must be bounded.
    Batch,
    /// Batch if all sources are bounded, streaming otherwise.
    Automatic,
}

/// When a progress line is drawn on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Not at all.
    Never,
    /// When stderr is a terminal and the run lasts longer than a second.
    #[default]
    Auto,
    /// From the start; as separate lines when stderr is not a terminal.
    Always,
}

/// How a plan is explained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExplainFormat {
    /// Indented text.
    #[default]
    Text,
    /// A graph in the language of Graphviz.
    Graph,
}

/// What steps the subtasks of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Worker threads and the clock of the machine.
    #[default]
    Threads,
    /// One thread, a virtual clock and a seeded scheduler: the same seed gives the same run.
    Simulation {
        /// Chooses the schedule.
        seed: u64,
    },
}

/// How long a record may wait in an output batch that is not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferTimeout {
    /// No longer than this, at least 1 ms; written as the number of milliseconds.
    After(Duration),
    /// Not at all: every record is sent on its own; written as 0. Lowest latency, lowest throughput.
    EveryRecord,
    /// Until the batch is full; written as -1. Records of a slow stream may wait without limit.
    WhenFull,
}

impl BufferTimeout {
    /// From milliseconds: 0 is every record, -1 only full batches.
    ///
    /// # Errors
    /// Other negative numbers.
    pub fn from_ms(ms: i64) -> Result<BufferTimeout> {
        match ms {
            -1 => Ok(BufferTimeout::WhenFull),
            0 => Ok(BufferTimeout::EveryRecord),
            1.. => Ok(BufferTimeout::After(Duration::from_millis(ms.unsigned_abs()))),
            _ => Err(Error::config(format!("buffer-timeout {ms} has no meaning; {BUFFER_TIMEOUT_FORM}"))),
        }
    }
}

const BUFFER_TIMEOUT_FORM: &str =
    "give milliseconds, 0 to send every record at once, or -1 to send only full batches";

impl Default for BufferTimeout {
    fn default() -> Self {
        BufferTimeout::After(Duration::from_millis(100))
    }
}

impl FromStr for BufferTimeout {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let ms = text.trim().parse().map_err(|_| {
            Error::config(format!("buffer-timeout '{text}' is not a whole number; {BUFFER_TIMEOUT_FORM}"))
        })?;
        BufferTimeout::from_ms(ms)
    }
}

impl fmt::Display for BufferTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BufferTimeout::After(d) => f.pad(&text::duration(*d)),
            BufferTimeout::EveryRecord => f.pad("every record"),
            BufferTimeout::WhenFull => f.pad("only when full"),
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Driver::Threads => f.pad("threads"),
            Driver::Simulation { seed } => f.pad(&format!("simulation with seed {seed}")),
        }
    }
}

/// The value of that name, whatever its case; otherwise a sentence with all names.
fn by_name<T: Copy>(option: &str, text: &str, names: &[(&'static str, T)]) -> Result<T> {
    let wanted = text.trim();
    if let Some((_, value)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)) {
        return Ok(*value);
    }
    let list = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let near = text::did_you_mean(wanted, names.iter().map(|(name, _)| *name));
    Err(Error::config(format!("{option} '{text}' does not exist{near}; choose one of: {list}")))
}

impl FromStr for ExecutionMode {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        use ExecutionMode::{Automatic, Batch, Streaming};
        by_name(
            "execution-mode",
            text,
            &[("streaming", Streaming), ("batch", Batch), ("automatic", Automatic)],
        )
    }
}

impl fmt::Display for ExecutionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ExecutionMode::Streaming => "streaming",
            ExecutionMode::Batch => "batch",
            ExecutionMode::Automatic => "automatic",
        })
    }
}

impl FromStr for Progress {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        use Progress::{Always, Auto, Never};
        by_name("progress", text, &[("never", Never), ("auto", Auto), ("always", Always)])
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Progress::Never => "never",
            Progress::Auto => "auto",
            Progress::Always => "always",
        })
    }
}

impl FromStr for ExplainFormat {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        by_name("explain", text, &[("text", ExplainFormat::Text), ("graph", ExplainFormat::Graph)])
    }
}

impl fmt::Display for ExplainFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ExplainFormat::Text => "text",
            ExplainFormat::Graph => "graph",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_written_back() {
        for text in ["streaming", "batch", "automatic"] {
            let mode: ExecutionMode = text.to_uppercase().parse().unwrap();
            assert_eq!(mode.to_string(), text);
            assert_eq!(serde_json::to_string(&mode).unwrap(), format!("\"{text}\""));
        }
        for text in ["never", "auto", "always"] {
            assert_eq!(text.parse::<Progress>().unwrap().to_string(), text);
        }
        for text in ["text", "graph"] {
            assert_eq!(text.parse::<ExplainFormat>().unwrap().to_string(), text);
        }
        assert_eq!(format!("[{:>7}]", ExecutionMode::Batch), "[  batch]");
    }

    /// M1: streaming is the default.
    #[test]
    fn default_mode_is_streaming() {
        assert_eq!(ExecutionMode::default(), ExecutionMode::Streaming);
    }

    #[test]
    fn unknown_names_list_what_exists() {
        assert_eq!(
            "btach".parse::<ExecutionMode>().unwrap_err().to_string(),
            "execution-mode 'btach' does not exist (did you mean 'batch'?); choose one of: streaming, batch, \
             automatic"
        );
        assert_eq!(
            "sometimes".parse::<Progress>().unwrap_err().to_string(),
            "progress 'sometimes' does not exist; choose one of: never, auto, always"
        );
    }

    /// A16: above 0, 0 and -1 have their own meaning, anything else none.
    #[test]
    fn buffer_timeout_has_three_forms() {
        for (text, value) in [
            ("250", BufferTimeout::After(Duration::from_millis(250))),
            ("0", BufferTimeout::EveryRecord),
            (" -1 ", BufferTimeout::WhenFull),
        ] {
            assert_eq!(text.parse::<BufferTimeout>().unwrap(), value, "{text}");
        }
        for text in ["-2", "", "ten", "1.5", "99999999999999999999"] {
            let e = text.parse::<BufferTimeout>().unwrap_err().to_string();
            assert!(e.starts_with("buffer-timeout ") && e.contains("-1 to send only full batches"), "{e}");
        }
        assert_eq!(BufferTimeout::default().to_string(), "100ms");
    }
}
