//! HashJoin and Cross: the right input is small, or must be at every subtask; the left one passes by.
//!
//! Place: behind a broadcast of the right input, which has been read when the first left record comes: so it is in
//! BATCH, and in STREAMING behind [`AtEnd`](super::AtEnd).
//! Method: right records are in a vector; those of a key are chained by index, in the order in which they came, and a
//! table knows the first and the last of each key.
//! Costs: the right side is in memory, once for each subtask (for each unit of work in BATCH); a join whose side does not
//! fit the share fails and says so. A cross product spools the right side and reads it once for each batch of the left one.

use super::pairs::Pairing;
use super::records::Records;
use super::spool::Spool;
use crate::base::batch::Batch;
use crate::base::data::{Data, Key};
use crate::base::error::{Error, Result};
use crate::operator::aggregate::HeapEstimate;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Out, Progress, TwoInputOperator};
use crate::semantics::state::{KeyTable, Slot, Upsert};
use std::sync::Arc;

/// Ends a chain.
const NONE: u32 = u32::MAX;

/// The right side of a join, by key.
struct Build<K, R> {
    selector: Arc<dyn KeySelector<R, K>>,
    /// Index of the first and the last record of a key.
    table: KeyTable<K, (u32, u32)>,
    records: Vec<R>,
    /// The record of the same key behind each.
    next: Vec<u32>,
    heap: HeapEstimate,
    keys: Vec<K>,
    hashes: Vec<u64>,
}

struct Rows<'a, K> {
    keys: &'a [K],
    first: u32,
    next: &'a mut [u32],
}

impl<K: Key> Upsert<K, (u32, u32)> for Rows<'_, K> {
    fn is_key(&self, i: usize, key: &K) -> bool {
        self.keys[i] == *key
    }
    fn found(&mut self, i: usize, _slot: Slot, ends: &mut (u32, u32)) -> Result<()> {
        let at = self.first + i as u32;
        self.next[ends.1 as usize] = at;
        ends.1 = at;
        Ok(())
    }
    fn insert(&mut self, i: usize, _slot: Slot) -> Result<(K, (u32, u32))> {
        let at = self.first + i as u32;
        Ok((self.keys[i].clone(), (at, at)))
    }
}

impl<K: Key, R: Data> Build<K, R> {
    fn new(selector: Arc<dyn KeySelector<R, K>>) -> Self {
        Build {
            selector,
            table: KeyTable::new(),
            records: Vec::new(),
            next: Vec::new(),
            heap: HeapEstimate::default(),
            keys: Vec::new(),
            hashes: Vec::new(),
        }
    }

    fn add(&mut self, batch: &mut Batch<R>, ctx: &Context) -> Result<()> {
        self.keys.clear();
        self.hashes.clear();
        self.selector.keys(&batch.values, &mut self.keys);
        self.selector.hashes(&batch.values, &mut self.hashes);
        let first = self.records.len();
        if first + batch.len() >= NONE as usize {
            return Err(self.too_large(ctx));
        }
        batch.values.iter().for_each(|record| self.heap.inserted(record));
        self.records.append(&mut batch.values);
        self.next.resize(self.records.len(), NONE);
        batch.clear();
        let mut rows = Rows { keys: &self.keys, first: first as u32, next: &mut self.next };
        self.table.upsert_batch(&self.hashes, &mut rows)?;
        let held = self.table.memory_bytes()
            + self.records.capacity() as u64 * size_of::<R>() as u64
            + self.next.capacity() as u64 * 4
            + self.heap.bytes(self.records.len() as u64);
        if held > ctx.memory_bytes { Err(self.too_large(ctx)) } else { Ok(()) }
    }

    #[cold]
    fn too_large(&self, ctx: &Context) -> Error {
        Error::Memory(format!(
            "the broadcast side of a join does not fit the {} bytes that a subtask has for it: {} records so far; leave \
             broadcast_right out, so that both sides are sorted and may spill, or give more memory",
            ctx.memory_bytes,
            self.records.len()
        ))
    }

    fn first(&self, key: &K, hash: u64) -> u32 {
        let slot = self.table.get(key, hash);
        slot.and_then(|slot| self.table.value(slot)).map_or(NONE, |ends| ends.0)
    }
}

/// What comes of a left record and the chain of its key.
pub trait Probe<L, R>: Send + 'static {
    /// Records out.
    type Out: Data;
    /// Emits what the next record of the chain gives, and returns whether others may follow.
    fn met(&mut self, left: &L, right: &R, out: &mut Out<Self::Out>) -> bool;
    /// The key has no record at the right.
    fn alone(&mut self, left: &L, out: &mut Out<Self::Out>);
}

/// Emits pairs.
#[derive(Clone)]
pub struct Pairs<P>(pub P);

impl<L, R, P: Pairing<L, R>> Probe<L, R> for Pairs<P> {
    type Out = P::Out;
    fn met(&mut self, left: &L, right: &R, out: &mut Out<P::Out>) -> bool {
        out.push(self.0.pair(left, right), None);
        true
    }
    fn alone(&mut self, left: &L, out: &mut Out<P::Out>) {
        self.0.left(left).into_iter().for_each(|result| out.push(result, None));
    }
}

