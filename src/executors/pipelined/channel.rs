//! Channel: a bounded queue of elements from one producing to one consuming subtask.
//!
//! Bounded in elements, and since a batch is cut at about 256 KiB, in bytes too. Sending into a full channel
//! fails: the producer keeps the element and is woken when there is room.

use super::rest::Loops;
use crate::base::batch::Element;
use crossbeam::queue::ArrayQueue;
use crossbeam::sync::Unparker;
use std::sync::{Arc, OnceLock};

/// Elements that a channel holds: enough that producer and consumer seldom wait for each other's turn, few enough
/// that a barrier passes quickly.
pub const CHANNEL_ELEMENTS: usize = 16;

/// Wakes the worker that drives a subtask; does nothing where no worker sleeps.
#[derive(Clone, Default)]
pub struct Waker(Arc<OnceLock<Unparker>>);

impl Waker {
    /// Names the worker to wake. Once only.
    pub fn bind(&self, unparker: Unparker) {
        let _ = self.0.set(unparker);
    }
    /// Wakes it.
    pub fn wake(&self) {
        if let Some(unparker) = self.0.get() {
            unparker.unpark();
        }
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
        Arc::new(Channel { queue: ArrayQueue::new(elements), producer, consumer, within, into })
    }

    /// Appends an element, or gives it back if there is no room.
    pub fn send(&self, element: Element) -> Result<(), Element> {
        self.within.begin();
        let sent = self.queue.push(element);
        match sent.is_ok() {
            true => self.consumer.wake(),
            false => self.within.end(),
        }
        sent
    }

    /// Takes the oldest element.
    pub fn receive(&self) -> Option<Element> {
        let element = self.queue.pop();
        // Asked after the element is out: a producer that found no room did so before, and is woken here.
        if element.is_some() && self.queue.len() + 1 >= self.queue.capacity() {
            self.producer.wake();
        }
        if let Some(element) = &element {
            // The consumer is at work, so that what comes of the element is counted.
            self.within.end();
            if matches!(element, Element::End) {
                self.into.end();
            }
        }
        element
    }

    /// Whether there is nothing to receive.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether sending would fail.
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }
}
