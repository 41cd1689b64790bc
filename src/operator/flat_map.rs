//! FlatMap: any number of records out for each record in. Stateless; keeps order; the records carry the timestamp
//! of the record they came from.

use super::collector::Collector;
use super::{Context, Operator, Out, Progress};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::{BoxError, Error, Result};
use std::marker::PhantomData;

/// Applies a closure that emits into a [`Collector`].
pub struct FlatMap<T, U, F> {
    f: F,
    /// The batch under way has been reversed, so that records are taken from its end.
    reversed: bool,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, F> FlatMap<T, U, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        FlatMap { f, reversed: false, types: PhantomData }
    }
}

impl<T: Data, U: Data, F: FnMut(T, &mut Collector<'_, U>) + Send + 'static> Operator for FlatMap<T, U, F> {
    type In = T;
    type Out = U;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if !std::mem::replace(&mut self.reversed, true) {
            batch.reverse();
        }
        while !out.is_full() {
            let Some((value, timestamp)) = batch.pop() else { break };
            (self.f)(value, &mut Collector::new(out, timestamp));
        }
        if !batch.is_empty() {
            return Ok(Progress::Yielded);
        }
        self.reversed = false;
        Ok(Progress::Done)
    }
}

/// Applies a closure that emits into a [`Collector`] and may fail.
pub struct TryFlatMap<T, U, F> {
    f: F,
    reversed: bool,
    types: PhantomData<fn(T) -> U>,
}

impl<T, U, F> TryFlatMap<T, U, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        TryFlatMap { f, reversed: false, types: PhantomData }
    }
}

impl<T: Data, U: Data, E, F> Operator for TryFlatMap<T, U, F>
where
    E: Into<BoxError>,
    F: FnMut(T, &mut Collector<'_, U>) -> Result<(), E> + Send + 'static,
{
    type In = T;
    type Out = U;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<U>) -> Result<Progress> {
        if !std::mem::replace(&mut self.reversed, true) {
            batch.reverse();
        }
        while !out.is_full() {
            let Some((value, timestamp)) = batch.pop() else { break };
            (self.f)(value, &mut Collector::new(out, timestamp)).map_err(Error::user)?;
        }
        if !batch.is_empty() {
            return Ok(Progress::Yielded);
        }
        self.reversed = false;
        Ok(Progress::Done)
    }
}
