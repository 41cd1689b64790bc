//! Operator: one processing step, driven by both executors alike.
//!
//! Place: an operator lives in a chain inside one attempt of one subtask and is called by one thread at a time.
//! It knows no threads, files, channels or modes; what differs between the executors is the [`Context`] they hand
//! in and which of the calls below they make.
//!
//! The law of the contract, in call order:
//! 1. `open` once, before anything else.
//! 2. `process`, `watermark`, `end_of_key` any number of times. Each returns [`Progress::Done`], or
//!    [`Progress::Yielded`] when `out` is full: the operator keeps its cursor (for `process`: the records it has
//!    not taken stay in the batch) and the *same* call is repeated when there is room. Between two calls to user
//!    code an operator looks at [`Out::is_full`], so overshoot is at most one user call.
//! 3. `end_of_input` once for each input, after its last record.
//! 4. `close` once, after the last input or on failure.
//!
//! Watermarks, barriers and the end travel on by themselves once the call has returned `Done` and everything it
//! emitted is on its way: an operator never forwards them.

pub mod aggregate;
pub mod collector;
pub mod context;
pub mod erased;
pub mod exchange;
pub mod filter;
pub mod flat_map;
pub mod keyed_process;
pub mod map;
pub mod output;
pub mod process;
pub mod sink;
pub mod source;

use crate::base::batch::Batch;
use crate::base::data::{Data, Timestamp};
use crate::base::error::{BoxError, Result};
pub use context::{Context, RuntimeContext};
pub use output::Out;

/// What user code in a trait returns: `?` works on any error.
pub type UserResult<T = ()> = std::result::Result<T, BoxError>;

/// How far a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything asked for has been done.
    Done,
    /// `out` is full: call again when there is room.
    Yielded,
    /// Something outside the job (the reader of a collected stream) must act first: call again soon.
    Blocked,
}

/// One processing step with one logical input. See the module for the contract.
pub trait Operator: Send + 'static {
    /// Records in.
    type In: Data;
    /// Records out.
    type Out: Data;

    /// Before the first record.
    fn open(&mut self, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }
    /// Takes records out of `batch`, from the front, until it is empty or `out` is full.
    fn process(
        &mut self,
        batch: &mut Batch<Self::In>,
        ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress>;
    /// The watermark of all inputs together has risen to `watermark`.
    fn watermark(
        &mut self,
        _watermark: Timestamp,
        _ctx: &mut Context,
        _out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// The records of the current key have ended. Only for input that is grouped by key: there it comes after
    /// each key's last record, with the context's watermark at its maximum, and state of the key is dropped.
    fn end_of_key(&mut self, _ctx: &mut Context, _out: &mut Out<Self::Out>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// The input has ended.
    fn end_of_input(&mut self, _ctx: &mut Context, _out: &mut Out<Self::Out>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// The inputs have nothing at the moment: show what a person may be waiting for.
    fn idle(&mut self) -> Result<()> {
        Ok(())
    }
    /// After the last call, also after a failure.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
