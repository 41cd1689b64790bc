//! States: what a keyed function declares before it runs.
//!
//! Place: the closure that makes a user's function is called with a [`States`]: once when the plan is built, to
//! learn names and types, and once for each attempt of each subtask. A state handle can be made in no other way,
//! so there is no state that the engine does not know.
//! Method: a column is shared between its handle and the engine; the owner token that opens it (crate `qcell`)
//! lives in the context, so that a handle can only be used while the engine has a current key.

use super::ages::Ages;
use super::broadcast::{AnyBroadcast, BroadcastState};
use super::column::{AnyColumn, Handle};
use super::folded::{AggregatingState, ReducingState};
use super::list::ListState;
use super::map::MapState;
use super::operator_list::{OperatorList, OperatorListState, Redistribution};
use super::serializer::StateSerializer;
use super::table::Slot;
use super::ttl::StateTtl;
use super::value::ValueState;
use crate::base::data::{Key, State, Timestamp};
use crate::semantics::aggregate::Aggregator;
use qcell::QCellOwner;
use std::any::type_name;
use std::sync::Arc;

/// Name and type of one declared state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDescriptor {
    /// Unique within the operator.
    pub name: String,
    /// The kind of state: `value`, `list`, `map`, `reducing`, `aggregating`, `broadcast`, `operator list` or `union list`.
    pub kind: &'static str,
    /// The type of a value, an element or an accumulator; of a map, the pair of key and value.
    pub type_name: &'static str,
}

/// Something declared, and where its descriptor is.
pub(super) struct Declared<T: ?Sized> {
    pub(super) descriptor: usize,
    pub(super) stored: Arc<T>,
}

/// What is declared, apart from the token that opens it.
pub(super) struct Parts<'a> {
    pub(super) columns: &'a [Declared<dyn AnyColumn>],
    pub(super) broadcasts: &'a [Declared<dyn AnyBroadcast>],
    pub(super) descriptors: &'a [StateDescriptor],
}

/// Declares the states of one function. Their names differ: using one twice is an error when the plan is built.
pub struct States {
    owner: QCellOwner,
    /// State of keys, in the order of declaration.
    pub(super) columns: Vec<Declared<dyn AnyColumn>>,
    /// State of the subtask, in the order of declaration.
    pub(super) broadcasts: Vec<Declared<dyn AnyBroadcast>>,
    /// Lists of the subtask, in the order of declaration.
    pub(super) operator_lists: Vec<OperatorList>,
    descriptors: Vec<StateDescriptor>,
    has_ttl: bool,
}

impl Default for States {
    fn default() -> Self {
        States {
            owner: QCellOwner::new(),
            columns: Vec::new(),
            broadcasts: Vec::new(),
            operator_lists: Vec::new(),
            descriptors: Vec::new(),
            has_ttl: false,
        }
    }
}

impl States {
    /// Declares one value for each key.
    pub fn value<S: State>(&mut self, name: &str) -> ValueState<S> {
        self.plain().value(name)
    }

    /// Declares one value for each key that is written into snapshots by a serializer of its own.
    pub fn value_with<S: State>(&mut self, name: &str, serializer: impl StateSerializer<S>) -> ValueState<S> {
        self.plain().value_with(name, serializer)
    }

    /// Declares a list for each key.
    pub fn list<S: State>(&mut self, name: &str) -> ListState<S> {
        self.plain().list(name)
    }

    /// Declares a map for each key.
    pub fn map<MK: Key + Sync, MV: State>(&mut self, name: &str) -> MapState<MK, MV> {
        self.plain().map(name)
    }

    /// Declares one value for each key that `fold` folds further ones into.
    pub fn reducing<S: State, F: Fn(&mut S, S)>(&mut self, name: &str, fold: F) -> ReducingState<S, F> {
        self.plain().reducing(name, fold)
    }

    /// Declares one accumulator for each key that `aggregator` adds records to.
    pub fn aggregating<In, A: Aggregator<In>>(&mut self, name: &str, aggregator: A) -> AggregatingState<In, A>
    where
        A::Acc: State,
    {
        self.plain().aggregating(name, aggregator)
    }

