//! Config: the settings of a job, and how they come together from program, command line, environment and file.
//!
//! Place: the api builds one [`Settings`] before a job is planned; planner and executors read it and never look
//! at the environment or at files themselves.
//! Method: every place that can say something fills a [`PartialSettings`]; [`PartialSettings::or`] lays one over
//! the other (builder call > command line > environment variables > configuration file), and
//! [`PartialSettings::resolve`] fills the rest with defaults of the [`Machine`] and checks the result.
//! Invariants: a `Settings` that came from here is valid as a whole; a bad value is reported with the option and
//! the place it came from.

mod checkpoints;
mod layers;
mod machine;
mod settings;
mod values;

pub use checkpoints::{CheckpointMode, CheckpointSettings, CheckpointStorage, PartialCheckpoints, Restore};
pub(crate) use checkpoints::{parse_count, parse_duration};
pub use layers::{ConfigFile, OPTIONS, environment_name};
pub(crate) use layers::{
    parse_memory, parse_parallelism, parse_seed, parse_toml, parse_watermark_interval, toml_scalar,
};
pub use machine::Machine;
pub(crate) use machine::status_kib;
pub use settings::{MEMORY_MIN, PARALLELISM_MAX, PartialSettings, Settings};
pub use values::{BufferTimeout, Driver, ExecutionMode, ExplainFormat, Progress};
