//! Erased operators: the one place where an operator meets batches whose type it knows and its caller does not.

use super::output::AnyOut;
use super::source::Poll;
use super::{Context, Operator, Out, Progress, TwoInputOperator};
use crate::base::batch::{Barrier, CheckpointId, ErasedBatch, typed};
use crate::base::data::Timestamp;
use crate::base::error::Result;
use crate::semantics::state::{OperatorSnapshot, OperatorState, StateTable};

/// An operator as executors see it: a dynamic call for each batch, none for a record.
pub trait AnyOperator: Send {
    /// See [`Operator::open`].
    fn open(&mut self, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }
    /// See [`Operator::process`]; `input` is the index of the logical input.
    fn process(&mut self, input: usize, batch: &mut ErasedBatch, ctx: &mut Context) -> Result<Progress>;
    /// See [`Operator::watermark`].
    fn watermark(&mut self, _watermark: Timestamp, _ctx: &mut Context) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// See [`Operator::processing_time`].
    fn processing_time(&mut self, _now: Timestamp, _ctx: &mut Context) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// See [`Operator::next_timer`].
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    /// See [`Operator::makes_watermarks`].
    fn makes_watermarks(&self) -> bool {
        false
    }
    /// See [`Operator::emits_at_end`].
    fn emits_at_end(&self) -> bool {
        false
    }
    /// See [`Operator::end_of_key`].
    fn end_of_key(&mut self, _ctx: &mut Context) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// One logical input has ended. The operator learns of it with the last of them.
    fn end_of_input(&mut self, _input: usize, _ctx: &mut Context) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// See [`Operator::idle`].
    fn idle(&mut self) -> Result<()> {
        Ok(())
    }
    /// See [`Operator::snapshot`].
    fn snapshot(&mut self, _barrier: Barrier, _into: &mut OperatorSnapshot) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// See [`Operator::snapshot_more`].
    fn snapshot_more(&mut self, _into: &mut OperatorSnapshot) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// See [`Operator::checkpoint_complete`].
    fn checkpoint_complete(&mut self, _checkpoint: CheckpointId) -> Result<()> {
        Ok(())
    }
    /// See [`Operator::restore`].
    fn restore(&mut self, _state: &OperatorState, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }
    /// See [`Operator::state_tables`].
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        Vec::new()
    }
    /// See [`Operator::close`].
    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    /// Reads the next records; only a source has any.
    fn poll(&mut self, _ctx: &mut Context) -> Result<Poll> {
        Ok(Poll::End)
    }

    /// What the operator has emitted.
    fn out(&mut self) -> &mut dyn AnyOut;
    /// Name of the operator's type, for plans and tests.
    fn type_name(&self) -> &'static str;
}

/// What [`OneInput`] and [`TwoInput`] hand to their operator as it is.
macro_rules! forwarded_calls {
    () => {
        fn open(&mut self, ctx: &mut Context) -> Result<()> {
            self.operator.open(ctx)
        }
        fn watermark(&mut self, watermark: Timestamp, ctx: &mut Context) -> Result<Progress> {
            self.operator.watermark(watermark, ctx, &mut self.out)
        }
        fn processing_time(&mut self, now: Timestamp, ctx: &mut Context) -> Result<Progress> {
            self.operator.processing_time(now, ctx, &mut self.out)
        }
        fn next_timer(&self) -> Option<Timestamp> {
            self.operator.next_timer()
        }
        fn emits_at_end(&self) -> bool {
            self.operator.emits_at_end()
        }
        fn end_of_key(&mut self, ctx: &mut Context) -> Result<Progress> {
            self.operator.end_of_key(ctx, &mut self.out)
        }
        fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
            self.operator.snapshot(barrier, into)
        }
        fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
            self.operator.snapshot_more(into)
        }
        fn checkpoint_complete(&mut self, checkpoint: CheckpointId) -> Result<()> {
            self.operator.checkpoint_complete(checkpoint)
        }
        fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
            self.operator.restore(state, ctx)
        }
        fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
            self.operator.state_tables()
        }
        fn close(&mut self) -> Result<()> {
            self.operator.close()
        }
        fn out(&mut self) -> &mut dyn AnyOut {
            &mut self.out
        }
        fn type_name(&self) -> &'static str {
            std::any::type_name::<O>()
        }
    };
}

/// An operator with one logical input and its outputs.
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
    forwarded_calls!();

    fn process(&mut self, _input: usize, batch: &mut ErasedBatch, ctx: &mut Context) -> Result<Progress> {
        self.operator.process(typed::<O::In>(&mut **batch), ctx, &mut self.out)
    }
    fn makes_watermarks(&self) -> bool {
        self.operator.makes_watermarks()
    }
    fn end_of_input(&mut self, _input: usize, ctx: &mut Context) -> Result<Progress> {
        self.operator.end_of_input(ctx, &mut self.out)
    }
    fn idle(&mut self) -> Result<()> {
        self.operator.idle()
    }
}

/// An operator with two logical inputs and its outputs.
pub struct TwoInput<O: TwoInputOperator> {
    operator: O,
    out: Out<O::Out>,
    inputs_open: usize,
}

impl<O: TwoInputOperator> TwoInput<O> {
    /// The operator, boxed for an executor.
    pub fn boxed(operator: O) -> Box<dyn AnyOperator> {
        Box::new(TwoInput { operator, out: Out::new(), inputs_open: 2 })
    }
}

impl<O: TwoInputOperator> AnyOperator for TwoInput<O> {
    forwarded_calls!();

    fn process(&mut self, input: usize, batch: &mut ErasedBatch, ctx: &mut Context) -> Result<Progress> {
        match input {
            0 => self.operator.process_left(typed::<O::Left>(&mut **batch), ctx, &mut self.out),
            _ => self.operator.process_right(typed::<O::Right>(&mut **batch), ctx, &mut self.out),
        }
    }
    fn end_of_input(&mut self, _input: usize, ctx: &mut Context) -> Result<Progress> {
        if self.inputs_open > 1 {
            self.inputs_open -= 1;
            return Ok(Progress::Done);
        }
        // The last input stays open until the call that ends it is done.
        self.operator.end_of_input(ctx, &mut self.out)
    }
}
