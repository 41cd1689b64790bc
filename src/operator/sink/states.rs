//! Writer states: what the writers of a sink kept in a checkpoint, and which writer takes up which entries.

use crate::base::codec;
use crate::base::error::Result;
use crate::semantics::state::OperatorState;
use serde::de::DeserializeOwned;

/// Name of the section of a snapshot in which writers keep their entries.
pub(super) const STATES: &str = "writer";

/// What writers kept. A sink sees the entries of all; a writer those that are dealt to it: writer `s` of `p` takes up
/// the entries of old writers `s`, `s + p`, `s + 2p`, and so on, so that at the same parallelism each gets its own.
#[derive(Clone, Copy)]
pub struct WriterStates<'a> {
    state: &'a OperatorState,
    /// Subtask and parallelism of the writer; none for the sink.
    writer: Option<(usize, usize)>,
}

impl<'a> WriterStates<'a> {
    /// The entries of all old writers.
    pub fn all(state: &'a OperatorState) -> Self {
        WriterStates { state, writer: None }
    }

    /// The entries that are dealt to one of `parallelism` writers.
    pub fn of_writer(state: &'a OperatorState, subtask: usize, parallelism: usize) -> Self {
        WriterStates { state, writer: Some((subtask, parallelism.max(1))) }
    }

    /// The entries with the subtasks that put them, in the order of both. An entry that is not of type `S` is an
    /// error.
    pub fn entries<S: DeserializeOwned>(&self) -> impl Iterator<Item = Result<(usize, S)>> + use<'a, S> {
        let writer = self.writer;
        let old = self.state.subtasks().iter().enumerate();
        let mine = old.filter(move |(old, _)| writer.is_none_or(|(subtask, of)| old % of == subtask));
        mine.filter_map(|(old, chain)| Some((old, chain.newest()?))).flat_map(|(old, snapshot)| {
            let section = snapshot.sections().filter(|(name, _)| *name == STATES);
            section
                .flat_map(|(_, entries)| entries.frames())
                .map(move |frame| Ok((old, codec::decode(frame?)?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::state::OperatorSnapshot;

    /// C9: whatever the parallelism was and is, each entry comes to one writer.
    #[test]
    fn each_entry_is_dealt_to_one_writer() {
        for (old, new) in [(1, 1), (1, 3), (3, 1), (3, 2), (4, 4), (2, 5)] {
            let subtasks = (0..old).map(|subtask| {
                let mut snapshot = OperatorSnapshot::default();
                (0..=subtask).for_each(|i| snapshot.put(STATES, &(subtask * 10 + i)).unwrap());
                snapshot.put("other", &"x").unwrap();
                snapshot.into()
            });
            let state = OperatorState::new(subtasks.collect());
            let all: Vec<(usize, usize)> =
                WriterStates::all(&state).entries().collect::<Result<_>>().unwrap();
            assert_eq!(all.len(), old * (old + 1) / 2);
            let mut dealt = Vec::new();
            for subtask in 0..new {
                let own = WriterStates::of_writer(&state, subtask, new);
                let own: Vec<(usize, usize)> = own.entries().collect::<Result<_>>().unwrap();
                assert!(old != new || own.iter().all(|(from, _)| *from == subtask));
                dealt.extend(own);
            }
            dealt.sort_unstable();
            assert_eq!(dealt, all, "{old} -> {new}");
            assert!(WriterStates::all(&state).entries::<f64>().all(|entry| entry.is_err()));
        }
    }
}
