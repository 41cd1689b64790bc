//! Flow: how many records may wait before a consumer, so that they are worked off in a bounded time.
//!
//! Place: one at each [`InputGate`](super::gate::InputGate), asked after each step of its subtask. Its channels take the
//! bound over, and the producers cut their batches by it. A barrier waits behind what waits, so this is what bounds the
//! time that a checkpoint takes before a slow sink: about [`WAITING`] for each channel on its way.
//! Method: the consumer's rate is its records by the time in which it had any, be it busy or without room
//! itself: so a bound travels upstream from whoever is slow. The bound is what this rate comes to in [`WAITING`].
//! It begins low, since what is in flight before a first look is in flight: a fast consumer is out of it in a few
//! milliseconds. It rises at once where the consumer runs out of input, and else with each interval; it falls by a
//! quarter of itself an interval, so that one stall is not taken for a rate. No more waits before a consumer than what can
//! wait behind it, once it has become output: else each of several stages would grow as long as the next one does, and hold
//! minutes of work when the last one turns out to be slow.
//! Costs: a subtraction for each step; nothing for a record.

use super::channel::CHANNEL_ELEMENTS;
use crate::base::batch::BATCH_RECORDS;
use crate::executors::chain::Outlet;
use std::time::Duration;

/// The time in which a consumer should work off what waits before it: well above the time in which a producer is woken,
/// and so short that ten channels in a row come to a second.
pub const WAITING: Duration = Duration::from_millis(100);
/// How often the bound is looked at: about as long as what it holds.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often, while the consumer runs out of input.
const STARVED_INTERVAL: Duration = Duration::from_millis(2);
/// The bound before there is a rate.
const FIRST_RECORDS: usize = 128;
/// How much a bound grows or shrinks at a look.
const STEP: usize = 4;
/// Records that may wait in a channel, however slow the consumer is: one under way to it, one behind.
const CHANNEL_RECORDS_MIN: usize = 2;
/// What fits into a channel anyway.
const CHANNEL_RECORDS_MAX: usize = CHANNEL_ELEMENTS * BATCH_RECORDS;

/// Where a consumer's time went so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// With input: working, or without room for what comes of it.
    pub active: Duration,
    /// Without input.
    pub idle: Duration,
}

/// What may wait before one consumer.
#[derive(Debug)]
pub struct Flow {
    channels: usize,
    records_max: usize,
    /// Records that were taken, in all and since the last look that came to something.
    taken: u64,
    records: u64,
    since: Spent,
}

impl Flow {
    /// Of a consumer with so many channels.
    pub fn new(channels: usize) -> Flow {
        let channels = channels.max(1);
        Flow { channels, records_max: FIRST_RECORDS, taken: 0, records: 0, since: Spent::default() }
    }

    /// Counts what was taken.
    #[inline]
    pub fn took(&mut self, records: usize) {
        self.taken += records as u64;
        self.records += records as u64;
    }

    /// Records that may wait in each channel: without bound where it would not bind.
    pub fn channel_records_max(&self) -> usize {
        match self.records_max / self.channels {
            CHANNEL_RECORDS_MAX.. => usize::MAX,
            records => records.max(CHANNEL_RECORDS_MIN),
        }
    }

    /// The time since the last look that came to something: active, idle.
    fn passed(&self, spent: Spent) -> (Duration, Duration) {
        (spent.active.saturating_sub(self.since.active), spent.idle.saturating_sub(self.since.idle))
    }

    /// Whether there is something to [`look`](Flow::look) at. An interval without records goes on until there are some.
    #[inline]
    pub fn is_due(&self, spent: Spent) -> bool {
        if self.records == 0 {
            return false;
        }
        let (active, idle) = self.passed(spent);
        let starved = idle > active && self.channel_records_max() != usize::MAX;
        active + idle >= if starved { STARVED_INTERVAL } else { INTERVAL }
    }

    /// Says whether more or less may wait from now on.
    pub fn look(&mut self, spent: Spent, outlets: impl Iterator<Item = Outlet>) -> bool {
        if !self.is_due(spent) {
            return false;
        }
        let (active, _) = self.passed(spent);
        let before = self.channel_records_max();
        let worked_off = u128::from(self.records) * WAITING.as_nanos() / active.as_nanos().max(1);
        let wanted = usize::try_from(worked_off).unwrap_or(usize::MAX);
        // No more than binds: else it would take many intervals to come down to what does.
        let most = self.channels.saturating_mul(CHANNEL_RECORDS_MAX);
        let least = self.channels * CHANNEL_RECORDS_MIN;
        let (lowest, highest) = (self.records_max / STEP, self.records_max.saturating_mul(STEP));
        self.records_max = wanted.clamp(lowest, highest).clamp(least, most);
        let passes = outlets.map(|outlet| self.passes(outlet)).min().unwrap_or(usize::MAX);
        self.records_max = self.records_max.min(passes.max(FIRST_RECORDS));
        (self.records, self.since) = (0, spent);
        self.channel_records_max() != before
    }

