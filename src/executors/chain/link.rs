//! Link: one step of a chain: its queue, its operator, and what becomes of an element that it takes.
//!
//! Method: a batch is a call to `process`; control elements are merged over the feeders, and what comes of the merge is
//! a call (a risen watermark, the end of an input) or moves on at once (a barrier that all feeders have sent, idleness).
//! A call that yields is kept and repeated.
//! Invariant: a control element is put behind everything that the operator emitted before it.

use crate::base::batch::{BATCH_RECORDS, Barrier, CheckpointId, Element, ErasedBatch};
use crate::base::data::{Timestamp, WATERMARK_MAX};
use crate::base::error::Result;
use crate::executors::job::StepMetrics;
use crate::operator::erased::AnyOperator;
use crate::operator::output::Port;
use crate::operator::{Context, Progress};
use crate::semantics::time::{MergeChange, WatermarkMerge};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// One step of a chain.
pub(super) struct Link {
    pub(super) step: usize,
    pub(super) name: Arc<str>,
    pub(super) operator: Box<dyn AnyOperator>,
    pub(super) context: Context,
    /// Logical input and, for an edge within the chain, the producing link and its output of each feeder.
    pub(super) feeders: Vec<(usize, Option<(usize, Port)>)>,
    pub(super) queue: VecDeque<(usize, Element)>,
    pub(super) call: Call,
    /// Goes behind the watermark that is being processed.
    pub(super) after: Option<Element>,
    pub(super) merge: WatermarkMerge,
    /// Feeders that have not ended, for each logical input.
    pub(super) open: Vec<usize>,
    /// The barrier that has come from some feeders, and from how many.
    pub(super) barrier: Option<(Barrier, usize)>,
    /// The checkpoint for which the operator has more to write.
    pub(super) unfinished: Option<CheckpointId>,
    /// Leaves after what the operator has emitted.
    pub(super) control: VecDeque<Element>,
    pub(super) targets: Vec<Target>,
    pub(super) metrics: Arc<StepMetrics>,
    pub(super) tally: Tally,
    pub(super) pace: Pace,
    pub(super) is_source: bool,
    /// The operator puts watermarks into its output: those of its feeders end here.
    pub(super) makes_watermarks: bool,
    /// The operator emits everything at the end: the highest watermark waits for it, too.
    pub(super) emits_at_end: bool,
    /// When the operator wants to be called next, as it said after its last call.
    pub(super) next_timer: Option<Timestamp>,
    /// The clock has reached that time.
    pub(super) clock_reached: Option<Timestamp>,
}

/// Numbers that were not added to the shared ones yet: adding for each batch would have the subtasks of a step take
/// a cache line from each other several times a microsecond.
#[derive(Default)]
pub(super) struct Tally {
    records_in: u64,
    records_out: u64,
    bytes_out: u64,
}

impl Tally {
    /// Records after which the shared numbers are brought up to date.
    const RECORDS_MAX: u64 = 1 << 16;

    pub(super) fn took(&mut self, records: u64, metrics: &StepMetrics) {
        self.records_in += records;
        if self.records_in >= Self::RECORDS_MAX {
            self.publish(metrics);
        }
    }

    /// Counts an emitted batch; `totals` are the operator's records and bytes so far.
    pub(super) fn emitted(&mut self, records: u64, totals: (u64, u64), metrics: &StepMetrics) {
        self.records_out += records;
        self.bytes_out += totals.1.checked_div(totals.0).unwrap_or(0) * records;
        if self.records_out >= Self::RECORDS_MAX {
            self.publish(metrics);
        }
    }

    pub(super) fn publish(&mut self, metrics: &StepMetrics) {
        let Tally { records_in, records_out, bytes_out } = std::mem::take(self);
        metrics.count(records_in, records_out, bytes_out);
    }
}

/// Keeps calls of slow user code short, so that a job can be cancelled between them: a batch of records that take a
/// millisecond each would be one call of a second.
///
/// Only where nothing that comes out may depend on how batches are cut: in BATCH a table looks at its memory once a
/// call, so there a call is a whole batch, whatever it takes.
pub(super) struct Pace {
    on: bool,
    calls: u64,
    /// Records of one call, while the operator is slow or not known to be fast.
    records_max: Option<usize>,
}

