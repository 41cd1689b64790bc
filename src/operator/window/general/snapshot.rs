//! Snapshot of a window operator: one entry for each key, with its state and its windows. Timers are not written: a
//! window knows what it waits for.

use super::alarms::Alarms;
use super::few::Few;
use super::keys::{Ids, Kept, Keys, Windows};
use super::{Contents, GeneralWindows, not_open};
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::Result;
use crate::base::hash::hash_of;
use crate::operator::window::process::WindowContext;
use crate::operator::{Progress, RuntimeContext};
use crate::semantics::state::{OperatorSnapshot, OperatorState, Section, Slot, States};
use crate::semantics::window::{TimeDomain, Trigger, Window, WindowAssigner};

const SECTION: &str = "windows";

/// State by name.
type Named = Vec<(String, Vec<u8>)>;
/// Window, content, state of the trigger, timers (true: processing time), timestamp of the last record, state of the window.
type SavedWindow<C, S> = (Window, C, S, Vec<(bool, Timestamp)>, Option<Timestamp>, Named);

fn named(states: &States, slot: Slot) -> Result<Named> {
    let columns = states.snapshot_slot(slot)?;
    let names = states.keyed_names().map(str::to_string);
    Ok(names.zip(columns).filter_map(|(name, bytes)| Some((name, bytes?))).collect())
}

impl<K, T, W, G, C> GeneralWindows<K, T, W, G, C>
where
    K: Key,
    T: Data,
    W: WindowAssigner<T>,
    G: Trigger<T>,
    C: Contents<K, T>,
{
    fn put(
        section: &mut Section,
        context: &mut WindowContext,
        has_ids: bool,
        (slot, key, windows): (Slot, &K, &Windows<C::Content, G::State>),
    ) -> Result<()> {
        let mut saved: Vec<SavedWindow<&Option<C::Content>, &G::State>> = Vec::new();
        for kept in windows.as_slice() {
            let own = if has_ids { named(context.window_scope().states(), kept.id)? } else { Named::new() };
            let asked = kept.alarms.asked().to_vec();
            saved.push((kept.window, &kept.content, &kept.state, asked, kept.last, own));
        }
        section.put(&(key, named(context.key_scope().states(), slot)?, saved))
    }

    pub(super) fn save(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let section = into.section(SECTION);
        let context = self.context.as_mut().ok_or_else(not_open)?;
        let has_ids = self.ids.is_some();
        match &self.keys {
            Keys::All(table) => {
                for (slot, _, key, windows) in table.iter() {
                    Self::put(section, context, has_ids, (slot, key, windows))?;
                }
            }
            Keys::One(Some(key), windows) => Self::put(section, context, has_ids, (0, key, windows))?,
            Keys::One(None, _) => {}
        }
        Ok(Progress::Done)
    }

    pub(super) fn load(&mut self, state: &OperatorState, runtime: &RuntimeContext) -> Result<()> {
        type Saved<K, C, S> = (K, Named, Vec<SavedWindow<Option<C>, S>>);
        for entry in state.entries::<Saved<K, C::Content, G::State>>(SECTION) {
            let (key, states, saved) = entry?;
            let slot = match &mut self.keys {
                Keys::All(table) => {
                    let hash = hash_of(&key);
                    if !runtime.owns(hash) {
                        continue;
                    }
                    table.resolve(&[key], &[hash], &mut self.slots, &mut self.created, || Few::None)?;
                    self.created.clear();
                    self.slots.pop().unwrap_or_default()
                }
                Keys::One(one, _) => {
                    *one = Some(key);
                    0
                }
            };
            let context = self.context.as_mut().ok_or_else(not_open)?;
            context.key_scope().states_mut().restore_slot(slot, &states)?;
            for (at, (window, content, state, asked, last, own)) in saved.into_iter().enumerate() {
                let id = self.ids.as_mut().map_or(Ok(0), Ids::take)?;
                context.window_scope().states_mut().restore_slot(id, &own)?;
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
