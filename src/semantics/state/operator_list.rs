//! OperatorListState: a list that belongs to a subtask, not to a key, and is dealt out anew when the subtasks change.
//!
//! Place: for what a function keeps beside the state of keys: what it has buffered, how far it has come. The hooks of
//! functions (`initialize_state`, `snapshot_state`) are where it is mostly read and written.
//! Method: a snapshot holds each element by itself, written whole at every barrier: these lists are for little. A restore
//! puts the lists of all subtasks there were one behind the other; of an even-split list each subtask gets its part of that,
//! of a union list all of it.

use super::declare::States;
use super::restored::OperatorState;
use super::snapshot::{OperatorSnapshot, Section};
use super::tables::{Erased, ImportedState, Part, RowReader, RowWriter, StateTable, TableKind, newest};
use crate::base::codec;
use crate::base::data::State;
use crate::base::error::{Error, Result};
use qcell::{QCell, QCellOwner};
use std::marker::PhantomData;
use std::sync::Arc;

/// A context in which the lists of the subtask can be read and written.
pub trait OperatorAccess {
    /// The token that opens the lists for reading.
    fn operator_state(&self) -> &QCellOwner;
    /// The token that opens the lists for writing.
    fn operator_state_mut(&mut self) -> &mut QCellOwner;
}

/// How the lists of all subtasks come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redistribution {
    /// One behind the other, cut into as many parts of about equal length as there are subtasks; at the same parallelism
    /// each subtask gets its own.
    EvenSplit,
    /// One behind the other, all of it for each subtask.
    Union,
}

impl Redistribution {
    /// The kind of state that it makes of a list.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Redistribution::EvenSplit => "operator list",
            Redistribution::Union => "union list",
        }
    }
}

/// A list of the subtask as the engine sees it.
pub(super) trait AnyOperatorList: Send + Sync {
    /// Appends each element.
    fn put(&self, owner: &QCellOwner, into: &mut Section) -> Result<()>;
    /// Adds an element that [`AnyOperatorList::put`] wrote.
    fn push(&self, owner: &mut QCellOwner, from: &[u8]) -> Result<()>;
    /// An element as a part of a row.
    fn part(&self) -> Part;
    /// Calls `row` with an element that [`AnyOperatorList::put`] wrote.
    fn row(&self, element: &[u8], row: &mut dyn FnMut(&dyn Erased) -> Result<()>) -> Result<()>;
}

impl<T: State> AnyOperatorList for QCell<Vec<T>> {
    fn put(&self, owner: &QCellOwner, into: &mut Section) -> Result<()> {
        self.ro(owner).iter().try_for_each(|element| into.put(element))
    }
    fn push(&self, owner: &mut QCellOwner, from: &[u8]) -> Result<()> {
        let element = codec::decode(from)?;
        self.rw(owner).push(element);
        Ok(())
    }
    fn part(&self) -> Part {
        Part::of::<T>("value")
    }
    fn row(&self, element: &[u8], row: &mut dyn FnMut(&dyn Erased) -> Result<()>) -> Result<()> {
        row(&codec::decode::<T>(element)?)
    }
}

/// A list of the subtask that is declared.
pub(super) struct OperatorList {
    name: String,
    redistribution: Redistribution,
    list: Arc<dyn AnyOperatorList>,
}

impl OperatorList {
    fn section(&self) -> String {
        format!("{} {}", self.redistribution.kind(), self.name)
    }
}

/// The table of one list: a row for each element.
struct ListTable {
    section: String,
    list: Arc<dyn AnyOperatorList>,
}

/// The tables of the lists of the subtask, each named by kind and name.
pub fn tables_of_operator_lists(states: &States) -> Vec<Box<dyn StateTable>> {
    let table = |of: &OperatorList| {
        Box::new(ListTable { section: of.section(), list: of.list.clone() }) as Box<dyn StateTable>
    };
    states.operator_lists.iter().map(table).collect()
}

