//! What the backend of keys writes into a snapshot, and reads back.
//!
//! Method: an entry of a table for each key, with the state it holds; what the states are called is an entry of its own.
//! Timers are cut at the barrier and written whole, as the calls that made them; they name the slots of their keys. A
//! subtask takes up the keys that belong to it and leaves the others, so it can be given what all subtasks of an earlier run
//! wrote, whatever their number was.

use super::backend::KeyedBackend;
use super::context::{KeyedContext, Keys};
use crate::base::batch::Barrier;
use crate::base::codec;
use crate::base::data::{Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::{Progress, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::{
    KeySections, KeyTable, OfKeys, OperatorSnapshot, OperatorState, Section, Slot, SnapshotChain, StateTable,
    States, StoredStates, TimerTable, WrittenState, has_edits, tables_of_broadcast, tables_of_operator_lists,
    tables_of_states,
};
use crate::semantics::time::TimerCall;
use crate::semantics::window::TimeDomain;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Sections of the snapshot: what is said of the states of keys, ...
const STATES: &str = "states";
/// ... the keys with the state they hold, a table by slot, ...
const KEYS: &str = "keys";
/// ... the timers of each domain, as calls: slot, time, whether it was registered, ...
const TIMERS: [(&str, TimeDomain); 2] =
    [("event-time timers", TimeDomain::Event), ("processing-time timers", TimeDomain::Processing)];
/// ... and broadcast state.
const BROADCAST: &str = "broadcast";

/// Keys that are restored together.
const BATCH: usize = 1 << 10;
/// The slot of a key that belongs to another subtask.
const ELSEWHERE: Slot = Slot::MAX;

/// The part of a snapshot under way that is not in the table of keys.
#[derive(Default)]
pub(super) struct UnderWay {
    /// The time of a full snapshot, at which what has expired may be left out.
    pub(super) live_at: Option<Timestamp>,
    /// The number of the barrier, if only changes since the one before are written.
    pub(super) changes_at: Option<u64>,
}

/// Writes a key with its state; false if the slot is empty.
pub(super) fn put_key<K: Key>(
    table: &KeyTable<K, ()>,
    states: &States,
    under_way: &UnderWay,
    slot: Slot,
    into: &mut Section,
) -> Result<bool> {
    let Some(key) = table.key(slot) else { return Ok(false) };
    into.put_slot_with(slot, |bytes| {
        codec::encode(key, bytes)?;
        match under_way.changes_at {
            Some(cut) => states.encode_slot_changes(slot, cut, bytes),
            None => states.encode_slot(slot, under_way.live_at, bytes),
        }
    })?;
    Ok(true)
}

impl<K: Key> KeyedBackend<K> {
    /// The cut at a barrier: all keys with what they hold, or those that have changed, all timers, and broadcast state.
    pub(super) fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        let now = self.context.processing_time();
        let KeyedContext { scope, keys, timers, changes, under_way, .. } = &mut self.context;
        let Keys::All(table) = keys else {
            return Err(Error::Internal("a snapshot was asked for in the middle of a key".into()));
        };
        snapshot_broadcast(scope.states(), into)?;
        into.put(STATES, &scope.states().written())?;
        let number = scope.barrier();
        under_way.changes_at = changes.cut(barrier.full, table.slots()).then_some(number);
        under_way.live_at = barrier.full.then_some(now);
        TIMERS.into_iter().for_each(|(_, domain)| timers.of(domain).cut());
        self.snapshot_more(into)
    }

    /// Writes more of the cut.
    pub(super) fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let KeyedContext { scope, keys, timers, changes, under_way, .. } = &mut self.context;
        let Keys::All(table) = keys else { return Ok(Progress::Done) };
        let section = into.section(KEYS);
        let end = section.bytes().len() + SNAPSHOT_SLICE_BYTES;
        let states = scope.states();
        let put = |slot, into: &mut Section| put_key(table, states, under_way, slot, into);
        if !changes.write(section, SNAPSHOT_SLICE_BYTES, put)? {
            return Ok(Progress::Yielded);
        }
        let mut left = end.saturating_sub(section.bytes().len());
        for (name, domain) in TIMERS {
            let timers = timers.of(domain);
            let section = into.section(name);
            let end = section.bytes().len() + left;
            while section.bytes().len() < end {
                let Some(TimerCall { time, slot, registers, .. }) = timers.next_call() else { break };
                section.put(&(slot, time, registers))?;
            }
            if section.bytes().len() >= end {
                return Ok(Progress::Yielded);
            }
            left = end.saturating_sub(section.bytes().len());
        }
        Ok(Progress::Done)
    }

    /// Takes up the keys of a snapshot that belong to this subtask, and broadcast state. Timers whose time has passed
    /// fire with the next advance.
    pub(super) fn restore(&mut self, state: &OperatorState) -> Result<()> {
        self.restore_operator(state)?;
        let subtask = self.context.runtime.subtask_index();
        restore_broadcast(self.context.scope.states_mut(), state, subtask)?;
        if matches!(self.context.keys, Keys::One(_)) {
            return Ok(());
        }
        let stored = stored_states(self.context.scope.states(), state)?;
        let mut rows = Rows::default();
        // The slots of the keys of each old subtask.
        let mut slots: Vec<Vec<Slot>> = state.subtasks().iter().map(|_| Vec::new()).collect();
        if let Keys::All(table) = &mut self.context.keys {
            table.reserve(state.table_len(KEYS) / self.context.runtime.parallelism());
        }
        for entry in state.table_bytes(KEYS) {
            let (subtask, slot, bytes) = entry?;
            let (key, bytes) = codec::decode_front::<K>(bytes)?;
            let hash = hash_of(&key);
            if !self.context.runtime.owns(hash) {
                continue;
            }
            rows.keys.push(key);
            rows.hashes.push(hash);
            rows.from.push((subtask, slot));
            rows.stored.push(bytes);
            if rows.keys.len() == BATCH {
                self.restore_keys(&mut rows, &stored, &mut slots)?;
            }
        }
        self.restore_keys(&mut rows, &stored, &mut slots)?;
        self.replay(&rows.edited, state, &stored)?;
        for (subtask, slots) in state.subtasks().iter().zip(&slots) {
            let Some(newest) = subtask.newest() else { continue };
            for (name, domain) in TIMERS {
                let calls = newest.entries::<(Slot, Timestamp, bool)>(name).filter_map(|call| match call {
                    Ok((slot, time, registers)) => {
                        let slot = slots.get(slot as usize).copied().filter(|&slot| slot != ELSEWHERE)?;
                        Some(Ok(TimerCall { time, slot, registers, namespace: () }))
                    }
                    Err(e) => Some(Err(e)),
                });
                self.context.timers.of(domain).register_live(calls.collect::<Result<_>>()?);
            }
        }
        // Keys that were held by a timer that had been deleted.
        for slot in slots.into_iter().flatten().filter(|&slot| slot != ELSEWHERE) {
            self.context.release(slot)?;
        }
        self.release()
    }

    /// Puts a batch of keys into the table, and their state into the columns.
    fn restore_keys(
        &mut self,
        rows: &mut Rows<'_, K>,
        stored: &StoredStates,
        slots: &mut [Vec<Slot>],
    ) -> Result<()> {
        let Rows { keys, hashes, from, stored: bytes, edited } = rows;
        let KeyedContext { scope, keys: Keys::All(table), .. } = &mut self.context else { return Ok(()) };
        table.resolve(keys, hashes, &mut self.slots, &mut self.created, || ())?;
        if self.created.len() < keys.len() {
            return Err(Error::Codec("a snapshot holds two entries of one key; it is damaged".into()));
        }
        scope.states().prefetch(&self.slots);
        for ((&slot, &(subtask, old)), bytes) in self.slots.iter().zip(&*from).zip(&*bytes) {
            match has_edits(bytes)? {
                true => drop(edited.insert((subtask, old), slot)),
                false => scope.states_mut().decode_slot(slot, stored, bytes)?,
            }
            if let Some(slots) = slots.get_mut(subtask) {
                if slots.len() <= old as usize {
                    slots.resize(old as usize + 1, ELSEWHERE);
                }
                slots[old as usize] = slot;
            }
        }
        self.slots.clear();
        self.created.clear();
        keys.clear();
        hashes.clear();
        from.clear();
        bytes.clear();
        Ok(())
    }
}

