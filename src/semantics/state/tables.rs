//! StateTable: the state of an operator as tables of typed rows, and back.
//!
//! Place: an operator describes the sections of its snapshots; what writes tables to files knows neither their types nor
//! how they are encoded. Nothing here runs while records are processed.
//! Invariants: what [`StateTable::export`] gave and [`StateTable::import`] took in again restores the same. Rows of one subtask
//! and key stand together. Sections that no table [covers](StateTable::covers) go into a [`RawTable`].
//! Method: the codec writes a tuple as its parts one after the other, so parts that were read are put
//! together without knowing their types.

use super::restored::{OperatorState, SnapshotChain};
use super::snapshot::OperatorSnapshot;
use super::table::Slot;
use crate::base::codec;
use crate::base::data::Key;
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
pub use crate::base::rows::{Bytes, Erased, Part, RowReader, RowWriter, TableKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// One table of an operator's state.
pub trait StateTable {
    /// Its name, unique within the operator.
    fn name(&self) -> &str;
    /// What its rows are.
    fn kind(&self) -> TableKind;
    /// The parts of a row.
    fn parts(&self) -> Vec<Part>;
    /// What must be known of the table beside its rows to read them, such as the serializer of a user.
    fn notes(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Whether a section of a snapshot belongs to this table.
    fn covers(&self, section: &str) -> bool;
    /// Hands all rows over.
    ///
    /// # Errors
    /// When the state cannot be read, or `rows` fails.
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()>;
    /// Takes all rows in; with the notes of the table that they were written from.
    ///
    /// # Errors
    /// When a row is not of the types of the table, or `rows` fails.
    fn import(&self, notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()>;
}

/// The state of an operator while it is put together from tables.
pub struct ImportedState {
    subtasks: Vec<OperatorSnapshot>,
    next_slots: BTreeMap<(usize, String), Slot>,
    /// Entries that are put together from several tables, by section.
    keyed: BTreeMap<String, KeyedEntries>,
    /// What is said of states, by section and in order, encoded.
    notes: BTreeMap<String, Vec<Vec<u8>>>,
}

#[derive(Default)]
struct KeyedEntries {
    /// By subtask and the bytes of the key, the place in `entries`.
    places: BTreeMap<(usize, Vec<u8>), usize>,
    entries: Vec<(usize, Slot, Vec<u8>)>,
}

impl ImportedState {
    /// For an operator that had so many subtasks.
    pub fn new(subtasks: usize) -> ImportedState {
        ImportedState {
            subtasks: (0..subtasks).map(|_| OperatorSnapshot::default()).collect(),
            next_slots: BTreeMap::new(),
            keyed: BTreeMap::new(),
            notes: BTreeMap::new(),
        }
    }

    /// What a subtask keeps.
    ///
    /// # Errors
    /// If there was no such subtask.
    pub fn subtask(&mut self, subtask: usize) -> Result<&mut OperatorSnapshot> {
        let of = self.subtasks.len();
        let found = self.subtasks.get_mut(subtask);
        found.ok_or_else(|| Error::Codec(format!("a row is of subtask {subtask}, and there were {of}")))
    }

    /// Number of subtasks there were.
    pub fn subtasks(&self) -> usize {
        self.subtasks.len()
    }

    /// The next free slot of the table of a section.
    fn next_slot(&mut self, subtask: usize, section: &str) -> Result<Slot> {
        let next = match self.next_slots.get_mut(&(subtask, section.to_string())) {
            Some(next) => next,
            None => self.next_slots.entry((subtask, section.to_string())).or_default(),
        };
        let slot = *next;
        *next = slot.checked_add(1).ok_or_else(|| Error::Codec("a table has too many rows".into()))?;
        Ok(slot)
    }

    /// Puts an entry into the table of a section, at a slot of its own. `parts` are those of the entry, encoded.
    ///
    /// # Errors
    /// If there are too many, or there was no such subtask.
    pub fn put_entry(&mut self, subtask: usize, section: &str, parts: &[&[u8]]) -> Result<()> {
        let slot = self.next_slot(subtask, section)?;
        self.subtask(subtask)?.section(section).put_slot_with(slot, |into| {
            parts.iter().for_each(|part| into.extend_from_slice(part));
            Ok(())
        })
    }

    /// The entry of a key in a section whose entries are put together from several tables: its slot, and its bytes, which begin
    /// with the key.
    ///
    /// # Errors
    /// If there are too many, or there was no such subtask.
    pub fn keyed_entry(&mut self, section: &str, subtask: usize, key: &[u8]) -> Result<(Slot, &mut Vec<u8>)> {
        self.subtask(subtask)?;
        let known = self.keyed.get(section).and_then(|of| of.places.get(&(subtask, key.to_vec())).copied());
        let place = match known {
            Some(place) => place,
            None => {
                let slot = self.next_slot(subtask, section)?;
                let of = self.keyed.entry(section.to_string()).or_default();
                of.places.insert((subtask, key.to_vec()), of.entries.len());
                of.entries.push((subtask, slot, key.to_vec()));
                of.entries.len() - 1
            }
        };
        let entry = self.keyed.get_mut(section).and_then(|of| of.entries.get_mut(place));
        let (_, slot, bytes) =
            entry.ok_or_else(|| Error::Internal("an entry is not where it was put".into()))?;
        Ok((*slot, bytes))
    }

    /// Takes out the entries that [`keyed_entry`](ImportedState::keyed_entry) has made in a section: by subtask and key, what stands
    /// behind the key.
    pub fn take_keyed(&mut self, section: &str) -> BTreeMap<(usize, Vec<u8>), Vec<u8>> {
        let KeyedEntries { places, mut entries } = self.keyed.remove(section).unwrap_or_default();
        let behind = |(of, place): ((usize, Vec<u8>), usize)| {
            let bytes = entries.get_mut(place).map(|entry| std::mem::take(&mut entry.2)).unwrap_or_default();
            let behind = bytes.get(of.1.len()..).unwrap_or_default().to_vec();
            (of, behind)
        };
        places.into_iter().map(behind).collect()
    }

    /// Adds something to what a section says of states, which is one list in each subtask. Its place in the list.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn note(&mut self, section: &str, note: &impl Serialize) -> Result<usize> {
        let mut bytes = Vec::new();
        codec::encode(note, &mut bytes)?;
        let notes = self.notes.entry(section.to_string()).or_default();
        notes.push(bytes);
        Ok(notes.len() - 1)
    }

    /// The state as a restore wants it.
    ///
    /// # Errors
    /// None that are to be expected.
    pub fn finish(mut self) -> Result<OperatorState> {
        for (section, KeyedEntries { entries, .. }) in std::mem::take(&mut self.keyed) {
            for (subtask, slot, bytes) in entries {
                self.subtask(subtask)?.section(&section).put_slot_with(slot, |into| {
                    into.extend_from_slice(&bytes);
                    Ok(())
                })?;
            }
        }
        for (section, notes) in std::mem::take(&mut self.notes) {
            for subtask in &mut self.subtasks {
                subtask.section(&section).put_with(|into| {
                    codec::encode(&notes.len(), into)?;
                    notes.iter().for_each(|note| into.extend_from_slice(note));
                    Ok(())
                })?;
            }
        }
        Ok(OperatorState::new(self.subtasks.into_iter().map(SnapshotChain::from).collect()))
    }
}

/// A row of parts, each of a type of its own: a tuple.
pub trait Row: Serialize + DeserializeOwned {
    /// The parts, with these names.
    fn parts(names: &[&'static str]) -> Vec<Part>;
    /// Calls `with` with the parts.
    ///
    /// # Errors
    /// Those of `with`.
    fn with(&self, with: &mut dyn FnMut(&[&dyn Erased]) -> Result<()>) -> Result<()>;
}

/// Implements [`Row`] for a tuple.
macro_rules! row {
    ($($type:ident $index:tt),+) => {
        impl<$($type: Serialize + DeserializeOwned),+> Row for ($($type,)+) {
            fn parts(names: &[&'static str]) -> Vec<Part> {
                vec![$(Part::of::<$type>(names.get($index).copied().unwrap_or("value"))),+]
            }
            fn with(&self, with: &mut dyn FnMut(&[&dyn Erased]) -> Result<()>) -> Result<()> {
                with(&[$(&self.$index),+])
            }
        }
    };
}
impl Row for () {
    fn parts(_: &[&'static str]) -> Vec<Part> {
        Vec::new()
    }
    fn with(&self, with: &mut dyn FnMut(&[&dyn Erased]) -> Result<()>) -> Result<()> {
        with(&[])
    }
}
row!(A 0);
row!(A 0, B 1);
row!(A 0, B 1, C 2);
row!(A 0, B 1, C 2, D 3);

/// A row that begins with a key.
pub trait KeyRow: Row {
    /// Hash of the key.
    fn hash(&self) -> u64;
}
impl<K: Key, A: Serialize + DeserializeOwned> KeyRow for (K, A) {
    fn hash(&self) -> u64 {
        hash_of(&self.0)
    }
}
impl<K: Key, A: Serialize + DeserializeOwned, B: Serialize + DeserializeOwned> KeyRow for (K, A, B) {
    fn hash(&self) -> u64 {
        hash_of(&self.0)
    }
}

impl<K: Key> KeyRow for (K,) {
    fn hash(&self) -> u64 {
        hash_of(&self.0)
    }
}

/// The entries of a section of keys, as they are: each is a row `R`.
pub struct KeyedTable<R> {
    section: &'static str,
    by_slot: bool,
    names: &'static [&'static str],
    types: PhantomData<fn() -> R>,
}

impl<R: KeyRow + 'static> KeyedTable<R> {
    /// The table of a section that is a table by slot; names are those of the parts.
    pub fn boxed(section: &'static str, names: &'static [&'static str]) -> Box<dyn StateTable> {
        Box::new(KeyedTable::<R> { section, by_slot: true, names, types: PhantomData })
    }

    /// The table of a section whose entries stand one after the other.
    pub fn of_entries(section: &'static str, names: &'static [&'static str]) -> Box<dyn StateTable> {
        Box::new(KeyedTable::<R> { section, by_slot: false, names, types: PhantomData })
    }
}

impl<R: KeyRow> StateTable for KeyedTable<R> {
    fn name(&self) -> &str {
        self.section
    }
    fn kind(&self) -> TableKind {
        TableKind::Keyed
    }
    fn parts(&self) -> Vec<Part> {
        R::parts(self.names)
    }
    fn covers(&self, section: &str) -> bool {
        section == self.section
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        let mut put = |subtask: usize, row: R| {
            let hash = Some(row.hash());
            row.with(&mut |parts| rows.row(subtask, hash, parts))
        };
        if self.by_slot {
            return state.table::<R>(self.section).try_for_each(|entry| {
                let (subtask, _, row) = entry?;
                put(subtask, row)
            });
        }
        for (subtask, newest) in newest(state) {
            newest.entries::<R>(self.section).try_for_each(|row| put(subtask, row?))?;
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        let parts = self.names.len();
        while let Some(subtask) = rows.next()? {
            let parts = (0..parts).map(|part| rows.part(part)).collect::<Result<Vec<&[u8]>>>()?;
            match self.by_slot {
                true => into.put_entry(subtask, self.section, &parts)?,
                false => into.subtask(subtask)?.section(self.section).put_with(|into| {
                    parts.iter().for_each(|part| into.extend_from_slice(part));
                    Ok(())
                })?,
            }
        }
        Ok(())
    }
}

/// The entries of a section that is a table of keys by slot, where each is a key and a list of items `R`: a row for each item.
pub struct ListTable<K, R> {
    section: &'static str,
    names: &'static [&'static str],
    types: PhantomData<fn() -> (K, R)>,
}

impl<K: Key, R: Row + 'static> ListTable<K, R> {
    /// The table of a section; names are those of the key and the parts of an item.
    pub fn boxed(section: &'static str, names: &'static [&'static str]) -> Box<dyn StateTable> {
        Box::new(ListTable::<K, R> { section, names, types: PhantomData })
    }
}

impl<K: Key, R: Row> StateTable for ListTable<K, R> {
    fn name(&self) -> &str {
        self.section
    }
    fn kind(&self) -> TableKind {
        TableKind::Keyed
    }
    fn parts(&self) -> Vec<Part> {
        let names = self.names.split_first();
        let (key, names) = names.map_or(("key", &[][..]), |(key, names)| (*key, names));
        std::iter::once(Part::of::<K>(key)).chain(R::parts(names)).collect()
    }
    fn covers(&self, section: &str) -> bool {
        section == self.section
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        for entry in state.table::<(K, Vec<R>)>(self.section) {
            let (subtask, _, (key, items)) = entry?;
            let hash = hash_of(&key);
            for item in items {
                item.with(&mut |parts| {
                    let mut all: Vec<&dyn Erased> = vec![&key];
                    all.extend_from_slice(parts);
                    rows.row(subtask, Some(hash), &all)
                })?;
            }
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        let parts = self.names.len();
        let mut group = Group::default();
        while let Some(subtask) = rows.next()? {
            if !group.is_of(subtask, rows.part(0)?) {
                group.put(self.section, into)?;
                group = Group::of(subtask, rows.part(0)?);
            }
            for part in 1..parts {
                group.items.extend_from_slice(rows.part(part)?);
            }
            group.count += 1;
        }
        group.put(self.section, into)
    }
}

/// Rows of one key while they are put together.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) subtask: usize,
    pub(crate) key: Vec<u8>,
    pub(crate) count: usize,
    pub(crate) items: Vec<u8>,
}

impl Group {
    pub(crate) fn of(subtask: usize, key: &[u8]) -> Group {
        Group { subtask, key: key.to_vec(), ..Group::default() }
    }
    pub(crate) fn is_of(&self, subtask: usize, key: &[u8]) -> bool {
        self.count > 0 && self.subtask == subtask && self.key == key
    }
    fn put(&self, section: &str, into: &mut ImportedState) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let mut count = Vec::new();
        codec::encode(&self.count, &mut count)?;
        into.put_entry(self.subtask, section, &[&self.key, &count, &self.items])
    }
}

/// How the entries of a section are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// By slot, as [`Section::put_slot`](super::Section::put_slot) writes them; the slots mean something and are a part.
    Numbered,
    /// One after the other, as [`Section::put`](super::Section::put) writes them.
    Entries,
}

/// The entries of a section that belong to the subtask and not to keys: each is a row `R`.
pub struct EntryTable<R> {
    section: &'static str,
    layout: Layout,
    names: &'static [&'static str],
    types: PhantomData<fn() -> R>,
}

impl<R: Row + 'static> EntryTable<R> {
    /// The table of a section; names are those of the parts.
    pub fn boxed(
        section: &'static str,
        layout: Layout,
        names: &'static [&'static str],
    ) -> Box<dyn StateTable> {
        Box::new(EntryTable::<R> { section, layout, names, types: PhantomData })
    }
}

/// The newest snapshot of each subtask.
pub(crate) fn newest(state: &OperatorState) -> impl Iterator<Item = (usize, &OperatorSnapshot)> {
    state.subtasks().iter().enumerate().filter_map(|(subtask, chain)| Some((subtask, chain.newest()?)))
}

impl<R: Row> StateTable for EntryTable<R> {
    fn name(&self) -> &str {
        self.section
    }
    fn kind(&self) -> TableKind {
        TableKind::Operator
    }
    fn parts(&self) -> Vec<Part> {
        let number = (self.layout == Layout::Numbered).then(|| Part::of::<Slot>("number"));
        number.into_iter().chain(R::parts(self.names)).collect()
    }
    fn covers(&self, section: &str) -> bool {
        section == self.section
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        if self.layout == Layout::Numbered {
            for entry in state.table::<R>(self.section) {
                let (subtask, slot, row) = entry?;
                row.with(&mut |parts| {
                    let mut all: Vec<&dyn Erased> = vec![&slot];
                    all.extend_from_slice(parts);
                    rows.row(subtask, None, &all)
                })?;
            }
            return Ok(());
        }
        for (subtask, newest) in newest(state) {
            for entry in newest.entries::<R>(self.section) {
                entry?.with(&mut |parts| rows.row(subtask, None, parts))?;
            }
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        let (numbered, parts) = (self.layout == Layout::Numbered, self.parts().len());
        while let Some(subtask) = rows.next()? {
            let section = into.subtask(subtask)?.section(self.section);
            let append = |from: usize, into: &mut Vec<u8>| -> Result<()> {
                (from..parts).try_for_each(|part| {
                    into.extend_from_slice(rows.part(part)?);
                    Ok(())
                })
            };
            match numbered {
                true => {
                    let slot = codec::decode(rows.part(0)?)?;
                    section.put_slot_with(slot, |into| append(1, into))?;
                }
                false => section.put_with(|into| append(0, into))?,
            }
        }
        Ok(())
    }
}

/// A table of bytes, for sections that no other table covers.
#[derive(Default)]
pub struct RawTable {
    sections: Vec<String>,
}

/// The name of the table for what has none of its own.
pub const RAW: &str = "bytes";

impl RawTable {
    /// For these sections.
    pub fn new(sections: Vec<String>) -> RawTable {
        RawTable { sections }
    }
}

impl StateTable for RawTable {
    fn name(&self) -> &str {
        RAW
    }
    fn kind(&self) -> TableKind {
        TableKind::Operator
    }
    fn parts(&self) -> Vec<Part> {
        <(String, u64, Bytes)>::parts(&["section", "entries", "bytes"])
    }
    fn covers(&self, section: &str) -> bool {
        self.sections.iter().any(|own| own == section)
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        for (subtask, chain) in state.subtasks().iter().enumerate() {
            // Of a table there may be changes only, which without its layout cannot be told apart.
            if chain.len() > 1 {
                return Err(Error::Internal("a savepoint was made from a checkpoint of changes".into()));
            }
            for (name, section) in chain.newest().into_iter().flat_map(OperatorSnapshot::sections) {
                if self.covers(name) && !section.is_empty() {
                    let row = (name.to_string(), section.len(), Bytes(section.bytes().to_vec()));
                    row.with(&mut |parts| rows.row(subtask, None, parts))?;
                }
            }
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        while let Some(subtask) = rows.next()? {
            let section: String = codec::decode(rows.part(0)?)?;
            let entries: u64 = codec::decode(rows.part(1)?)?;
            let Bytes(bytes) = codec::decode(rows.part(2)?)?;
            into.subtask(subtask)?.section(&section).append(&bytes, entries);
        }
        Ok(())
    }
}
