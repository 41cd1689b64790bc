//! InputGate: the receiving end of all edges into a subtask: merges their channels into one stream of elements
//! for each logical input.
//!
//! Watermarks are merged by minimum. A barrier is aligned by its id: a channel whose barrier has come is not read
//! until the barriers of all channels have; a newer barrier gives up the older one. The end of an input comes when
//! all of its channels have ended, behind the watermark's maximum.

use super::channel::Channel;
use super::flow::{Flow, Spent};
use crate::base::batch::{Barrier, Element};
use crate::base::data::WATERMARK_MAX;
use crate::base::failpoint;
use crate::base::mutant;
use crate::executors::chain::Outlet;
use crate::semantics::time::{MergeChange, WatermarkMerge};
use std::collections::VecDeque;
use std::sync::Arc;

struct Receiver {
    channel: Arc<Channel>,
    input: usize,
    /// Index among the channels of its input.
    index: usize,
    aligned: bool,
    ended: bool,
}

impl Receiver {
    /// Whether its channel is to be read; one that is aligned is not, where inputs wait for each other.
    #[inline(always)]
    fn is_readable(&self, waits: bool) -> bool {
        !(self.ended || self.aligned && waits)
    }
}

/// Merges channels. Reads them in turn, one element each.
pub struct InputGate {
    receivers: Vec<Receiver>,
    merges: Vec<WatermarkMerge>,
    /// Channels that have not ended, for each input.
    open: Vec<usize>,
    next: usize,
    aligning: Option<Barrier>,
    /// Whether a channel whose barrier has come waits for the others.
    waits: bool,
    /// Merged elements that follow from what was read.
    ready: VecDeque<(usize, Element)>,
    flow: Flow,
}

impl InputGate {
    /// A gate for `inputs` logical inputs with the given channels, each with its input.
    /// Unless it `waits`, a channel whose barrier has come is read on while those of others are missing: records behind the
    /// barrier may then be part of the checkpoint.
    pub fn new(inputs: usize, channels: Vec<(usize, Arc<Channel>)>, waits: bool) -> Self {
        let mut open = vec![0; inputs];
        let mut receivers = Vec::with_capacity(channels.len());
        for (input, channel) in channels {
            receivers.push(Receiver { channel, input, index: open[input], aligned: false, ended: false });
            open[input] += 1;
        }
        let merges = open.iter().map(|&n| WatermarkMerge::new(n)).collect();
        let mut ready = VecDeque::new();
        for (input, _) in open.iter().enumerate().filter(|(_, channels)| **channels == 0) {
            ready.extend([(input, Element::Watermark(WATERMARK_MAX)), (input, Element::End)]);
        }
        let waits = waits && !mutant::is("alignment_skipped");
        let flow = Flow::new(receivers.len());
        let gate = InputGate { receivers, merges, open, next: 0, aligning: None, waits, ready, flow };
        gate.bound();
        gate
    }

    /// Whether [`regulate`](InputGate::regulate) is to be called.
    #[inline]
    pub fn is_to_be_regulated(&self, spent: Spent) -> bool {
        self.flow.is_due(spent)
    }

    /// Looks whether more or less may wait in the channels from now on, by what the subtask has spent its time on and by
    /// how much may wait behind it.
    pub fn regulate(&mut self, spent: Spent, outlets: impl Iterator<Item = Outlet>) {
        if self.flow.look(spent, outlets) {
            self.bound();
        }
    }

    fn bound(&self) {
        let records_max = self.flow.channel_records_max();
        self.receivers.iter().for_each(|receiver| receiver.channel.bound(records_max));
    }

