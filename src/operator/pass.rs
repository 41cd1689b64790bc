//! Pass: hands records on as they come: where the edge has put them into order, and at the head of a loop.

use super::{Context, Operator, Out, Progress};
use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::Result;
use std::marker::PhantomData;

/// Passes whole batches on.
pub struct Pass<T> {
    at_end: bool,
    types: PhantomData<fn() -> T>,
}

impl<T> Pass<T> {
    /// The operator.
    pub fn new() -> Self {
        Pass { at_end: false, types: PhantomData }
    }

    /// The operator behind an edge that lets nothing through before the input has ended.
    pub fn at_end() -> Self {
        Pass { at_end: true, ..Pass::new() }
    }
}

impl<T> Default for Pass<T> {
    fn default() -> Self {
        Pass::new()
    }
}

impl<T: Data> Operator for Pass<T> {
    type In = T;
    type Out = T;

    fn process(&mut self, batch: &mut Batch<T>, _ctx: &mut Context, out: &mut Out<T>) -> Result<Progress> {
        out.forward(batch);
        Ok(Progress::Done)
    }
    fn emits_at_end(&self) -> bool {
        self.at_end
    }
}
