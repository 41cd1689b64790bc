//! Origin: the checkpoint or savepoint that a job was started from, until it has a checkpoint of its own.
//!
//! Invariants: it is durable before sources, sinks or operators of the job have done anything, so that whoever goes on
//! with the newest checkpoint of a job that has none yet goes on from where the job itself did. Checkpoints of earlier
//! runs in the same directory, which have lower numbers, say nothing of the job from then on.

use crate::base::batch::CheckpointId;
use crate::services::job_dir::FileKind;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Name of its file in the directory of a job.
pub(super) const ORIGIN: &str = "origin";
pub(super) const ORIGIN_KIND: FileKind = FileKind(*b"ORGN");

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its directory, from the root of the file system.
    pub path: PathBuf,
    /// The number of the first checkpoint that the job may have taken itself.
    pub first: CheckpointId,
}
