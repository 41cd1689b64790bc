//! WatermarkStrategy: which timestamp a record has, and what its stream promises about those to come.
//!
//! Place: a program gives a strategy to a stream; the operator that reads the source (for each split) or one in the
//! middle of the plan (for each subtask) makes a [`Timing`] of it and drives it batch by batch.
//! Rules: a watermark `w` promises that no record with a timestamp at or below `w` will follow. Bounded disorder `d`
//! promises `highest - d - 1`. A generator may promise less than before; what goes out never falls.

use crate::base::data::{Timestamp, WATERMARK_MIN};
use std::sync::Arc;
use std::time::Duration;

/// Batches after which a periodic watermark is overdue.
const OVERDUE_BATCHES: u32 = 64;

/// Makes watermarks from records, after Flink's interface of the same name. One value serves one split if the strategy
/// stands directly behind a source; elsewhere it serves one subtask and sees the records of all of its splits, in
/// whatever order they were read.
pub trait WatermarkGenerator<T>: Send + 'static {
    /// Sees each record with its timestamp. A generator for markers in the data (punctuated) emits here.
    fn on_event(&mut self, record: &T, timestamp: Timestamp, output: &mut WatermarkOutput);
    /// Called at every auto-watermark interval of processing time. A periodic generator emits here.
    fn on_periodic_emit(&mut self, output: &mut WatermarkOutput);
}

/// Takes the watermark that a generator emits.
#[derive(Debug, Default)]
pub struct WatermarkOutput {
    watermark: Option<Timestamp>,
}

impl WatermarkOutput {
    /// Promises that no record with a timestamp at or below `watermark` will follow. Ignored if it does not exceed
    /// what was promised before. `i64::MAX` promises that no record with a timestamp follows at all.
    pub fn emit(&mut self, watermark: Timestamp) {
        self.watermark = self.watermark.max(Some(watermark));
    }
    /// Takes what was emitted since the last call.
    pub fn take(&mut self) -> Option<Timestamp> {
        self.watermark.take()
    }
}

/// Appends the timestamps of records: one dynamic call for a batch.
type StampRecords<T> = Arc<dyn Fn(&[T], &mut Vec<Timestamp>) + Send + Sync>;

/// Where timestamps come from, unless records have them.
enum Stamp<T> {
    /// The records.
    Records(StampRecords<T>),
    /// The clock, when records come in.
    Clock,
}

impl<T> Clone for Stamp<T> {
    fn clone(&self) -> Self {
        match self {
            Stamp::Records(stamp) => Stamp::Records(stamp.clone()),
            Stamp::Clock => Stamp::Clock,
        }
    }
}

/// A generator as it is driven: one dynamic call for a batch.
trait BatchGenerator<T>: Send {
    /// Looks at records from `from` on. If a watermark must go out behind one of them: the number of records up to and
    /// with it, and the watermark.
    fn observe(&mut self, values: &[T], stamps: &[Timestamp], from: usize) -> Option<(usize, Timestamp)>;
    /// What is promised now.
    fn periodic(&mut self) -> Option<Timestamp>;
    /// Whether `periodic` may say something new though no record has come.
    fn is_restless(&self) -> bool;
}

type MakeGenerator<T> = Arc<dyn Fn() -> Box<dyn BatchGenerator<T>> + Send + Sync>;

/// How the records of a stream get timestamps and watermarks.
///
/// ```
/// # use mainstem::prelude::*;
/// # use std::time::Duration;
/// # #[derive(Clone)] struct Click { at_ms: i64 }
/// let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(5))
///     .timestamp(|click: &Click| click.at_ms)
///     .idle_after(Duration::from_secs(30));
/// # let _ = strategy;
/// ```
pub struct WatermarkStrategy<T> {
    stamp: Option<Stamp<T>>,
    make: Option<MakeGenerator<T>>,
    idle_after: Option<Duration>,
}

impl<T> Clone for WatermarkStrategy<T> {
    fn clone(&self) -> Self {
        WatermarkStrategy { stamp: self.stamp.clone(), make: self.make.clone(), idle_after: self.idle_after }
    }
}

