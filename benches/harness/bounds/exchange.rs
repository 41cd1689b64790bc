//! Exchange: two threads generate the even and the odd events and swap those that belong to the other.
//!
//! Method: each thread makes a batch of events, sends the other's share over a bounded channel with its watermark,
//! and folds its own share and at most one received batch. While the channel is full it folds what it received.
//! Buffers are used again, so that the allocator plays no part.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::THREADS;
use crate::harness::data::{Event, OUT_OF_ORDER_MS, event};

/// Events generated at a time.
const BATCH_EVENTS: usize = 4096;
/// Batches on their way in one direction.
const CHANNEL_BATCHES: usize = 16;

/// What each thread does with the events of its keys.
pub trait Fold: Default + Send {
    /// Takes in a batch; no event at or below the watermark follows.
    fn on_batch(&mut self, events: &[Event], watermark: i64);
    /// The three numbers to add up over the threads, after the last event.
    fn finish(self) -> [u64; 3];
}

/// Runs the fold over `records` events on two threads and adds up what they return.
pub fn run<F: Fold>(records: u64, keys: u64) -> [u64; 3] {
    let (to_first, at_first) = sync_channel(CHANNEL_BATCHES);
    let (to_second, at_second) = sync_channel(CHANNEL_BATCHES);
    std::thread::scope(|scope| {
        let threads = [(0, to_second, at_first), (1, to_first, at_second)].map(|(me, sender, receiver)| {
            scope.spawn(move || Half::<F>::new(me, receiver).run(&sender, records, keys))
        });
        let mut totals = [0u64; 3];
        for thread in threads {
            let of_thread = thread.join().expect("a thread of the bound panicked");
            for (total, add) in totals.iter_mut().zip(of_thread) {
                *total = total.wrapping_add(add);
            }
        }
        totals
    })
}

struct Batch {
    events: Vec<Event>,
    watermark: i64,
    last: bool,
}

struct Half<F> {
    me: usize,
    fold: F,
    receiver: Receiver<Batch>,
    watermarks: [i64; THREADS],
    other_done: bool,
    /// Buffers of batches that were taken in, for batches to send: as many come as go.
    spare: Vec<Vec<Event>>,
}

#[inline(always)]
fn owner(key: u64) -> usize {
    ((key as u32).wrapping_mul(0x9E37_79B1) >> 31) as usize
}

impl<F: Fold> Half<F> {
    fn new(me: usize, receiver: Receiver<Batch>) -> Self {
        Half {
            me,
            fold: F::default(),
            receiver,
            watermarks: [i64::MIN; THREADS],
            other_done: false,
            spare: Vec::new(),
        }
    }

    fn run(mut self, sender: &SyncSender<Batch>, records: u64, keys: u64) -> [u64; 3] {
        let mut next = self.me as u64;
        let mut newest_ms = i64::MIN / 2;
        let mut own = Vec::with_capacity(BATCH_EVENTS);
        while next < records {
            own.clear();
            let mut other = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BATCH_EVENTS));
            for _ in 0..BATCH_EVENTS {
                if next >= records {
                    break;
                }
                let event = event(next, keys);
                newest_ms = newest_ms.max(event.1);
                if owner(event.0) == self.me {
                    own.push(event)
                } else {
                    other.push(event)
                }
                next += THREADS as u64;
            }
            let last = next >= records;
            let watermark = if last { i64::MAX } else { newest_ms - OUT_OF_ORDER_MS - 1 };
            self.send(sender, Batch { events: other, watermark, last });
            self.watermarks[self.me] = watermark;
            self.take_in(&own);
            if let Ok(batch) = self.receiver.try_recv() {
                self.on_received(batch);
            }
        }
        self.watermarks[self.me] = i64::MAX;
        while !self.other_done {
            let batch = self.receiver.recv().expect("the other thread sends its last batch before it leaves");
            self.on_received(batch);
        }
        self.fold.finish()
    }

    fn send(&mut self, sender: &SyncSender<Batch>, mut batch: Batch) {
        loop {
            match sender.try_send(batch) {
                Ok(()) => return,
                Err(TrySendError::Full(back)) => batch = back,
                Err(TrySendError::Disconnected(_)) => panic!("the other thread left before its last batch"),
            }
            match self.receiver.try_recv() {
                Ok(received) => self.on_received(received),
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn on_received(&mut self, mut batch: Batch) {
        self.watermarks[1 - self.me] = batch.watermark;
        self.other_done |= batch.last;
        self.take_in(&batch.events);
        batch.events.clear();
        self.spare.push(batch.events);
    }

    fn take_in(&mut self, events: &[Event]) {
        self.fold.on_batch(events, self.watermarks[0].min(self.watermarks[1]));
    }
}