    /// The next element with its logical input; none if all channels that may be read are empty.
    pub fn next(&mut self) -> Option<(usize, Element)> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let (receiver, element) = self.receive()?;
            let (input, index) = (self.receivers[receiver].input, self.receivers[receiver].index);
            match element {
                Element::Batch(batch) => {
                    self.flow.took(batch.len());
                    return Some((input, Element::Batch(batch)));
                }
                Element::Watermark(watermark) => {
                    let change = self.merges[input].watermark_of(index, watermark);
                    self.apply(input, change);
                }
                Element::Idle => {
                    let change = self.merges[input].idle(index);
                    self.apply(input, change);
                }
                Element::Active => {
                    let change = self.merges[input].active(index);
                    self.apply(input, change);
                }
                Element::Barrier(barrier) => self.align(receiver, barrier),
                Element::End => {
                    self.receivers[receiver].ended = true;
                    let change = self.merges[input].end(index);
                    self.apply(input, change);
                    self.open[input] -= 1;
                    if self.open[input] == 0 {
                        self.ready.push_back((input, Element::End));
                    }
                    self.release_if_aligned();
                }
            }
        }
    }

    /// Whether no channel that may be read has anything.
    pub fn is_empty(&self) -> bool {
        let mut readable = self.receivers.iter().filter(|r| r.is_readable(self.waits));
        self.ready.is_empty() && readable.all(|r| r.channel.is_empty())
    }

    fn receive(&mut self) -> Option<(usize, Element)> {
        let n = self.receivers.len();
        for _ in 0..n {
            let i = self.next;
            self.next = if i + 1 == n { 0 } else { i + 1 };
            let receiver = &self.receivers[i];
            if receiver.is_readable(self.waits)
                && let Some(element) = receiver.channel.receive()
            {
                return Some((i, element));
            }
        }
        None
    }

    fn apply(&mut self, input: usize, change: MergeChange) {
        if let Some(watermark) = change.watermark {
            self.ready.push_back((input, Element::Watermark(watermark)));
        }
        match change.idle {
            Some(true) => self.ready.push_back((input, Element::Idle)),
            Some(false) => self.ready.push_back((input, Element::Active)),
            None => {}
        }
    }

    fn align(&mut self, receiver: usize, barrier: Barrier) {
        match self.aligning {
            Some(current) if barrier.id < current.id => return,
            Some(current) if barrier.id > current.id => {
                self.receivers.iter_mut().for_each(|r| r.aligned = false)
            }
            _ => {}
        }
        if self.aligning.is_none() {
            failpoint::pass("barrier.first");
        }
        self.aligning = Some(barrier);
        self.receivers[receiver].aligned = true;
        self.release_if_aligned();
    }

    fn release_if_aligned(&mut self) {
        let Some(barrier) = self.aligning else { return };
        if self.receivers.iter().all(|r| r.aligned || r.ended) {
            failpoint::pass("barrier.aligned");
            self.aligning = None;
            self.receivers.iter_mut().for_each(|r| r.aligned = false);
            for input in (0..self.open.len()).filter(|&i| self.open[i] > 0) {
                self.ready.push_back((input, Element::Barrier(barrier)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::channel::Waker;
    use super::*;
    use crate::base::batch::Batch;

    fn gate(channels: usize) -> (InputGate, Vec<Arc<Channel>>) {
        let all: Vec<_> =
            (0..channels).map(|_| Channel::new(16, Waker::default(), Waker::default())).collect();
        (InputGate::new(1, all.iter().map(|c| (0, c.clone())).collect(), true), all)
    }

    fn batch(n: u64) -> Element {
        Element::Batch(Box::new(Batch::from(vec![n])))
    }

    fn barrier(id: u64) -> Element {
        Element::Barrier(Barrier { id, full: true, savepoint: false })
    }

    fn kinds(gate: &mut InputGate) -> Vec<&'static str> {
        std::iter::from_fn(|| gate.next()).map(|(_, e)| e.kind()).collect()
    }

    /// C1: what an early channel sends behind its barrier waits for the barriers of the others.
    #[test]
    fn barriers_are_aligned_by_id() {
        let (mut gate, channels) = gate(2);
        for element in [batch(1), barrier(7), batch(2)] {
            assert!(channels[0].send(element).is_ok());
        }
        assert_eq!(kinds(&mut gate), ["batch"]);
        assert!(channels[1].send(batch(3)).is_ok() && channels[1].send(barrier(7)).is_ok());
        assert_eq!(kinds(&mut gate), ["batch", "barrier", "batch"]);
    }

    /// C2: at least once, nobody waits, and the barrier still goes on when it has come from all.
    #[test]
    fn without_waiting_barriers_are_counted() {
        let (mut gate, channels) = gate(2);
        gate.waits = false;
        for element in [batch(1), barrier(7), batch(2), barrier(8), batch(3)] {
            assert!(channels[0].send(element).is_ok());
        }
        assert_eq!(kinds(&mut gate), ["batch", "batch", "batch"]);
        for element in [barrier(7), batch(4), barrier(8)] {
            assert!(channels[1].send(element).is_ok());
        }
        assert_eq!(kinds(&mut gate), ["batch", "barrier"], "7 was given up when 8 came");
        assert!(gate.is_empty());
    }

    /// C3: a newer barrier gives up an older one, whose channels go on being read.
    #[test]
    fn a_newer_barrier_ends_the_wait_for_an_older_one() {
        let (mut gate, channels) = gate(2);
        for element in [barrier(1), batch(1)] {
            assert!(channels[0].send(element).is_ok());
        }
        assert!(kinds(&mut gate).is_empty() && gate.is_empty());
        for element in [barrier(2), batch(2)] {
            assert!(channels[1].send(element).is_ok());
        }
        assert_eq!(kinds(&mut gate), ["batch"], "the first channel is read again, the second waits");
        assert!(channels[0].send(barrier(2)).is_ok());
        assert_eq!(kinds(&mut gate), ["barrier", "batch"]);
    }

    #[test]
    fn an_ended_channel_is_not_waited_for() {
        let (mut gate, channels) = gate(2);
        assert!(channels[0].send(barrier(1)).is_ok());
        assert!(channels[1].send(Element::Watermark(WATERMARK_MAX)).is_ok());
        assert!(channels[1].send(Element::End).is_ok());
        assert_eq!(kinds(&mut gate), ["barrier"]);
    }

    /// W4, W9: the minimum of the channels; the end behind the maximum.
    #[test]
    fn watermarks_and_end() {
        let (mut gate, channels) = gate(2);
        assert!(channels[0].send(Element::Watermark(5)).is_ok());
        assert!(gate.next().is_none());
        assert!(channels[1].send(Element::Watermark(3)).is_ok());
        assert!(matches!(gate.next(), Some((0, Element::Watermark(3)))));
        for channel in &channels {
            assert!(
                channel.send(Element::Watermark(WATERMARK_MAX)).is_ok() && channel.send(Element::End).is_ok()
            );
        }
        // The channel at 5 has its turn first, so the minimum rises once, when the other one ends.
        assert_eq!(kinds(&mut gate), ["watermark", "end"]);
    }
}
