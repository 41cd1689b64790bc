//! Source operator: opens splits, polls their readers in turn and emits what they have.

use super::contract::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use crate::base::batch::ErasedBatch;
use crate::base::data::Timestamp;
use crate::base::error::{Error, Result};
use crate::operator::erased::AnyOperator;
use crate::operator::{Context, Out, Progress};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Enumerates the splits for one execution.
    fn start(self: Arc<Self>, ctx: SourceContext, assignment: SplitAssignment) -> Result<Arc<dyn SourceRun>>;
}

/// A source in one execution of a job.
pub trait SourceRun: Send + Sync {
    /// The reading operator of one subtask.
    fn operator(&self, subtask: usize) -> Box<dyn AnyOperator>;
}

impl<S: Source> AnySource for S {
    fn describe(&self) -> String {
        Source::describe(self)
    }
    fn boundedness(&self) -> Boundedness {
        Source::boundedness(self)
    }
    fn start(self: Arc<Self>, ctx: SourceContext, assignment: SplitAssignment) -> Result<Arc<dyn SourceRun>> {
        let splits = self.splits(&ctx)?;
        let unbounded = Source::boundedness(&*self) == Boundedness::Unbounded;
        let splits = if assignment == SplitAssignment::OnDemand && !unbounded {
            Splits::Shared(Arc::new(Mutex::new(splits.into())))
        } else {
            Splits::Own(assign_by_weight(splits, ctx.parallelism, |split| self.weight(split)))
        };
        Ok(Arc::new(Run { source: self, ctx, splits: Mutex::new(splits), together: unbounded }))
    }
}

/// Gives each split, in order, to the subtask that has the least so far.
fn assign_by_weight<P>(splits: Vec<P>, parallelism: usize, weight: impl Fn(&P) -> u64) -> Vec<VecDeque<P>> {
    let mut own: Vec<(u64, VecDeque<P>)> = (0..parallelism).map(|_| (0, VecDeque::new())).collect();
    for split in splits {
        let weight = weight(&split).max(1);
        if let Some(least) = own.iter_mut().min_by_key(|(total, _)| *total) {
            least.0 = least.0.saturating_add(weight);
            least.1.push_back(split);
        }
    }
    own.into_iter().map(|(_, splits)| splits).collect()
}

type SplitQueue<P> = Arc<Mutex<VecDeque<P>>>;

enum Splits<P> {
    Shared(SplitQueue<P>),
    /// Kept, so that a repeated attempt reads the same again.
    Own(Vec<VecDeque<P>>),
}

struct Run<S: Source> {
    source: Arc<S>,
    ctx: SourceContext,
    splits: Mutex<Splits<S::Split>>,
    together: bool,
}

impl<S: Source> SourceRun for Run<S> {
    fn operator(&self, subtask: usize) -> Box<dyn AnyOperator> {
        let queue = match &*self.splits.lock().unwrap_or_else(PoisonError::into_inner) {
            Splits::Shared(queue) => queue.clone(),
            Splits::Own(own) => Arc::new(Mutex::new(own[subtask].clone())),
        };
        Box::new(SourceOperator {
            source: self.source.clone(),
            ctx: self.ctx.clone(),
            queue,
            together: self.together,
            readers: VecDeque::new(),
            output: SourceOutput::default(),
            out: Out::new(),
        })
    }
}

struct SourceOperator<S: Source> {
    source: Arc<S>,
    ctx: SourceContext,
    queue: SplitQueue<S::Split>,
    /// All splits are read at once, in turn; otherwise one after the other.
    together: bool,
    readers: VecDeque<S::Reader>,
    output: SourceOutput<S::Item>,
    out: Out<S::Item>,
}

impl<S: Source> SourceOperator<S> {
    fn open_splits(&mut self) -> Result<()> {
        while self.together || self.readers.is_empty() {
            let split = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(split) = split else { break };
            self.readers.push_back(self.source.open(split, &self.ctx)?);
        }
        Ok(())
    }
}

impl<S: Source> AnyOperator for SourceOperator<S> {
    fn open(&mut self, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }

    fn poll(&mut self, _ctx: &mut Context, watermark: &mut Option<Timestamp>) -> Result<Poll> {
        self.open_splits()?;
        let mut wait: Option<Option<Duration>> = None;
        for _ in 0..self.readers.len() {
            let Some(mut reader) = self.readers.pop_front() else { break };
            let polled = reader.poll(&mut self.output)?;
            if !matches!(polled, Poll::End) {
                self.readers.push_back(reader);
            }
            let emitted = !self.output.batch.is_empty();
            if emitted
                && !matches!(self.output.batch.timestamps.len(), n if n == 0 || n == self.output.batch.len())
            {
                return Err(Error::user(
                    "a source gave some records a timestamp and others none".to_string(),
                ));
            }
            self.out.forward(&mut self.output.batch);
            *watermark = self.output.watermark.take();
            match polled {
                Poll::Idle(hint) if !emitted && watermark.is_none() => {
                    wait = Some(match (wait, hint) {
                        (Some(Some(a)), Some(b)) => Some(a.min(b)),
                        (None, b) => b,
                        (Some(a), b) => a.or(b),
                    });
                }
                _ => return Ok(Poll::More),
            }
        }
        Ok(wait.map_or(Poll::End, Poll::Idle))
    }

    fn process(&mut self, _: usize, _: &mut ErasedBatch, _: &mut Context) -> Result<Progress> {
        Err(Error::Internal("a source was given records".into()))
    }
    fn watermark(&mut self, _: Timestamp, _: &mut Context) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn end_of_key(&mut self, _: &mut Context) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn end_of_input(&mut self, _: usize, _: &mut Context) -> Result<Progress> {
        Ok(Progress::Done)
    }
    fn idle(&mut self) -> Result<()> {
        Ok(())
    }
    fn close(&mut self) -> Result<()> {
        self.readers.clear();
        Ok(())
    }
    fn is_full(&self) -> bool {
        self.out.is_full()
    }
    fn flush(&mut self) {
        self.out.flush()
    }
    fn take(&mut self) -> Option<ErasedBatch> {
        self.out.take_erased()
    }
    fn recycle(&mut self, batch: ErasedBatch) {
        self.out.recycle(batch)
    }
    fn totals(&self) -> (u64, u64) {
        self.out.totals()
    }
    fn type_name(&self) -> &'static str {
        std::any::type_name::<S>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_go_to_the_subtask_with_the_least_weight() {
        let own = assign_by_weight(vec![10u64, 1, 1, 1, 7, 2], 2, |w| *w);
        assert_eq!(own, [VecDeque::from([10, 2]), VecDeque::from([1, 1, 1, 7])]);
        assert_eq!(assign_by_weight(Vec::<u64>::new(), 3, |w| *w).len(), 3);
    }
}
