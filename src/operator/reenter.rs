//! Reenter: the head of a loop: hands on what comes in and what comes back, as it comes.

use super::{Context, Operator, Out, Progress};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::Result;
use std::marker::PhantomData;

/// Passes whole batches on. That some of them come back is up to the executor.
pub struct Reenter<T>(PhantomData<fn() -> T>);

impl<T> Reenter<T> {
    /// The operator.
    pub fn new() -> Self {
        Reenter(PhantomData)
    }
}

impl<T> Default for Reenter<T> {
    fn default() -> Self {
        Reenter::new()
    }
}

impl<T: Data> Operator for Reenter<T> {
    type In = T;
    type Out = T;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        out.forward(batch);
        Ok(Progress::Done)
    }
}
