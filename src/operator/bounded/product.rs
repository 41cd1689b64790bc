//! Product: all pairs of the records of two spools, bit by bit.
//!
//! Method: a block of left records is in memory; against it the right side is read once from its first record to its
//! last. The first block is what the left spool keeps in memory, the others are as large. So of two sides that both
//! spill, the right one is read once for each block of the left one.

use super::records::Records;
use super::spool::Spool;
use crate::base::data::Data;
use crate::base::error::Result;

/// Where the pairs of two spools have come to.
pub(super) struct Product<L, R> {
    /// A later block; before, the block is the head of the left spool.
    block: Option<Vec<L>>,
    blocks: Option<Records<L>>,
    /// The next left record of the block.
    left: usize,
    /// The next right record of the head.
    right: usize,
    /// Right records behind the head, and the current one.
    rest: Option<(Records<R>, Option<R>)>,
    ended: bool,
}

impl<L: Data, R: Data> Product<L, R> {
    /// Before the first pair.
    pub(super) fn new() -> Self {
        Product { block: None, blocks: None, left: 0, right: 0, rest: None, ended: false }
    }

    /// Shows pairs until `room` says no more or there are none; true when there are none.
    #[inline]
    pub(super) fn run(
        &mut self,
        lefts: &mut Spool<L>,
        rights: &mut Spool<R>,
        mut room: impl FnMut() -> bool,
        mut pair: impl FnMut(&L, &R, &mut bool),
    ) -> Result<bool> {
        let mut has_room = room();
        while !self.ended {
            let block = self.block.as_deref().unwrap_or(lefts.head());
            while let Some(right) = rights.head().get(self.right) {
                while let Some(left) = block.get(self.left) {
                    if !has_room {
                        return Ok(false);
                    }
                    pair(left, right, &mut has_room);
                    self.left += 1;
                }
                self.left = 0;
                self.right += 1;
            }
            if !rights.is_in_memory() {
                if self.rest.is_none() {
                    self.rest = Some((rights.tail()?, None));
                }
                let Some((rest, current)) = &mut self.rest else { break };
                loop {
                    if current.is_none() {
                        *current = rest.next();
                    }
                    let Some(right) = current else { break };
                    while let Some(left) = block.get(self.left) {
                        if !has_room {
                            return Ok(false);
                        }
                        pair(left, right, &mut has_room);
                        self.left += 1;
                    }
                    self.left = 0;
                    *current = None;
                }
            }
            self.next_block(lefts)?;
        }
        Ok(true)
    }

    fn next_block(&mut self, lefts: &mut Spool<L>) -> Result<()> {
        (self.left, self.right, self.rest) = (0, 0, None);
        if lefts.is_in_memory() {
            self.ended = true;
            return Ok(());
        }
        if self.blocks.is_none() {
            self.blocks = Some(lefts.tail()?);
        }
        let size = lefts.head().len().max(1);
        let block: Vec<L> = self.blocks.iter_mut().flatten().take(size).collect();
        self.ended = block.is_empty();
        self.block = Some(block);
        Ok(())
    }
}
