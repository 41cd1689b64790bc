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
        out.map_from(batch, &mut self.f);
        Ok(Progress::Done)
    }
}

/// Applies a closure that may fail to each record.
pub struct TryMap<T, U, F> {
    f: F,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, F> TryMap<T, U, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        TryMap { f, types: PhantomData }
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
        let timestamps = std::mem::take(&mut batch.timestamps);
        for (i, value) in batch.values.drain(..).enumerate() {
            out.push((self.f)(value).map_err(Error::user)?, timestamps.get(i).copied());
        }
        Ok(Progress::Done)
    }
}
