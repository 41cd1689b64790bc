//! What happens to records: their keys are looked up, they get their windows, windows are made and merged, and what is in none is
//! late.

use super::alarms::Alarms;
use super::few::Few;
use super::keys::{Ids, Kept, Keys, lost};
use super::{Contents, Current, GeneralWindows};
use crate::base::batch::Batch;
use crate::base::data::{Data, Key, Timestamp, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::base::hash::hash_of;
use crate::base::mutant;
use crate::operator::{Out, Progress};
use crate::semantics::state::Slot;
use crate::semantics::window::{
    TimeDomain, Trigger, TriggerContext, Window, WindowAssigner, is_late, merge_by,
};

impl<K, T, W, G, C> GeneralWindows<K, T, W, G, C>
where
    K: Key,
    T: Data,
    W: WindowAssigner<T>,
    G: Trigger<T>,
    C: Contents<K, T>,
{
    /// Finds the slot of each record, then turns the batch around so that records are taken from its end.
    pub(super) fn look_up(&mut self, batch: &mut Batch<T>) -> Result<()> {
        match &mut self.keys {
            Keys::All(table) => {
                self.key_buffer.clear();
                self.selector.keys(&batch.values, &mut self.key_buffer);
                if batch.hashes.len() != batch.len() {
                    batch.hashes.clear();
                    batch.hashes.extend(self.key_buffer.iter().map(hash_of));
                }
                let (slots, created) = (&mut self.slots, &mut self.created);
                table.resolve(&self.key_buffer, &batch.hashes, slots, created, || Few::None)?;
                self.created.iter().try_for_each(|&slot| self.changes.creating(slot))?;
                self.slots.reverse();
            }
            Keys::One(key, _) => {
                if let (None, Some(first)) = (&key, batch.values.first()) {
                    *key = Some(self.selector.key(first));
                }
                self.slots.clear();
                self.slots.resize(batch.len(), 0);
            }
        }
        batch.reverse();
        Ok(())
    }

    /// Finds the windows of a record.
    #[inline]
    pub(super) fn assign(&mut self, record: &T, timestamp: Option<Timestamp>) -> Result<()> {
        self.assigned.clear();
        let time = match (self.schedule.time, timestamp) {
            (Some(TimeDomain::Processing), _) => self.now,
            (_, Some(timestamp)) => timestamp,
            (None, None) => Timestamp::MIN,
            (Some(TimeDomain::Event), None) => {
                return Err(Error::user(format!(
                    "the records have no timestamps, which windows over event time ({}) go by; give them some with \
                     assign_timestamps, or use windows over processing time",
                    self.setup.assigner.describe()
                )));
            }
        };
        self.setup.assigner.assign(record, time, &mut self.assigned)
    }

    /// X15: whether the window takes no more records.
    #[inline(always)]
    fn is_late(&self, window: Window) -> bool {
        self.schedule.time == Some(TimeDomain::Event)
            && self.watermark > WATERMARK_MIN
            && is_late(window, self.setup.lateness_ms, self.watermark)
    }

    /// The position of the window among those of the key, after making it or merging it; none if it is late.
    #[inline]
    fn place(&mut self, slot: Slot, window: Window) -> Result<Option<usize>> {
        let windows = self.keys.windows(slot).ok_or_else(lost)?;
        let (at, is_new) = if self.merges {
            let merged = merge_by(windows.as_slice(), |kept| kept.window, window);
            let at = merged.swallowed.start;
            let swallowed = merged.swallowed.len();
            let grows = windows.as_slice().get(at).is_some_and(|kept| kept.window != merged.window);
            if swallowed > 0 && (swallowed > 1 || grows) {
                self.merge(slot, at, swallowed, merged.window)?;
            }
            (at, swallowed == 0)
        } else {
            match windows.as_slice().binary_search_by(|kept| kept.window.cmp(&window)) {
                Ok(at) => (at, false),
                Err(at) => (at, true),
            }
        };
        if is_new {
            if self.is_late(window) && !mutant::is("late_window_again") {
                return Ok(None);
            }
            let id = self.ids.as_mut().map_or(Ok(0), Ids::take)?;
            let state = G::State::default();
            let kept = Kept { window, content: None, state, alarms: Alarms::new(), last: None, id };
            self.keys.windows(slot).ok_or_else(lost)?.insert(at, kept);
        }
        Ok(Some(at))
    }

    /// Makes one window of `swallowed` neighbours from position `at` on.
    fn merge(&mut self, slot: Slot, at: usize, swallowed: usize, window: Window) -> Result<()> {
        let windows = self.keys.windows(slot).ok_or_else(lost)?;
        let trigger = &mut self.setup.trigger;
        for i in 0..swallowed {
            // The first becomes the merged window, the others go into it.
            let other = if i > 0 { Some(windows.remove(at + 1).ok_or_else(lost)?) } else { None };
            let kept = windows.as_mut_slice().get_mut(at).ok_or_else(lost)?;
            let mut time = TriggerContext::new(self.watermark, self.now, &mut self.schedule.requests);
            let state = match other {
                None => {
                    trigger.clear(&kept.window, &mut kept.state, &mut time);
                    kept.window = window;
                    let alarms = std::mem::replace(&mut kept.alarms, Alarms::new());
                    kept.alarms.absorb(&alarms);
                    std::mem::take(&mut kept.state)
                }
                Some(mut other) => {
                    trigger.clear(&other.window, &mut other.state, &mut time);
                    kept.alarms.absorb(&other.alarms);
                    match (&mut kept.content, other.content) {
                        (Some(content), Some(other)) => self.contents.merge(content, other),
                        (content @ None, other) => *content = other,
                        (Some(_), None) => {}
                    }
                    other.state
                }
            };
            // The timers of the older window have gone with it.
            self.schedule.requests.clear();
            let mut time = TriggerContext::new(self.watermark, self.now, &mut self.schedule.requests);
            trigger.on_merge(&window, &mut kept.state, state, &mut time);
            self.schedule.apply(&mut kept.alarms);
        }
        Ok(())
    }

    /// Puts the record into its windows, one after the other, until one has filled the output.
    #[inline]
    pub(super) fn element(&mut self, mut current: Current<T>, out: &mut Out<C::Out>) -> Result<Progress> {
        while let Some(&window) = self.assigned.get(current.next) {
            if current.next > 0 && out.is_full() {
                self.current = Some(current);
                return Ok(Progress::Yielded);
            }
            current.next += 1;
            let slot = current.slot;
            let Some(at) = self.place(slot, window)? else { continue };
            current.placed = true;
            let is_last = current.next == self.assigned.len();
            let record = if is_last { current.record.take() } else { current.record.clone() };
            let record = record.ok_or_else(lost)?;
            let kept = self.keys.window(slot, at)?;
            let timestamp = current.timestamp;
            kept.last = timestamp;
            let mut time = TriggerContext::new(self.watermark, self.now, &mut self.schedule.requests);
            let stamp = timestamp.unwrap_or(Timestamp::MIN);
            let result =
                self.setup.trigger.on_element(&record, stamp, &kept.window, &mut kept.state, &mut time);
            match &mut kept.content {
                Some(content) => self.contents.add(content, record, timestamp),
                content => *content = Some(self.contents.create(record, timestamp)),
            }
            self.schedule.apply(&mut kept.alarms);
            self.schedule.queue(slot, kept.window, &mut kept.alarms);
            if result.is_fire() || result.is_purge() {
                let progress = self.fire(slot, at, result.is_fire(), result.is_purge(), false, out)?;
                if progress == Progress::Yielded {
                    self.current = Some(current);
                    return Ok(progress);
                }
            }
        }
        if !current.placed {
            self.skip(current, out);
        }
        Ok(Progress::Done)
    }

    /// X16: a record that is in no window.
    #[cold]
    fn skip(&mut self, current: Current<T>, out: &mut Out<C::Out>) {
        let (Some(record), timestamp) = (current.record, current.timestamp) else { return };
        let is_late = self.schedule.time == Some(TimeDomain::Event)
            && self.watermark > WATERMARK_MIN
            && timestamp.is_some_and(|t| t.saturating_add(self.setup.lateness_ms) <= self.watermark);
        match &self.setup.late {
            Some(output) if is_late => out.push_to(output, record, timestamp),
            _ => self.late_dropped += 1,
        }
    }

    /// Forgets the keys that hold nothing after the batch.
    pub(super) fn release(&mut self) {
        let Keys::All(table) = &mut self.keys else { return };
        for slot in self.created.drain(..) {
            let has_windows = table.value(slot).is_some_and(|windows| !windows.is_empty());
            let has_state = self.context.as_ref().is_some_and(|c| !c.key_states().is_empty(slot));
            if !has_windows && !has_state {
                // Not in any cut: it was made in this batch.
                self.changes.changed(slot);
                table.remove(slot);
            }
        }
    }
}
