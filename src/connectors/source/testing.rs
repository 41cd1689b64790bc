//! What the tests of sources share.

use super::{Poll, SourceContext, SourceOutput, SplitReader};
use crate::base::clock::{Clock, VirtualClock};
use crate::base::metrics::Counters;
use crate::base::vfs::MemVfs;
use std::sync::Arc;

/// A context with an empty file system and a clock that stands still.
pub(crate) fn context(parallelism: usize) -> SourceContext {
    context_with(parallelism, VirtualClock::new())
}

/// A context with a clock.
pub(crate) fn context_with(parallelism: usize, clock: Arc<dyn Clock>) -> SourceContext {
    SourceContext { parallelism, vfs: Arc::new(MemVfs::new()), clock, counters: Counters::new() }
}

/// Polls a reader that never idles to its end.
pub(crate) fn drain<R: SplitReader>(reader: &mut R) -> Vec<R::Item> {
    let mut all = Vec::new();
    loop {
        let mut out = SourceOutput::default();
        let answer = reader.poll(&mut out).unwrap();
        assert!(out.batch.len() <= crate::base::batch::BATCH_RECORDS);
        all.append(&mut out.batch.values);
        match answer {
            Poll::More => {}
            Poll::Idle(wait) => panic!("idle for {wait:?}"),
            Poll::End => return all,
        }
    }
}
