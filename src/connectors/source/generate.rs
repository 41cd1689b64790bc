//! Generate: records computed from their index, for tests, examples and load.
//!
//! Place: one split for each of p subtasks; subtask s emits the indices s, s + p, s + 2p, ... in order.
//! Method: a poll computes as many records as fit, in one loop without a branch per record. With a rate, record i
//! of a split is due (i + 1) / share seconds after the split was opened, share being the split's part of the rate;
//! a poll emits what is due. After a stall of more than a second the time before the last second is forgiven.
//! Invariants: the function is pure, so a reader opened at a position emits the same records as before.

use super::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use crate::base::clock::Clock;
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};
use crate::operator::source::divide;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A unit of work of less is not worth its costs, however cheap a record is.
const UNIT_RECORDS_MIN: u64 = 1 << 16;
/// Longest advice to wait, whatever the rate.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Appends the timestamps of a slice of records: one dynamic call per batch.
type Stamp<T> = Arc<dyn Fn(&[T], &mut Vec<Timestamp>) + Send + Sync>;

/// Records computed from their index.
///
/// ```
/// use mainstem::connectors::source::Generate;
/// let squares = Generate::new(1_000_000, |i| i * i).rate(50_000.0).timestamps(|n| *n as i64);
/// # let _ = squares;
/// ```
pub struct Generate<T, F> {
    make: F,
    count: Option<u64>,
    rate: Option<f64>,
    stamp: Option<Stamp<T>>,
}

impl<T, F: Fn(u64) -> T> Generate<T, F> {
    /// The records `make(0)` to `make(count - 1)`.
    pub fn new(count: u64, make: F) -> Self {
        Generate { make, count: Some(count), rate: None, stamp: None }
    }
    /// The records `make(0)`, `make(1)`, ... without end.
    pub fn unbounded(make: F) -> Self {
        Generate { make, count: None, rate: None, stamp: None }
    }
}

impl<T, F> Generate<T, F> {
    /// At most so many records per second from all subtasks together. Each second from the start gets that many;
    /// what a stall (of the machine, or of a slow consumer) has held back is caught up, but never more than one
    /// second's worth.
    #[must_use]
    pub fn rate(mut self, records_per_second: f64) -> Self {
        self.rate = Some(records_per_second);
        self
    }
    /// Gives every record a timestamp in milliseconds.
    #[must_use]
    pub fn timestamps(mut self, timestamp: impl Fn(&T) -> Timestamp + Send + Sync + 'static) -> Self {
        self.stamp = Some(Arc::new(move |records, out| out.extend(records.iter().map(&timestamp))));
        self
    }
}

/// Every `stride`-th index from `next` up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateSplit {
    /// The index of the next record.
    pub next: u64,
    /// Distance to the one after it: the number of splits.
    pub stride: u64,
    /// The first index that does not exist.
    pub end: u64,
}

impl GenerateSplit {
    /// Records to come.
    fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.next).div_ceil(self.stride.max(1))
    }
    /// The same records in so many splits, one after the other.
    fn cut(self, parts: u64) -> impl Iterator<Item = GenerateSplit> {
        let records = self.remaining();
        let begin = move |part: u64| {
            let before = (u128::from(records) * u128::from(part) / u128::from(parts)) as u64;
            self.next.saturating_add(before.saturating_mul(self.stride)).min(self.end)
        };
        (0..parts).map(move |part| GenerateSplit {
            next: begin(part),
            stride: self.stride,
            end: begin(part + 1),
        })
    }
}

