//! Alarms: the timers of one window, and the schedule that wakes windows.
//!
//! Method: a window knows what its trigger asked for, and has at most one live entry for each clock in a queue that
//! all keys share, at the earliest of these times or before. Registering a later time, deleting and merging do not touch the queue:
//! an entry that comes too early is moved on, one whose window has gone or has an earlier entry is ignored. So a session that
//! grows with each record costs one entry for each length of its gap.
//! Invariant: the entry a window knows is in the queue, and no later than what the window waits for.

use super::few::Few;
use crate::base::data::Timestamp;
use crate::semantics::state::Slot;
use crate::semantics::time::Timers;
use crate::semantics::window::{TimeDomain, TimerRequest, Window, cleanup_time};

/// The timers of one window.
#[derive(Debug)]
pub(super) struct Alarms {
    /// What the trigger asked for and has not got yet, sorted; true is processing time.
    asked: Few<(bool, Timestamp)>,
    /// The entries in the queues of event time and of processing time.
    queued: [Option<Timestamp>; 2],
    /// Its cleanup time has passed.
    pub(super) over: bool,
    /// A firing that waits for the last timer of the window.
    pub(super) fires_at_last: bool,
}

#[inline(always)]
pub(super) fn is_processing(domain: TimeDomain) -> bool {
    domain == TimeDomain::Processing
}

impl Alarms {
    pub(super) fn new() -> Self {
        Alarms { asked: Few::None, queued: [None; 2], over: false, fires_at_last: false }
    }
    /// Takes over the entries of a window that has become part of this one; what its trigger asked for is void.
    #[inline]
    pub(super) fn absorb(&mut self, other: &Alarms) {
        for (own, other) in self.queued.iter_mut().zip(other.queued) {
            *own = match (*own, other) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
    }
    #[inline(always)]
    fn position(&self, domain: TimeDomain, time: Timestamp) -> Result<usize, usize> {
        self.asked.as_slice().binary_search(&(is_processing(domain), time))
    }
    #[inline]
    pub(super) fn ask(&mut self, domain: TimeDomain, time: Timestamp) {
        if let Err(at) = self.position(domain, time) {
            self.asked.insert(at, (is_processing(domain), time));
        }
    }
    /// Takes one out; false if it was not asked for.
    #[inline]
    pub(super) fn take(&mut self, domain: TimeDomain, time: Timestamp) -> bool {
        match self.position(domain, time) {
            Ok(at) => self.asked.remove(at).is_some(),
            Err(_) => false,
        }
    }
    /// The earliest that the trigger asked for.
    #[inline]
    pub(super) fn first(&self, domain: TimeDomain) -> Option<Timestamp> {
        self.times(domain).next()
    }
    /// All that the trigger asked for.
    #[inline]
    pub(super) fn times(&self, domain: TimeDomain) -> impl Iterator<Item = Timestamp> {
        let of = is_processing(domain);
        self.asked.as_slice().iter().filter(move |(processing, _)| *processing == of).map(|(_, time)| *time)
    }
    pub(super) fn asked(&self) -> &[(bool, Timestamp)] {
        self.asked.as_slice()
    }
    /// Whether this entry of the queue is the one to act on; then there is none any more.
    #[inline]
    pub(super) fn rings(&mut self, domain: TimeDomain, time: Timestamp) -> bool {
        let queued = &mut self.queued[usize::from(is_processing(domain))];
        let rings = *queued == Some(time);
        if rings {
            *queued = None;
        }
        rings
    }
}

/// The queues, and the rules by which windows get into them.
pub(super) struct Schedule {
    pub(super) event: Timers<Window>,
    pub(super) processing: Timers<Window>,
    /// What a trigger has just asked for.
    pub(super) requests: Vec<TimerRequest>,
    /// The clock of the windows.
    pub(super) time: Option<TimeDomain>,
    pub(super) lateness_ms: i64,
    /// Whether the end drains all timers: what callbacks register then does not fire.
    pub(super) draining: bool,
    /// Key by key the windows are asked themselves at the end of the key.
    pub(super) queues: bool,
    /// Timers registered by callbacks at the end.
    pub(super) dropped: u64,
}

impl Schedule {
    pub(super) fn new(time: Option<TimeDomain>, lateness_ms: i64) -> Self {
        Schedule {
            event: Timers::new(),
            processing: Timers::new(),
            requests: Vec::new(),
            time,
            lateness_ms,
            draining: false,
            queues: true,
            dropped: 0,
        }
    }
    /// X15: when the window is dropped, by this clock.
    #[inline(always)]
    pub(super) fn cleanup(&self, domain: TimeDomain, window: Window, alarms: &Alarms) -> Option<Timestamp> {
        if self.time != Some(domain) || window.is_global() || alarms.over {
            return None;
        }
        Some(cleanup_time(window, self.lateness_ms))
    }
    /// When the window is to be looked at next, by this clock.
    #[inline(always)]
    pub(super) fn next(&self, domain: TimeDomain, window: Window, alarms: &Alarms) -> Option<Timestamp> {
        match (alarms.first(domain), self.cleanup(domain, window, alarms)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
    /// Does what the trigger asked for in its last call.
    #[inline]
    pub(super) fn apply(&mut self, alarms: &mut Alarms) {
        for request in self.requests.drain(..) {
            let (domain, time) = match request {
                TimerRequest::RegisterEvent(time) => (TimeDomain::Event, time),
                TimerRequest::RegisterProcessing(time) => (TimeDomain::Processing, time),
                TimerRequest::DeleteEvent(time) => {
                    alarms.take(TimeDomain::Event, time);
                    continue;
                }
                TimerRequest::DeleteProcessing(time) => {
                    alarms.take(TimeDomain::Processing, time);
                    continue;
                }
            };
            if !self.draining {
                alarms.ask(domain, time);
            } else if alarms.position(domain, time).is_err() {
                self.dropped += 1;
            }
        }
    }
    /// Puts the window into the queues, unless it is there early enough.
    #[inline]
    pub(super) fn queue(&mut self, slot: Slot, window: Window, alarms: &mut Alarms) {
        if !self.queues {
            return;
        }
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            let Some(next) = self.next(domain, window, alarms) else { continue };
            let queued = &mut alarms.queued[usize::from(is_processing(domain))];
            if queued.is_none_or(|queued| next < queued) {
                *queued = Some(next);
                match domain {
                    TimeDomain::Event => self.event.register(next, slot, window),
                    TimeDomain::Processing => self.processing.register(next, slot, window),
                }
            }
        }
    }
}
