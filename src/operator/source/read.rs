//! Source operator: opens splits, polls their readers in turn and emits what they have, with a watermark for each split.
//!
//! Rules: the watermark of a subtask is the minimum over its open splits, idle ones excepted; none goes out
//! while splits wait to be opened, since they may hold anything. Those that a reader emits count unless the stream has a
//! strategy.

use super::contract::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use super::splits::{self, Dealing, Numbered, Share, Splits};
use crate::base::batch::{Barrier, Batch, Element, ErasedBatch};
use crate::base::data::{Data, Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::operator::erased::AnyOperator;
use crate::operator::output::AnyOut;
use crate::operator::timestamps::to_ms;
use crate::operator::{Context, Out, Progress};
use crate::semantics::state::{OperatorSnapshot, OperatorState, Slot, StateTable};
use crate::semantics::time::{MergeChange, Timing, WatermarkMerge, WatermarkStrategy};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How splits come to subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitAssignment {
    /// A subtask takes the next split when it has finished one: balanced, in no fixed order.
    OnDemand,
    /// Fixed before anything runs, by weight: a repeated run reads the same splits in the same subtasks.
    Fixed,
}

/// A source as plan and executors see it.
pub trait AnySource: Send + Sync {
    /// What the plan shows.
    fn describe(&self) -> String;
    /// Whether it ends by itself.
    fn boundedness(&self) -> Boundedness;
    /// What the snapshots of its operators hold; see [`Operator::state_tables`](crate::operator::Operator::state_tables).
    fn state_tables(&self) -> Vec<Box<dyn StateTable>>;
    /// Enumerates the splits for one execution. `strategy` is a [`WatermarkStrategy`] for the records of this source, if
    /// the stream has one.
    fn start(
        self: Arc<Self>,
        ctx: SourceContext,
        assignment: SplitAssignment,
        strategy: Option<&dyn Any>,
    ) -> Result<Arc<dyn SourceRun>>;
}

/// A source in one execution of a job.
pub trait SourceRun: Send + Sync {
    /// The reading operator of one subtask.
    fn operator(&self, subtask: usize) -> Box<dyn AnyOperator>;
    /// The reading operator of one of `parts` units of work of a subtask, which together read what the subtask reads, one after
    /// the other. Splits must have been dealt out beforehand.
    fn operator_of_part(&self, subtask: usize, part: usize, parts: usize) -> Box<dyn AnyOperator>;
    /// How many of at most `parts` units of work of a subtask have something to read: the most of any subtask.
    fn parts(&self, parts: usize) -> usize;
    /// As [`Source::fingerprint`], of the splits of this execution.
    fn fingerprint(&self) -> Result<Vec<(String, String)>>;
    /// Before a further attempt, or the first one if it goes on from a checkpoint: what is to be read is what is left
    /// according to `state`, or everything if there is none. Subtasks that are marked `finished` do not run.
    fn begin(&self, state: Option<&OperatorState>, finished: &[bool]) -> Result<()>;
}

impl<S: Source> AnySource for S {
    fn describe(&self) -> String {
        Source::describe(self)
    }
    fn boundedness(&self) -> Boundedness {
        Source::boundedness(self)
    }
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        splits::state_tables::<S::Split>()
    }
    fn start(
        self: Arc<Self>,
        ctx: SourceContext,
        assignment: SplitAssignment,
        strategy: Option<&dyn Any>,
    ) -> Result<Arc<dyn SourceRun>> {
        let strategy = match strategy.map(|any| any.downcast_ref::<WatermarkStrategy<S::Item>>()) {
            Some(None) => return Err(Error::Internal("a watermark strategy is for other records".into())),
            Some(Some(strategy)) => Some(strategy.clone()),
            None => None,
        };
        let splits = self.splits(&ctx)?;
        let streaming = assignment == SplitAssignment::OnDemand;
        let unbounded = Source::boundedness(&*self) == Boundedness::Unbounded;
        let together = unbounded || streaming && self.reads_splits_at_once();
        let shared = streaming && !together;
        let weight = |split: &S::Split| self.weight(split);
        let splits = Splits::new(splits, &Dealing { shared, parallelism: ctx.parallelism, weight: &weight })?;
        Ok(Arc::new(Run { source: self, ctx, splits: Mutex::new(splits), shared, together, strategy }))
    }
}

