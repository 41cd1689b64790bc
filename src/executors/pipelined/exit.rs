//! ChannelExit: the sending end of an edge: routes batches, keeps what does not fit.
//!
//! Where a consumer lets little wait before it, batches are as small as that (see `flow`): the router
//! makes no larger ones, and one that comes is cut.

use super::channel::Channel;
use crate::base::batch::{BATCH_RECORDS, Element, ErasedBatch};
use crate::base::error::Result;
use crate::executors::chain::{Exit, Outlet};
use crate::operator::exchange::Router;
use std::collections::VecDeque;
use std::sync::Arc;

/// Sends elements into one channel for each consumer. What waits is bounded: nothing is pushed while it is full.
pub struct ChannelExit {
    router: Box<dyn Router>,
    channels: Vec<Arc<Channel>>,
    waiting: Vec<VecDeque<Element>>,
    /// Records that have come.
    records: u64,
}

impl ChannelExit {
    pub fn new(router: Box<dyn Router>, channels: Vec<Arc<Channel>>) -> Self {
        let waiting = channels.iter().map(|_| VecDeque::new()).collect();
        ChannelExit { router, channels, waiting, records: 0 }
    }

    fn collect(&mut self) {
        for (target, waiting) in self.waiting.iter_mut().enumerate() {
            while let Some(batch) = self.router.take(target) {
                waiting.push_back(Element::Batch(batch));
            }
        }
    }

    fn send(&mut self) {
        for (waiting, channel) in self.waiting.iter_mut().zip(&self.channels) {
            while let Some(mut element) = waiting.pop_front() {
                if let Element::Batch(batch) = &mut element
                    && channel.records_max() < usize::MAX
                    && batch.len() > batch_records(channel)
                {
                    let rest = batch.split_off(batch_records(channel));
                    waiting.push_front(Element::Batch(rest));
                }
                if let Err(element) = channel.send(element) {
                    waiting.push_front(element);
                    break;
                }
            }
        }
    }
}

/// Records of a batch for a channel: so many that one is worked on while another one waits.
fn batch_records(channel: &Channel) -> usize {
    (channel.records_max() / 2).clamp(1, BATCH_RECORDS)
}

impl Exit for ChannelExit {
    fn push(&mut self, element: Element) -> Result<Option<ErasedBatch>> {
        let emptied = match element {
            Element::Batch(mut batch) => {
                self.records += batch.len() as u64;
                self.router.route(&mut batch)?;
                self.collect();
                Some(batch)
            }
            control => {
                self.router.flush();
                self.collect();
                for waiting in &mut self.waiting {
                    waiting.push_back(control.duplicate());
                }
                None
            }
        };
        self.send();
        Ok(emptied)
    }

    fn is_full(&mut self) -> bool {
        self.send();
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    fn flush(&mut self) -> Result<()> {
        if self.router.has_partial() {
            self.router.flush();
            self.collect();
            self.send();
        }
        Ok(())
    }

    fn batch_records(&mut self) -> usize {
        let records =
            self.channels.iter().map(|channel| batch_records(channel)).min().unwrap_or(BATCH_RECORDS);
        self.router.seal_at(records);
        records.saturating_mul(self.channels.len()).min(BATCH_RECORDS)
    }

    fn outlet(&self) -> Outlet {
        let records_max = self.channels.iter().fold(0, |sum: usize, c| sum.saturating_add(c.records_max()));
        Outlet { records: self.records, records_max }
    }
}
