//! Hooks: what a function is called for beside records and timers: to take up and to keep operator state.

use super::context::KeyedContext;
use super::{BroadcastContext, KeyedBroadcastContext};
use crate::base::error::{Error, Result};
use crate::operator::{RuntimeContext, UserResult};
use crate::semantics::state::{OperatorAccess, OperatorSnapshot, OperatorState, States};
use qcell::QCellOwner;

/// What a function sees of its operator state when it is initialized, and when a snapshot is taken.
pub struct OperatorContext<'a> {
    states: &'a mut States,
    runtime: &'a RuntimeContext,
    restored: bool,
}

impl OperatorContext<'_> {
    /// Whether the operator was given state that was kept before, be it empty.
    pub fn is_restored(&self) -> bool {
        self.restored
    }
    /// The subtask this function runs in.
    pub fn runtime(&self) -> &RuntimeContext {
        self.runtime
    }
}

impl OperatorAccess for OperatorContext<'_> {
    fn operator_state(&self) -> &QCellOwner {
        self.states.owner()
    }
    fn operator_state_mut(&mut self) -> &mut QCellOwner {
        self.states.owner_mut()
    }
}

impl<K> OperatorAccess for KeyedContext<K> {
    fn operator_state(&self) -> &QCellOwner {
        self.scope.states().owner()
    }
    fn operator_state_mut(&mut self) -> &mut QCellOwner {
        self.scope.states_mut().owner_mut()
    }
}

impl<K> OperatorAccess for KeyedBroadcastContext<'_, K> {
    fn operator_state(&self) -> &QCellOwner {
        self.keyed().scope.states().owner()
    }
    fn operator_state_mut(&mut self) -> &mut QCellOwner {
        self.keyed_mut().scope.states_mut().owner_mut()
    }
}

impl OperatorAccess for BroadcastContext<'_> {
    fn operator_state(&self) -> &QCellOwner {
        self.states().owner()
    }
    fn operator_state_mut(&mut self) -> &mut QCellOwner {
        self.states_mut().owner_mut()
    }
}

/// How far the operator state of a function has come.
#[derive(Default)]
pub(super) struct Hooks {
    initialized: bool,
    restored: bool,
}

impl Hooks {
    /// Calls the function's `initialize_state`, if it was not called before.
    #[inline(always)]
    pub(super) fn initialize(
        &mut self,
        states: &mut States,
        runtime: &RuntimeContext,
        call: impl FnOnce(&mut OperatorContext<'_>) -> UserResult,
    ) -> Result<()> {
        if std::mem::replace(&mut self.initialized, true) {
            return Ok(());
        }
        call(&mut OperatorContext { states, runtime, restored: self.restored }).map_err(Error::User)
    }

    /// Takes up the lists of a snapshot: before `initialize_state`.
    pub(super) fn restore(
        &mut self,
        states: &mut States,
        runtime: &RuntimeContext,
        state: &OperatorState,
    ) -> Result<()> {
        self.restored = true;
        states.restore_operator_lists(state, runtime.subtask_index(), runtime.parallelism())
    }

    /// Calls the function's `snapshot_state`, and writes the lists.
    pub(super) fn snapshot(
        &self,
        states: &mut States,
        runtime: &RuntimeContext,
        into: &mut OperatorSnapshot,
        call: impl FnOnce(&mut OperatorContext<'_>) -> UserResult,
    ) -> Result<()> {
        call(&mut OperatorContext { states, runtime, restored: self.restored }).map_err(Error::User)?;
        states.snapshot_operator_lists(into)
    }
}