struct Run<S: Source> {
    source: Arc<S>,
    ctx: SourceContext,
    splits: Mutex<Splits<S::Split>>,
    shared: bool,
    together: bool,
    strategy: Option<WatermarkStrategy<S::Item>>,
}

impl<S: Source> Run<S> {
    fn lock(&self) -> MutexGuard<'_, Splits<S::Split>> {
        self.splits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self, share: Share<S::Split>) -> Box<dyn AnyOperator> {
        Box::new(SourceOperator {
            source: self.source.clone(),
            ctx: self.ctx.clone(),
            share,
            together: self.together,
            strategy: self.strategy.clone(),
            readers: VecDeque::new(),
            merge: WatermarkMerge::new(0),
            // The first record shows how large the others may be.
            output: SourceOutput { limit: 1, ..SourceOutput::default() },
            out: Out::new(),
            next_periodic: i64::MIN,
            interval_ms: 0,
        })
    }
}

impl<S: Source> SourceRun for Run<S> {
    fn fingerprint(&self) -> Result<Vec<(String, String)>> {
        let splits = self.lock().all();
        self.source.fingerprint(&splits, &self.ctx)
    }

    fn operator(&self, subtask: usize) -> Box<dyn AnyOperator> {
        let share = self.lock().share(subtask);
        self.reading(share)
    }

    fn operator_of_part(&self, subtask: usize, part: usize, parts: usize) -> Box<dyn AnyOperator> {
        let own = self.lock().own(subtask);
        let mut divided = self.source.divide(own, parts).into_iter().skip(part);
        let mut splits = divided.next().unwrap_or_default();
        if part + 1 == parts {
            // More parts than were asked for.
            splits.extend(divided.flatten());
        }
        self.reading(Share::part(splits))
    }

    fn parts(&self, parts: usize) -> usize {
        let of_subtask = |subtask| self.source.divide(self.lock().own(subtask), parts).len();
        (0..self.ctx.parallelism).map(of_subtask).max().unwrap_or(1).clamp(1, parts.max(1))
    }

    fn begin(&self, state: Option<&OperatorState>, finished: &[bool]) -> Result<()> {
        let weight = |split: &S::Split| self.source.weight(split);
        let dealing = Dealing { shared: self.shared, parallelism: self.ctx.parallelism, weight: &weight };
        let splits = match state.filter(|state| !state.is_empty()) {
            Some(state) => Splits::restored(state, &dealing, finished)?,
            None => self.lock().again(&dealing),
        };
        *self.lock() = splits;
        Ok(())
    }
}

/// A split that is being read.
struct OpenSplit<S: Source> {
    reader: S::Reader,
    number: Slot,
    /// Its number in the merge of watermarks.
    input: usize,
    timing: Option<Timing<S::Item>>,
    /// Its reader said so.
    idle: bool,
}

struct SourceOperator<S: Source> {
    source: Arc<S>,
    ctx: SourceContext,
    share: Share<S::Split>,
    /// All splits are read at once, in turn; otherwise one after the other.
    together: bool,
    strategy: Option<WatermarkStrategy<S::Item>>,
    readers: VecDeque<OpenSplit<S>>,
    merge: WatermarkMerge,
    output: SourceOutput<S::Item>,
    out: Out<S::Item>,
    /// When periodic watermarks are due, in milliseconds of processing time.
    next_periodic: Timestamp,
    interval_ms: i64,
}

fn emit<T: Data>(change: MergeChange, out: &mut Out<T>) {
    if let Some(watermark) = change.watermark {
        out.control(Element::Watermark(watermark));
    }
    if let Some(idle) = change.idle {
        out.control(if idle { Element::Idle } else { Element::Active });
    }
}

