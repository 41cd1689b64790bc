//! Whereabouts: the operator that a chain is in, to be read from another thread while user code does not return.

use crate::base::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The operator that a chain has called last. Cloning gives another handle to the same chain's.
#[derive(Clone)]
pub struct Whereabouts {
    names: Arc<[Arc<str>]>,
    subtask: usize,
    at: Arc<AtomicUsize>,
}

impl Whereabouts {
    /// Those of a chain with these operators.
    pub(super) fn new(names: impl IntoIterator<Item = Arc<str>>, subtask: usize) -> Whereabouts {
        Whereabouts { names: names.into_iter().collect(), subtask, at: Arc::default() }
    }

    /// Notes that an operator is about to be called.
    #[inline]
    pub(super) fn set(&self, link: usize) {
        self.at.store(link, Ordering::Relaxed);
    }

    /// Name of the operator, and the subtask.
    pub fn operator(&self) -> (&str, usize) {
        let name = self.names.get(self.at.load(Ordering::Relaxed)).map_or("", |name| name);
        (name, self.subtask)
    }

    /// The error of a cancelled job that has waited for the operator for so long.
    pub fn does_not_return(&self, grace: Duration) -> Error {
        let (operator, subtask) = self.operator();
        tracing::error!(operator, subtask, "user code does not return; its thread is left behind");
        Error::user(format!(
            "it did not return within {grace:?} of the end of the job; its thread is left behind"
        ))
        .in_operator(operator, subtask)
    }
}
