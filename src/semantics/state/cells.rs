//! Tables of declared state: a row for each value of a key, each element of its list, each entry of its map; timers; and
//! broadcast maps.
//!
//! Method: an entry of a key holds its states one behind the other. Each state has a table of its own, from which the entry is
//! put together again. Slots mean nothing outside of a snapshot, so timers name their keys.

use super::ages::{Ages, OfElements, OfEntries, Whole};
use super::broadcast::AnyBroadcast;
use super::column::{AnyColumn, Judge};
use super::declare::{Declared, States};
use super::restored::OperatorState;
use super::snapshot::{put_framed, split_frame, torn};
use super::stored::{WrittenState, check_fit};
use super::table::Slot;
use super::tables::{
    Bytes, Erased, Group, ImportedState, Part, RowReader, RowWriter, StateTable, TableKind, newest,
};
use crate::base::codec;
use crate::base::data::{Key, State, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Name of the part with the time of last use.
const LAST_USED: &str = "last_used";

/// Takes the parts of a row, and the time of its last use.
pub type AgedRow<'a> = dyn FnMut(&[&dyn Erased], Option<Timestamp>) -> Result<()> + 'a;

/// What a cell holds: how many rows it is, and how they are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    Value,
    /// A list: its length, then the elements.
    List,
    /// A map: its length, then keys and values in turn.
    Map,
}

/// How the content of a cell becomes rows: each kind of state has its own.
pub(super) trait Cells<S> {
    const SHAPE: Shape;
    /// The parts of a row, without key and time.
    fn parts() -> Vec<Part>;
    /// Calls `row` with the parts of each row and the time of its last use.
    fn rows(&self, content: &S, row: &mut AgedRow<'_>) -> Result<()>;
}

impl<S: State> Cells<S> for Whole {
    const SHAPE: Shape = Shape::Value;
    fn parts() -> Vec<Part> {
        vec![Part::of::<S>("value")]
    }
    fn rows(&self, content: &S, row: &mut AgedRow<'_>) -> Result<()> {
        row(&[content], Some(self.0.load(Relaxed)))
    }
}

impl<E: State> Cells<Vec<E>> for OfElements {
    const SHAPE: Shape = Shape::List;
    fn parts() -> Vec<Part> {
        vec![Part::of::<E>("value")]
    }
    fn rows(&self, list: &Vec<E>, row: &mut AgedRow<'_>) -> Result<()> {
        list.iter()
            .enumerate()
            .try_for_each(|(i, element)| row(&[element], self.0.get(i).map(|stamp| stamp.load(Relaxed))))
    }
}

impl<MK: Key + Sync, MV: State> Cells<BTreeMap<MK, MV>> for OfEntries<MK> {
    const SHAPE: Shape = Shape::Map;
    fn parts() -> Vec<Part> {
        vec![Part::of::<MK>("map_key"), Part::of::<MV>("value")]
    }
    fn rows(&self, map: &BTreeMap<MK, MV>, row: &mut AgedRow<'_>) -> Result<()> {
        map.iter()
            .try_for_each(|(key, value)| row(&[key, value], self.0.get(key).map(|stamp| stamp.load(Relaxed))))
    }
}

/// The rows of a cell of state that a user's serializer wrote, or that has no time to live, or both.
pub(super) fn cell_rows<S: State, A: Ages<S> + Cells<S>>(
    written: &WrittenState,
    cell: &[u8],
    row: &mut AgedRow<'_>,
) -> Result<()> {
    let (ages, cell) = match written.ttl {
        true => codec::decode_front::<A>(cell)?,
        false => (A::default(), cell),
    };
    if written.serializer.is_some() {
        let mut stamp = None;
        if written.ttl {
            let bytes = encoded(&ages)?;
            stamp = Some(codec::decode_front::<Timestamp>(&bytes)?.0);
        }
        return row(&[&Bytes(cell.to_vec())], stamp);
    }
    let content: S = codec::decode(cell)?;
    ages.rows(&content, row)
}

fn encoded(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes)?;
    Ok(bytes)
}

/// The sections in which an operator keeps the states of its keys.
#[derive(Clone, Copy)]
pub struct KeySections {
    /// The keys with their states, by slot.
    pub keys: &'static str,
    /// What is said of the states.
    pub states: &'static str,
}

