//! Cut: what a chain does at the barrier of a checkpoint.
//!
//! Method: a barrier that has come from all feeders of a link is a cut: the operator takes its snapshot and the barrier
//! goes on at once, behind what the operator has emitted before. An operator that yields writes the rest in slices,
//! one whenever [`Chain::slice`] is called. Bytes are handed out as they come ([`Chain::taken`]), and when all links
//! have written all there is the chain's part of the checkpoint is complete.
//! Invariants: before a link is cut again its older snapshot is written to its end, or was given up
//! ([`Chain::give_up`]). So what is handed out of a link never mixes two cuts.

use super::Chain;
use super::link::Call;
use crate::base::batch::{Barrier, CheckpointId, Element};
use crate::base::data::{Timestamp, WATERMARK_MAX};
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::operator::Progress;
use crate::semantics::state::{OperatorSnapshot, OperatorState};
use std::collections::VecDeque;

/// What comes out of a chain for a checkpoint.
#[derive(Debug)]
pub enum Taken {
    /// A part of the snapshot of an operator.
    Part {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Step of the plan.
        step: usize,
        /// To be appended to the parts before.
        part: OperatorSnapshot,
    },
    /// All parts have been handed out.
    Complete {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Of each step of the chain, its watermark at the cut.
        steps: Vec<(usize, Timestamp)>,
    },
}

/// Snapshots under way.
#[derive(Default)]
pub(super) struct Cuts {
    /// Oldest first.
    open: VecDeque<Open>,
    /// Bytes and news that nobody has fetched yet.
    taken: VecDeque<Taken>,
    /// Links that have not written all of the snapshot they are at.
    unfinished: usize,
    /// The newest barrier that a link has seen.
    newest: CheckpointId,
    /// Parts that have been written and emptied: fresh memory for each would cost more than what is put into it.
    emptied: Vec<OperatorSnapshot>,
}

/// A checkpoint of which not all links have written everything.
struct Open {
    checkpoint: CheckpointId,
    /// Links that have not.
    left: usize,
    /// Steps that have been cut, with their watermarks.
    steps: Vec<(usize, Timestamp)>,
}

impl Chain {
    /// Lets a barrier out of a source, behind what it has emitted.
    pub fn cut_source(&mut self, source: usize, barrier: Barrier) -> Result<()> {
        self.links[source].call = Call::Cut(barrier);
        self.cut(source)
    }

    /// Makes the cut that a link has come to.
    #[cold]
    pub(super) fn cut(&mut self, i: usize) -> Result<()> {
        let Call::Cut(barrier) = std::mem::replace(&mut self.links[i].call, Call::None) else {
            return Ok(());
        };
        while self.links[i].unfinished.is_some() {
            self.write_more(i)?;
        }
        self.at.set(i);
        if !self.cuts.open.iter().any(|open| open.checkpoint == barrier.id) {
            let (checkpoint, left) = (barrier.id, self.links.len());
            self.cuts.open.push_back(Open { checkpoint, left, steps: Vec::new() });
        }
        self.cuts.newest = self.cuts.newest.max(barrier.id);
        let link = &mut self.links[i];
        let mut part = self.cuts.emptied.pop().unwrap_or_default();
        failpoint::check("snapshot.begin")?;
        let progress = link.operator.snapshot(barrier, &mut part).map_err(|e| self.named(e))?;
        failpoint::check("snapshot.taken")?;
        let link = &mut self.links[i];
        link.next_timer = link.operator.next_timer();
        let watermark = link.context.watermark;
        link.forward(Element::Barrier(barrier));
        if let Some(open) = self.cuts.open.iter_mut().find(|open| open.checkpoint == barrier.id) {
            open.steps.push((link.step, watermark));
        }
        link.unfinished = Some(barrier.id);
        self.cuts.unfinished += 1;
        self.take(i, barrier.id, part, progress);
        Ok(())
    }

    fn write_more(&mut self, i: usize) -> Result<()> {
        let Some(checkpoint) = self.links[i].unfinished else { return Ok(()) };
        self.at.set(i);
        let mut part = self.cuts.emptied.pop().unwrap_or_default();
        let progress = self.links[i].operator.snapshot_more(&mut part).map_err(|e| self.named(e))?;
        self.take(i, checkpoint, part, progress);
        Ok(())
    }

    fn take(&mut self, i: usize, checkpoint: CheckpointId, part: OperatorSnapshot, progress: Progress) {
        // Work, as a call for records is.
        self.calls += 1;
        let link = &mut self.links[i];
        if !part.is_empty() {
            self.cuts.taken.push_back(Taken::Part { checkpoint, step: link.step, part });
        } else if self.cuts.emptied.is_empty() {
            let mut part = part;
            part.recycle();
            self.cuts.emptied.push(part);
        }
        if progress != Progress::Done {
            return;
        }
        link.unfinished = None;
        self.cuts.unfinished -= 1;
        let Some(at) = self.cuts.open.iter().position(|open| open.checkpoint == checkpoint) else { return };
        self.cuts.open[at].left -= 1;
        if self.cuts.open[at].left == 0
            && let Some(Open { checkpoint, steps, .. }) = self.cuts.open.remove(at)
        {
            self.cuts.taken.push_back(Taken::Complete { checkpoint, steps });
        }
    }

    /// Whether an operator has more of a snapshot to write.
    pub fn is_writing(&self) -> bool {
        self.cuts.unfinished > 0
    }

