//! MergeJoin, SemiJoin and CoGroup: two inputs that come key by key, in one merge.
//!
//! Method: the records of a key are spooled, those of each side by themselves, and paired when the key ends.
//! Costs: of a key what fits the share is in memory; of sides that both spill, see `product`.

use super::group::draw;
use super::pairs::Pairing;
use super::product::Product;
use super::records::Records;
use super::spool::Spool;
use crate::base::batch::Batch;
use crate::base::data::{Data, Key};
use crate::base::error::Result;
use crate::operator::exchange::KeySelector;
use crate::operator::{Context, Out, Progress, TwoInputOperator};
use std::sync::Arc;

/// The records of a key, those of each side by themselves.
struct Sides<L, R> {
    lefts: Spool<L>,
    rights: Spool<R>,
}

impl<L: Data, R: Data> Sides<L, R> {
    /// Of no key yet; each side holds at most so many bytes.
    fn new(share_bytes: u64) -> Self {
        Sides { lefts: Spool::new(share_bytes), rights: Spool::new(share_bytes) }
    }
    /// With its part of the memory of an operator.
    fn of(ctx: &Context) -> Self {
        Sides::new(ctx.memory_bytes / 4)
    }
    /// The key has been dealt with: forgets its records, unless something went wrong when they were read.
    fn end_key(&mut self) -> Result<()> {
        self.lefts.check()?;
        self.rights.check()?;
        self.lefts.clear();
        self.rights.clear();
        Ok(())
    }
}

fn spool<T: Data>(spool: &mut Spool<T>, batch: &mut Batch<T>, ctx: &Context) -> Result<Progress> {
    for record in batch.values.drain(..) {
        spool.push(record, ctx)?;
    }
    batch.clear();
    Ok(Progress::Done)
}

/// Joins records of equal keys.
pub struct MergeJoin<L, R, P> {
    pairing: P,
    sides: Sides<L, R>,
    emitting: Option<Emitting<L, R>>,
}

enum Emitting<L, R> {
    Pairs(Product<L, R>),
    Lefts(Records<L>),
    Rights(Records<R>),
}

impl<L: Data, R: Data, P: Pairing<L, R>> MergeJoin<L, R, P> {
    /// The operator around what it makes of pairs.
    pub fn new(pairing: P) -> Self {
        MergeJoin { pairing, sides: Sides::new(0), emitting: None }
    }

    fn start(&mut self) -> Result<Option<Emitting<L, R>>> {
        let Sides { lefts, rights } = &mut self.sides;
        Ok(match (lefts.is_empty(), rights.is_empty()) {
            (false, false) => Some(Emitting::Pairs(Product::new())),
            (false, true) if P::LEFT => Some(Emitting::Lefts(lefts.take()?)),
            (true, false) if P::RIGHT => Some(Emitting::Rights(rights.take()?)),
            _ => None,
        })
    }
}

/// Draws records and emits what comes of them; true when there are no more.
fn alone<T: Data, U: Data>(
    records: &mut Records<T>,
    mut result: impl FnMut(&T) -> Option<U>,
    out: &mut Out<U>,
) -> bool {
    while !out.is_full() {
        match records.next() {
            Some(record) => result(&record).into_iter().for_each(|result| out.push(result, None)),
            None => return true,
        }
    }
    false
}

impl<L: Data, R: Data, P: Pairing<L, R>> TwoInputOperator for MergeJoin<L, R, P> {
    type Left = L;
    type Right = R;
    type Out = P::Out;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.sides = Sides::of(ctx);
        Ok(())
    }
    fn process_left(
        &mut self,
        batch: &mut Batch<L>,
        ctx: &mut Context,
        _out: &mut Out<P::Out>,
    ) -> Result<Progress> {
        spool(&mut self.sides.lefts, batch, ctx)
    }
    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        ctx: &mut Context,
        _out: &mut Out<P::Out>,
    ) -> Result<Progress> {
        spool(&mut self.sides.rights, batch, ctx)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<P::Out>) -> Result<Progress> {
        if self.emitting.is_none() {
            self.emitting = self.start()?;
        }
        let pairing = &mut self.pairing;
        let done = match &mut self.emitting {
            None => true,
            Some(Emitting::Lefts(records)) => alone(records, |record| pairing.left(record), out),
            Some(Emitting::Rights(records)) => alone(records, |record| pairing.right(record), out),
            Some(Emitting::Pairs(product)) => {
                let has_room = !out.is_full();
                product.run(
                    &mut self.sides.lefts,
                    &mut self.sides.rights,
                    || has_room,
                    |left, right, room| {
                        out.push(pairing.pair(left, right), None);
                        *room = !out.is_full();
                    },
                )?
            }
        };
        if !done {
            return Ok(Progress::Yielded);
        }
        self.emitting = None;
        self.sides.end_key()?;
        Ok(Progress::Done)
    }

    fn emits_at_end(&self) -> bool {
        true
    }
}