    /// Records that become as many as may wait behind an outlet.
    fn passes(&self, outlet: Outlet) -> usize {
        if outlet.records_max == usize::MAX || outlet.records == 0 {
            return usize::MAX;
        }
        let records = outlet.records_max as u128 * u128::from(self.taken) / u128::from(outlet.records);
        usize::try_from(records).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A consumer that takes batches of what may wait, at a rate, with input all the time, for so long.
    fn run(flow: &mut Flow, spent: &mut Spent, records_a_second: u64, length: Duration) {
        let end = spent.active + length;
        while spent.active < end {
            let records = (flow.records_max as u64 / 4).clamp(1, 1_024);
            flow.took(records as usize);
            spent.active += Duration::from_nanos(records * 1_000_000_000 / records_a_second);
            flow.look(*spent, std::iter::empty());
        }
    }

    /// T7: whatever the rate, what waits is worked off in the time wanted, or is the least there can be.
    #[test]
    fn what_waits_is_bounded_in_time() {
        for channels in [1, 2, 16] {
            for rate in [1, 20, 1_000, 30_000, 1_000_000] {
                let (mut flow, mut spent) = (Flow::new(channels), Spent::default());
                run(&mut flow, &mut spent, rate, Duration::from_secs(4 + 1_000 / rate));
                let waiting = flow.channel_records_max();
                let wanted = rate as usize / 10 / channels;
                match waiting {
                    usize::MAX => assert!(wanted >= CHANNEL_RECORDS_MAX, "{rate} a second unbounded"),
                    CHANNEL_RECORDS_MIN => assert!(wanted <= CHANNEL_RECORDS_MIN),
                    _ => assert!((wanted / 2..=wanted * 2).contains(&waiting), "{waiting} for {wanted}"),
                }
            }
        }
    }

    /// A fast consumer is out of the bound in milliseconds: it runs out of input, since little may wait.
    #[test]
    fn a_fast_consumer_is_soon_without_bound() {
        let (mut flow, mut spent) = (Flow::new(8), Spent::default());
        let mut looks = 0;
        while flow.channel_records_max() != usize::MAX {
            flow.took(flow.records_max);
            spent.active += Duration::from_nanos(20 * flow.records_max as u64);
            spent.idle += 2 * MS + Duration::from_nanos(40 * flow.records_max as u64);
            flow.look(spent, std::iter::empty());
            looks += 1;
        }
        assert!(looks <= 6 && spent.idle < 30 * MS, "{looks} looks, {spent:?}");
    }

    #[test]
    fn one_stall_is_not_taken_for_a_rate() {
        let (mut flow, mut spent) = (Flow::new(2), Spent::default());
        run(&mut flow, &mut spent, 10_000_000, Duration::from_secs(1));
        assert_eq!(flow.channel_records_max(), usize::MAX);
        spent.active += Duration::from_secs(500);
        flow.took(1_000);
        assert!(flow.look(spent, std::iter::empty()));
        assert_eq!(flow.channel_records_max(), CHANNEL_RECORDS_MAX / STEP);
        // A consumer that has become slow is found out by the intervals that follow.
        run(&mut flow, &mut spent, 1_000, Duration::from_secs(2));
        assert!((25..=100).contains(&flow.channel_records_max()), "{}", flow.channel_records_max());
    }

    #[test]
    fn without_records_nothing_is_known() {
        let mut flow = Flow::new(2);
        let spent = Spent { active: Duration::ZERO, idle: Duration::from_secs(10) };
        assert!(!flow.look(spent, std::iter::empty()));
        assert_eq!(flow.channel_records_max(), FIRST_RECORDS / 2);
    }

    /// A stage does not grow before the ones behind it have, and then by what it makes of its input.
    #[test]
    fn no_more_waits_than_may_wait_behind() {
        let starved = |taken: u64, outlet| {
            let (mut flow, mut spent) = (Flow::new(2), Spent::default());
            for _ in 0..20 {
                flow.took((taken / 20) as usize);
                spent.idle += 10 * MS;
                flow.look(spent, [outlet].into_iter());
            }
            flow.channel_records_max()
        };
        let outlet = |records, records_max| Outlet { records, records_max };
        assert_eq!(starved(100_000, outlet(100_000, 90)), FIRST_RECORDS / 2);
        assert_eq!(starved(100_000, outlet(100_000, 2_000)), 1_000);
        assert_eq!(starved(100_000, outlet(10_000, 2_000)), 10_000, "of ten records one goes on");
        assert_eq!(starved(100_000, outlet(100_000, usize::MAX)), usize::MAX);
        assert_eq!(starved(100_000, outlet(0, 90)), usize::MAX, "nothing goes on");
    }
}