/// As [`emit`], after a split was opened or has ended: the maximum for want of splits is the business of the end.
fn emit_of_open<T: Data>(mut change: MergeChange, out: &mut Out<T>) {
    change.watermark = change.watermark.filter(|&watermark| watermark < WATERMARK_MAX);
    emit(change, out);
}

impl<S: Source> SourceOperator<S> {
    fn open_splits(&mut self) -> Result<()> {
        let mut waiting = true;
        while self.together || self.readers.is_empty() {
            let Some(Numbered { number, split, watermark }) = self.share.queue.take() else {
                waiting = false;
                break;
            };
            failpoint::check("source.open")?;
            let reader = self.source.open(split, &self.ctx)?;
            let timing = self.strategy.as_ref().map(|s| s.start(self.ctx.clock.monotonic()));
            let input = self.merge.add();
            if let Some(watermark) = watermark {
                // Before all are open none of them says how far event time has come.
                self.merge.hold(true);
                self.merge.watermark_of(input, watermark);
            }
            self.readers.push_back(OpenSplit { reader, number, input, timing, idle: false });
        }
        // Another subtask may have taken the last one.
        let held = waiting && !self.readers.is_empty() && !self.share.queue.is_empty();
        emit_of_open(self.merge.hold(held), &mut self.out);
        Ok(())
    }

    /// Lets out what the splits promise by now.
    fn tick(&mut self) {
        let now = self.ctx.clock.now_ms();
        let due = self.interval_ms == 0 || now >= self.next_periodic;
        for split in &mut self.readers {
            let Some(timing) = split.timing.as_mut().filter(|timing| timing.makes_watermarks()) else {
                continue;
            };
            if (due || timing.is_overdue())
                && let Some(watermark) = timing.periodic()
            {
                emit(self.merge.watermark_of(split.input, watermark), &mut self.out);
            }
        }
        if due {
            self.next_periodic = now.saturating_add(self.interval_ms.max(1));
        }
    }

    /// Processing time until `tick` may have something to do.
    fn next_tick(&self) -> Option<Duration> {
        let (now, monotonic) = (self.ctx.clock.now_ms(), self.ctx.clock.monotonic());
        let periodic = Duration::from_millis(self.next_periodic.saturating_sub(now).max(0) as u64);
        let timings = self.readers.iter().filter_map(|split| split.timing.as_ref());
        timings
            .filter(|timing| timing.makes_watermarks())
            .flat_map(|timing| {
                [timing.wants_periodic().then_some(periodic), timing.idle_in(monotonic)].into_iter().flatten()
            })
            .min()
    }
}

/// Emits what a reader has put into `output`. Says whether that was anything.
fn pass_on<S: Source>(
    split: &mut OpenSplit<S>,
    output: &mut SourceOutput<S::Item>,
    merge: &mut WatermarkMerge,
    out: &mut Out<S::Item>,
    ctx: &SourceContext,
) -> Result<bool> {
    let batch: &mut Batch<S::Item> = &mut output.batch;
    // A strategy overrules what the reader promises.
    let promises = split.timing.is_none();
    let watermark = output.watermark.take().filter(|_| promises);
    let idle = std::mem::take(&mut output.idle) && promises;
    let emitted = !batch.is_empty() || watermark.is_some();
    if emitted && std::mem::replace(&mut split.idle, false) {
        emit(merge.active(split.input), out);
    }
    if !batch.is_empty() {
        if let Some(timing) = &mut split.timing {
            timing.stamp(&batch.values, &mut batch.timestamps, || ctx.clock.now_ms());
        }
        let stamps = batch.timestamps.len();
        if stamps != 0 && stamps != batch.len() {
            return Err(Error::user("a source gave some records a timestamp and others none".to_string()));
        }
        if let Some(timing) = split.timing.as_mut().filter(|timing| timing.makes_watermarks()) {
            if stamps == 0 {
                return Err(Error::user(
                    "records without timestamps cannot have watermarks; give the strategy a timestamp(...)",
                ));
            }
            if timing.awake(ctx.clock.monotonic()) {
                emit(merge.active(split.input), out);
            }
            while let Some((to, watermark)) = timing.observe(&batch.values, &batch.timestamps, 0) {
                let rest = batch.split(to);
                out.forward(batch);
                *batch = rest;
                emit(merge.watermark_of(split.input, watermark), out);
            }
        }
        out.forward(batch);
        output.limit = out.limit();
    }
    if let Some(watermark) = watermark {
        emit(merge.watermark_of(split.input, watermark), out);
    }
    if idle && !std::mem::replace(&mut split.idle, true) {
        emit(merge.idle(split.input), out);
    }
    Ok(emitted)
}

