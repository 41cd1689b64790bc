//! Channel: a bounded queue of elements from one producing to one consuming subtask.
//!
//! Bounded in elements, and since a batch is cut at about 256 KiB, in bytes too; and in records, by what the consumer
//! says that it works off in time (see `flow`). Sending into a full channel fails: the producer keeps the
//! element and is woken when there is room.

use super::rest::Loops;
use crate::base::batch::Element;
use crossbeam::queue::ArrayQueue;
use crossbeam::sync::Unparker;
use crossbeam::utils::CachePadded;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Elements that a channel holds: enough that producer and consumer seldom wait for each other's turn, few enough
/// that a barrier passes quickly.
pub const CHANNEL_ELEMENTS: usize = 16;

/// Wakes the worker that drives a subtask, and tells the subtask that channels hold more or less than before; wakes nobody
/// where no worker sleeps.
#[derive(Clone, Default)]
pub struct Waker(Arc<Wakes>);

#[derive(Default)]
struct Wakes {
    worker: OnceLock<Unparker>,
    /// How often a consumer has changed how much may wait before it.
    changes: AtomicU64,
}

impl Waker {
    /// Names the worker to wake. Once only.
    pub fn bind(&self, unparker: Unparker) {
        let _ = self.0.worker.set(unparker);
    }
    /// Wakes it.
    pub fn wake(&self) {
        if let Some(unparker) = self.0.worker.get() {
            unparker.unpark();
        }
    }
    /// How often a consumer has changed how much may wait before it.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }
}

/// The queue with the two workers at its ends.
pub struct Channel {
    queue: ArrayQueue<Element>,
    producer: Waker,
    consumer: Waker,
    /// The loops that both ends are in: what is in the channel goes round in them.
    within: Loops,
    /// The loops that only the consumer is in: the channel is an input of them.
    into: Loops,
    /// Records that have been sent and received. Each end writes its own number and nothing else, so that counting costs
    /// no more than a store.
    sent: CachePadded<AtomicU64>,
    received: CachePadded<AtomicU64>,
    /// Records that may wait; all that fit, for a consumer that is fast.
    records_max: AtomicUsize,
}

fn records_of(element: &Element) -> u64 {
    match element {
        Element::Batch(batch) => batch.len() as u64,
        _ => 0,
    }
}

impl Channel {
    /// An empty channel.
    pub fn new(elements: usize, producer: Waker, consumer: Waker) -> Arc<Channel> {
        Channel::among(elements, producer, consumer, Loops::default(), Loops::default())
    }

    /// An empty channel `within` some loops and `into` others.
    pub(super) fn among(
        elements: usize,
        producer: Waker,
        consumer: Waker,
        within: Loops,
        into: Loops,
    ) -> Arc<Channel> {
        into.begin();
        Arc::new(Channel {
            queue: ArrayQueue::new(elements),
            producer,
            consumer,
            within,
            into,
            sent: CachePadded::default(),
            received: CachePadded::default(),
            records_max: AtomicUsize::new(usize::MAX),
        })
    }

    /// Appends an element, or gives it back if there is no room.
    pub fn send(&self, element: Element) -> Result<(), Element> {
        let records = records_of(&element);
        let records_max = self.records_max();
        if records_max != usize::MAX && records > 0 {
            let waiting = self.waiting();
            // Whatever the bound, one batch may wait.
            if waiting > 0 && waiting + records > records_max as u64 {
                return Err(element);
            }
        }
        self.within.begin();
        if let Err(element) = self.queue.push(element) {
            self.within.end();
            return Err(element);
        }
        self.sent.store(self.sent.load(Ordering::Relaxed) + records, Ordering::Release);
        self.consumer.wake();
        Ok(())
    }

    /// Records that have been sent and not received. Less than there are for the moment between a push and its count.
    fn waiting(&self) -> u64 {
        self.sent.load(Ordering::Acquire).saturating_sub(self.received.load(Ordering::Acquire))
    }

    /// Takes the oldest element.
    pub fn receive(&self) -> Option<Element> {
        let element = self.queue.pop()?;
        let records = records_of(&element);
        self.received.store(self.received.load(Ordering::Relaxed) + records, Ordering::Release);
        // Asked after the element is out: a producer that found no room did so before, and is woken here.
        if self.queue.len() + 1 >= self.queue.capacity() || self.records_max() != usize::MAX {
            self.producer.wake();
        }
        // The consumer is at work, so that what comes of the element is counted.
        self.within.end();
        if matches!(element, Element::End) {
            self.into.end();
        }
        Some(element)
    }

    /// Says how many records may wait. The producer looks at it before its next batch.
    pub fn bound(&self, records_max: usize) {
        self.records_max.store(records_max, Ordering::Relaxed);
        self.producer.0.changes.fetch_add(1, Ordering::Release);
        self.producer.wake();
    }

    /// Records that may wait.
    #[inline]
    pub fn records_max(&self) -> usize {
        self.records_max.load(Ordering::Relaxed)
    }

    /// Whether there is nothing to receive.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::batch::Batch;

    fn batch(records: u64) -> Element {
        Element::Batch(Box::new(Batch::from((0..records).collect::<Vec<_>>())))
    }

    #[test]
    fn what_waits_is_bounded_in_records_and_control_elements_pass() {
        let producer = Waker::default();
        let channel = Channel::new(16, producer.clone(), Waker::default());
        channel.bound(100);
        assert_eq!(producer.changes(), 1);
        assert!(channel.send(batch(60)).is_ok());
        assert!(channel.send(batch(60)).is_err(), "120 are more than 100");
        assert!(channel.send(batch(40)).is_ok() && channel.send(Element::Watermark(1)).is_ok());
        assert!(channel.receive().is_some() && channel.send(batch(61)).is_err());
        assert!(channel.send(batch(60)).is_ok());
        while channel.receive().is_some() {}
        assert!(channel.send(batch(500)).is_ok(), "one batch may always wait");
        channel.bound(usize::MAX);
        assert!((0..15).all(|_| channel.send(batch(1_000)).is_ok()));
        assert!(channel.send(batch(1)).is_err(), "sixteen elements");
    }
}
