//! Merger: a loser tree over cursors, in the order (hash, key, timestamp, cursor).
//!
//! Place: under [`Merge`](super::Merge), and under the merges that write fewer, longer runs.
//! Method: D. Knuth, The Art of Computer Programming, volume 3, 5.4.1, "tree of losers". The hash of every cursor's
//! row is kept beside the tree; rows are looked at only where hashes are equal. Rows of one key and cursor are
//! handed out without touching the tree: all of them come before those of later cursors, unless timestamps
//! interleave, which can only be if another cursor has the same hash.
//! Invariants: cursors are given in the order that breaks ties. `heads` of a cursor that has ended is the highest
//! hash, and it loses against every row.

use super::context::KeyOrder;
use super::cursor::Cursor;
use super::row::{NEW, RESTATED, RowRef, SAME, equal_bytes};
use super::run::RunWriter;
use crate::base::error::Result;
use crate::base::mutant;
use std::cmp::Ordering;

/// Merges cursors.
pub(super) struct Merger {
    cursors: Vec<Cursor>,
    heads: Vec<u64>,
    ended: Vec<bool>,
    /// `losers[1..]` are the inner nodes; the leaves, cursor `c` at `count + c`, are implied.
    losers: Vec<u32>,
    winner: usize,
    order: KeyOrder,
    /// Whether any cursor has timestamps. Where some have none, those rows come first in their key.
    timestamps: bool,
    started: bool,
    last_hash: u64,
    last_key: LastKey,
    copy: Vec<u8>,
    alone: Alone,
}

/// Where the key of the row handed out last is.
#[derive(Clone, Copy)]
enum LastKey {
    /// In the current block of a cursor.
    Block(usize, (usize, usize)),
    /// Copied, because the block was left.
    Copied,
}

/// Whether any other cursor has the hash of the winner.
#[derive(Clone, Copy, PartialEq)]
enum Alone {
    Unknown,
    Yes,
    No,
}

impl Merger {
    /// A merger before the first row.
    pub(super) fn new(mut cursors: Vec<Cursor>, order: KeyOrder) -> Result<Merger> {
        let timestamps = cursors.iter().any(|cursor| cursor.timestamps);
        let count = cursors.len();
        let (mut heads, mut ended) = (vec![u64::MAX; count], vec![true; count]);
        for (index, cursor) in cursors.iter_mut().enumerate() {
            if cursor.start()? {
                (heads[index], ended[index]) = (cursor.hash, false);
            }
        }
        let mut merger = Merger {
            cursors,
            heads,
            ended,
            losers: vec![0; count],
            winner: 0,
            order,
            timestamps,
            started: false,
            last_hash: 0,
            last_key: LastKey::Copied,
            copy: Vec::new(),
            alone: Alone::Unknown,
        };
        merger.build();
        Ok(merger)
    }

    fn build(&mut self) {
        let count = self.cursors.len();
        // Winners of all subtrees, bottom up: node n plays the winners of 2n and 2n + 1.
        let mut winners: Vec<usize> = (0..2 * count).map(|node| node.saturating_sub(count)).collect();
        for node in (1..count).rev() {
            let (a, b) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if self.is_before(b, a) { (b, a) } else { (a, b) };
            winners[node] = winner;
            self.losers[node] = loser as u32;
        }
        self.winner = winners.get(1).copied().unwrap_or(0);
    }

    #[inline(always)]
    fn is_before(&self, a: usize, b: usize) -> bool {
        let (x, y) = (self.heads[a], self.heads[b]);
        x < y || (x == y && self.is_before_at_equal_hash(a, b))
    }

    #[inline(never)]
    fn is_before_at_equal_hash(&self, a: usize, b: usize) -> bool {
        if self.ended[a] || self.ended[b] {
            return !self.ended[a];
        }
        let (x, y) = (&self.cursors[a], &self.cursors[b]);
        compare_keys(&self.order, x.key(), y.key())
            .then_with(|| if self.timestamps { x.timestamp.cmp(&y.timestamp) } else { Ordering::Equal })
            .then(a.cmp(&b))
            .is_lt()
    }

    #[inline(always)]
    fn replay(&mut self) {
        let mut winner = self.winner;
        let mut node = (winner + self.cursors.len()) / 2;
        while node > 0 {
            let loser = self.losers[node] as usize;
            if self.is_before(loser, winner) {
                self.losers[node] = winner as u32;
                winner = loser;
            }
            node /= 2;
        }
        self.winner = winner;
    }

