//! Notes: what the writers of one execution have prepared and nobody has committed yet.
//!
//! Place: shared by the subtasks, which add, and the job's thread, which commits and then strikes out.
//! Invariants: what is noted for a checkpoint is in that checkpoint and in all later ones until it is struck out, so
//! an aborted checkpoint needs no care.

use crate::base::batch::CheckpointId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A subtask and a unit of work within it.
pub(super) type At = (usize, usize);

/// What each unit has prepared, by the checkpoint it was prepared for.
type Prepared<C> = BTreeMap<CheckpointId, BTreeMap<At, Vec<C>>>;

/// See the module. Clones share the notes.
pub(super) struct Notes<C>(Arc<Mutex<Prepared<C>>>);

impl<C> Clone for Notes<C> {
    fn clone(&self) -> Self {
        Notes(self.0.clone())
    }
}

impl<C> Default for Notes<C> {
    fn default() -> Self {
        Notes(Arc::default())
    }
}

impl<C: Clone> Notes<C> {
    fn lock(&self) -> MutexGuard<'_, Prepared<C>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new attempt begins: what attempts before it have prepared does not count.
    pub(super) fn restart(&self, at: At) {
        self.lock().values_mut().for_each(|units| drop(units.remove(&at)));
    }

    /// Adds what was prepared for a checkpoint.
    pub(super) fn add(&self, checkpoint: CheckpointId, at: At, prepared: Vec<C>) {
        if !prepared.is_empty() {
            self.lock().entry(checkpoint).or_default().entry(at).or_default().extend(prepared);
        }
    }

    /// What one unit has prepared, oldest first.
    pub(super) fn of(&self, at: At) -> Vec<C> {
        self.lock().values().filter_map(|units| units.get(&at)).flatten().cloned().collect()
    }

    /// The units that have prepared something.
    pub(super) fn places(&self) -> Vec<At> {
        let notes = self.lock();
        let places: BTreeSet<At> = notes.values().flat_map(BTreeMap::keys).copied().collect();
        places.into_iter().collect()
    }

    /// What was prepared for checkpoints up to `checkpoint`, oldest first.
    pub(super) fn up_to(&self, checkpoint: CheckpointId) -> Vec<C> {
        self.lock().range(..=checkpoint).flat_map(|(_, units)| units.values().flatten()).cloned().collect()
    }

    /// Strikes out what was prepared for checkpoints up to `checkpoint`: it is committed.
    pub(super) fn strike(&self, checkpoint: CheckpointId) {
        self.lock().retain(|&noted, _| noted > checkpoint);
    }

    /// Strikes out everything.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }
}
