//! Pass: hands records on as they come: what is left to do where the edge has put them into order.

use crate::base::batch::Batch;
use crate::base::data::Data;
use crate::base::error::Result;
use crate::operator::{Context, Operator, Out, Progress};
use std::marker::PhantomData;

/// Passes whole batches on.
pub struct Pass<T>(PhantomData<fn() -> T>);

impl<T> Pass<T> {
    /// The operator.
    pub fn new() -> Self {
        Pass(PhantomData)
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
        true
    }
}