impl StateTable for ListTable {
    fn name(&self) -> &str {
        &self.section
    }
    fn kind(&self) -> TableKind {
        TableKind::Operator
    }
    fn parts(&self) -> Vec<Part> {
        vec![self.list.part()]
    }
    fn covers(&self, section: &str) -> bool {
        section == self.section
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        for (subtask, newest) in newest(state) {
            for (_, section) in newest.sections().filter(|(name, _)| *name == self.section) {
                for element in section.frames() {
                    self.list.row(element?, &mut |element| rows.row(subtask, None, &[element]))?;
                }
            }
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        while let Some(subtask) = rows.next()? {
            let element = rows.part(0)?;
            into.subtask(subtask)?.section(&self.section).put_with(|into| {
                into.extend_from_slice(element);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// A handle to a list that belongs to the subtask; made by [`States::operator_list`](super::States::operator_list) and
/// [`States::union_list`](super::States::union_list). Kept in memory.
///
/// Pairs of records, of which the first of a pair survives a restore:
///
/// ```
/// # use mainstem::prelude::*;
/// # use mainstem::testing::Harness;
/// struct Pairs { first: Option<u64>, saved: OperatorListState<u64> }
/// impl ProcessFunction<u64, (u64, u64)> for Pairs {
///     fn initialize_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
///         self.first = self.saved.take(state).first().copied();
///         Ok(())
///     }
///     fn process(&mut self, n: u64, _: &ProcessContext<'_>, out: &mut Collector<'_, (u64, u64)>) -> UserResult {
///         match self.first.take() {
///             Some(first) => out.emit((first, n)),
///             None => self.first = Some(n),
///         }
///         Ok(())
///     }
///     fn snapshot_state(&mut self, state: &mut OperatorContext<'_>) -> UserResult {
///         self.saved.set(state, self.first.into_iter().collect());
///         Ok(())
///     }
/// }
/// let pairs = |numbers: DataStream<u64>| {
///     numbers.process_with_states(|states| Pairs { first: None, saved: states.operator_list("first") })
/// };
/// let mut harness = Harness::new(pairs);
/// harness.push_all([1, 2, 3])?;
/// assert_eq!(harness.take_output(), [(1, 2)]);
/// let mut harness = Harness::new(pairs).restore(&harness.snapshot()?)?;
/// harness.push(4)?;
/// assert_eq!(harness.take_output(), [(3, 4)]);
/// # Ok::<(), mainstem::Error>(())
/// ```
pub struct OperatorListState<T> {
    list: Arc<QCell<Vec<T>>>,
    types: PhantomData<fn(T)>,
}

impl<T: State> OperatorListState<T> {
    /// The elements, in order.
    pub fn get<'a, C: OperatorAccess>(&'a self, ctx: &'a C) -> &'a [T] {
        self.list.ro(ctx.operator_state())
    }

    /// The list, to change.
    pub fn get_mut<'a, C: OperatorAccess>(&'a self, ctx: &'a mut C) -> &'a mut Vec<T> {
        self.list.rw(ctx.operator_state_mut())
    }

    /// The elements, in order.
    pub fn iter<'a, C: OperatorAccess>(&'a self, ctx: &'a C) -> std::slice::Iter<'a, T> {
        self.get(ctx).iter()
    }

    /// Adds an element at the end.
    pub fn add<C: OperatorAccess>(&self, ctx: &mut C, element: T) {
        self.get_mut(ctx).push(element);
    }

    /// Replaces the list.
    pub fn set<C: OperatorAccess>(&self, ctx: &mut C, elements: Vec<T>) {
        *self.get_mut(ctx) = elements;
    }

    /// Takes the elements out.
    pub fn take<C: OperatorAccess>(&self, ctx: &mut C) -> Vec<T> {
        std::mem::take(self.get_mut(ctx))
    }

    /// Drops the elements.
    pub fn clear<C: OperatorAccess>(&self, ctx: &mut C) {
        self.get_mut(ctx).clear();
    }
}

impl States {
    pub(super) fn list_of_operator<T: State>(
        &mut self,
        name: &str,
        redistribution: Redistribution,
    ) -> OperatorListState<T> {
        let list = Arc::new(QCell::new(self.owner(), Vec::new()));
        let name = name.to_string();
        self.operator_lists.push(OperatorList { name, redistribution, list: list.clone() });
        OperatorListState { list, types: PhantomData }
    }

    /// Writes the lists of the subtask.
    ///
    /// # Errors
    /// If a type of element cannot be encoded; the error names the list.
    pub fn snapshot_operator_lists(&self, into: &mut OperatorSnapshot) -> Result<()> {
        for declared in &self.operator_lists {
            let put = declared.list.put(self.owner(), into.section(&declared.section()));
            put.map_err(|e| naming(e, "written", &declared.name))?;
        }
        Ok(())
    }

    /// Takes up the part of a subtask of the lists that all subtasks wrote.
    ///
    /// # Errors
    /// If a list is not declared any more, or with another redistribution, or its elements are of another type; the error
    /// names the list.
    pub fn restore_operator_lists(
        &mut self,
        state: &OperatorState,
        subtask: usize,
        parallelism: usize,
    ) -> Result<()> {
        for section in state.section_names() {
            let is_list = [Redistribution::EvenSplit, Redistribution::Union].iter().any(|redistribution| {
                section.strip_prefix(redistribution.kind()).is_some_and(|rest| rest.starts_with(' '))
            });
            if is_list && !self.operator_lists.iter().any(|declared| declared.section() == section) {
                return Err(Error::user(format!(
                    "the snapshot holds the {section} (kind and name), which the function does not declare; declare it \
                     as it was declared when the snapshot was taken, or start without the snapshot"
                )));
            }
        }
        let lists = std::mem::take(&mut self.operator_lists);
        let restored = lists.iter().try_for_each(|declared| {
            let section = declared.section();
            let part = match declared.redistribution {
                Redistribution::EvenSplit => state.part(&section, subtask, parallelism),
                Redistribution::Union => 0..state.entries_len(&section),
            };
            for element in state.entries_bytes(&section).skip(part.start).take(part.len()) {
                let pushed = declared.list.push(self.owner_mut(), element?);
                pushed.map_err(|e| naming(e, "restored", &declared.name))?;
            }
            Ok(())
        });
        self.operator_lists = lists;
        restored
    }
}

#[cold]
fn naming(error: Error, what: &str, name: &str) -> Error {
    match error {
        Error::Codec(message) => Error::Codec(format!("list '{name}' cannot be {what}: {message}")),
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::SnapshotChain;
    use super::*;

    struct Open(States);

    impl OperatorAccess for Open {
        fn operator_state(&self) -> &QCellOwner {
            self.0.owner()
        }
        fn operator_state_mut(&mut self) -> &mut QCellOwner {
            self.0.owner_mut()
        }
    }

    type Lists = (OperatorListState<u32>, OperatorListState<String>);

    fn declared() -> (Open, Lists) {
        let mut states = States::default();
        let lists = (states.operator_list("split"), states.union_list("all"));
        (Open(states), lists)
    }

    /// S4: an even-split list is the concatenation of all lists cut into parts, or at the same parallelism that of the
    /// subtask; of a union list each subtask gets all.
    #[test]
    fn s4_lists_are_redistributed() {
        let mut next = 0..;
        let lengths = [3, 0, 5, 1];
        let subtasks = lengths.map(|len| {
            let (mut open, (split, all)) = declared();
            split.set(&mut open, next.by_ref().take(len).collect());
            all.add(&mut open, format!("of {len}"));
            let mut snapshot = OperatorSnapshot::default();
            open.0.snapshot_operator_lists(&mut snapshot).unwrap();
            SnapshotChain::from(snapshot)
        });
        let state = OperatorState::new(subtasks.to_vec());
        for parallelism in 1..12 {
            let mut together = Vec::new();
            for subtask in 0..parallelism {
                let (mut open, (split, all)) = declared();
                open.0.restore_operator_lists(&state, subtask, parallelism).unwrap();
                let part = split.take(&mut open);
                match lengths.get(subtask).filter(|_| parallelism == lengths.len()) {
                    Some(&own) => assert_eq!(part.len(), own),
                    None => assert!([9 / parallelism, 9usize.div_ceil(parallelism)].contains(&part.len())),
                }
                together.extend(part);
                assert!(all.iter(&open).eq(["of 3", "of 0", "of 5", "of 1"]));
            }
            assert_eq!(together, (0..9).collect::<Vec<u32>>());
        }
    }

    /// S4: a list that is not declared any more, or of another kind or type, is an error that names it.
    #[test]
    fn s4_what_cannot_be_restored_is_named() {
        let (mut open, (split, all)) = declared();
        split.add(&mut open, 300);
        all.add(&mut open, "text".to_string());
        let mut snapshot = OperatorSnapshot::default();
        open.0.snapshot_operator_lists(&mut snapshot).unwrap();
        let state = OperatorState::from(snapshot);
        let error = |declare: fn(&mut States)| {
            let mut states = States::default();
            declare(&mut states);
            states.restore_operator_lists(&state, 0, 1).unwrap_err().to_string()
        };
        let gone = error(|states| drop(states.operator_list::<u32>("split")));
        assert!(gone.contains("union list all"), "{gone}");
        let kind = error(|states| drop((states.union_list::<u32>("split"), states.union_list::<u32>("all"))));
        assert!(kind.contains("operator list split"), "{kind}");
        let ty = error(|states| drop((states.operator_list::<u8>("split"), states.union_list::<u8>("all"))));
        assert!(ty.contains("list 'split' cannot be restored"), "{ty}");
    }
}
