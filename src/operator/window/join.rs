//! Joins of windows: what two streams have in the same window of the same key.
//!
//! Method: the records of both streams go through one general window operator as [`Either`], which keeps them
//! apart. A join emits pair by pair and looks at the output in between, since there may be many.

use super::Either;
use super::general::Contents;
use super::process::WindowContext;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::Result;
use crate::operator::collector::Collector;
use crate::operator::{Out, Progress};
use crate::semantics::window::Window;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// The records of both streams in a window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sides<L, R> {
    lefts: Vec<L>,
    rights: Vec<R>,
}

impl<L, R> Sides<L, R> {
    fn of(record: Either<L, R>) -> Self {
        let mut sides = Sides { lefts: Vec::new(), rights: Vec::new() };
        sides.add(record);
        sides
    }
    #[inline]
    fn add(&mut self, record: Either<L, R>) {
        match record {
            Either::Left(left) => self.lefts.push(left),
            Either::Right(right) => self.rights.push(right),
        }
    }
    fn append(&mut self, mut other: Self) {
        self.lefts.append(&mut other.lefts);
        self.rights.append(&mut other.rights);
    }
}

/// J1: all pairs of a key and window.
pub struct JoinPairs<F, U> {
    f: F,
    /// The pair that follows, while a window fires.
    next: (usize, usize),
    types: PhantomData<fn() -> U>,
}

impl<F, U> JoinPairs<F, U> {
    /// Makes a record of each pair with `f`.
    pub fn new(f: F) -> Self {
        JoinPairs { f, next: (0, 0), types: PhantomData }
    }
}

impl<K, L, R, U, F> Contents<K, Either<L, R>> for JoinPairs<F, U>
where
    K: Key,
    L: Data,
    R: Data,
    U: Data,
    F: FnMut(&L, &R) -> U + Send + 'static,
{
    type Content = Sides<L, R>;
    type Out = U;

    fn create(&mut self, record: Either<L, R>, _: Option<Timestamp>) -> Sides<L, R> {
        Sides::of(record)
    }
    #[inline]
    fn add(&mut self, sides: &mut Sides<L, R>, record: Either<L, R>, _: Option<Timestamp>) {
        sides.add(record);
    }
    fn merge(&mut self, sides: &mut Sides<L, R>, other: Sides<L, R>) {
        sides.append(other);
    }
    fn fire(
        &mut self,
        _: &K,
        sides: &mut Sides<L, R>,
        timestamp: Option<Timestamp>,
        _: &mut WindowContext,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        while let Some(left) = sides.lefts.get(self.next.0) {
            while let Some(right) = sides.rights.get(self.next.1) {
                if out.is_full() {
                    return Ok(Progress::Yielded);
                }
                self.next.1 += 1;
                out.push((self.f)(left, right), timestamp);
            }
            self.next = (self.next.0 + 1, 0);
        }
        self.next = (0, 0);
        Ok(Progress::Done)
    }
}

/// J2: the records of both sides of a key and window, of which one may have none.
pub struct CoGroupSides<F, U> {
    f: F,
    types: PhantomData<fn() -> U>,
}

impl<F, U> CoGroupSides<F, U> {
    /// Calls `f` for each key and window.
    pub fn new(f: F) -> Self {
        CoGroupSides { f, types: PhantomData }
    }
}

impl<K, L, R, U, F> Contents<K, Either<L, R>> for CoGroupSides<F, U>
where
    K: Key,
    L: Data,
    R: Data,
    U: Data,
    F: FnMut(&K, Window, &[L], &[R], &mut Collector<'_, U>) + Send + 'static,
{
    type Content = Sides<L, R>;
    type Out = U;

    fn create(&mut self, record: Either<L, R>, _: Option<Timestamp>) -> Sides<L, R> {
        Sides::of(record)
    }
    #[inline]
    fn add(&mut self, sides: &mut Sides<L, R>, record: Either<L, R>, _: Option<Timestamp>) {
        sides.add(record);
    }
    fn merge(&mut self, sides: &mut Sides<L, R>, other: Sides<L, R>) {
        sides.append(other);
    }
    fn fire(
        &mut self,
        key: &K,
        sides: &mut Sides<L, R>,
        timestamp: Option<Timestamp>,
        ctx: &mut WindowContext,
        out: &mut Out<U>,
    ) -> Result<Progress> {
        let mut out = Collector::new(out, timestamp);
        (self.f)(key, ctx.window(), &sides.lefts, &sides.rights, &mut out);
        Ok(Progress::Done)
    }
}
