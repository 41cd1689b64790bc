//! Restored state: what the subtasks of an operator kept when a checkpoint was taken.
//!
//! Place: the executor puts it together from the files of a checkpoint and hands the same to each subtask of the operator,
//! however many there are now; a subtask takes up what is its own: keys by
//! [`RuntimeContext::owns`](crate::operator::RuntimeContext::owns), lists and splits by its index.
//! Method: of each subtask there was there is a chain of snapshots: a full one, and those of changes since. Of
//! ordinary sections the newest snapshot has all there is. Of the sections of tables the newest entry of each slot
//! counts. Of sections that are added to each snapshot has what is new.

use super::snapshot::{OperatorSnapshot, Section};
use super::table::Slot;
use crate::base::codec;
use crate::base::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The snapshots of one subtask: a full one first, then changes since, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotChain(Vec<OperatorSnapshot>);

impl From<OperatorSnapshot> for SnapshotChain {
    fn from(full: OperatorSnapshot) -> Self {
        SnapshotChain(vec![full])
    }
}

/// An entry of a table: the number of the subtask that wrote it, its slot there, and what it held.
pub type SlotEntry<T> = (usize, Slot, T);

impl SnapshotChain {
    /// A chain of snapshots, oldest first.
    pub fn new(snapshots: Vec<OperatorSnapshot>) -> Self {
        SnapshotChain(snapshots)
    }

    /// Number of snapshots.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no snapshot.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The snapshot taken last.
    pub fn newest(&self) -> Option<&OperatorSnapshot> {
        self.0.last()
    }

    /// Number of entries of a section that snapshots of changes add to.
    pub fn appended_len(&self, section: &str) -> usize {
        self.0.iter().map(|part| part.len(section)).sum()
    }

    /// All entries of a table, of older snapshots first: the slot, and its bytes unless it was empty.
    pub fn history(&self, section: &str) -> impl Iterator<Item = Result<(Slot, Option<&[u8]>)>> {
        let sections = self.0.iter().flat_map(OperatorSnapshot::sections);
        let frames = sections.filter(move |(name, _)| *name == section).flat_map(|(_, s)| s.frames());
        frames.map(|frame| frame.and_then(split_slot))
    }

    /// The newest bytes of each slot of a table, and slots that are empty left out; newest snapshots first.
    fn slots(&self, section: &str) -> impl Iterator<Item = Result<(Slot, &[u8])>> {
        let mut seen = SlotSet::default();
        // Of one snapshot each slot has one entry.
        let is_chain = self.0.len() > 1;
        let parts = self.0.iter().rev();
        let frames = parts.flat_map(move |part| {
            part.sections().filter(move |(name, _)| *name == section).flat_map(|(_, s)| Section::frames(s))
        });
        frames.filter_map(move |frame| {
            let entry = frame.and_then(split_slot);
            match entry {
                Ok((slot, _)) if is_chain && !seen.insert(slot) => None,
                Ok((_, None)) => None,
                Ok((slot, Some(bytes))) => Some(Ok((slot, bytes))),
                Err(e) => Some(Err(e)),
            }
        })
    }
}

/// The slot of an entry of a table, and what follows: nothing where the slot is empty.
fn split_slot(frame: &[u8]) -> Result<(Slot, Option<&[u8]>)> {
    let (slot, rest) = codec::decode_front::<Slot>(frame)?;
    match rest.split_first() {
        Some((0, [])) => Ok((slot, None)),
        Some((1, bytes)) => Ok((slot, Some(bytes))),
        _ => Err(Error::Codec("an entry of a table in a snapshot is neither there nor not".into())),
    }
}

/// A set of slots, a bit for each.
#[derive(Default)]
struct SlotSet(Vec<u64>);

impl SlotSet {
    /// Puts a slot in; false if it was there.
    fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word] & bit != 0;
        self.0[word] |= bit;
        !was
    }
}

/// What all subtasks of an operator kept, in the order of their indices.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorState {
    subtasks: Vec<SnapshotChain>,
}

impl From<OperatorSnapshot> for OperatorState {
    /// The state of an operator with one subtask.
    fn from(full: OperatorSnapshot) -> Self {
        OperatorState { subtasks: vec![full.into()] }
    }
}

impl OperatorState {
    /// The state of an operator with a chain for each subtask.
    pub fn new(subtasks: Vec<SnapshotChain>) -> Self {
        OperatorState { subtasks }
    }

    /// The chains, by subtask.
    pub fn subtasks(&self) -> &[SnapshotChain] {
        &self.subtasks
    }

    /// The entries of an ordinary section, of one subtask after the other, each in the order they were put.
    pub fn entries<T: DeserializeOwned>(&self, section: &str) -> impl Iterator<Item = Result<T>> {
        self.subtasks.iter().filter_map(SnapshotChain::newest).flat_map(move |newest| newest.entries(section))
    }

    /// As [`OperatorState::entries`], each entry as it was encoded.
    pub fn entries_bytes(&self, section: &str) -> impl Iterator<Item = Result<&[u8]>> {
        let newest = self.subtasks.iter().filter_map(SnapshotChain::newest);
        newest
            .flat_map(OperatorSnapshot::sections)
            .filter(move |(name, _)| *name == section)
            .flat_map(|(_, section)| section.frames())
    }

    /// Which entries of an ordinary section, counted over all subtasks, come to one subtask of `parallelism`: its own where
    /// there were as many subtasks, since those that have finished do not run again; else a part of about equal length.
    pub fn part(&self, section: &str, subtask: usize, parallelism: usize) -> Range<usize> {
        let len = |chain: &SnapshotChain| chain.newest().map_or(0, |newest| newest.len(section));
        self.cut(len, subtask, parallelism)
    }

