//! Snapshot of a window operator: an entry of a table for each key, with its state and its windows. Timers are not written: a
//! window knows what it waits for.

use super::alarms::Alarms;
use super::few::Few;
use super::keys::{Ids, Kept, Keys, Windows};
use super::{Contents, GeneralWindows, not_open};
use crate::base::batch::Barrier;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::operator::window::process::WindowContext;
use crate::operator::{Progress, RuntimeContext, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::{
    KeyTable, OperatorSnapshot, OperatorState, Section, Slot, States, StoredStates, WrittenState,
};
use crate::semantics::window::{TimeDomain, Trigger, Window, WindowAssigner};

/// Section with an entry for each key.
pub(super) const SECTION: &str = "windows";
/// What is said of the states of keys, and of those of windows.
pub(super) const STATES: [&str; 2] = ["states of keys", "states of windows"];

/// Window, content, state of the trigger, timers (true: processing time), timestamp of the last record, state of the window.
pub(super) type SavedWindow<C, S> = (Window, C, S, Vec<(bool, Timestamp)>, Option<Timestamp>, Vec<u8>);

/// Writes a key with its state and windows; false if the slot is empty.
fn put<K: Key, C: Data, S: Data>(
    table: &KeyTable<K, Windows<C, S>>,
    context: &WindowContext,
    has_ids: bool,
    live_at: Option<Timestamp>,
    slot: Slot,
    into: &mut Section,
) -> Result<bool> {
    let (Some(key), Some(windows)) = (table.key(slot), table.value(slot)) else { return Ok(false) };
    let stored = |states: &States, slot| {
        let mut bytes = Vec::new();
        states.encode_slot(slot, live_at, &mut bytes).map(|()| bytes)
    };
    let mut saved: Vec<SavedWindow<&Option<C>, &S>> = Vec::with_capacity(windows.as_slice().len());
    for kept in windows.as_slice() {
        let own = if has_ids { stored(context.window_states(), kept.id)? } else { Vec::new() };
        let asked = kept.alarms.asked().to_vec();
        saved.push((kept.window, &kept.content, &kept.state, asked, kept.last, own));
    }
    into.put_slot(slot, Some(&(key, stored(context.key_states(), slot)?, saved)))?;
    Ok(true)
}

impl<K, T, W, G, C> GeneralWindows<K, T, W, G, C>
where
    K: Key,
    T: Data,
    W: WindowAssigner<T>,
    G: Trigger<T>,
    C: Contents<K, T>,
{
    /// The key of a slot is about to change: it is written first if a snapshot still needs it.
    #[inline(always)]
    pub(super) fn touch(&mut self, slot: Slot) -> Result<()> {
        let GeneralWindows { changes, keys, context, ids, live_at, .. } = self;
        changes.changing(slot, |copies| {
            let Keys::All(table) = keys else { return Ok(()) };
            let context = context.as_ref().ok_or_else(not_open)?;
            put(table, context, ids.is_some(), *live_at, slot, copies).map(drop)
        })
    }

    pub(super) fn save(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        let Keys::All(table) = &self.keys else {
            return Err(Error::Internal("a snapshot was asked for in the middle of a key".into()));
        };
        let context = self.context.as_ref().ok_or_else(not_open)?;
        for (name, states) in STATES.into_iter().zip([context.key_states(), context.window_states()]) {
            into.put(name, &states.written())?;
        }
        self.changes.cut(barrier.full, table.slots());
        self.live_at = barrier.full.then_some(self.now);
        self.save_more(into)
    }

    pub(super) fn save_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let GeneralWindows { changes, keys, context, ids, live_at, .. } = self;
        let Keys::All(table) = keys else { return Ok(Progress::Done) };
        let context = context.as_ref().ok_or_else(not_open)?;
        let done = changes.write(into.section(SECTION), SNAPSHOT_SLICE_BYTES, |slot, into| {
            put(table, context, ids.is_some(), *live_at, slot, into)
        })?;
        Ok(if done { Progress::Done } else { Progress::Yielded })
    }

    pub(super) fn load(&mut self, state: &OperatorState, runtime: &RuntimeContext) -> Result<()> {
        type Saved<K, C, S> = (K, Vec<u8>, Vec<SavedWindow<Option<C>, S>>);
        let context = self.context.as_ref().ok_or_else(not_open)?;
        let of_keys = stored_states(context.key_states(), STATES[0], state)?;
        let of_windows = stored_states(context.window_states(), STATES[1], state)?;
        for entry in state.table::<Saved<K, C::Content, G::State>>(SECTION) {
            let (_, _, (key, states, saved)) = entry?;
            let Keys::All(table) = &mut self.keys else { continue };
            let hash = hash_of(&key);
            if !runtime.owns(hash) {
                continue;
            }
            table.resolve(&[key], &[hash], &mut self.slots, &mut self.created, || Few::None)?;
            self.created.clear();
            let slot = self.slots.pop().unwrap_or_default();
            let context = self.context.as_mut().ok_or_else(not_open)?;
            context.key_scope().states_mut().decode_slot(slot, &of_keys, &states)?;
            for (at, (window, content, state, asked, last, own)) in saved.into_iter().enumerate() {
                let id = self.ids.as_mut().map_or(Ok(0), Ids::take)?;
                context.window_scope().states_mut().decode_slot(id, &of_windows, &own)?;
                let mut alarms = Alarms::new();
                for (processing, time) in asked {
                    let domain = if processing { TimeDomain::Processing } else { TimeDomain::Event };
                    alarms.ask(domain, time);
                }
                self.schedule.queue(slot, window, &mut alarms);
                if let Some(windows) = self.keys.windows(slot) {
                    windows.insert(at, Kept { window, content, state, alarms, last, id });
                }
            }
        }
        Ok(())
    }
}

/// What the snapshot says of states, the same for all subtasks.
fn stored_states(states: &States, section: &str, state: &OperatorState) -> Result<StoredStates> {
    let written = state.entries::<Vec<WrittenState>>(section).next().transpose()?;
    states.reader(written.unwrap_or_default())
}
