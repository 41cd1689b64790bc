//! Erased operators: the one place where an operator meets batches whose type it knows and its caller does not.

use super::source::Poll;
use super::{Context, Operator, Out, Progress};
use crate::base::batch::{ErasedBatch, typed};
use crate::base::data::Timestamp;
use crate::base::error::Result;

/// An operator as executors see it: a dynamic call for each batch, none for a record.
pub trait AnyOperator: Send {
    /// See [`Operator::open`].
    fn open(&mut self, ctx: &mut Context) -> Result<()>;
    /// See [`Operator::process`]; `input` is the index of the logical input.
    fn process(&mut self, input: usize, batch: &mut ErasedBatch, ctx: &mut Context) -> Result<Progress>;
    /// See [`Operator::watermark`].
    fn watermark(&mut self, watermark: Timestamp, ctx: &mut Context) -> Result<Progress>;
    /// See [`Operator::end_of_key`].
    fn end_of_key(&mut self, ctx: &mut Context) -> Result<Progress>;
    /// See [`Operator::end_of_input`].
    fn end_of_input(&mut self, input: usize, ctx: &mut Context) -> Result<Progress>;
    /// See [`Operator::idle`].
    fn idle(&mut self) -> Result<()>;
    /// See [`Operator::close`].
    fn close(&mut self) -> Result<()>;

    /// Reads the next records; only a source has any. `watermark` receives what the source promises behind them.
    fn poll(&mut self, _ctx: &mut Context, _watermark: &mut Option<Timestamp>) -> Result<Poll> {
        Ok(Poll::End)
    }

    /// Whether a batch waits to be taken.
    fn is_full(&self) -> bool;
    /// Makes a batch that is under way available.
    fn flush(&mut self);
    /// The oldest waiting batch.
    fn take(&mut self) -> Option<ErasedBatch>;
    /// Takes an emptied batch that came from this operator.
    fn recycle(&mut self, batch: ErasedBatch);
    /// Records and bytes emitted so far.
    fn totals(&self) -> (u64, u64);
    /// Name of the operator's type, for plans and tests.
    fn type_name(&self) -> &'static str;
}

/// An operator with one logical input and its output.
pub struct OneInput<O: Operator> {
    operator: O,
    out: Out<O::Out>,
}

impl<O: Operator> OneInput<O> {
    /// The operator, boxed for an executor.
    pub fn boxed(operator: O) -> Box<dyn AnyOperator> {
        Box::new(OneInput { operator, out: Out::new() })
    }
}

impl<O: Operator> AnyOperator for OneInput<O> {
    fn open(&mut self, ctx: &mut Context) -> Result<()> {
        self.operator.open(ctx)
    }
    fn process(&mut self, _input: usize, batch: &mut ErasedBatch, ctx: &mut Context) -> Result<Progress> {
        self.operator.process(typed::<O::In>(&mut **batch), ctx, &mut self.out)
    }
    fn watermark(&mut self, watermark: Timestamp, ctx: &mut Context) -> Result<Progress> {
        self.operator.watermark(watermark, ctx, &mut self.out)
    }
    fn end_of_key(&mut self, ctx: &mut Context) -> Result<Progress> {
        self.operator.end_of_key(ctx, &mut self.out)
    }
    fn end_of_input(&mut self, _input: usize, ctx: &mut Context) -> Result<Progress> {
        self.operator.end_of_input(ctx, &mut self.out)
    }
    fn idle(&mut self) -> Result<()> {
        self.operator.idle()
    }
    fn close(&mut self) -> Result<()> {
        self.operator.close()
    }
    fn is_full(&self) -> bool {
        self.out.is_full()
    }
    fn flush(&mut self) {
        self.out.flush()
    }
    fn take(&mut self) -> Option<ErasedBatch> {
        self.out.take_erased()
    }
    fn recycle(&mut self, batch: ErasedBatch) {
        self.out.recycle(batch)
    }
    fn totals(&self) -> (u64, u64) {
        self.out.totals()
    }
    fn type_name(&self) -> &'static str {
        std::any::type_name::<O>()
    }
}
