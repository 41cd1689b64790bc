//! Chain: the steps of one task inside one attempt of one subtask, driven by one thread.
//!
//! Place: both executors build a chain from a task of the plan, push elements in at its heads (or poll its
//! sources) and let it run; what leaves it goes to [`Exit`]s. It knows nothing of channels, files or threads.
//! Method: each step has a small queue. The step furthest downstream that has work and room to emit runs next, so
//! that what is in flight stays small; a step whose output is full keeps its cursor and is called again.
//! Invariants: a step's control elements leave after everything it emitted before them; a queue holds at most
//! `QUEUE_ELEMENTS` elements, so memory in a chain is bounded by its length.

mod build;
mod cut;
mod exit;
mod link;
mod whereabouts;

pub use build::ChainPosition;
use cut::Cuts;
pub use cut::Taken;
pub use exit::{Exit, Outlet};
pub use whereabouts::Whereabouts;

use super::job::Cancellation;
use crate::base::accumulator::AttemptAccumulators;
use crate::base::batch::{BATCH_RECORDS, Element, ErasedBatch};
use crate::base::data::{Timestamp, WATERMARK_MAX, WATERMARK_MIN};
use crate::base::error::{Error, Result};
use crate::base::mutant;
use crate::operator::Progress;
use crate::operator::output::Port;
use crate::operator::source::Poll;
use link::{Call, Consumer, Link, Target};

/// Elements that may wait before a step: one being taken, one behind it.
const QUEUE_ELEMENTS: usize = 2;

/// How far a chain came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainState {
    /// All steps are waiting for input.
    Drained,
    /// An exit is full.
    Full,
    /// Something outside the job must act first.
    Blocked,
}

/// A running chain.
pub struct Chain {
    links: Vec<Link>,
    exits: Vec<Box<dyn Exit>>,
    accumulators: Option<AttemptAccumulators>,
    /// The step whose operator was called last, for errors and panics.
    at: Whereabouts,
    cancellation: Cancellation,
    perfect_watermarks: bool,
    /// Calls that moved something.
    calls: u64,
    /// Links that have been closed.
    closed: usize,
    cuts: Cuts,
}

/// What came of moving a link's output on.
struct Delivered {
    /// Something moved.
    moved: bool,
    /// Nothing is left.
    all: bool,
}

impl Chain {
    /// Opens the operators, the last one first, so that an operator can emit as soon as it is open.
    pub fn open(&mut self) -> Result<()> {
        for i in (0..self.links.len()).rev() {
            self.at.set(i);
            let link = &mut self.links[i];
            let opened = link.operator.open(&mut link.context);
            link.next_timer = link.operator.next_timer();
            opened.map_err(|e| self.named(e))?;
        }
        Ok(())
    }

    /// Closes all operators; the first error is returned, but all are closed. A second call closes those that a panic
    /// left open, and none twice.
    pub fn close(&mut self) -> Result<()> {
        let mut result = Ok(());
        while self.closed < self.links.len() {
            let i = self.closed;
            self.at.set(i);
            self.closed += 1;
            let Link { tally, metrics, .. } = &mut self.links[i];
            tally.publish(metrics);
            let closed = self.links[i].operator.close().map_err(|e| self.named(e));
            result = result.and(closed);
        }
        result
    }

    /// Closes all operators after the last record and makes what user code accumulated count.
    pub fn finish(&mut self) -> Result<()> {
        self.close()?;
        self.accumulators.take().map_or(Ok(()), |accumulators| accumulators.publish())
    }

    /// Closes all operators after the last record and hands out what user code accumulated. It is complete when the
    /// chain was dropped, and with it the functions of the user.
    pub fn end(&mut self) -> Result<Option<AttemptAccumulators>> {
        self.close()?;
        Ok(self.accumulators.take())
    }

    /// Name of the operator that was called last, and the subtask.
    pub fn last_called(&self) -> (&str, usize) {
        self.at.operator()
    }

    /// The same for another thread.
    pub fn whereabouts(&self) -> Whereabouts {
        self.at.clone()
    }

    fn named(&self, error: Error) -> Error {
        let (name, subtask) = self.last_called();
        error.in_operator(name, subtask)
    }

    /// Indices of the links that are sources.
    pub fn sources(&self) -> Vec<usize> {
        (0..self.links.len()).filter(|&i| self.links[i].is_source).collect()
    }

    /// The link of a step of the plan.
    pub fn link_of_step(&self, step: usize) -> Option<usize> {
        self.links.iter().position(|link| link.step == step)
    }

    /// Asks a source for records. At its end, its watermark rises to the maximum and its consumers see the end.
    pub fn poll(&mut self, source: usize) -> Result<Poll> {
        self.at.set(source);
        let link = &mut self.links[source];
        let polled = link.operator.poll(&mut link.context);
        if let Ok(Poll::End) = polled {
            link.operator.out().flush();
            link.control.extend([Element::Watermark(WATERMARK_MAX), Element::End]);
        }
        polled.map_err(|e| self.named(e))
    }

