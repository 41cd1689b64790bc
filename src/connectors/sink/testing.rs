//! What the tests of sinks share.

use super::SinkContext;
use crate::base::clock::VirtualClock;
use crate::base::metrics::Counters;
use crate::base::vfs::{MemVfs, SharedVfs};
use std::sync::Arc;

/// The context of a job with one subtask and an empty file system.
pub(crate) fn context() -> SinkContext {
    context_on(Arc::new(MemVfs::new()))
}

/// The same on a file system.
pub(crate) fn context_on(vfs: SharedVfs) -> SinkContext {
    SinkContext {
        job_id: "job".to_string(),
        subtask: 0,
        parallelism: 1,
        unit: 0,
        attempt: 0,
        checkpoints: false,
        restored: false,
        rollback: false,
        from_start: true,
        committing: false,
        resumable: false,
        process: 0,
        vfs,
        clock: Arc::new(VirtualClock::default()),
        counters: Counters::new(),
    }
}