    /// What is declared on the result has a time to live.
    pub fn with_ttl(&mut self, ttl: StateTtl) -> TtlStates<'_> {
        TtlStates { states: self, ttl: Some(ttl) }
    }

    fn plain(&mut self) -> TtlStates<'_> {
        TtlStates { states: self, ttl: None }
    }

    /// Declares a map that is not of a key but of the subtask, for what a broadcast input says.
    pub fn broadcast<K: Key + Sync, V: State>(&mut self, name: &str) -> BroadcastState<K, V> {
        let state = BroadcastState::new(&self.owner);
        let descriptor = self.describe(name, "broadcast", type_name::<(K, V)>());
        self.broadcasts.push(Declared { descriptor, stored: state.map() });
        state
    }

    /// Declares a list that is not of a key but of the subtask. When the subtasks are others after a restore, the lists of
    /// all, one behind the other, are cut into as many parts.
    pub fn operator_list<S: State>(&mut self, name: &str) -> OperatorListState<S> {
        self.operator_list_of(name, Redistribution::EvenSplit)
    }

    /// Declares a list that is not of a key but of the subtask. After a restore each subtask gets the lists of all, one
    /// behind the other, and picks what it needs.
    pub fn union_list<S: State>(&mut self, name: &str) -> OperatorListState<S> {
        self.operator_list_of(name, Redistribution::Union)
    }

    fn operator_list_of<S: State>(&mut self, name: &str, how: Redistribution) -> OperatorListState<S> {
        self.describe(name, how.kind(), type_name::<S>());
        self.list_of_operator(name, how)
    }

    fn describe(&mut self, name: &str, kind: &'static str, type_name: &'static str) -> usize {
        self.descriptors.push(StateDescriptor { name: name.to_string(), kind, type_name });
        self.descriptors.len() - 1
    }

    /// What has been declared.
    pub fn descriptors(&self) -> &[StateDescriptor] {
        &self.descriptors
    }

    /// The first name that was declared twice.
    pub fn duplicate(&self) -> Option<&str> {
        self.descriptors.iter().enumerate().find_map(|(i, d)| {
            self.descriptors[..i].iter().any(|other| other.name == d.name).then_some(d.name.as_str())
        })
    }

    /// Whether any state has a time to live.
    #[inline(always)]
    pub(crate) fn has_ttl(&self) -> bool {
        self.has_ttl
    }

    /// Number of states of keys.
    pub(crate) fn columns(&self) -> usize {
        self.columns.len()
    }

    /// How long the state of a column lives.
    pub(crate) fn ttl(&self, column: usize) -> Option<StateTtl> {
        self.columns.get(column)?.stored.ttl(&self.owner)
    }

    /// Whether a column has something at `slot` that has expired.
    pub(crate) fn has_expired(&self, column: usize, slot: Slot, now: Timestamp) -> bool {
        self.columns.get(column).is_some_and(|column| column.stored.has_expired(&self.owner, slot, now))
    }

    /// Drops what a column has at `slot` that has expired.
    pub(crate) fn purge(&mut self, column: usize, slot: Slot, now: Timestamp) {
        if let Some(column) = self.columns.get(column) {
            column.stored.purge(&mut self.owner, slot, now);
        }
    }

    #[inline(always)]
    pub(crate) fn owner(&self) -> &QCellOwner {
        &self.owner
    }

    #[inline(always)]
    pub(crate) fn owner_mut(&mut self) -> &mut QCellOwner {
        &mut self.owner
    }

    /// What is declared, and the token to change it.
    pub(super) fn parts_mut(&mut self) -> (Parts<'_>, &mut QCellOwner) {
        let States { owner, columns, broadcasts, descriptors, .. } = self;
        (Parts { columns, broadcasts, descriptors }, owner)
    }

    /// Fetches the cells of slots that will be used soon.
    #[inline]
    pub(crate) fn prefetch(&self, slots: &[u32]) {
        self.columns.iter().for_each(|column| column.stored.prefetch(&self.owner, slots));
    }

    /// Whether the key of `slot` holds no state. Broadcast state is not asked: it is of no key.
    pub(crate) fn is_empty(&self, slot: u32) -> bool {
        self.columns.iter().all(|column| column.stored.is_empty(&self.owner, slot))
    }

    /// Drops all state of the key of `slot`. Broadcast state stays.
    pub(crate) fn clear(&mut self, slot: u32) {
        for column in &self.columns {
            column.stored.clear(&mut self.owner, slot);
        }
    }
}

/// Declares states with a time to live; made by [`States::with_ttl`].
pub struct TtlStates<'a> {
    states: &'a mut States,
    ttl: Option<StateTtl>,
}

impl TtlStates<'_> {
    /// See [`States::value`].
    pub fn value<S: State>(&mut self, name: &str) -> ValueState<S> {
        ValueState::new(self.keyed(name, "value", type_name::<S>(), None))
    }

    /// See [`States::value_with`].
    pub fn value_with<S: State>(&mut self, name: &str, serializer: impl StateSerializer<S>) -> ValueState<S> {
        ValueState::new(self.keyed(name, "value", type_name::<S>(), Some(Box::new(serializer))))
    }

    /// See [`States::list`]: each element has a time to live.
    pub fn list<S: State>(&mut self, name: &str) -> ListState<S> {
        ListState::new(self.keyed(name, "list", type_name::<S>(), None))
    }

    /// See [`States::map`]: each entry has a time to live.
    pub fn map<MK: Key + Sync, MV: State>(&mut self, name: &str) -> MapState<MK, MV> {
        MapState::new(self.keyed(name, "map", type_name::<(MK, MV)>(), None))
    }

    /// See [`States::reducing`]: the folded value has a time to live, which adding to it renews.
    pub fn reducing<S: State, F: Fn(&mut S, S)>(&mut self, name: &str, fold: F) -> ReducingState<S, F> {
        ReducingState::new(self.keyed(name, "reducing", type_name::<S>(), None), fold)
    }

    /// See [`States::aggregating`]: the accumulator has a time to live, which adding to it renews.
    pub fn aggregating<In, A: Aggregator<In>>(&mut self, name: &str, aggregator: A) -> AggregatingState<In, A>
    where
        A::Acc: State,
    {
        AggregatingState::new(self.keyed(name, "aggregating", type_name::<A::Acc>(), None), aggregator)
    }

    fn keyed<S: State, A: Ages<S>>(
        &mut self,
        name: &str,
        kind: &'static str,
        type_name: &'static str,
        serializer: Option<Box<dyn StateSerializer<S>>>,
    ) -> Handle<S, A> {
        let handle = Handle::new(&self.states.owner, self.ttl, serializer);
        let descriptor = self.states.describe(name, kind, type_name);
        self.states.columns.push(Declared { descriptor, stored: handle.column() });
        self.states.has_ttl |= self.ttl.is_some();
        handle
    }
}