impl<S: Source> AnyOperator for SourceOperator<S> {
    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.interval_ms = to_ms(ctx.runtime.job.auto_watermark_interval);
        // Those of the attempt.
        self.ctx.counters = ctx.runtime.counters.clone();
        Ok(())
    }

    fn poll(&mut self, _ctx: &mut Context) -> Result<Poll> {
        self.open_splits()?;
        let mut wait: Option<Option<Duration>> = None;
        let mut progress = false;
        let mut fallen_idle = Vec::new();
        for _ in 0..self.readers.len() {
            let Some(mut split) = self.readers.pop_front() else { break };
            let mut polled = split.reader.poll(&mut self.output)?;
            // The rest of the first batch: its first record has shown how large it may be.
            if matches!(polled, Poll::More)
                && self.out.learns_from(&self.output.batch.values)
                && self.output.watermark.is_none()
                && !self.output.idle
            {
                self.output.limit = self.out.limit();
                if !self.output.is_full() {
                    polled = split.reader.poll(&mut self.output)?;
                }
            }
            let emitted = pass_on(&mut split, &mut self.output, &mut self.merge, &mut self.out, &self.ctx)?;
            match polled {
                Poll::End => {
                    // The splits that wait hold the watermark back, or there are none.
                    self.share.has_read(split.number);
                    let held = !self.together && !self.share.queue.is_empty();
                    emit_of_open(self.merge.hold(held), &mut self.out);
                    emit_of_open(self.merge.end(split.input), &mut self.out);
                }
                _ => self.readers.push_back(split),
            }
            match polled {
                Poll::Idle(hint) if !emitted => {
                    // Only a look at the split itself tells that it has nothing.
                    let monotonic = self.ctx.clock.monotonic();
                    if let Some(split) = self.readers.back_mut()
                        && let Some(timing) = split.timing.as_mut().filter(|timing| timing.makes_watermarks())
                        && timing.falls_idle(monotonic)
                    {
                        fallen_idle.push(split.input);
                    }
                    wait = Some(match (wait, hint) {
                        (Some(Some(a)), Some(b)) => Some(a.min(b)),
                        (None, b) => b,
                        (Some(a), b) => a.or(b),
                    });
                }
                _ => {
                    progress = true;
                    break;
                }
            }
        }
        if self.strategy.is_some() {
            self.tick();
        }
        // W5: behind the highest watermark.
        for input in fallen_idle {
            emit(self.merge.idle(input), &mut self.out);
        }
        if progress {
            return Ok(Poll::More);
        }
        Ok(match wait {
            None => Poll::End,
            Some(hint) => Poll::Idle(match (hint, self.next_tick()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            }),
        })
    }

    fn process(&mut self, _: usize, _: &mut ErasedBatch, _: &mut Context) -> Result<Progress> {
        Err(Error::Internal("a source was given records".into()))
    }
    fn makes_watermarks(&self) -> bool {
        true
    }
    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        let merge = &self.merge;
        let open = self.readers.iter().map(|open| {
            let promised = merge.promised(open.input);
            let watermark = (promised > WATERMARK_MIN).then_some(promised);
            Numbered { number: open.number, split: open.reader.position(), watermark }
        });
        failpoint::check("source.position")?;
        self.share.snapshot(barrier, open, into)?;
        Ok(Progress::Done)
    }
    fn close(&mut self) -> Result<()> {
        self.readers.clear();
        Ok(())
    }
    fn out(&mut self) -> &mut dyn AnyOut {
        &mut self.out
    }
    fn type_name(&self) -> &'static str {
        std::any::type_name::<S>()
    }
}
