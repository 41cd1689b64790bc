//! Hooks: what a function is called for beside records and timers: to take up and to keep operator state.

use super::context::KeyedContext;
use super::snapshot::{restore_broadcast, snapshot_broadcast};
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

/// The state of a function without keys: lists of the subtask and broadcast state.
pub(super) struct SubtaskState {
    pub(super) states: States,
    hooks: Hooks,
    /// Once the operator is open.
    runtime: Option<RuntimeContext>,
}

impl SubtaskState {
    /// What was declared in `states`.
    pub(super) fn new(states: States) -> SubtaskState {
        SubtaskState { states, hooks: Hooks::default(), runtime: None }
    }

    /// The operator is open.
    pub(super) fn open(&mut self, runtime: &RuntimeContext) {
        self.runtime = Some(runtime.clone());
    }

    /// Calls the function's `initialize_state`, if it was not called before.
    #[inline(always)]
    pub(super) fn initialize(
        &mut self,
        call: impl FnOnce(&mut OperatorContext<'_>) -> UserResult,
    ) -> Result<()> {
        let SubtaskState { states, hooks, runtime } = self;
        runtime.as_ref().map_or(Ok(()), |runtime| hooks.initialize(states, runtime, call))
    }

    /// Calls the function's `snapshot_state`, and writes everything.
    pub(super) fn snapshot(
        &mut self,
        into: &mut OperatorSnapshot,
        call: impl FnOnce(&mut OperatorContext<'_>) -> UserResult,
    ) -> Result<()> {
        let SubtaskState { states, hooks, runtime } = self;
        if let Some(runtime) = runtime {
            hooks.snapshot(states, runtime, into, call)?;
        }
        snapshot_broadcast(states, into)
    }

    /// Takes up what was kept: before `initialize_state`.
    pub(super) fn restore(&mut self, state: &OperatorState) -> Result<()> {
        let SubtaskState { states, hooks, runtime } = self;
        let Some(runtime) = runtime else { return Ok(()) };
        restore_broadcast(states, state, runtime.subtask_index())?;
        hooks.restore(states, runtime, state)
    }
}

/// The calls of an operator that the functions without keys share: they have `function` and `kept`.
macro_rules! subtask_calls {
    () => {
        fn open(&mut self, ctx: &mut Context) -> Result<()> {
            self.kept.open(&ctx.runtime);
            self.function.open(&ctx.runtime).map_err(Error::User)
        }
        fn end_of_input(&mut self, _: &mut Context, _: &mut Out<U>) -> Result<Progress> {
            self.kept.initialize(|state| self.function.initialize_state(state))?;
            Ok(Progress::Done)
        }
        fn snapshot(&mut self, _: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
            self.kept.initialize(|state| self.function.initialize_state(state))?;
            self.kept.snapshot(into, |state| self.function.snapshot_state(state))?;
            Ok(Progress::Done)
        }
        fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
            self.function.checkpoint_complete(checkpoint).map_err(Error::User)
        }
        fn restore(&mut self, state: &OperatorState, _: &mut Context) -> Result<()> {
            self.kept.restore(state)?;
            self.kept.initialize(|state| self.function.initialize_state(state))
        }
        fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
            subtask_tables(&self.kept.states)
        }
        fn close(&mut self) -> Result<()> {
            self.function.close().map_err(Error::User)
        }
    };
}
pub(super) use subtask_calls;
