//! Feed: the source of a harness: what a test has pushed and the operators have not taken.

use crate::base::data::{Data, Timestamp};
use crate::base::error::Result;
use crate::connectors::source::{Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

enum Fed<T> {
    Record(T, Option<Timestamp>),
    Watermark(Timestamp),
    Idle,
}

struct Queue<T> {
    waiting: VecDeque<Fed<T>>,
    ended: bool,
}

/// The test's end of a [`FeedSource`].
pub(super) struct Feed<T> {
    queue: Arc<Mutex<Queue<T>>>,
}

impl<T> Clone for Feed<T> {
    fn clone(&self) -> Self {
        Feed { queue: self.queue.clone() }
    }
}

impl<T> Feed<T> {
    pub(super) fn new() -> Self {
        Feed { queue: Arc::new(Mutex::new(Queue { waiting: VecDeque::new(), ended: false })) }
    }
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn record(&self, value: T, timestamp: Option<Timestamp>) {
        self.queue().waiting.push_back(Fed::Record(value, timestamp));
    }
    pub(super) fn watermark(&self, watermark: Timestamp) {
        self.queue().waiting.push_back(Fed::Watermark(watermark));
    }
    pub(super) fn idle(&self) {
        self.queue().waiting.push_back(Fed::Idle);
    }
    pub(super) fn end(&self) {
        self.queue().ended = true;
    }
}

/// Emits what is fed, in order; one split.
pub(super) struct FeedSource<T> {
    pub(super) feed: Feed<T>,
}

impl<T: Data> Source for FeedSource<T> {
    type Item = T;
    type Split = ();
    type Reader = FeedReader<T>;

    fn describe(&self) -> String {
        "harness".to_string()
    }
    fn boundedness(&self) -> Boundedness {
        Boundedness::Bounded
    }
    fn splits(&self, _ctx: &SourceContext) -> Result<Vec<()>> {
        Ok(vec![()])
    }
    fn open(&self, (): (), _ctx: &SourceContext) -> Result<FeedReader<T>> {
        Ok(FeedReader { feed: self.feed.clone() })
    }
}

pub(super) struct FeedReader<T> {
    feed: Feed<T>,
}

impl<T: Data> SplitReader for FeedReader<T> {
    type Item = T;
    type Split = ();

    fn poll(&mut self, out: &mut SourceOutput<T>) -> Result<Poll> {
        let mut queue = self.feed.queue();
        let mut timestamps = None;
        while !out.is_full() {
            match queue.waiting.pop_front() {
                // Records with a timestamp and records without do not share a batch.
                Some(Fed::Record(value, timestamp)) => {
                    if timestamps.is_some_and(|t| t != timestamp.is_some()) {
                        queue.waiting.push_front(Fed::Record(value, timestamp));
                        return Ok(Poll::More);
                    }
                    timestamps = Some(timestamp.is_some());
                    match timestamp {
                        Some(timestamp) => out.emit_at(value, timestamp),
                        None => out.emit(value),
                    }
                }
                Some(Fed::Watermark(watermark)) => {
                    out.emit_watermark(watermark);
                    return Ok(Poll::More);
                }
                Some(Fed::Idle) => {
                    out.mark_idle();
                    return Ok(Poll::More);
                }
                None if queue.ended => return Ok(Poll::End),
                None if timestamps.is_some() => return Ok(Poll::More),
                None => return Ok(Poll::Idle(None)),
            }
        }
        Ok(Poll::More)
    }
    fn position(&self) {}
}