    /// Lets a control element out of a source, behind what it has emitted.
    pub fn inject(&mut self, source: usize, element: Element) {
        self.links[source].operator.out().flush();
        self.links[source].control.push_back(element);
    }

    /// Hands an element from outside to a link. Its queue must be empty: run the chain first.
    pub fn push(&mut self, link: usize, input: usize, element: Element) {
        let link = &mut self.links[link];
        if let Some(feeder) = link.feeders.iter().position(|f| *f == (input, None)) {
            link.queue.push_back((feeder, element));
        }
    }

    /// Hands records of the current key to a link that reads grouped input, and ends the key if they are the last.
    /// Spares the queue: a key may have a single record. `pause` is called while something outside the job must act
    /// first; its error ends the wait.
    pub fn push_grouped(
        &mut self,
        at: (usize, usize),
        batch: &mut ErasedBatch,
        key_ends: bool,
        pause: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let (link, input) = at;
        let records = batch.len() as u64;
        self.grouped_call(link, pause, |link| link.operator.process(input, batch, &mut link.context))?;
        let Link { tally, metrics, .. } = &mut self.links[link];
        tally.took(records, metrics);
        if key_ends {
            self.grouped_call(link, pause, |link| {
                link.context.watermark = WATERMARK_MAX;
                let progress = link.operator.end_of_key(&mut link.context);
                link.context.watermark = WATERMARK_MIN;
                progress
            })?;
        }
        Ok(())
    }

    fn grouped_call(
        &mut self,
        link: usize,
        pause: &dyn Fn() -> Result<()>,
        mut call: impl FnMut(&mut Link) -> Result<Progress>,
    ) -> Result<()> {
        loop {
            self.at.set(link);
            let progress = call(&mut self.links[link]).map_err(|e| self.named(e))?;
            while self.links[link].operator.out().is_full() && self.run()? != ChainState::Drained {
                pause()?;
            }
            if progress == Progress::Done {
                return Ok(());
            }
        }
    }

    /// Runs until no step can go on.
    pub fn run(&mut self) -> Result<ChainState> {
        loop {
            let (moved, state) = self.pass()?;
            if state == ChainState::Drained || !moved {
                return Ok(state);
            }
        }
    }

    /// Goes through the steps from the last to the first. Where something moves it goes on at the steps that it moved
    /// to: those behind them have had nothing to do. Says whether anything moved, and what stands in the way of the
    /// rest.
    fn pass(&mut self) -> Result<(bool, ChainState)> {
        let mut i = self.links.len();
        let (mut any, mut state) = (false, ChainState::Drained);
        while i > 0 {
            i -= 1;
            let delivered = self.deliver(i)?;
            if delivered.moved {
                any = true;
                i = self.links[i].last_target().unwrap_or(i) + 1;
                continue;
            }
            if !delivered.all {
                if state == ChainState::Drained {
                    state = ChainState::Full;
                }
                continue;
            }
            if !self.links[i].has_work() {
                continue;
            }
            self.cancellation.check()?;
            self.at.set(i);
            match self.links[i].work() {
                Ok(Progress::Blocked) => state = ChainState::Blocked,
                Ok(progress) => {
                    any = true;
                    self.calls += 1;
                    if progress == Progress::Done {
                        match self.links[i].call {
                            Call::Process { .. } => self.recycle(i),
                            Call::Cut(_) => self.cut(i)?,
                            _ => {}
                        }
                    }
                    // What it emitted moves next.
                    i += 1;
                }
                Err(e) => return Err(self.named(e)),
            }
        }
        Ok((any, state))
    }

    /// Moves what link `i` has emitted to its consumers, as far as all of them have room.
    fn deliver(&mut self, i: usize) -> Result<Delivered> {
        let mut moved = false;
        loop {
            let link = &mut self.links[i];
            if !link.operator.out().is_full() && link.control.is_empty() {
                return Ok(Delivered { moved, all: true });
            }
            if !self.has_room(i) {
                return Ok(Delivered { moved, all: false });
            }
            let perfect = self.perfect_watermarks;
            let link = &mut self.links[i];
            if mutant::is("watermark_first") && matches!(link.control.front(), Some(Element::Watermark(_))) {
                let overtakes = link.control.pop_front();
                overtakes.into_iter().try_for_each(|watermark| self.send_control(i, watermark))?;
                continue;
            }
            match link.operator.out().take() {
                Some((port, Element::Batch(batch))) => {
                    let totals = link.operator.out().totals();
                    link.tally.emitted(batch.len() as u64, totals, &link.metrics);
                    self.send_batch(i, port, batch)?;
                }
                // Made by this operator.
                Some((_, Element::Watermark(watermark))) if !perfect => {
                    link.context.watermark = watermark.max(link.context.watermark);
                    self.send_control(i, Element::Watermark(watermark))?;
                }
                Some((_, Element::Watermark(_) | Element::Idle | Element::Active)) if perfect => {}
                Some((_, control)) => self.send_control(i, control)?,
                None => match link.control.pop_front() {
                    Some(control) => self.send_control(i, control)?,
                    None => return Ok(Delivered { moved, all: true }),
                },
            }
            moved = true;
        }
    }