impl<T, F> Source for Generate<T, F>
where
    T: Data,
    F: Fn(u64) -> T + Clone + Send + Sync + 'static,
{
    type Item = T;
    type Split = GenerateSplit;
    type Reader = GenerateReader<T, F>;

    fn describe(&self) -> String {
        match self.count {
            Some(count) => format!("generate {count}"),
            None => "generate without end".to_string(),
        }
    }
    fn boundedness(&self) -> Boundedness {
        match self.count {
            Some(_) => Boundedness::Bounded,
            None => Boundedness::Unbounded,
        }
    }
    fn splits(&self, ctx: &SourceContext) -> Result<Vec<GenerateSplit>> {
        if let Some(rate) = self.rate
            && !(rate > 0.0 && rate.is_finite())
        {
            return Err(Error::config(format!(
                "a generator cannot emit {rate} records per second: give a rate above 0, or none for full speed"
            )));
        }
        let stride = ctx.parallelism.max(1) as u64;
        let end = self.count.unwrap_or(u64::MAX);
        Ok((0..stride).map(|next| GenerateSplit { next, stride, end }).collect())
    }
    fn weight(&self, split: &GenerateSplit) -> u64 {
        split.remaining()
    }
    fn divide(&self, splits: Vec<GenerateSplit>, parts: usize) -> Vec<Vec<GenerateSplit>> {
        let records = splits.iter().map(GenerateSplit::remaining).fold(0, u64::saturating_add);
        let parts = (parts as u64).min(records / UNIT_RECORDS_MIN).max(1);
        if parts == 1 {
            return vec![splits];
        }
        let cut: Vec<GenerateSplit> = splits.iter().flat_map(|split| split.cut(parts)).collect();
        divide(cut, parts as usize, |split| split.remaining())
    }
    fn open(&self, split: GenerateSplit, ctx: &SourceContext) -> Result<Self::Reader> {
        let stride = split.stride.max(1);
        let pacer = self.rate.map(|rate| Pacer::new(rate / stride as f64, ctx.clock.clone()));
        let split = GenerateSplit { stride, ..split };
        Ok(GenerateReader { make: self.make.clone(), split, pacer, stamp: self.stamp.clone() })
    }
}

/// Computes the records of one split.
pub struct GenerateReader<T, F> {
    make: F,
    split: GenerateSplit,
    pacer: Option<Pacer>,
    stamp: Option<Stamp<T>>,
}

impl<T, F> SplitReader for GenerateReader<T, F>
where
    T: Data,
    F: Fn(u64) -> T + Clone + Send + Sync + 'static,
{
    type Item = T;
    type Split = GenerateSplit;

    fn poll(&mut self, out: &mut SourceOutput<T>) -> Result<Poll> {
        let wanted = self.split.remaining().min(out.room() as u64);
        let n = match &mut self.pacer {
            Some(pacer) => wanted.min(pacer.due()),
            None => wanted,
        };
        let (make, GenerateSplit { next, stride, .. }) = (&self.make, self.split);
        let batch = out.batch_mut();
        let before = batch.values.len();
        // The largest index used is below `end`; the one behind it may wrap.
        let mut index = next;
        batch.values.extend((0..n as usize).map(|_| {
            let value = make(index);
            index = index.wrapping_add(stride);
            value
        }));
        if let Some(stamp) = &self.stamp {
            stamp(&batch.values[before..], &mut batch.timestamps);
        }
        self.split.next = next.saturating_add(n.saturating_mul(stride));
        if self.split.remaining() == 0 {
            return Ok(Poll::End);
        }
        Ok(match &mut self.pacer {
            Some(pacer) => {
                pacer.emitted += n;
                if n < wanted { Poll::Idle(Some(pacer.wait())) } else { Poll::More }
            }
            None => Poll::More,
        })
    }
    fn position(&self) -> GenerateSplit {
        self.split
    }
}

/// Says how many records are due.
struct Pacer {
    clock: Arc<dyn Clock>,
    /// Records per second.
    share: f64,
    start: Duration,
    /// Records emitted since `start`.
    emitted: u64,
}