/// Where the states of keys are in a snapshot, and what they are of.
pub trait CellSource {
    /// The parts that a row begins with: the key, and what else the state is of.
    fn prefix(&self) -> Vec<Part>;
    /// Calls `take` for each of these: subtask, hash of the key, prefix, and states as [`States::encode_slot`] wrote them.
    ///
    /// # Errors
    /// When the state cannot be read, or `take` fails.
    fn each(&self, state: &OperatorState, take: &mut TakeCells<'_>) -> Result<()>;
}

/// See [`CellSource::each`].
pub type TakeCells<'a> = dyn FnMut(usize, u64, &[&dyn Erased], &[u8]) -> Result<()> + 'a;

/// A section whose entries are a key and its states.
pub struct OfKeys<K>(pub &'static str, pub PhantomData<fn() -> K>);

impl<K: Key> CellSource for OfKeys<K> {
    fn prefix(&self) -> Vec<Part> {
        vec![Part::of::<K>("key")]
    }
    fn each(&self, state: &OperatorState, take: &mut TakeCells<'_>) -> Result<()> {
        for entry in state.table_bytes(self.0) {
            let (subtask, _, bytes) = entry?;
            let (key, cells) = codec::decode_front::<K>(bytes)?;
            take(subtask, hash_of(&key), &[&key], cells)?;
        }
        Ok(())
    }
}

/// The table of one declared state of keys.
struct KeyedState<C> {
    sections: KeySections,
    source: C,
    column: Arc<dyn AnyColumn>,
    written: WrittenState,
    judge: Judge,
}

/// The tables of declared state: a table for each. What is imported goes into [keyed entries](ImportedState::keyed_entry) of section
/// `keys`, whose keys are the prefix of `source`.
pub fn tables_of_states<C: CellSource + 'static>(
    states: &States,
    sections: KeySections,
    source: impl Fn() -> C,
) -> Vec<Box<dyn StateTable>> {
    let columns = states.columns.iter().zip(states.written());
    let keyed = columns.map(|(column, written)| {
        let (column, judge) = (column.stored.clone(), column.stored.judge(states.owner()));
        Box::new(KeyedState { sections, source: source(), column, written, judge }) as Box<dyn StateTable>
    });
    keyed.collect()
}

impl<C: CellSource> KeyedState<C> {
    /// The parts behind the key, without the time.
    fn content(&self) -> Vec<Part> {
        match self.written.serializer {
            Some(_) => vec![Part::of::<Bytes>("value")],
            None => self.column.parts(),
        }
    }

