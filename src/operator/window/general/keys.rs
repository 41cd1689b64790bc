//! Keys: the windows of all keys, or of the one key whose records come.

use super::alarms::Alarms;
use super::few::Few;
use crate::base::data::{Key, Timestamp};
use crate::base::error::{Error, Result};
use crate::semantics::state::{KeyTable, Slot, StateScope, prefetch_element};
use crate::semantics::window::Window;

/// A window of a key.
pub(super) struct Kept<C, S> {
    pub(super) window: Window,
    /// Nothing after a purge.
    pub(super) content: Option<C>,
    /// Of the trigger.
    pub(super) state: S,
    pub(super) alarms: Alarms,
    /// Of the last record.
    pub(super) last: Option<Timestamp>,
    /// Where its own state is.
    pub(super) id: Slot,
}

impl<C, S> Kept<C, S> {
    /// What its results carry: the last timestamp of the window; for the global one, that of its last record.
    #[inline]
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        if self.window.is_global() { self.last } else { Some(self.window.max_timestamp()) }
    }
}

/// The windows of a key, by start and end. Those of sessions do not meet.
pub(super) type Windows<C, S> = Few<Kept<C, S>>;

/// Where an entry of a queue finds its window; a session may have grown since.
#[inline]
pub(super) fn find<C, S>(windows: &[Kept<C, S>], window: Window, merges: bool) -> Option<usize> {
    if !merges {
        return windows.binary_search_by(|kept| kept.window.cmp(&window)).ok();
    }
    let at = windows.partition_point(|kept| kept.window.start <= window.start).checked_sub(1)?;
    windows.get(at).is_some_and(|kept| window.start < kept.window.end).then_some(at)
}

/// The keys that have windows or state.
pub(super) enum Keys<K, V> {
    All(KeyTable<K, V>),
    One(Option<K>, V),
}

impl<K: Key, C, S> Keys<K, Windows<C, S>> {
    pub(super) fn new(scope: StateScope) -> Self {
        match scope {
            StateScope::AllKeys => Keys::All(KeyTable::new()),
            StateScope::OneKey => Keys::One(None, Few::None),
        }
    }
    #[inline(always)]
    pub(super) fn windows(&mut self, slot: Slot) -> Option<&mut Windows<C, S>> {
        match self {
            Keys::All(table) => table.value_mut(slot),
            Keys::One(_, windows) => Some(windows),
        }
    }
    #[inline(always)]
    pub(super) fn window(&mut self, slot: Slot, at: usize) -> Result<&mut Kept<C, S>> {
        let windows = self.windows(slot).map(Few::as_mut_slice);
        windows.and_then(|windows| windows.get_mut(at)).ok_or_else(lost)
    }
    /// Starts loading the entry of a key.
    #[inline(always)]
    pub(super) fn prefetch(&self, slot: Slot) {
        if let Keys::All(table) = self {
            table.prefetch(slot);
        }
    }
    /// Starts loading the windows of a key, whose entry should be in the cache by now.
    #[inline(always)]
    pub(super) fn prefetch_windows(&self, slot: Slot) {
        if let Keys::All(table) = self
            && let Some(many @ Few::Many(_)) = table.value(slot)
        {
            let windows = many.as_slice();
            prefetch_element(windows, 0);
            prefetch_element(windows, windows.len().saturating_sub(1));
        }
    }
    #[inline(always)]
    pub(super) fn key(&self, slot: Slot) -> Result<&K> {
        match self {
            Keys::All(table) => table.key(slot),
            Keys::One(key, _) => key.as_ref(),
        }
        .ok_or_else(lost)
    }
}

#[cold]
pub(super) fn lost() -> Error {
    Error::Internal("a window operator has lost a key or window that it is working on".into())
}

/// Numbers for windows that have state of their own.
#[derive(Default)]
pub(super) struct Ids {
    free: Vec<Slot>,
    next: Slot,
}

impl Ids {
    pub(super) fn take(&mut self) -> Result<Slot> {
        if let Some(id) = self.free.pop() {
            return Ok(id);
        }
        let id = self.next;
        self.next = id.checked_add(1).ok_or_else(|| {
            Error::Memory(format!(
                "a subtask keeps {id} windows with state of their own, the most that it can; raise the parallelism"
            ))
        })?;
        Ok(id)
    }
    pub(super) fn give_back(&mut self, id: Slot) {
        self.free.push(id);
    }
}