    /// Whether a cursor other than the winner has the winner's hash. The best of the others lost to the winner.
    fn is_alone(&self) -> bool {
        let mut node = (self.winner + self.cursors.len()) / 2;
        while node > 0 {
            if self.heads[self.losers[node] as usize] == self.heads[self.winner] {
                return false;
            }
            node /= 2;
        }
        true
    }

    /// Goes to the next row: whether it starts another key, or `None` at the end. [`Merger::complete`] comes before its value is
    /// looked at.
    #[inline(always)]
    pub(super) fn step(&mut self) -> Result<Option<bool>> {
        if !self.started {
            self.started = true;
            return Ok(self.ended.get(self.winner).is_some_and(|ended| !ended).then_some(true));
        }
        let before = self.winner;
        let Some(cursor) = self.cursors.get_mut(before) else { return Ok(None) };
        if self.ended[before] {
            return Ok(None);
        }
        self.last_hash = cursor.hash;
        if cursor.is_at_block_end() {
            self.copy.clear();
            self.copy.extend_from_slice(cursor.key());
            self.last_key = LastKey::Copied;
        } else {
            self.last_key = LastKey::Block(before, cursor.key_range());
        }
        if cursor.advance()? {
            if !cursor.starts_key() {
                if self.timestamps && self.alone == Alone::Unknown {
                    self.alone = if self.is_alone() { Alone::Yes } else { Alone::No };
                }
                if !self.timestamps || self.alone == Alone::Yes {
                    return Ok(Some(false));
                }
            }
            self.heads[before] = self.cursors[before].hash;
        } else {
            self.heads[before] = u64::MAX;
            self.ended[before] = true;
        }
        self.alone = Alone::Unknown;
        self.replay();
        let winner = self.winner;
        if self.ended[winner] {
            return Ok(None);
        }
        let cursor = &self.cursors[winner];
        Ok(Some(if cursor.hash != self.last_hash {
            true
        } else if mutant::is("equal_hashes_mixed") {
            false
        } else if winner == before {
            cursor.starts_key()
        } else {
            compare_keys(&self.order, self.last_key(), cursor.key()).is_ne()
        }))
    }

    /// The key of the row before the current one.
    fn last_key(&self) -> &[u8] {
        match self.last_key {
            LastKey::Copied => &self.copy,
            LastKey::Block(cursor, range) => self.cursors[cursor].bytes(range),
        }
    }

    /// Whether the current row is large, wherever it is.
    #[inline(always)]
    pub(super) fn is_large(&self) -> bool {
        self.cursors.get(self.winner).is_some_and(Cursor::is_large)
    }

    /// Reads the current row if it is large: not before its turn has come.
    #[inline(always)]
    pub(super) fn complete(&mut self) -> Result<()> {
        match self.cursors.get_mut(self.winner) {
            Some(cursor) if cursor.is_partial() => cursor.complete(),
            _ => Ok(()),
        }
    }

    /// The input of the current row.
    #[inline(always)]
    pub(super) fn input(&self) -> usize {
        self.cursors.get(self.winner).map_or(0, |cursor| cursor.input)
    }

    /// The row that [`Merger::step`] went to.
    #[inline(always)]
    pub(super) fn row(&self, new_key: bool) -> RowRef<'_> {
        let cursor = &self.cursors[self.winner];
        RowRef {
            hash: cursor.hash,
            timestamp: cursor.timestamps.then_some(cursor.timestamp),
            input: cursor.input,
            key: cursor.key(),
            value: cursor.value(),
            value_onwards: cursor.value_onwards(),
            new_key,
        }
    }

    /// Whether there is a row that [`Merger::step`] went to.
    #[inline(always)]
    pub(super) fn has_row(&self) -> bool {
        self.started && self.ended.get(self.winner).is_some_and(|ended| !ended)
    }

    /// Writes all rows that are left to a run.
    pub(super) fn drain_into(&mut self, writer: &mut RunWriter<'_>) -> Result<()> {
        while let Some(new_key) = self.step()? {
            let mark = match new_key {
                true => NEW,
                false if equal_bytes(self.last_key(), self.cursors[self.winner].key()) => SAME,
                false => RESTATED,
            };
            self.complete()?;
            let cursor = &self.cursors[self.winner];
            writer.push(mark, cursor.hash, cursor.timestamp, cursor.key(), cursor.value())?;
        }
        Ok(())
    }
}

/// The order of two keys with equal hashes.
#[inline(always)]
pub(super) fn compare_keys(order: &KeyOrder, a: &[u8], b: &[u8]) -> Ordering {
    if equal_bytes(a, b) { Ordering::Equal } else { order(a, b) }
}
