//! CheckpointArgs: the options about checkpoints, a part of the engine's share of a command line.

use super::args::HEADING;
use crate::base::config::{
    CheckpointMode, CheckpointStorage, PartialCheckpoints, Restore, parse_count, parse_duration,
};
use clap::Args;
use std::time::Duration;

/// The options about checkpoints.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "mainstem-checkpoint-options")]
pub(super) struct CheckpointArgs {
    /// Time between the begins of two checkpoints, for example 10s [default: no checkpoints]
    #[arg(id = "mainstem-checkpoint-interval", long = "checkpoint-interval", value_name = "TIME",
        help_heading = HEADING, value_parser = |v: &str| parse_duration("checkpoint-interval", v))]
    interval: Option<Duration>,
    /// exactly-once or at-least-once [default: exactly-once]
    #[arg(id = "mainstem-checkpoint-mode", long = "checkpoint-mode", value_name = "MODE", help_heading = HEADING)]
    mode: Option<CheckpointMode>,
    /// Time after which a checkpoint is given up [default: 10min]
    #[arg(id = "mainstem-checkpoint-timeout", long = "checkpoint-timeout", value_name = "TIME",
        help_heading = HEADING, value_parser = |v: &str| parse_duration("checkpoint-timeout", v))]
    timeout: Option<Duration>,
    /// Time between the end of a checkpoint and the begin of the next [default: 0]
    #[arg(id = "mainstem-checkpoint-min-pause", long = "checkpoint-min-pause", value_name = "TIME",
        help_heading = HEADING, value_parser = |v: &str| parse_duration("checkpoint-min-pause", v))]
    min_pause: Option<Duration>,
    /// Checkpoints that may be under way at once; 1 if there is a pause [default: 1]
    #[arg(id = "mainstem-checkpoint-max-concurrent", long = "checkpoint-max-concurrent", value_name = "N",
        help_heading = HEADING, value_parser = |v: &str| parse_count("checkpoint-max-concurrent", v))]
    max_concurrent: Option<usize>,
    /// Checkpoints that may fail in a row before the job fails [default: 0]
    #[arg(id = "mainstem-checkpoint-tolerable-failures", long = "checkpoint-tolerable-failures", value_name = "N",
        help_heading = HEADING, value_parser = |v: &str| parse_count("checkpoint-tolerable-failures", v))]
    tolerable_failures: Option<usize>,
    /// Completed checkpoints that are kept, 2 or more [default: 2]
    #[arg(id = "mainstem-checkpoint-retained", long = "checkpoint-retained", value_name = "N",
        help_heading = HEADING, value_parser = |v: &str| parse_count("checkpoint-retained", v))]
    retained: Option<usize>,
    /// Where checkpoints are kept: directory (the job's) or memory [default: directory]
    #[arg(id = "mainstem-checkpoint-storage", long = "checkpoint-storage", value_name = "WHERE",
        help_heading = HEADING)]
    storage: Option<CheckpointStorage>,
    /// Take checkpoints though records go round in a loop: after a failure those that were in it are lost
    #[arg(id = "mainstem-checkpoint-lossy-loops", long = "checkpoint-lossy-loops", help_heading = HEADING)]
    lossy_loops: bool,
    /// Keep checkpoints in DIR; the job directory then has copies for a faster restore [default: the job directory]
    #[arg(id = "mainstem-checkpoint-dir", long = "checkpoint-dir", value_name = "DIR", help_heading = HEADING)]
    dir: Option<std::path::PathBuf>,
    /// Go on from a checkpoint or savepoint: latest, or the directory of one
    #[arg(id = "mainstem-restore", long = "restore", value_name = "latest|PATH", help_heading = HEADING)]
    pub(super) restore: Option<Restore>,
    /// Leave out state of the checkpoint that no operator of the program is for
    #[arg(id = "mainstem-allow-non-restored-state", long = "allow-non-restored-state", help_heading = HEADING)]
    pub(super) allow_non_restored_state: bool,
    /// Take back output that became visible after the checkpoint; who has read it reads its records again
    #[arg(id = "mainstem-allow-output-rollback", long = "allow-output-rollback", help_heading = HEADING)]
    pub(super) allow_output_rollback: bool,
}

impl CheckpointArgs {
    /// What the command line says about taking checkpoints.
    pub(super) fn partial(&self) -> PartialCheckpoints {
        PartialCheckpoints {
            interval: self.interval,
            mode: self.mode,
            timeout: self.timeout,
            min_pause: self.min_pause,
            max_concurrent: self.max_concurrent,
            tolerable_failures: self.tolerable_failures,
            retained: self.retained,
            storage: self.storage,
            lossy_loops: self.lossy_loops.then_some(true),
            dir: self.dir.clone(),
        }
    }
}
