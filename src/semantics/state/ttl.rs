//! StateTtl: how long state is kept that is not used.
//!
//! Place: said where a state is declared ([`States::with_ttl`](super::States::with_ttl)); handles ask it at each access, and the
//! backend of keys when it cleans up. Time is the clock's, as it was when the batch, or the timers at hand, began.
//! Invariant: how long, and what refreshes it, is not part of a snapshot, so it may be changed when a job is resumed. That
//! there is a time to live is: each entry is written with the time of its last use.

use crate::base::data::Timestamp;
use std::time::Duration;

/// What gives an entry its whole time to live again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlUpdate {
    /// Being made and being written.
    OnCreateAndWrite,
    /// Being read, too.
    OnReadAndWrite,
}

/// Whether an entry that has expired is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlVisibility {
    /// Never: it reads as absent, though it may still take up memory.
    NeverReturnExpired,
    /// As long as it has not been cleaned up: once more at least, since reading it cleans it up.
    ReturnExpiredIfNotCleanedUp,
}

/// The time to live of a state: of its value, or of each element of a list and each entry of a map.
///
/// An entry has expired once the clock is as far beyond its last use. It is dropped when it is read, when the clean-up that
/// goes along with other accesses comes by, and, where that is asked for, it is left out of full snapshots. In BATCH the
/// clock stands still and nothing expires.
///
/// ```
/// # use mainstem::prelude::*;
/// # use mainstem::testing::Harness;
/// # use std::time::Duration;
/// /// The first record of each key for an hour.
/// struct First { seen: ValueState<()> }
/// impl KeyedProcessFunction<u64, u64, u64> for First {
///     fn process(&mut self, n: u64, ctx: &mut KeyedContext<u64>, out: &mut Collector<'_, u64>) -> UserResult {
///         if self.seen.get(ctx).is_none() {
///             self.seen.set(ctx, ());
///             out.emit(n);
///         }
///         Ok(())
///     }
/// }
/// let mut harness = Harness::new(|numbers: DataStream<u64>| {
///     numbers.key_by(|n| *n).process(|states| First {
///         seen: states.with_ttl(StateTtl::new(Duration::from_secs(3600))).value("seen"),
///     })
/// });
/// harness.push_all([1, 2, 1])?;
/// harness.set_processing_time(3_600_000)?;
/// harness.push(1)?;
/// assert_eq!(harness.take_output(), [1, 2, 1]);
/// # Ok::<(), mainstem::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTtl {
    ttl_ms: i64,
    pub(super) update: TtlUpdate,
    pub(super) visibility: TtlVisibility,
    incremental: usize,
    each_record: bool,
    full_snapshot: bool,
}

/// Slots that an access looks at for others that have expired, unless said otherwise.
const INCREMENTAL_DEFAULT: usize = 5;

impl StateTtl {
    /// State that has not been written for `ttl` expires, is never seen again, and is cleaned up along with other
    /// accesses, 5 keys for each. Less than a millisecond counts as one.
    pub fn new(ttl: Duration) -> StateTtl {
        StateTtl {
            ttl_ms: i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1),
            update: TtlUpdate::OnCreateAndWrite,
            visibility: TtlVisibility::NeverReturnExpired,
            incremental: INCREMENTAL_DEFAULT,
            each_record: false,
            full_snapshot: false,
        }
    }

    /// What gives an entry its time to live again.
    #[must_use]
    pub fn update(mut self, update: TtlUpdate) -> StateTtl {
        self.update = update;
        self
    }

    /// Whether expired entries are seen.
    #[must_use]
    pub fn visibility(mut self, visibility: TtlVisibility) -> StateTtl {
        self.visibility = visibility;
        self
    }

    /// With each call that uses the state, and with every other call if `each_record`, the entries of `keys` more keys are
    /// looked at and dropped if they have expired. With 0 only what is read is cleaned up.
    #[must_use]
    pub fn cleanup_incrementally(mut self, keys: usize, each_record: bool) -> StateTtl {
        self.incremental = keys;
        self.each_record = each_record;
        self
    }

    /// Full snapshots leave out what has expired. What is in memory stays.
    #[must_use]
    pub fn cleanup_full_snapshot(mut self) -> StateTtl {
        self.full_snapshot = true;
        self
    }

    /// What was used at or before this time has expired at `now`.
    #[inline(always)]
    pub(super) fn limit(&self, now: Timestamp) -> Timestamp {
        now.saturating_sub(self.ttl_ms)
    }

    /// How many keys a call looks at.
    #[inline(always)]
    pub(crate) fn looked_at(&self, accessed: bool) -> usize {
        if accessed || self.each_record { self.incremental } else { 0 }
    }

    pub(super) fn cleans_snapshots(&self) -> bool {
        self.full_snapshot
    }
}