impl<T: 'static> WatermarkStrategy<T> {
    /// Timestamps never fall (within a split): the watermark is the highest one, less one millisecond.
    pub fn monotonous() -> Self {
        WatermarkStrategy::bounded_out_of_orderness(Duration::ZERO)
    }

    /// No record comes later than `disorder` behind one with a higher timestamp: the watermark is the highest
    /// timestamp less `disorder`, less one millisecond.
    pub fn bounded_out_of_orderness(disorder: Duration) -> Self {
        let disorder = i64::try_from(disorder.as_millis()).unwrap_or(i64::MAX);
        let make: MakeGenerator<T> = Arc::new(move || Box::new(Bounded { highest: None, disorder }));
        WatermarkStrategy { stamp: None, make: Some(make), idle_after: None }
    }

    /// Watermarks from a generator of your own, periodic or punctuated. `make` is called for each split, or each subtask.
    pub fn generator<G: WatermarkGenerator<T>>(make: impl Fn() -> G + Send + Sync + 'static) -> Self {
        let make: MakeGenerator<T> =
            Arc::new(move || Box::new(EachEvent { generator: make(), output: WatermarkOutput::default() }));
        WatermarkStrategy { stamp: None, make: Some(make), idle_after: None }
    }

    /// Ingestion time: a record has the time of the clock when it comes in, which never falls. What comes of it depends on when
    /// the job runs, in both modes.
    pub fn ingestion_time() -> Self {
        WatermarkStrategy { stamp: Some(Stamp::Clock), ..WatermarkStrategy::monotonous() }
    }

    /// Timestamps without watermarks: event time stands still until the end of the input.
    pub fn no_watermarks() -> Self {
        WatermarkStrategy { stamp: None, make: None, idle_after: None }
    }

    /// Gives each record a timestamp, in milliseconds. Without it records keep those of their source.
    #[must_use]
    pub fn timestamp(mut self, timestamp: impl Fn(&T) -> Timestamp + Send + Sync + 'static) -> Self {
        self.stamp = Some(Stamp::Records(Arc::new(move |records, into| {
            into.clear();
            into.extend(records.iter().map(&timestamp));
        })));
        self
    }

    /// A split without records for this long (of processing time) no longer holds the watermark back, until it has
    /// records again. Without it one empty split holds every window open.
    #[must_use]
    pub fn idle_after(mut self, time: Duration) -> Self {
        self.idle_after = Some(time);
        self
    }

    /// Timestamps only: what is left of a strategy where the watermark is perfect anyway.
    #[must_use]
    pub fn timestamps_only(&self) -> Self {
        WatermarkStrategy { stamp: self.stamp.clone(), make: None, idle_after: None }
    }

    /// Whether timestamps come from the clock.
    pub fn uses_clock(&self) -> bool {
        matches!(self.stamp, Some(Stamp::Clock))
    }

    /// What is wrong with it, if anything.
    pub fn mistake(&self) -> Option<String> {
        (self.idle_after == Some(Duration::ZERO))
            .then(|| "idle_after(0) would make every split idle at once; give a time above 0".to_string())
    }

    /// Starts timing one split, or one subtask, at processing time `now`.
    pub fn start(&self, now: Duration) -> Timing<T> {
        Timing {
            stamp: self.stamp.clone(),
            generator: self.make.as_ref().map(|make| make()),
            watermark: WATERMARK_MIN,
            idle_after: self.idle_after,
            last_record: now,
            idle: false,
            unsent: false,
            batches: 0,
            ingested: Timestamp::MIN,
        }
    }
}

/// Maxima that are carried side by side: one alone waits for itself, and what compilers make of that with vectors that
/// cannot compare 64-bit numbers is slower still.
const LANES: usize = 4;

/// The highest timestamp.
fn highest(stamps: &[Timestamp]) -> Option<Timestamp> {
    let (rows, rest) = stamps.as_chunks::<LANES>();
    let mut highest = [*stamps.first()?; LANES];
    for row in rows {
        for (high, &timestamp) in highest.iter_mut().zip(row) {
            *high = timestamp.max(*high);
        }
    }
    highest.into_iter().chain(rest.iter().copied()).reduce(Timestamp::max)
}

struct Bounded {
    highest: Option<Timestamp>,
    disorder: i64,
}

impl<T> BatchGenerator<T> for Bounded {
    fn observe(&mut self, _: &[T], stamps: &[Timestamp], from: usize) -> Option<(usize, Timestamp)> {
        self.highest = self.highest.max(highest(&stamps[from.min(stamps.len())..]));
        None
    }
    fn periodic(&mut self) -> Option<Timestamp> {
        self.highest.map(|highest| highest.saturating_sub(self.disorder).saturating_sub(1))
    }
    fn is_restless(&self) -> bool {
        false
    }
}

struct EachEvent<G> {
    generator: G,
    output: WatermarkOutput,
}