impl Pace {
    /// Records of the first call.
    const FIRST_RECORDS: usize = 64;
    /// A call that takes longer is followed by shorter ones.
    const SLOW: Duration = Duration::from_millis(50);
    /// What they should take.
    const WANTED: Duration = Duration::from_millis(20);
    /// One of so many calls is timed.
    const TIMED: u64 = 16;

    /// Keeps calls short, or leaves them as they are.
    pub(super) fn new(on: bool) -> Pace {
        Pace { on, calls: 0, records_max: on.then_some(Self::FIRST_RECORDS) }
    }

    /// Counts a call and says whether it is to be timed.
    #[inline]
    fn starts(&mut self) -> bool {
        self.calls += 1;
        self.on && (self.calls % Self::TIMED == 1 || self.records_max.is_some())
    }

    fn took(&mut self, records: usize, time: Duration) {
        if time > Self::SLOW && records > 1 {
            let wanted = records as u128 * Self::WANTED.as_nanos() / time.as_nanos();
            self.records_max = Some((wanted as usize).max(1));
        } else if time < Self::WANTED / 4 {
            // Fast again, or never slow.
            self.records_max =
                self.records_max.and_then(|records| (records < BATCH_RECORDS).then_some(records * 2));
        }
    }
}

/// The call that is to be made, or repeated.
pub(super) enum Call {
    None,
    Process {
        feeder: usize,
        batch: ErasedBatch,
    },
    Watermark(Timestamp),
    ProcessingTime(Timestamp),
    EndOfInput(usize),
    /// The link is to be cut: what the chain does, not the link; see `cut`.
    Cut(Barrier),
}

/// A consumer of one of the outputs.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) port: Port,
    pub(super) to: Consumer,
}

#[derive(Clone, Copy)]
pub(super) enum Consumer {
    Link { link: usize, feeder: usize },
    Exit(usize),
}

impl Link {
    /// Whether there is a call to make or an element to take.
    pub(super) fn has_work(&self) -> bool {
        !matches!(self.call, Call::None) || !self.queue.is_empty() || self.clock_reached.is_some()
    }

    /// The consumer within the chain that is furthest downstream.
    pub(super) fn last_target(&self) -> Option<usize> {
        let links = self.targets.iter().filter_map(|target| match target.to {
            Consumer::Link { link, .. } => Some(link),
            Consumer::Exit(_) => None,
        });
        links.max()
    }

    /// Makes one call, or takes the next element.
    pub(super) fn work(&mut self) -> Result<Progress> {
        if matches!(self.call, Call::None) {
            if let Some(now) = self.clock_reached.take() {
                self.call = Call::ProcessingTime(now);
            } else {
                let Some((feeder, element)) = self.queue.pop_front() else { return Ok(Progress::Done) };
                self.take(feeder, element);
            }
        }
        let progress = self.make_call()?;
        self.next_timer = self.operator.next_timer();
        Ok(progress)
    }

    fn make_call(&mut self) -> Result<Progress> {
        let progress = match &mut self.call {
            Call::None | Call::Cut(_) => return Ok(Progress::Done),
            Call::Process { feeder, batch } => {
                let input = self.feeders[*feeder].0;
                let before = batch.len();
                let start = self.pace.starts().then(|| self.context.clock.monotonic());
                let progress = self.operator.process(input, batch, &mut self.context)?;
                let records = before - batch.len();
                if let Some(start) = start {
                    self.pace.took(records, self.context.clock.monotonic().saturating_sub(start));
                }
                self.tally.took(records as u64, &self.metrics);
                // The emptied batch stays until it is given back.
                return Ok(progress);
            }
            Call::Watermark(watermark) => {
                self.context.watermark = *watermark;
                self.operator.watermark(*watermark, &mut self.context)?
            }
            Call::ProcessingTime(now) => self.operator.processing_time(*now, &mut self.context)?,
            Call::EndOfInput(input) => self.operator.end_of_input(*input, &mut self.context)?,
        };
        if progress == Progress::Done {
            match std::mem::replace(&mut self.call, Call::None) {
                Call::Watermark(watermark) => {
                    let is_last = watermark == WATERMARK_MAX && !self.emits_at_end;
                    if !self.makes_watermarks || is_last {
                        self.forward(Element::Watermark(watermark));
                    }
                    let after = self.after.take();
                    after.into_iter().for_each(|element| self.forward(element));
                }
                Call::EndOfInput(_) if self.open.iter().all(|&open| open == 0) => {
                    if self.emits_at_end {
                        self.forward(Element::Watermark(WATERMARK_MAX));
                    }
                    self.forward(Element::End);
                }
                _ => {}
            }
        }
        Ok(progress)
    }