    fn has_room(&mut self, i: usize) -> bool {
        (0..self.links[i].targets.len()).all(|t| match self.links[i].targets[t].to {
            Consumer::Link { link, .. } => self.links[link].queue.len() < QUEUE_ELEMENTS,
            Consumer::Exit(exit) => !self.exits[exit].is_full(),
        })
    }

    /// Control elements go to the consumers of all outputs.
    fn send_control(&mut self, i: usize, element: Element) -> Result<()> {
        for t in 0..self.links[i].targets.len() {
            self.send_to(i, self.links[i].targets[t], element.duplicate())?;
        }
        Ok(())
    }

    fn send_batch(&mut self, i: usize, port: Port, batch: ErasedBatch) -> Result<()> {
        // The batch itself goes to the first consumer, and copies to the others.
        let mut first = None;
        for t in 0..self.links[i].targets.len() {
            let target = self.links[i].targets[t];
            if target.port == port {
                match first {
                    None => first = Some(target),
                    Some(_) => self.send_to(i, target, Element::Batch(batch.clone_batch()))?,
                }
            }
        }
        first.map_or(Ok(()), |target| self.send_to(i, target, Element::Batch(batch)))
    }

    fn send_to(&mut self, from: usize, target: Target, element: Element) -> Result<()> {
        match target.to {
            Consumer::Link { link, feeder } => self.links[link].queue.push_back((feeder, element)),
            Consumer::Exit(exit) => {
                self.at.set(from);
                match self.exits[exit].push(element) {
                    Ok(Some(emptied)) => self.links[from].operator.out().recycle(target.port, emptied),
                    Ok(None) => {}
                    Err(e) => return Err(self.named(e)),
                }
            }
        }
        Ok(())
    }

    /// Gives a batch that link `i` has emptied back to the operator that filled it.
    fn recycle(&mut self, i: usize) {
        if let Call::Process { feeder, batch } = std::mem::replace(&mut self.links[i].call, Call::None)
            && let Some((from, port)) = self.links[i].feeders[feeder].1
        {
            self.links[from].operator.out().recycle(port, batch);
        }
    }

    /// Makes what waits for a full batch available, everywhere in the chain. The caller runs the chain until it is
    /// drained between this call and the next. Says no where an exit was full, and something may wait still.
    pub fn flush(&mut self) -> Result<bool> {
        for i in 0..self.links.len() {
            self.links[i].operator.out().flush();
            if self.run()? != ChainState::Drained {
                return Ok(false);
            }
        }
        self.exits.iter_mut().try_for_each(|exit| exit.flush())?;
        Ok(self.exits_drained())
    }

    /// Makes the operators emit batches no larger than all exits want to have them.
    pub fn fit_batches(&mut self) {
        let records = self.exits.iter_mut().map(|exit| exit.batch_records()).min().unwrap_or(BATCH_RECORDS);
        self.links.iter_mut().for_each(|link| link.operator.out().hold_at_most(records));
    }

    /// What each exit lets through.
    pub fn outlets(&self) -> impl Iterator<Item = Outlet> {
        self.exits.iter().map(|exit| exit.outlet())
    }

    /// Tells the operators that there is nothing to do at the moment.
    pub fn idle(&mut self) -> Result<()> {
        for i in 0..self.links.len() {
            self.at.set(i);
            let Link { tally, metrics, .. } = &mut self.links[i];
            tally.publish(metrics);
            self.links[i].operator.idle().map_err(|e| self.named(e))?;
        }
        Ok(())
    }

    /// The earliest processing time at which an operator wants to be called.
    pub fn next_timer(&self) -> Option<Timestamp> {
        self.links.iter().filter(|link| link.clock_reached.is_none()).filter_map(|link| link.next_timer).min()
    }

    /// The clock says `now`: the operators that asked for it are called when the chain runs. `input_is_empty` tells whether
    /// nothing waits to be read.
    pub fn clock_reached(&mut self, now: Timestamp, input_is_empty: bool) {
        for link in &mut self.links {
            link.context.input_is_empty = input_is_empty;
            if link.next_timer.is_some_and(|time| time <= now) {
                link.clock_reached = Some(now);
            }
        }
    }

    /// Whether a source has put something into its output that waits to be taken.
    pub fn has_emitted(&mut self, source: usize) -> bool {
        self.links[source].operator.out().is_full()
    }

    /// Whether all exits have passed on what they were given.
    pub fn exits_drained(&mut self) -> bool {
        self.exits.iter_mut().all(|exit| !exit.is_full())
    }

    /// The lowest watermark of the steps that nothing follows; the maximum if there are none: a step in the middle
    /// may never see a watermark because one behind it makes them.
    pub fn watermark(&self) -> Timestamp {
        let last = self.links.iter().filter(|link| link.targets.is_empty());
        last.map(|link| link.context.watermark).min().unwrap_or(WATERMARK_MAX)
    }

    /// Whether all inputs of a step are idle; none if the step is in another chain.
    pub fn is_idle(&self, step: usize) -> Option<bool> {
        self.links.iter().find(|link| link.step == step).map(|link| link.merge.is_idle())
    }

    /// How many calls of operators have moved something so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }
}