/// Emits left records that meet some, or none.
#[derive(Clone)]
pub struct Meets(pub bool);

impl<L: Data, R> Probe<L, R> for Meets {
    type Out = L;
    fn met(&mut self, left: &L, _right: &R, out: &mut Out<L>) -> bool {
        if self.0 {
            out.push(left.clone(), None);
        }
        false
    }
    fn alone(&mut self, left: &L, out: &mut Out<L>) {
        if !self.0 {
            out.push(left.clone(), None);
        }
    }
}

/// Joins the records of the left input with those of the right one, which came before.
pub struct HashJoin<K, L, R, P> {
    probe: P,
    selector: Arc<dyn KeySelector<L, K>>,
    build: Build<K, R>,
    keys: Vec<K>,
    hashes: Vec<u64>,
    /// The left record of the batch that is next, and what is next in its chain if it was begun.
    at: usize,
    chain: Option<u32>,
    looked_up: bool,
    types: std::marker::PhantomData<fn(L)>,
}

impl<K: Key, L: Data, R: Data, P: Probe<L, R>> HashJoin<K, L, R, P> {
    /// The operator around what comes of the records.
    pub fn new(
        probe: P,
        left_key: Arc<dyn KeySelector<L, K>>,
        right_key: Arc<dyn KeySelector<R, K>>,
    ) -> Self {
        HashJoin {
            probe,
            selector: left_key,
            build: Build::new(right_key),
            keys: Vec::new(),
            hashes: Vec::new(),
            at: 0,
            chain: None,
            looked_up: false,
            types: std::marker::PhantomData,
        }
    }
}

impl<K: Key, L: Data, R: Data, P: Probe<L, R>> TwoInputOperator for HashJoin<K, L, R, P> {
    type Left = L;
    type Right = R;
    type Out = P::Out;

    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        ctx: &mut Context,
        _out: &mut Out<P::Out>,
    ) -> Result<Progress> {
        self.build.add(batch, ctx)?;
        Ok(Progress::Done)
    }

    fn process_left(
        &mut self,
        batch: &mut Batch<L>,
        _ctx: &mut Context,
        out: &mut Out<P::Out>,
    ) -> Result<Progress> {
        if !std::mem::replace(&mut self.looked_up, true) {
            self.keys.clear();
            self.hashes.clear();
            self.selector.keys(&batch.values, &mut self.keys);
            self.selector.hashes(&batch.values, &mut self.hashes);
        }
        while let Some(left) = batch.values.get(self.at) {
            if out.is_full() {
                return Ok(Progress::Yielded);
            }
            let next = match self.chain {
                Some(next) => next,
                None => {
                    let first = self.build.first(&self.keys[self.at], self.hashes[self.at]);
                    if first == NONE {
                        self.probe.alone(left, out);
                    }
                    first
                }
            };
            let more = match self.build.records.get(next as usize) {
                Some(right) => self.probe.met(left, right, out),
                None => false,
            };
            let after = self.build.next.get(next as usize).copied().unwrap_or(NONE);
            self.chain = (more && after != NONE).then_some(after);
            self.at += usize::from(self.chain.is_none());
        }
        (self.at, self.looked_up) = (0, false);
        batch.clear();
        Ok(Progress::Done)
    }

    fn emits_at_end(&self) -> bool {
        true
    }
}

/// All pairs of both inputs; the right one came before.
pub struct Cross<L, R: Data, F> {
    f: F,
    rights: Spool<R>,
    /// Right records that the batch at hand has yet to meet, and the current one.
    rest: Option<(Records<R>, Option<R>)>,
    at: usize,
    types: std::marker::PhantomData<fn(L)>,
}

impl<L: Data, R: Data, F> Cross<L, R, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        Cross { f, rights: Spool::new(0), rest: None, at: 0, types: std::marker::PhantomData }
    }
}

impl<L: Data, R: Data, U: Data, F: FnMut(&L, &R) -> U + Send + 'static> TwoInputOperator for Cross<L, R, F> {
    type Left = L;
    type Right = R;
    type Out = U;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.rights = Spool::new(ctx.memory_bytes);
        Ok(())
    }
    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        ctx: &mut Context,
        _out: &mut Out<U>,
    ) -> Result<Progress> {
        for record in batch.values.drain(..) {
            self.rights.push(record, ctx)?;
        }
        batch.clear();
        Ok(Progress::Done)
    }
    fn process_left(
        &mut self,
        batch: &mut Batch<L>,
        _ctx: &mut Context,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        if self.rest.is_none() {
            self.rest = Some((self.rights.copies()?, None));
        }
        let Some((rest, current)) = &mut self.rest else { return Ok(Progress::Done) };
        loop {
            if current.is_none() {
                *current = rest.next();
            }
            let Some(right) = current else { break };
            while let Some(left) = batch.values.get(self.at) {
                if out.is_full() {
                    return Ok(Progress::Yielded);
                }
                out.push((self.f)(left, right), None);
                self.at += 1;
            }
            self.at = 0;
            *current = None;
        }
        self.rest = None;
        self.rights.check()?;
        batch.clear();
        Ok(Progress::Done)
    }
    fn emits_at_end(&self) -> bool {
        true
    }
}