/// Passes on the left records whose key the right side has, or those whose key it does not have.
pub struct SemiJoin<L, R> {
    /// Those that it has.
    wanted: bool,
    lefts: Spool<L>,
    met: bool,
    emitting: Option<Records<L>>,
    types: std::marker::PhantomData<fn(R)>,
}

impl<L: Data, R: Data> SemiJoin<L, R> {
    /// A semi join, or an anti join.
    pub fn new(wanted: bool) -> Self {
        let types = std::marker::PhantomData;
        SemiJoin { wanted, lefts: Spool::new(0), met: false, emitting: None, types }
    }
}

impl<L: Data, R: Data> TwoInputOperator for SemiJoin<L, R> {
    type Left = L;
    type Right = R;
    type Out = L;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.lefts = Spool::new(ctx.memory_bytes / 2);
        Ok(())
    }
    fn process_left(
        &mut self,
        batch: &mut Batch<L>,
        ctx: &mut Context,
        _out: &mut Out<L>,
    ) -> Result<Progress> {
        if self.met && !self.wanted {
            batch.clear();
            return Ok(Progress::Done);
        }
        spool(&mut self.lefts, batch, ctx)
    }
    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        _ctx: &mut Context,
        _out: &mut Out<L>,
    ) -> Result<Progress> {
        self.met |= !batch.is_empty();
        batch.clear();
        Ok(Progress::Done)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<L>) -> Result<Progress> {
        if self.emitting.is_none() && self.met == self.wanted {
            self.emitting = Some(self.lefts.take()?);
        }
        if draw(&mut self.emitting, out) == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        self.met = false;
        self.lefts.check()?;
        self.lefts.clear();
        Ok(Progress::Done)
    }

    fn emits_at_end(&self) -> bool {
        true
    }
}

/// Calls `f(key, lefts, rights)` at the end of each key that either side has.
pub struct CoGroup<K, L: Data, R: Data, I: IntoIterator, F> {
    f: F,
    left_key: Arc<dyn KeySelector<L, K>>,
    right_key: Arc<dyn KeySelector<R, K>>,
    key: Option<K>,
    sides: Sides<L, R>,
    results: Option<I::IntoIter>,
}

impl<K: Key, L: Data, R: Data, I: IntoIterator, F> CoGroup<K, L, R, I, F> {
    /// The operator around `f`.
    pub fn new(f: F, left_key: Arc<dyn KeySelector<L, K>>, right_key: Arc<dyn KeySelector<R, K>>) -> Self {
        CoGroup { f, left_key, right_key, key: None, sides: Sides::new(0), results: None }
    }
}

impl<K, L, R, U, I, F> TwoInputOperator for CoGroup<K, L, R, I, F>
where
    K: Key,
    L: Data,
    R: Data,
    U: Data,
    I: IntoIterator<Item = U, IntoIter: Send> + 'static,
    F: FnMut(&K, Records<L>, Records<R>) -> I + Send + 'static,
{
    type Left = L;
    type Right = R;
    type Out = U;

    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.sides = Sides::of(ctx);
        Ok(())
    }
    fn process_left(
        &mut self,
        batch: &mut Batch<L>,
        ctx: &mut Context,
        _out: &mut Out<U>,
    ) -> Result<Progress> {
        if let (None, Some(first)) = (&self.key, batch.values.first()) {
            self.key = Some(self.left_key.key(first));
        }
        spool(&mut self.sides.lefts, batch, ctx)
    }
    fn process_right(
        &mut self,
        batch: &mut Batch<R>,
        ctx: &mut Context,
        _out: &mut Out<U>,
    ) -> Result<Progress> {
        if let (None, Some(first)) = (&self.key, batch.values.first()) {
            self.key = Some(self.right_key.key(first));
        }
        spool(&mut self.sides.rights, batch, ctx)
    }

    fn end_of_key(&mut self, _ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if let Some(key) = self.key.take() {
            let (lefts, rights) = (self.sides.lefts.take()?, self.sides.rights.take()?);
            self.results = Some((self.f)(&key, lefts, rights).into_iter());
        }
        if draw(&mut self.results, out) == Progress::Yielded {
            return Ok(Progress::Yielded);
        }
        self.sides.end_key()?;
        Ok(Progress::Done)
    }

    fn emits_at_end(&self) -> bool {
        true
    }
}
