//! What the backend of keys writes into a snapshot, and reads back.
//!
//! Method: one entry for each key that holds anything, with its state by name and its timers; the names are an
//! entry of their own. A subtask takes up the keys that belong to it and leaves the others, so it can be given what
//! all subtasks of an earlier run wrote, whatever their number was.

use super::backend::KeyedBackend;
use super::context::Keys;
use crate::base::data::{Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::Progress;
use crate::semantics::state::{OperatorSnapshot, OperatorState, Slot, States};
use crate::semantics::time::Timers;
use crate::semantics::window::TimeDomain;

/// Sections of the snapshot: the names of the states of keys, ...
const NAMES: &str = "names";
/// ... the keys with what they hold, ...
const KEYS: &str = "keys";
/// ... and broadcast state.
const BROADCAST: &str = "broadcast";

/// A key, its state in the order of the names, and its timers of event time and of the clock.
type KeyEntry<K> = (K, Vec<Option<Vec<u8>>>, Vec<Timestamp>, Vec<Timestamp>);

impl<K: Key> KeyedBackend<K> {
    /// All keys with what they hold, and broadcast state.
    pub(super) fn snapshot(&self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let states = self.context.scope.states();
        snapshot_broadcast(states, into)?;
        let Keys::All(table) = &self.context.keys else {
            return Err(Error::Internal("a snapshot was asked for in the middle of a key".into()));
        };
        let names: Vec<&str> = states.keyed_names().collect();
        into.put(NAMES, &names)?;
        let keys = into.section(KEYS);
        let mut event = BySlot::new(&self.context.timers.event);
        let mut processing = BySlot::new(&self.context.timers.processing);
        for (slot, _, key, ()) in table.iter() {
            let (stored, event, processing) =
                (states.snapshot_slot(slot)?, event.take(slot), processing.take(slot));
            let is_empty = event.is_empty() && processing.is_empty() && stored.iter().all(Option::is_none);
            if !is_empty {
                keys.put(&(key, stored, event, processing))?;
            }
        }
        Ok(Progress::Done)
    }

    /// Takes up the keys of a snapshot that belong to this subtask, and broadcast state. Timers whose time has passed
    /// fire with the next advance.
    pub(super) fn restore(&mut self, state: &OperatorState) -> Result<()> {
        let context = &mut self.context;
        restore_broadcast(context.scope.states_mut(), state)?;
        let Keys::All(table) = &mut context.keys else { return Ok(()) };
        let mut names: Option<Vec<String>> = None;
        for written in state.entries::<Vec<String>>(NAMES) {
            let written = written?;
            if names.as_ref().is_some_and(|names| *names != written) {
                return Err(Error::user(
                    "the subtasks of the operator declared different states when the snapshot was taken; \
                     declare the same states in all subtasks",
                ));
            }
            names = Some(written);
        }
        let names = names.unwrap_or_default();
        let (mut slots, mut created) = (Vec::new(), Vec::new());
        for entry in state.entries::<KeyEntry<K>>(KEYS) {
            let (key, stored, event, processing) = entry?;
            let hash = hash_of(&key);
            if !context.runtime.owns(hash) {
                continue;
            }
            table.resolve(&[key], &[hash], &mut slots, &mut created, || ())?;
            let Some(&slot) = slots.first() else { continue };
            let columns: Vec<(&str, Vec<u8>)> = names
                .iter()
                .zip(stored)
                .filter_map(|(name, bytes)| bytes.map(|bytes| (name.as_str(), bytes)))
                .collect();
            context.scope.states_mut().restore_slot(slot, &columns)?;
            for (domain, times) in [(TimeDomain::Event, event), (TimeDomain::Processing, processing)] {
                times.into_iter().for_each(|time| context.timers.of(domain).register(time, slot, ()));
            }
        }
        Ok(())
    }
}

/// Writes broadcast state.
pub(super) fn snapshot_broadcast(states: &States, into: &mut OperatorSnapshot) -> Result<()> {
    for map in states.snapshot_broadcast()? {
        into.put(BROADCAST, &map)?;
    }
    Ok(())
}

/// Reads broadcast state; of several copies of a map the last one counts.
pub(super) fn restore_broadcast(states: &mut States, state: &OperatorState) -> Result<()> {
    for map in state.entries::<(String, Vec<u8>)>(BROADCAST) {
        states.restore_broadcast(&[map?])?;
    }
    Ok(())
}

/// The times of all timers, slot by slot.
struct BySlot {
    timers: Vec<(Slot, Timestamp)>,
    taken: usize,
}

impl BySlot {
    fn new(timers: &Timers<()>) -> BySlot {
        let mut timers: Vec<_> =
            timers.iter_live().into_iter().map(|timer| (timer.slot, timer.time)).collect();
        timers.sort_unstable();
        BySlot { timers, taken: 0 }
    }

    /// The times of a slot, which is higher than that of the call before.
    fn take(&mut self, slot: Slot) -> Vec<Timestamp> {
        let left = self.timers.get(self.taken..).unwrap_or_default();
        let before = left.partition_point(|timer| timer.0 < slot);
        let left = left.get(before..).unwrap_or_default();
        let count = left.iter().take_while(|timer| timer.0 == slot).count();
        let times = left.iter().take(count).map(|timer| timer.1).collect();
        self.taken += before + count;
        times
    }
}
