//! Operator: one processing step, driven by both executors alike.
//!
//! Place: an operator lives in a chain inside one attempt of one subtask and is called by one thread at a time.
//! It knows no threads, files, channels or modes; what differs between the executors is the [`Context`] they hand
//! in and which of the calls below they make.
//!
//! The law of the contract, in call order:
//! 1. `open` once, before anything else.
//! 2. `process`, `watermark`, `processing_time`, `end_of_key` any number of times. Each returns [`Progress::Done`], or
//!    [`Progress::Yielded`] when `out` is full: the operator keeps its cursor (for `process`: the records it has
//!    not taken stay in the batch) and the *same* call is repeated when there is room. Between two calls to user
//!    code an operator looks at [`Out::is_full`], so overshoot is at most one user call; that of a map, and of a fold that
//!    rolls, about the records of a batch.
//! 3. `end_of_input` once for each input, after its last record.
//! 4. `snapshot` when the barrier of a checkpoint has come, between two calls that returned `Done`, and `snapshot_more`
//!    until it is complete; `restore` after `open` and before anything else.
//! 5. `close` once, after the last input or on failure.
//!
//! Watermarks, barriers and the end travel on by themselves once the call has returned `Done` and everything it
//! emitted is on its way: an operator never forwards them. Only one that makes watermarks of its own
//! ([`Operator::makes_watermarks`]) emits any.

pub mod aggregate;
pub mod bounded;
pub mod collector;
pub mod context;
pub mod distinct;
pub mod erased;
pub mod exchange;
pub mod filter;
pub mod flat_map;
pub mod interval_join;
pub mod map;
pub mod output;
pub mod pass;
pub mod process;
pub mod side_output;
pub mod sink;
pub mod source;
pub mod timestamps;
pub mod window;

use crate::base::batch::{Barrier, Batch, CheckpointId};
use crate::base::data::{Data, Timestamp};
use crate::base::error::{BoxError, Result};
use crate::semantics::state::{OperatorSnapshot, OperatorState, StateTable};
pub use context::{Context, RuntimeContext};
pub use output::Out;

/// Counter of records that came too late and went nowhere.
pub const LATE_RECORDS_DROPPED: &str = "late_records_dropped";
/// Counter of timers that were registered while the last ones fired.
pub const TIMERS_DROPPED_AT_END: &str = "timers_dropped_at_end";

/// Bytes that an operator adds to a snapshot between two calls for records: few enough to take less than a millisecond. In
/// unit tests very few, so that there is more than one slice (but not in release, where they measure).
pub const SNAPSHOT_SLICE_BYTES: usize = if cfg!(all(test, debug_assertions)) { 128 } else { 256 << 10 };

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
    /// The clock has reached [`next_timer`](Operator::next_timer); `now` is in milliseconds since the epoch. Not in BATCH,
    /// where the clock stands still.
    fn processing_time(
        &mut self,
        _now: Timestamp,
        _ctx: &mut Context,
        _out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// The processing time at which [`processing_time`](Operator::processing_time) is to be called: asked after each call.
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    /// Whether the operator puts watermarks into its output: then those of its inputs end here, but for the maximum at the
    /// end.
    fn makes_watermarks(&self) -> bool {
        false
    }
    /// Whether everything comes out when the input ends. Then the watermarks of its inputs end here, and the maximum goes
    /// out behind the records.
    fn emits_at_end(&self) -> bool {
        false
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
    /// The barrier of a checkpoint has come on all inputs: puts everything the operator would need to go on from here into
    /// `into`. What is large need not be written at once: the operator marks the cut, returns
    /// [`Progress::Yielded`], and writes the rest in [`snapshot_more`](Operator::snapshot_more), in which what changes
    /// meanwhile is still as it was at the cut. Unless the barrier is `full`, tables may hold only what has changed since the
    /// barrier before. A snapshot under way is given up when the next one begins.
    fn snapshot(&mut self, _barrier: Barrier, _into: &mut OperatorSnapshot) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// Writes more of a snapshot that is not complete, about [`SNAPSHOT_SLICE_BYTES`]; called between other calls until it
    /// returns `Done`.
    fn snapshot_more(&mut self, _into: &mut OperatorSnapshot) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// A checkpoint is complete: what the operator put into it will not be lost. May be skipped for one that is followed
    /// by another.
    fn checkpoint_complete(&mut self, _checkpoint: CheckpointId) -> Result<()> {
        Ok(())
    }
    /// Takes up what the subtasks of the operator kept, after `open` and before anything else. It is the state of all
    /// subtasks, of which there may have been another number: each takes what is its own.
    fn restore(&mut self, _state: &OperatorState, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }
    /// What the sections of its snapshots hold, as tables of rows; asked of an operator that was not opened. Sections of which
    /// it says nothing are written into savepoints as bytes.
    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        Vec::new()
    }
    /// After the last call, also after a failure.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// One processing step with two logical inputs of different types. The contract is that of [`Operator`]; records of the
/// inputs come in no order between them in STREAMING, and in BATCH in the order of their timestamps if both inputs are
/// keyed.
pub trait TwoInputOperator: Send + 'static {
    /// Records of the first input.
    type Left: Data;
    /// Records of the second input.
    type Right: Data;
    /// Records out.
    type Out: Data;

    /// See [`Operator::open`].
    fn open(&mut self, _ctx: &mut Context) -> Result<()> {
        Ok(())
    }
    /// Takes records of the first input; see [`Operator::process`].
    fn process_left(
        &mut self,
        batch: &mut Batch<Self::Left>,
        ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress>;
    /// Takes records of the second input; see [`Operator::process`].
    fn process_right(
        &mut self,
        batch: &mut Batch<Self::Right>,
        ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress>;
    /// See [`Operator::watermark`].
    fn watermark(
        &mut self,
        _watermark: Timestamp,
        _ctx: &mut Context,
        _out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// See [`Operator::processing_time`].
    fn processing_time(
        &mut self,
        _now: Timestamp,
        _ctx: &mut Context,
        _out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// See [`Operator::next_timer`].
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }
    /// See [`Operator::emits_at_end`].
    fn emits_at_end(&self) -> bool {
        false
    }
    /// See [`Operator::end_of_key`]. Both inputs have given all records of the key.
    fn end_of_key(&mut self, _ctx: &mut Context, _out: &mut Out<Self::Out>) -> Result<Progress> {
        Ok(Progress::Done)
    }
    /// Both inputs have ended.
    fn end_of_input(&mut self, _ctx: &mut Context, _out: &mut Out<Self::Out>) -> Result<Progress> {
        Ok(Progress::Done)
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
}

#[cfg(test)]
mod restore_tests;
#[cfg(test)]
pub(crate) mod tests {
    /// A full snapshot of an operator of either trait, taken at once.
    macro_rules! snapshot_of {
        ($operator:expr) => {{
            let mut snapshot = crate::semantics::state::OperatorSnapshot::default();
            let barrier = crate::base::batch::Barrier { id: 1, full: true, savepoint: false };
            let mut progress = $operator.snapshot(barrier, &mut snapshot).unwrap();
            while progress == crate::operator::Progress::Yielded {
                progress = $operator.snapshot_more(&mut snapshot).unwrap();
            }
            snapshot
        }};
    }
    pub(crate) use snapshot_of;
}
