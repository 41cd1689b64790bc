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

/// Plain records up to this size are copied rather than branched over: a predicate that is hard to guess costs more
/// than a few bytes.
const COPIED_BYTES_MAX: usize = 16;

/// Keeps the accepted records with their timestamps; the predicate sees each record once, in order.
fn retain<T: Clone>(batch: &mut Batch<T>, accept: &mut impl FnMut(&T) -> bool) {
    batch.hashes.clear();
    let (values, timestamps) = (&mut batch.values, &mut batch.timestamps);
    let plain = !std::mem::needs_drop::<T>() && size_of::<T>() <= COPIED_BYTES_MAX;
    let mut kept = 0;
    match (plain, timestamps.is_empty()) {
        (true, true) => {
            for i in 0..values.len() {
                let keep = accept(&values[i]);
                values[kept] = values[i].clone();
                kept += keep as usize;
            }
            values.truncate(kept);
        }
        (false, true) => values.retain(accept),
        (_, false) => {
            for i in 0..values.len() {
                let keep = accept(&values[i]);
                // What is kept changes places with what was refused before it; the order of the kept stays.
                values.swap(kept, i);
                timestamps[kept] = timestamps[i];
                kept += keep as usize;
            }
            values.truncate(kept);
            timestamps.truncate(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_timestamps_of_small_and_large_records() {
        for timed in [false, true] {
            let timestamps = if timed { (0..100).collect() } else { vec![] };
            let mut small = Batch { values: (0..100u64).collect(), timestamps: timestamps.clone(), hashes: vec![] };
            let mut large = Batch { values: (0..100u64).map(|i| (i, [i; 4])).collect(), timestamps, hashes: vec![] };
            let mut seen = vec![];
            retain(&mut small, &mut |x| {
                seen.push(*x);
                x % 3 == 1
            });
            retain(&mut large, &mut |x| x.0 % 3 == 1);
            let expected: Vec<u64> = (0..100).filter(|x| x % 3 == 1).collect();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
            assert_eq!(small.values, expected);
            assert_eq!(large.values.iter().map(|x| x.0).collect::<Vec<_>>(), expected);
            let times: Vec<i64> = if timed { expected.iter().map(|&x| x as i64).collect() } else { vec![] };
            assert_eq!((&small.timestamps, &large.timestamps), (&times, &times));
        }
    }
}