impl Pacer {
    fn new(share: f64, clock: Arc<dyn Clock>) -> Self {
        // Below one record in a thousand years, waiting for it is all the same.
        Pacer { start: clock.monotonic(), share: share.max(1e-12), clock, emitted: 0 }
    }
    fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.start)
    }
    fn due(&mut self) -> u64 {
        // The allowance is far below a record and above what rounding takes off a whole number.
        let due_since_start = |elapsed: Duration, share: f64| (elapsed.as_secs_f64() * share + 1e-6) as u64;
        let due = due_since_start(self.elapsed(), self.share).saturating_sub(self.emitted);
        let due_max = self.share.max(1.0) as u64;
        if due > due_max {
            let forgiven = Duration::try_from_secs_f64(due_max as f64 / self.share).unwrap_or(WAIT_MAX);
            self.start = self.clock.monotonic().saturating_sub(forgiven);
            self.emitted = 0;
        }
        due.min(due_max)
    }
    /// Time until the next record is due.
    fn wait(&self) -> Duration {
        let next = (self.emitted + 1) as f64 / self.share - self.elapsed().as_secs_f64();
        let wait = Duration::try_from_secs_f64(next.max(0.0)).unwrap_or(WAIT_MAX);
        // Rounded up: a poll after this time finds the record.
        wait.saturating_add(Duration::from_nanos(1)).min(WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::VirtualClock;
    use crate::connectors::source::testing::{context, context_with, drain};

    fn split(next: u64, stride: u64, end: u64) -> GenerateSplit {
        GenerateSplit { next, stride, end }
    }

    #[test]
    fn two_subtasks_take_even_and_odd_indices() {
        let source = Generate::new(2049, |i| i);
        let ctx = context(2);
        let splits = source.splits(&ctx).unwrap();
        let all: Vec<Vec<u64>> = splits.iter().map(|s| drain(&mut source.open(*s, &ctx).unwrap())).collect();
        assert_eq!(all[0], (0..2049).step_by(2).collect::<Vec<_>>());
        assert_eq!(all[1], (1..2049).step_by(2).collect::<Vec<_>>());
        assert_eq!((source.weight(&splits[0]), source.weight(&splits[1])), (1025, 1024));
    }

    #[test]
    fn nothing_to_generate_ends_at_once() {
        for parallelism in [0, 1, 5] {
            let source = Generate::new(0, |i| i);
            let ctx = context(parallelism);
            for split in source.splits(&ctx).unwrap() {
                assert!(drain(&mut source.open(split, &ctx).unwrap()).is_empty());
            }
        }
    }

    /// M10: parts are the records of the subtask, in their order, and few records are not divided.
    #[test]
    fn a_subtask_is_divided_in_order() {
        for (count, stride, parts, expected) in [
            (5 * UNIT_RECORDS_MIN, 1, 8, 5),
            (40 * UNIT_RECORDS_MIN + 7, 3, 8, 8),
            (2 * UNIT_RECORDS_MIN + 1, 2, 8, 1),
            (0, 2, 8, 1),
        ] {
            let source = Generate::new(count, |i| i);
            let ctx = context(stride);
            for split in source.splits(&ctx).unwrap() {
                let whole = drain(&mut source.open(split, &ctx).unwrap());
                let divided = source.divide(vec![split], parts);
                assert_eq!(divided.len(), expected, "{count} {stride}");
                let read = divided.iter().flatten().flat_map(|s| drain(&mut source.open(*s, &ctx).unwrap()));
                assert!(read.eq(whole), "{count} {stride}");
                let weights: Vec<u64> = divided.iter().flatten().map(|s| source.weight(s)).collect();
                assert!(weights.iter().max().unwrap() - weights.iter().min().unwrap() <= 1, "{weights:?}");
            }
        }
    }

    #[test]
    fn a_new_reader_goes_on_at_the_position() {
        let source = Generate::new(5000, |i| i * 3);
        let ctx = context(3);
        let mut reader = source.open(split(1, 3, 5000), &ctx).unwrap();
        let mut out = SourceOutput::default();
        assert_eq!(reader.poll(&mut out).unwrap(), Poll::More);
        let mut seen = out.batch.values;
        seen.extend(drain(&mut source.open(reader.position(), &ctx).unwrap()));
        assert_eq!(seen, (1..5000).step_by(3).map(|i| i * 3).collect::<Vec<_>>());
    }

    #[test]
    fn the_end_of_the_numbers_does_not_overflow() {
        let source = Generate::unbounded(|i| i);
        assert_eq!(source.boundedness(), Boundedness::Unbounded);
        let mut reader = source.open(split(u64::MAX - 5, 4, u64::MAX), &context(4)).unwrap();
        assert_eq!(drain(&mut reader), [u64::MAX - 5, u64::MAX - 1]);
        let mut damaged = source.open(split(0, 0, 3), &context(1)).unwrap();
        assert_eq!(drain(&mut damaged), [0, 1, 2]);
    }

    #[test]
    fn timestamps_belong_to_their_records() {
        let source = Generate::new(3000, |i| i).timestamps(|i| *i as i64 * 10);
        let mut reader = source.open(split(0, 1, 3000), &context(1)).unwrap();
        let mut out = SourceOutput::default();
        reader.poll(&mut out).unwrap();
        assert_eq!(out.batch.timestamps.len(), out.batch.len());
        assert!(out.batch.values.iter().zip(&out.batch.timestamps).all(|(v, t)| *v as i64 * 10 == *t));
    }

    #[test]
    fn a_rate_that_is_no_rate_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = Generate::new(1, |i| i).rate(rate).splits(&context(1)).unwrap_err();
            assert!(error.to_string().contains("records per second"), "{error}");
        }
    }

    /// Polls once and returns the number of records and the answer.
    fn poll_once(reader: &mut impl SplitReader<Item = u64>) -> (usize, Poll) {
        let mut out = SourceOutput::default();
        let answer = reader.poll(&mut out).unwrap();
        (out.batch.len(), answer)
    }

    #[test]
    fn each_split_keeps_its_share_of_the_rate() {
        let clock = VirtualClock::new();
        let ctx = context_with(4, clock.clone());
        let source = Generate::unbounded(|i| i).rate(1000.0);
        let splits = source.splits(&ctx).unwrap();
        let mut readers: Vec<_> = splits.into_iter().map(|s| source.open(s, &ctx).unwrap()).collect();
        let mut total = 0;
        for ms in 1..=3000 {
            clock.advance(Duration::from_millis(1));
            total += readers.iter_mut().map(|r| poll_once(r).0).sum::<usize>();
            assert!(total <= ms, "{total} records after {ms} ms");
            assert!(total + 4 > ms, "only {total} records after {ms} ms");
        }
        assert_eq!(total, 3000);
    }

    #[test]
    fn the_advised_wait_is_exact() {
        for rate in [0.3, 1.0, 7.0, 333.3, 1e6] {
            let clock = VirtualClock::new();
            let source = Generate::unbounded(|i| i).rate(rate);
            let mut reader = source.open(split(0, 1, u64::MAX), &context_with(1, clock.clone())).unwrap();
            for _ in 0..100 {
                let (n, answer) = poll_once(&mut reader);
                assert_eq!(n, 0);
                let Poll::Idle(Some(wait)) = answer else { panic!("{answer:?}") };
                assert!(wait.as_secs_f64() <= 1.0 / rate + 1e-6);
                clock.advance(wait);
                assert_eq!(poll_once(&mut reader).0, 1, "rate {rate}, waited {wait:?}");
            }
        }
    }

    #[test]
    fn a_stall_is_caught_up_for_one_second_at_most() {
        let clock = VirtualClock::new();
        let source = Generate::unbounded(|i| i).rate(100.0);
        let mut reader = source.open(split(0, 1, u64::MAX), &context_with(1, clock.clone())).unwrap();
        clock.advance(Duration::from_millis(500));
        assert_eq!(poll_once(&mut reader).0, 50);
        clock.advance(Duration::from_secs(60));
        assert_eq!(poll_once(&mut reader).0, 100);
        assert_eq!(poll_once(&mut reader).0, 0);
        clock.advance(Duration::from_secs(1));
        assert_eq!(poll_once(&mut reader).0, 100);
    }

    #[test]
    fn rates_at_the_limits_neither_panic_nor_stop() {
        let clock = VirtualClock::new();
        let ctx = context_with(1, clock.clone());
        let source = Generate::unbounded(|i| i).rate(f64::MAX);
        let mut fast = source.open(split(0, 1, u64::MAX), &ctx).unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(poll_once(&mut fast), (1024, Poll::More));
        let mut slow =
            Generate::unbounded(|i| i).rate(f64::MIN_POSITIVE).open(split(0, 1, u64::MAX), &ctx).unwrap();
        assert_eq!(poll_once(&mut slow), (0, Poll::Idle(Some(WAIT_MAX))));
    }
}