    fn cut(&self, len: impl Fn(&SnapshotChain) -> usize, subtask: usize, parallelism: usize) -> Range<usize> {
        if self.subtasks.len() == parallelism {
            let start = self.subtasks.iter().take(subtask).map(&len).sum();
            return start..start + self.subtasks.get(subtask).map_or(0, len);
        }
        let all = self.subtasks.iter().map(len).sum::<usize>() as u128;
        let cut = |subtask: usize| (all * subtask as u128 / parallelism.max(1) as u128) as usize;
        cut(subtask)..cut(subtask + 1)
    }

    /// The entries of a section that snapshots of changes add to, as they were encoded, of one subtask after the other, each
    /// in the order they were put.
    pub fn appended(&self, section: &str) -> impl Iterator<Item = Result<&[u8]>> {
        let parts = self.subtasks.iter().flat_map(|chain| &chain.0).flat_map(OperatorSnapshot::sections);
        parts.filter(move |(name, _)| *name == section).flat_map(|(_, section)| section.frames())
    }

    /// As [`OperatorState::part`], of [`OperatorState::appended`].
    pub fn appended_part(&self, section: &str, subtask: usize, parallelism: usize) -> Range<usize> {
        self.cut(|chain| chain.appended_len(section), subtask, parallelism)
    }

    /// Number of entries of an ordinary section, of all subtasks together.
    pub fn entries_len(&self, section: &str) -> usize {
        self.subtasks.iter().filter_map(SnapshotChain::newest).map(|newest| newest.len(section)).sum()
    }

    /// The names of all sections of the newest snapshots, each once for each subtask that has it.
    pub fn section_names(&self) -> impl Iterator<Item = &str> {
        let newest = self.subtasks.iter().filter_map(SnapshotChain::newest);
        newest.flat_map(OperatorSnapshot::sections).map(|(name, _)| name)
    }

    /// What the tables of all subtasks held: the newest entry of each slot, in no order.
    pub fn table<T: DeserializeOwned>(&self, section: &str) -> impl Iterator<Item = Result<SlotEntry<T>>> {
        self.subtasks.iter().enumerate().flat_map(move |(subtask, chain)| {
            chain.slots(section).map(move |slot| {
                let (slot, bytes) = slot?;
                Ok((subtask, slot, codec::decode(bytes)?))
            })
        })
    }

    /// As [`OperatorState::table`], each entry as it was encoded.
    pub fn table_bytes(&self, section: &str) -> impl Iterator<Item = Result<SlotEntry<&[u8]>>> {
        self.subtasks.iter().enumerate().flat_map(move |(subtask, chain)| {
            chain.slots(section).map(move |slot| slot.map(|(slot, bytes)| (subtask, slot, bytes)))
        })
    }

    /// Not less than the entries that [`OperatorState::table`] gives.
    pub fn table_len(&self, section: &str) -> usize {
        self.subtasks.iter().flat_map(|chain| &chain.0).map(|part| part.len(section)).sum()
    }

    /// Whether nothing was kept.
    pub fn is_empty(&self) -> bool {
        self.subtasks.iter().all(|chain| chain.0.iter().all(OperatorSnapshot::is_empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(entries: &[(Slot, Option<u64>)]) -> OperatorSnapshot {
        let mut snapshot = OperatorSnapshot::default();
        for (slot, value) in entries {
            snapshot.section("table").put_slot(*slot, value.as_ref()).unwrap();
        }
        snapshot.put("names", &format!("{} entries", entries.len())).unwrap();
        snapshot
    }

    /// S11: a chain reads as the table was when the last snapshot was taken.
    #[test]
    fn the_newest_entry_of_a_slot_counts() {
        let full = snapshot(&[(0, Some(10)), (1, Some(11)), (2, Some(12)), (200, Some(300))]);
        let first = snapshot(&[(1, None), (2, Some(22))]);
        let second = snapshot(&[(1, Some(31)), (200, None), (7, Some(u64::MAX))]);
        let other = snapshot(&[(0, Some(1))]);
        let state = OperatorState::new(vec![SnapshotChain::new(vec![full, first, second]), other.into()]);
        let mut table: Vec<SlotEntry<u64>> = state.table("table").collect::<Result<_>>().unwrap();
        table.sort();
        assert_eq!(table, [(0, 0, 10), (0, 1, 31), (0, 2, 22), (0, 7, u64::MAX), (1, 0, 1)]);
        let names: Vec<String> = state.entries("names").collect::<Result<_>>().unwrap();
        assert_eq!(names, ["3 entries", "1 entries"], "of ordinary sections the newest snapshot has all");
        assert_eq!(state.table::<u64>("none").count(), 0);
        assert!(!state.is_empty() && OperatorState::default().is_empty());
    }

    #[test]
    fn entries_of_any_length_come_back_and_torn_ones_are_errors() {
        let entries: Vec<String> = [0, 1, 126, 127, 128, 300, 20_000].map(|n| "x".repeat(n)).to_vec();
        let mut section = Section::default();
        entries.iter().for_each(|entry| section.put(entry).unwrap());
        let back = section.frames().map(|frame| codec::decode::<String>(frame.unwrap()).unwrap());
        assert!(back.eq(entries.iter().cloned()));
        assert_eq!(section.len(), 7);
        for cut in 0..section.bytes().len() {
            let mut torn = Section::default();
            torn.append(&section.bytes()[..cut], 7);
            let read: Vec<String> = torn.frames().map_while(|f| codec::decode(f.ok()?).ok()).collect();
            assert!(read.len() < 7 && entries.starts_with(&read));
        }
        for frame in [&[][..], &[1], &[1, 2], &[1, 0, 0], &[0xff; 12]] {
            assert!(split_slot(frame).is_err());
        }
    }
}