    /// Puts the rows of a key into its entry.
    fn put(&self, group: &Group, stamps: &[u8], index: usize, into: &mut ImportedState) -> Result<()> {
        if group.count == 0 {
            return Ok(());
        }
        let (_, entry) = into.keyed_entry(self.sections.keys, group.subtask, &group.key)?;
        codec::encode(&index, entry)?;
        let shape = self.column.shape();
        put_framed(entry, |entry| {
            if self.written.ttl {
                put_counted(shape, group.count, stamps, entry)?;
            }
            if self.written.serializer.is_some() {
                let Bytes(content) = codec::decode(&group.items)?;
                entry.extend_from_slice(&content);
                return Ok(());
            }
            put_counted(shape, group.count, &group.items, entry)
        })
    }
}

/// A list or map begins with its length.
fn put_counted(shape: Shape, count: usize, items: &[u8], into: &mut Vec<u8>) -> Result<()> {
    match shape {
        Shape::Value if count > 1 => return Err(Error::Codec("a table holds two values of one key".into())),
        Shape::Value => {}
        Shape::List | Shape::Map => codec::encode(&count, into)?,
    }
    into.extend_from_slice(items);
    Ok(())
}

impl<C: CellSource> StateTable for KeyedState<C> {
    fn name(&self) -> &str {
        &self.written.name
    }
    fn kind(&self) -> TableKind {
        TableKind::Keyed
    }
    fn parts(&self) -> Vec<Part> {
        let last_used = self.written.ttl.then(|| Part::of::<Option<Timestamp>>(LAST_USED));
        self.source.prefix().into_iter().chain(self.content()).chain(last_used).collect()
    }
    fn notes(&self) -> Vec<u8> {
        encoded(&self.written).unwrap_or_default()
    }
    fn covers(&self, section: &str) -> bool {
        section == self.sections.keys || section == self.sections.states
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        let written = state.entries::<Vec<WrittenState>>(self.sections.states).next().transpose()?;
        let index = written.unwrap_or_default().iter().position(|of| of.name == self.written.name);
        let Some(index) = index else { return Ok(()) };
        self.source.each(state, &mut |subtask, hash, prefix, cells| {
            let mut rest = cells;
            while !rest.is_empty() {
                let (of, behind) = codec::decode_front::<usize>(rest)?;
                let (cell, behind) = split_frame(behind).ok_or_else(torn)?;
                rest = behind;
                if of != index {
                    continue;
                }
                self.column.rows(&self.written, cell, &mut |parts, stamp| {
                    let mut all = [prefix, parts].concat();
                    if self.written.ttl {
                        all.push(&stamp);
                    }
                    rows.row(subtask, Some(hash), &all)
                })?;
            }
            Ok(())
        })
    }
    fn import(&self, notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        let written: WrittenState = codec::decode(notes)?;
        let compatibility = (self.judge)(written.serializer.as_ref());
        check_fit(&written, &self.written.kind, self.written.ttl, compatibility)?;
        let index = into.note(self.sections.states, &written)?;
        let (prefix, content) = (self.source.prefix().len(), self.content().len());
        let (mut group, mut stamps, mut of) = (Group::default(), Vec::new(), Vec::new());
        while let Some(subtask) = rows.next()? {
            of.clear();
            for part in 0..prefix {
                of.extend_from_slice(rows.part(part)?);
            }
            if !group.is_of(subtask, &of) {
                self.put(&group, &stamps, index, into)?;
                group = Group::of(subtask, &of);
                stamps.clear();
            }
            for part in prefix..prefix + content {
                group.items.extend_from_slice(rows.part(part)?);
            }
            if self.written.ttl {
                if self.column.shape() == Shape::Map {
                    stamps.extend_from_slice(rows.part(prefix)?);
                }
                let stamp: Option<Timestamp> = codec::decode(rows.part(prefix + content)?)?;
                codec::encode(&stamp.unwrap_or(Timestamp::MAX), &mut stamps)?;
            }
            group.count += 1;
        }
        self.put(&group, &stamps, index, into)
    }
}

/// The table of the timers of keys in one domain, kept as calls: slot, time, whether the timer was registered.
pub struct TimerTable<K> {
    name: &'static str,
    keys: &'static str,
    types: PhantomData<fn() -> K>,
}

impl<K: Key> TimerTable<K> {
    /// The table of the timers in section `name`, whose slots are those of section `keys`.
    pub fn boxed(name: &'static str, keys: &'static str) -> Box<dyn StateTable> {
        Box::new(TimerTable::<K> { name, keys, types: PhantomData })
    }
}

impl<K: Key> StateTable for TimerTable<K> {
    fn name(&self) -> &str {
        self.name
    }
    fn kind(&self) -> TableKind {
        TableKind::Timers
    }
    fn parts(&self) -> Vec<Part> {
        vec![Part::of::<K>("key"), Part::of::<Timestamp>("time")]
    }
    fn covers(&self, section: &str) -> bool {
        section == self.name
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        let mut live: Vec<BTreeSet<(Slot, Timestamp)>> =
            state.subtasks().iter().map(|_| BTreeSet::new()).collect();
        for (subtask, newest) in newest(state) {
            for call in newest.entries::<(Slot, Timestamp, bool)>(self.name) {
                let (slot, time, registers) = call?;
                match registers {
                    true => live[subtask].insert((slot, time)),
                    false => live[subtask].remove(&(slot, time)),
                };
            }
        }
        for entry in state.table_bytes(self.keys) {
            let (subtask, slot, bytes) = entry?;
            let times: Vec<Timestamp> = live[subtask]
                .range((slot, Timestamp::MIN)..=(slot, Timestamp::MAX))
                .map(|timer| timer.1)
                .collect();
            if times.is_empty() {
                continue;
            }
            let key = codec::decode_front::<K>(bytes)?.0;
            let hash = hash_of(&key);
            times.iter().try_for_each(|time| rows.row(subtask, Some(hash), &[&key, time]))?;
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        while let Some(subtask) = rows.next()? {
            let time: Timestamp = codec::decode(rows.part(1)?)?;
            let (slot, _) = into.keyed_entry(self.keys, subtask, rows.part(0)?)?;
            into.subtask(subtask)?.put(self.name, &(slot, time, true))?;
        }
        Ok(())
    }
}

/// The table of one broadcast state.
struct BroadcastTable {
    section: &'static str,
    name: String,
    map: Arc<dyn AnyBroadcast>,
}

/// The tables of broadcast state, which is kept in a section as names and maps.
pub fn tables_of_broadcast(states: &States, section: &'static str) -> Vec<Box<dyn StateTable>> {
    let table = |of: &Declared<dyn AnyBroadcast>| {
        let name = states.descriptors().get(of.descriptor).map_or(String::new(), |d| d.name.clone());
        Box::new(BroadcastTable { section, name, map: of.stored.clone() }) as Box<dyn StateTable>
    };
    states.broadcasts.iter().map(table).collect()
}

impl BroadcastTable {
    fn put(&self, group: &Group, into: &mut ImportedState) -> Result<()> {
        if group.count == 0 {
            return Ok(());
        }
        let mut map = encoded(&group.count)?;
        map.extend_from_slice(&group.items);
        into.subtask(group.subtask)?.put(self.section, &(&self.name, map))
    }
}

impl StateTable for BroadcastTable {
    fn name(&self) -> &str {
        &self.name
    }
    fn kind(&self) -> TableKind {
        TableKind::Broadcast
    }
    fn parts(&self) -> Vec<Part> {
        self.map.parts()
    }
    fn covers(&self, section: &str) -> bool {
        section == self.section
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        for (subtask, newest) in newest(state) {
            for entry in newest.entries::<(String, Vec<u8>)>(self.section) {
                let (name, map) = entry?;
                if name == self.name {
                    self.map.rows(&map, &mut |parts| rows.row(subtask, None, parts))?;
                }
            }
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        let mut group = Group::default();
        while let Some(subtask) = rows.next()? {
            if !group.is_of(subtask, &[]) {
                self.put(&group, into)?;
                group = Group::of(subtask, &[]);
            }
            for part in 0..2 {
                group.items.extend_from_slice(rows.part(part)?);
            }
            group.count += 1;
        }
        self.put(&group, into)
    }
}
