//! States: what a keyed function declares before it runs.
//!
//! Place: the closure that makes a user's function is called with a [`States`]: once when the plan is built, to
//! learn names and types, and once for each attempt of each subtask. A state handle can be made in no other way,
//! so there is no state that the engine does not know.
//! Method: a column is shared between its handle and the engine; the owner token that opens it (crate `qcell`)
//! lives in the context, so that a handle can only be used while the engine has a current key.

use super::value::{Column, ValueState};
use crate::base::data::State;
use qcell::{QCell, QCellOwner};
use std::sync::Arc;

/// Name and type of one declared state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDescriptor {
    /// Unique within the operator.
    pub name: String,
    /// The kind of state: `value`, ...
    pub kind: &'static str,
    /// The type of what is stored.
    pub type_name: &'static str,
}

/// Declares the states of one function.
pub struct States {
    owner: QCellOwner,
    columns: Vec<Arc<dyn AnyColumn>>,
    descriptors: Vec<StateDescriptor>,
}

impl Default for States {
    fn default() -> Self {
        States { owner: QCellOwner::new(), columns: Vec::new(), descriptors: Vec::new() }
    }
}

impl States {
    /// Declares one value for each key. Using a name twice is an error when the plan is built.
    pub fn value<S: State>(&mut self, name: &str) -> ValueState<S> {
        let column: Arc<QCell<Column<S>>> = Arc::new(QCell::new(&self.owner, Column::default()));
        self.columns.push(column.clone());
        let type_name = std::any::type_name::<S>();
        self.descriptors.push(StateDescriptor { name: name.to_string(), kind: "value", type_name });
        ValueState::new(column)
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

    pub(crate) fn owner(&self) -> &QCellOwner {
        &self.owner
    }

    pub(crate) fn owner_mut(&mut self) -> &mut QCellOwner {
        &mut self.owner
    }

    /// Fetches the cells of slots that will be used soon.
    #[inline]
    pub(crate) fn prefetch(&self, slots: &[u32]) {
        self.columns.iter().for_each(|column| column.prefetch(&self.owner, slots));
    }

    /// Whether no column has anything at `slot`.
    pub(crate) fn is_empty(&self, slot: u32) -> bool {
        self.columns.iter().all(|column| column.is_empty(&self.owner, slot))
    }

    /// Drops everything at `slot`.
    pub(crate) fn clear(&mut self, slot: u32) {
        for column in &self.columns {
            column.clear(&mut self.owner, slot);
        }
    }
}

/// A column of state as the engine sees it.
pub trait AnyColumn: Send + Sync {
    /// Whether nothing is stored at `slot`.
    fn is_empty(&self, owner: &QCellOwner, slot: u32) -> bool;
    /// Drops what is stored at `slot`.
    fn clear(&self, owner: &mut QCellOwner, slot: u32);
    /// Fetches cells into the cache.
    fn prefetch(&self, owner: &QCellOwner, slots: &[u32]);
}
