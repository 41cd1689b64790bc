//! KeyedContext: what a function over keys sees: the key, its state and timers, and the clocks.
//!
//! Method: the context is also where the engine keeps what belongs to keys, so that a call of user code gets it by
//! one reference and state and timers are reached without a look-up.

use super::cleanup::Cleanup;
use super::snapshot::UnderWay;
use crate::base::clock::Clock;
use crate::base::data::{Key, Timestamp};
use crate::operator::RuntimeContext;
use crate::semantics::state::{BroadcastRead, Changes, KeyTable, KeyedAccess, KeyedScope, Slot};
use crate::semantics::time::Timers;
use crate::semantics::window::TimeDomain;
use qcell::QCellOwner;
use std::sync::Arc;

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerFired {
    /// The time that it was registered for.
    pub time: Timestamp,
    /// The clock that has reached this time: the watermark or the clock of the machine.
    pub domain: TimeDomain,
}

/// The current key with its state and timers, and what is known of the record at hand.
///
/// **Timers.** A key has at most one timer for each time and domain: registering it again changes nothing, nor does deleting
/// one that is not there. An event-time timer fires once the watermark has reached its time, a processing-time timer
/// once the clock has; one whose time has passed fires when the watermark, or the clock, moves next. In BATCH all
/// timers of a key fire at its end, those of event time first, each in the order of time.
///
/// When the input ends, event-time timers fire, and then processing-time timers, even those of times to come. A timer
/// that is registered by one of these last calls does not fire; the operator's counter `timers_dropped_at_end` counts
/// it.
pub struct KeyedContext<K> {
    pub(super) scope: KeyedScope,
    pub(super) keys: Keys<K>,
    pub(super) timers: KeyTimers,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) watermark: Timestamp,
    pub(super) runtime: RuntimeContext,
    pub(super) clock: Arc<dyn Clock>,
    /// The time at which the clock stands still, where it does.
    pub(super) standing: Option<Timestamp>,
    /// Of the keys, and of their state.
    pub(super) changes: Changes,
    pub(super) under_way: UnderWay,
    /// The clean-up of states with a time to live.
    pub(super) cleanup: Cleanup,
}

/// The keys that have state or timers.
pub(super) enum Keys<K> {
    /// Of all keys, by slot.
    All(KeyTable<K, ()>),
    /// Of the current key, at slot 0.
    One(Option<K>),
}

/// The timers of all keys.
#[derive(Default)]
pub(super) struct KeyTimers {
    pub(super) event: Timers<()>,
    pub(super) processing: Timers<()>,
    /// The input has ended and the last timers fire: new ones are counted and dropped.
    pub(super) draining: bool,
    /// How many were dropped since the counter was raised.
    pub(super) dropped: u64,
    /// A timer was deleted at some time: there may be slots that are held by nothing but that.
    pub(super) deletes: bool,
}

impl KeyTimers {
    /// The queue of a domain.
    #[inline(always)]
    pub(super) fn of(&mut self, domain: TimeDomain) -> &mut Timers<()> {
        match domain {
            TimeDomain::Event => &mut self.event,
            TimeDomain::Processing => &mut self.processing,
        }
    }

    /// Whether a timer, or an entry about one, keeps the key of `slot`.
    #[inline(always)]
    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.event.holds(slot) || self.processing.holds(slot)
    }

    #[inline(always)]
    fn register(&mut self, domain: TimeDomain, time: Timestamp, slot: Slot) {
        if self.draining {
            self.dropped += 1;
        } else {
            self.of(domain).register(time, slot, ());
        }
    }
}

impl<K: Key> KeyedContext<K> {
    /// The current key.
    pub fn key(&self) -> &K {
        let key = match &self.keys {
            Keys::All(table) => table.key(self.scope.slot()),
            Keys::One(key) => key.as_ref(),
        };
        match key {
            Some(key) => key,
            None => unreachable!("user code is only called with a current key"),
        }
    }
    /// Event time of the record, if the stream has timestamps; of an event-time timer, its time; of a processing-time
    /// timer, none. What is emitted carries it.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }
    /// The watermark: no record with a timestamp at or below it is expected any more. In BATCH it is at its minimum until the
    /// end of each key, and at its maximum there.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }
    /// The clock, in milliseconds since the epoch. In BATCH it stands still.
    pub fn processing_time(&self) -> Timestamp {
        self.standing.unwrap_or_else(|| self.clock.now_ms())
    }
    /// The subtask this function runs in.
    pub fn runtime(&self) -> &RuntimeContext {
        &self.runtime
    }
    /// Asks for a call of `on_timer` for this key once the watermark has reached `time`.
    #[inline]
    pub fn register_event_time_timer(&mut self, time: Timestamp) {
        self.timers.register(TimeDomain::Event, time, self.scope.slot());
    }
    /// Takes back [`register_event_time_timer`](Self::register_event_time_timer).
    #[inline]
    pub fn delete_event_time_timer(&mut self, time: Timestamp) {
        self.delete(TimeDomain::Event, time);
    }
    /// Asks for a call of `on_timer` for this key once the clock has reached `time`.
    #[inline]
    pub fn register_processing_time_timer(&mut self, time: Timestamp) {
        self.timers.register(TimeDomain::Processing, time, self.scope.slot());
    }
    /// Takes back [`register_processing_time_timer`](Self::register_processing_time_timer).
    #[inline]
    pub fn delete_processing_time_timer(&mut self, time: Timestamp) {
        self.delete(TimeDomain::Processing, time);
    }

    #[inline]
    fn delete(&mut self, domain: TimeDomain, time: Timestamp) {
        self.timers.of(domain).delete(time, self.scope.slot(), ());
        self.timers.deletes = true;
        // Nothing may be left of the key.
        self.scope.cleared();
    }
}

impl<K> KeyedAccess for KeyedContext<K> {
    #[inline(always)]
    fn scope(&self) -> &KeyedScope {
        &self.scope
    }
    #[inline(always)]
    fn scope_mut(&mut self) -> &mut KeyedScope {
        &mut self.scope
    }
}

/// Broadcast state is only read beside a key.
impl<K> BroadcastRead for KeyedContext<K> {
    #[inline(always)]
    fn broadcast(&self) -> &QCellOwner {
        self.scope.states().owner()
    }
}
