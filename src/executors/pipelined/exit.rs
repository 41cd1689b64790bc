//! ChannelExit: the sending end of an edge: routes batches, keeps what does not fit.

use super::channel::Channel;
use crate::base::batch::{Element, ErasedBatch};
use crate::base::error::Result;
use crate::executors::chain::Exit;
use crate::operator::exchange::Router;
use std::collections::VecDeque;
use std::sync::Arc;

/// Sends elements into one channel for each consumer. What waits is bounded: nothing is pushed while it is full.
pub struct ChannelExit {
    router: Box<dyn Router>,
    channels: Vec<Arc<Channel>>,
    waiting: Vec<VecDeque<Element>>,
}

impl ChannelExit {
    pub fn new(router: Box<dyn Router>, channels: Vec<Arc<Channel>>) -> Self {
        let waiting = channels.iter().map(|_| VecDeque::new()).collect();
        ChannelExit { router, channels, waiting }
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
            while let Some(element) = waiting.pop_front() {
                if let Err(element) = channel.send(element) {
                    waiting.push_front(element);
                    break;
                }
            }
        }
    }
}

impl Exit for ChannelExit {
    fn push(&mut self, element: Element) -> Result<Option<ErasedBatch>> {
        let emptied = match element {
            Element::Batch(mut batch) => {
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
}