impl<K: Key> KeyedBackend<K> {
    /// Restores the keys whose newest entries have only changes: all entries of their slots are gone through, oldest first.
    fn replay(
        &mut self,
        edited: &BTreeMap<(usize, Slot), Slot>,
        state: &OperatorState,
        stored: &StoredStates,
    ) -> Result<()> {
        if edited.is_empty() {
            return Ok(());
        }
        for (subtask, chain) in state.subtasks().iter().enumerate() {
            for entry in chain.history(KEYS) {
                let (old, bytes) = entry?;
                let Some(&slot) = edited.get(&(subtask, old)) else { continue };
                let held = bytes.map(|bytes| codec::decode_front::<K>(bytes).map(|(_, held)| held));
                self.context.scope.states_mut().replay_slot(slot, stored, held.transpose()?)?;
            }
        }
        Ok(())
    }
}

/// What the snapshots of functions over keys hold.
pub(super) fn tables<K: Key>(states: &States) -> Vec<Box<dyn StateTable>> {
    let mut tables = tables_of_states(states, KeySections { keys: KEYS, states: STATES }, || {
        OfKeys::<K>(KEYS, PhantomData)
    });
    tables.extend(TIMERS.map(|(name, _)| TimerTable::<K>::boxed(name, KEYS)));
    tables.extend(subtask_tables(states));
    tables
}