    /// Turns an element into the call it asks for.
    fn take(&mut self, feeder: usize, element: Element) {
        let change = match element {
            Element::Batch(mut batch) => {
                if let Some(records) = self.pace.records_max
                    && batch.len() > records
                {
                    let rest = batch.split_off(records);
                    self.queue.push_front((feeder, Element::Batch(rest)));
                }
                self.call = Call::Process { feeder, batch };
                return;
            }
            Element::Watermark(watermark) => self.merge.watermark_of(feeder, watermark),
            Element::Idle => self.merge.idle(feeder),
            Element::Active => self.merge.active(feeder),
            Element::Barrier(barrier) => {
                let seen = match self.barrier {
                    Some((current, seen)) if current.id == barrier.id => seen + 1,
                    _ => 1,
                };
                self.barrier = Some((barrier, seen));
                self.cut_if_aligned();
                return;
            }
            Element::End => {
                let input = self.feeders[feeder].0;
                self.open[input] -= 1;
                if self.open[input] == 0 {
                    self.call = Call::EndOfInput(input);
                }
                let change = self.merge.end(feeder);
                // The maximum has come before the end of the last feeder; of the others the minimum may rise.
                if let (Some(watermark), Call::None) = (change.watermark, &self.call) {
                    self.call = Call::Watermark(watermark);
                }
                return;
            }
        };
        self.apply(change);
    }

    fn apply(&mut self, change: MergeChange) {
        // The idleness of the feeders ends here, too, where their watermarks do.
        let idle = change.idle.filter(|_| !self.makes_watermarks);
        let status = idle.map(|idle| if idle { Element::Idle } else { Element::Active });
        match change.watermark {
            // After a restore the feeders promise again what they had promised before.
            Some(watermark) if watermark <= self.context.watermark && !self.makes_watermarks => {
                self.forward(Element::Watermark(watermark));
                status.into_iter().for_each(|status| self.forward(status));
            }
            Some(watermark) => {
                self.call = Call::Watermark(watermark);
                self.after = status;
            }
            None => status.into_iter().for_each(|status| self.forward(status)),
        }
    }

    /// The feeders of a link are the inputs of a gate, which has aligned them, or a single one.
    fn cut_if_aligned(&mut self) {
        if let Some((barrier, seen)) = self.barrier
            && seen >= self.open.iter().sum()
        {
            self.barrier = None;
            self.call = Call::Cut(barrier);
        }
    }

    pub(super) fn forward(&mut self, element: Element) {
        self.operator.out().flush();
        self.control.push_back(element);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_code_gets_short_calls_and_fast_code_whole_batches() {
        assert!(!Pace::new(false).starts());
        let mut pace = Pace::new(true);
        assert!(pace.starts());
        pace.took(64, Duration::from_millis(640));
        assert_eq!(pace.records_max, Some(2), "20 ms of records that take 10 ms each");
        pace.took(2, Duration::from_millis(20));
        assert_eq!(pace.records_max, Some(2));
        pace.took(1, Duration::from_secs(1));
        assert_eq!(pace.records_max, Some(2), "one record cannot be cut");
        for _ in 0..20 {
            pace.took(2, Duration::from_micros(1));
        }
        assert_eq!(pace.records_max, None);
        let timed = (0..160).filter(|_| pace.starts()).count();
        assert_eq!(timed, 10, "one call of sixteen is timed");
    }
}
