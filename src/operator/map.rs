//! Map: one record out for each record in. Stateless; keeps order and timestamps.

use super::{Context, Operator, Out, Progress};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::{BoxError, Error, Result};
use std::marker::PhantomData;

/// Applies a closure to each record.
pub struct Map<T, U, F> {
    f: F,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, F> Map<T, U, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        Map { f, types: PhantomData }
    }
}

impl<T: Data, U: Data, F: FnMut(T) -> U + Send + 'static> Operator for Map<T, U, F> {
    type In = T;
    type Out = U;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        Ok(out.map_from(batch, &mut self.f))
    }
}

/// Applies a closure that may fail to each record.
pub struct TryMap<T, U, F> {
    f: F,
    /// The batch under way has been reversed, so that records are taken from its end.
    reversed: bool,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, F> TryMap<T, U, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        TryMap { f, reversed: false, types: PhantomData }
    }
}

impl<T: Data, U: Data, E, F> Operator for TryMap<T, U, F>
where
    E: Into<BoxError>,
    F: FnMut(T) -> Result<U, E> + Send + 'static,
{
    type In = T;
    type Out = U;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if !std::mem::replace(&mut self.reversed, true) {
            batch.reverse();
        }
        while !out.is_full() {
            let Some((value, timestamp)) = batch.pop() else { break };
            out.push((self.f)(value).map_err(Error::user)?, timestamp);
        }
        if !batch.is_empty() {
            return Ok(Progress::Yielded);
        }
        self.reversed = false;
        Ok(Progress::Done)
    }
}