/// What the snapshots of functions without keys hold.
pub(super) fn subtask_tables(states: &States) -> Vec<Box<dyn StateTable>> {
    let mut tables = tables_of_broadcast(states, BROADCAST);
    tables.extend(tables_of_operator_lists(states));
    tables
}

/// Keys that are restored together, with the subtask and the slot they were in, and the bytes of their state.
struct Rows<'a, K> {
    keys: Vec<K>,
    hashes: Vec<u64>,
    from: Vec<(usize, Slot)>,
    stored: Vec<&'a [u8]>,
    /// The slots of keys whose newest entries have only changes, by subtask and the slot they were in.
    edited: BTreeMap<(usize, Slot), Slot>,
}

impl<K> Default for Rows<'_, K> {
    fn default() -> Self {
        Rows {
            keys: Vec::new(),
            hashes: Vec::new(),
            from: Vec::new(),
            stored: Vec::new(),
            edited: BTreeMap::new(),
        }
    }
}

/// What the snapshot says of the states of keys, the same for all subtasks.
fn stored_states(states: &States, state: &OperatorState) -> Result<StoredStates> {
    let mut all: Option<Vec<WrittenState>> = None;
    for written in state.entries::<Vec<WrittenState>>(STATES) {
        let written = written?;
        if all.as_ref().is_some_and(|all| *all != written) {
            return Err(Error::user(
                "the subtasks of the operator declared different states when the snapshot was taken; \
                 declare the same states in all subtasks",
            ));
        }
        all = Some(written);
    }
    states.reader(all.unwrap_or_default())
}

/// Writes broadcast state.
pub(super) fn snapshot_broadcast(states: &States, into: &mut OperatorSnapshot) -> Result<()> {
    for map in states.snapshot_broadcast()? {
        into.put(BROADCAST, &map)?;
    }
    Ok(())
}

/// Reads broadcast state: each subtask the copy of one that there was, in turn if there were fewer.
pub(super) fn restore_broadcast(states: &mut States, state: &OperatorState, subtask: usize) -> Result<()> {
    let kept = state.subtasks().iter().filter_map(SnapshotChain::newest);
    let copies: Vec<_> = kept.filter(|newest| newest.len(BROADCAST) > 0).collect();
    let Some(copy) = copies.get(subtask % copies.len().max(1)) else { return Ok(()) };
    let maps = copy.entries::<(String, Vec<u8>)>(BROADCAST).collect::<Result<Vec<_>>>()?;
    states.restore_broadcast(&maps)
}