    /// Writes a slice of the oldest snapshot that is not complete.
    pub fn slice(&mut self) -> Result<()> {
        let oldest = (0..self.links.len())
            .filter(|&i| self.links[i].unfinished.is_some())
            .min_by_key(|&i| self.links[i].unfinished);
        oldest.map_or(Ok(()), |i| self.write_more(i))
    }

    /// What has been written and not fetched yet.
    pub fn taken(&mut self) -> Option<Taken> {
        self.cuts.taken.pop_front()
    }

    /// Takes an emptied part to fill it again.
    pub fn supply_part(&mut self, part: OperatorSnapshot) {
        self.cuts.emptied.push(part);
    }

    /// Whether there is an emptied part.
    pub fn has_spare_part(&self) -> bool {
        !self.cuts.emptied.is_empty()
    }

    /// Gives up checkpoints that are not under way any more.
    pub fn give_up(&mut self, is_live: impl Fn(CheckpointId) -> bool) {
        for link in &mut self.links {
            if link.unfinished.is_some_and(|id| !is_live(id)) {
                link.unfinished = None;
                self.cuts.unfinished -= 1;
            }
        }
        self.cuts.open.retain(|open| is_live(open.checkpoint));
        self.cuts.taken.retain(|taken| match taken {
            Taken::Part { checkpoint, .. } | Taken::Complete { checkpoint, .. } => is_live(*checkpoint),
        });
    }

    /// The newest barrier that has come.
    pub fn newest_barrier(&self) -> CheckpointId {
        self.cuts.newest
    }

    /// Tells the operators that a checkpoint is complete.
    pub fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
        for i in 0..self.links.len() {
            self.at.set(i);
            self.links[i].operator.checkpoint_complete(checkpoint).map_err(|e| self.named(e))?;
        }
        Ok(())
    }

    /// What each operator keeps, by the number of its step in the plan. The chain must have been run until it is
    /// drained, and flushed: what is under way between operators is in no snapshot.
    pub fn snapshot(&mut self, barrier: Barrier) -> Result<Vec<(usize, OperatorSnapshot)>> {
        let mut snapshots = Vec::with_capacity(self.links.len());
        for i in 0..self.links.len() {
            let snapshot = self.snapshot_link(i, barrier)?;
            snapshots.push((self.links[i].step, snapshot));
        }
        Ok(snapshots)
    }

    /// What the operators of some steps keep at the end: step, watermark, snapshot; of other steps nothing.
    pub fn snapshot_of(
        &mut self,
        barrier: Barrier,
        keeps: &[usize],
    ) -> Result<Vec<(usize, Timestamp, OperatorSnapshot)>> {
        let mut states = Vec::with_capacity(self.links.len());
        for i in 0..self.links.len() {
            let (step, watermark) = (self.links[i].step, self.links[i].context.watermark);
            let snapshot = match keeps.contains(&step) {
                true => self.snapshot_link(i, barrier)?,
                false => OperatorSnapshot::default(),
            };
            states.push((step, watermark, snapshot));
        }
        Ok(states)
    }

    fn snapshot_link(&mut self, i: usize, barrier: Barrier) -> Result<OperatorSnapshot> {
        self.at.set(i);
        let mut snapshot = OperatorSnapshot::default();
        let operator = &mut self.links[i].operator;
        let mut progress = operator.snapshot(barrier, &mut snapshot);
        while matches!(progress, Ok(Progress::Yielded)) {
            progress = operator.snapshot_more(&mut snapshot);
        }
        progress.map_err(|e| self.named(e))?;
        Ok(snapshot)
    }

    /// Gives each operator for whose step there is state that state: after `open`, before the first element.
    pub fn restore<'a>(&mut self, state_of: impl Fn(usize) -> Option<&'a OperatorState>) -> Result<()> {
        for i in 0..self.links.len() {
            let link = &mut self.links[i];
            let Some(state) = state_of(link.step) else { continue };
            self.at.set(i);
            failpoint::check("restore.operator")?;
            let restored = link.operator.restore(state, &mut link.context);
            link.next_timer = link.operator.next_timer();
            restored.map_err(|e| match e {
                Error::Codec(message) => self.named(Error::Codec(format!(
                    "its state in the checkpoint cannot be read: {message}; was it taken by another form of the operator?"
                ))),
                e => self.named(e),
            })?;
        }
        Ok(())
    }

    /// Lets the operators go on from the event time at which a checkpoint was taken, so that what was late stays late.
    pub fn resume_time(&mut self, watermark_of: impl Fn(usize) -> Option<Timestamp>) {
        for link in &mut self.links {
            if let Some(watermark) = watermark_of(link.step) {
                link.context.watermark = watermark.max(link.context.watermark);
            }
        }
    }

    /// Ends a source as if it had no more input.
    pub fn end_source(&mut self, source: usize) {
        let link = &mut self.links[source];
        link.operator.out().flush();
        link.control.extend([Element::Watermark(WATERMARK_MAX), Element::End]);
    }

    /// Passes on that this chain has ended before, and nothing else: its consumers need not wait for it.
    pub fn pass_end(&mut self) -> Result<()> {
        for i in 0..self.links.len() {
            for t in 0..self.links[i].targets.len() {
                let target = self.links[i].targets[t];
                if let super::link::Consumer::Exit(exit) = target.to {
                    for element in [Element::Watermark(WATERMARK_MAX), Element::End] {
                        self.at.set(i);
                        if let Err(e) = self.exits[exit].push(element) {
                            return Err(self.named(e));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