impl<T, G: WatermarkGenerator<T>> BatchGenerator<T> for EachEvent<G> {
    fn observe(&mut self, values: &[T], stamps: &[Timestamp], from: usize) -> Option<(usize, Timestamp)> {
        for (i, (value, &timestamp)) in values.iter().zip(stamps).enumerate().skip(from) {
            self.generator.on_event(value, timestamp, &mut self.output);
            if let Some(watermark) = self.output.take() {
                return Some((i + 1, watermark));
            }
        }
        None
    }
    fn periodic(&mut self) -> Option<Timestamp> {
        self.generator.on_periodic_emit(&mut self.output);
        self.output.take()
    }
    fn is_restless(&self) -> bool {
        true
    }
}

/// A strategy at work on one split, or in one subtask.
pub struct Timing<T> {
    stamp: Option<Stamp<T>>,
    generator: Option<Box<dyn BatchGenerator<T>>>,
    /// The highest promise so far.
    watermark: Timestamp,
    idle_after: Option<Duration>,
    last_record: Duration,
    idle: bool,
    /// Records have come since the last periodic watermark.
    unsent: bool,
    /// In so many batches.
    batches: u32,
    /// The latest time that a record was given by the clock.
    ingested: Timestamp,
}

impl<T> Timing<T> {
    /// Whether watermarks are made.
    pub fn makes_watermarks(&self) -> bool {
        self.generator.is_some()
    }

    /// Gives records their timestamps; `clock` says what time it is.
    pub fn stamp(&mut self, values: &[T], stamps: &mut Vec<Timestamp>, clock: impl FnOnce() -> Timestamp) {
        match &self.stamp {
            Some(Stamp::Records(stamp)) => stamp(values, stamps),
            Some(Stamp::Clock) => {
                // The clock of a machine may be set back.
                self.ingested = self.ingested.max(clock());
                stamps.clear();
                stamps.resize(values.len(), self.ingested);
            }
            None => {}
        }
    }

    /// Records come at processing time `now`. True if that ends an idle time.
    pub fn awake(&mut self, now: Duration) -> bool {
        self.last_record = now;
        self.unsent = true;
        self.batches = self.batches.saturating_add(1);
        std::mem::replace(&mut self.idle, false)
    }

    /// Looks at records from `from` on. If a watermark must go out behind one of them: the number of records up to and
    /// with it, and the watermark.
    pub fn observe(&mut self, values: &[T], stamps: &[Timestamp], from: usize) -> Option<(usize, Timestamp)> {
        let generator = self.generator.as_mut()?;
        let mut from = from;
        loop {
            let (to, watermark) = generator.observe(values, stamps, from)?;
            if watermark > self.watermark {
                self.watermark = watermark;
                return Some((to, watermark));
            }
            from = to;
        }
    }

    /// The watermark to send now, if it has risen.
    pub fn periodic(&mut self) -> Option<Timestamp> {
        self.unsent = false;
        self.batches = 0;
        let watermark = self.generator.as_mut()?.periodic()?;
        if watermark <= self.watermark {
            return None;
        }
        self.watermark = watermark;
        Some(watermark)
    }

    /// Whether so many records have come that a periodic watermark should not wait for the clock: a fast job would have
    /// many windows open that are complete. Only where asking for it more often makes no difference.
    pub fn is_overdue(&self) -> bool {
        self.batches >= OVERDUE_BATCHES && self.generator.as_ref().is_some_and(|g| !g.is_restless())
    }

    /// Whether a periodic watermark should be asked for in time.
    pub fn wants_periodic(&self) -> bool {
        self.unsent || self.generator.as_ref().is_some_and(|generator| generator.is_restless())
    }

    /// Whether the time without records has just become an idle one, at processing time `now`. Ask only where a look at
    /// the input has found nothing: records that wait behind a full output are not idleness.
    pub fn falls_idle(&mut self, now: Duration) -> bool {
        let idle = self.idle_after.is_some_and(|after| now.saturating_sub(self.last_record) >= after);
        idle && !std::mem::replace(&mut self.idle, true)
    }

    /// Nobody could look at the input up to processing time `now`: the time without records begins anew.
    pub fn was_blocked(&mut self, now: Duration) {
        self.last_record = now;
    }

