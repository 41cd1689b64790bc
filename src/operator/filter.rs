//! Filter: passes on the records that a predicate accepts. Stateless; keeps order and timestamps.

use super::{Context, Operator, Out, Progress};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::{BoxError, Error, Result};
use std::marker::PhantomData;

/// Keeps the records for which a closure says true.
pub struct Filter<T, F> {
    f: F,
    types: PhantomData<fn(T)>,
}

impl<T, F> Filter<T, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        Filter { f, types: PhantomData }
    }
}

impl<T: Data, F: FnMut(&T) -> bool + Send + 'static> Operator for Filter<T, F> {
    type In = T;
    type Out = T;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        retain(batch, &mut self.f);
        out.forward(batch);
        Ok(Progress::Done)
    }
}

/// Keeps the records for which a closure that may fail says true.
pub struct TryFilter<T, F> {
    f: F,
    types: PhantomData<fn(T)>,
}

impl<T, F> TryFilter<T, F> {
    /// The operator around `f`.
    pub fn new(f: F) -> Self {
        TryFilter { f, types: PhantomData }
    }
}

impl<T: Data, E, F> Operator for TryFilter<T, F>
where
    E: Into<BoxError>,
    F: FnMut(&T) -> Result<bool, E> + Send + 'static,
{
    type In = T;
    type Out = T;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        let mut failed = None;
        retain(batch, &mut |value| {
            failed.is_none()
                && (self.f)(value).unwrap_or_else(|e| {
                    failed = Some(e.into());
                    false
                })
        });
        if let Some(e) = failed {
            return Err(Error::User(e));
        }
        out.forward(batch);
        Ok(Progress::Done)
    }
}

/// Keeps the accepted records with their timestamps; the predicate sees each record once, in order.
fn retain<T>(batch: &mut Batch<T>, accept: &mut impl FnMut(&T) -> bool) {
    if batch.timestamps.is_empty() {
        batch.values.retain(accept);
    } else {
        let timestamps = &mut batch.timestamps;
        let (mut i, mut kept) = (0, 0);
        batch.values.retain(|value| {
            let keep = accept(value);
            if keep {
                timestamps[kept] = timestamps[i];
                kept += 1;
            }
            i += 1;
            keep
        });
        timestamps.truncate(kept);
    }
    batch.hashes.clear();
}