    /// Processing time from `now` until it may fall idle.
    pub fn idle_in(&self, now: Duration) -> Option<Duration> {
        let after = self.idle_after.filter(|_| !self.idle)?;
        Some(after.saturating_sub(now.saturating_sub(self.last_record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_highest_timestamp_is_found_wherever_it_is() {
        let stamps = [5, 7, -3, 9, i64::MIN, 0, i64::MAX, 2, 8, 4, 1];
        for from in 0..stamps.len() {
            for to in from..=stamps.len() {
                let some = &stamps[from..to];
                assert_eq!(highest(some), some.iter().copied().max(), "{some:?}");
            }
        }
    }

    fn took(timing: &mut Timing<i64>, timestamps: &[Timestamp]) -> Vec<(usize, Timestamp)> {
        let mut emitted = Vec::new();
        let mut from = 0;
        while let Some((to, watermark)) = timing.observe(timestamps, timestamps, from) {
            emitted.push((to, watermark));
            from = to;
        }
        emitted
    }

    /// W2: the highest timestamp less the disorder, less one; never below the least there is.
    #[test]
    fn bounded_disorder_saturates() {
        let d = Duration::from_millis(10);
        for (timestamps, expected) in [
            (&[100, 300, 200][..], Some(289)),
            (&[i64::MAX, 0], Some(i64::MAX - 11)),
            (&[i64::MIN], None),
            (&[i64::MIN + 11], None),
            (&[i64::MIN + 12], Some(i64::MIN + 1)),
            (&[], None),
        ] {
            let mut timing = WatermarkStrategy::bounded_out_of_orderness(d).start(Duration::ZERO);
            assert_eq!(took(&mut timing, timestamps), []);
            assert_eq!(timing.periodic(), expected, "{timestamps:?}");
            assert_eq!(timing.periodic(), None, "W3: only what is larger than the last");
        }
    }

    /// W1: ingestion time is that of the clock, and never falls.
    #[test]
    fn w1_ingestion_time() {
        let mut timing = WatermarkStrategy::<char>::ingestion_time().start(Duration::ZERO);
        let mut stamps = vec![7];
        for (clock, expected) in [(100, 100), (90, 100), (120, 120)] {
            timing.stamp(&['a', 'b'], &mut stamps, || clock);
            assert_eq!(stamps, [expected; 2]);
            timing.observe(&['a', 'b'], &stamps, 0);
        }
        assert_eq!(timing.periodic(), Some(119));
    }

    /// Emits each timestamp that is a multiple of ten, and what it is told to in between.
    struct Tens(Timestamp);

    impl WatermarkGenerator<i64> for Tens {
        fn on_event(&mut self, _: &i64, timestamp: Timestamp, output: &mut WatermarkOutput) {
            self.0 = timestamp;
            if timestamp % 10 == 0 {
                output.emit(timestamp);
                output.emit(timestamp - 1);
            }
        }
        fn on_periodic_emit(&mut self, output: &mut WatermarkOutput) {
            output.emit(self.0);
        }
    }

    /// W3, W8: watermarks of a generator come behind their records and never fall, punctuated and periodic together.
    #[test]
    fn generators_are_kept_monotone() {
        let mut timing = WatermarkStrategy::generator(|| Tens(0)).start(Duration::ZERO);
        assert_eq!(took(&mut timing, &[3, 10, 7, 10, 5, 20, 15]), [(2, 10), (6, 20)]);
        assert_eq!(timing.periodic(), None, "15 is behind 20");
        assert_eq!(took(&mut timing, &[33]), []);
        assert_eq!(timing.periodic(), Some(33));
        assert_eq!(took(&mut timing, &[30, 40]), [(2, 40)]);
        assert!(timing.wants_periodic(), "a generator may have something to say at any time");
    }

    /// W5: idle once, after the time without records; awake with the next one.
    #[test]
    fn idleness() {
        let strategy = WatermarkStrategy::<i64>::monotonous().idle_after(5 * SECOND);
        let mut timing = strategy.start(10 * SECOND);
        assert_eq!(timing.idle_in(12 * SECOND), Some(3 * SECOND));
        assert!(!timing.falls_idle(14 * SECOND));
        assert!(timing.falls_idle(15 * SECOND) && !timing.falls_idle(16 * SECOND));
        assert_eq!(timing.idle_in(16 * SECOND), None);
        assert!(timing.awake(17 * SECOND) && !timing.awake(18 * SECOND));
        assert!(!timing.falls_idle(22 * SECOND) && timing.falls_idle(23 * SECOND));
        let mut never = WatermarkStrategy::<i64>::monotonous().start(Duration::ZERO);
        assert!(!never.falls_idle(Duration::MAX));
        assert!(strategy.mistake().is_none());
        assert!(strategy.idle_after(Duration::ZERO).mistake().is_some());
    }
}
