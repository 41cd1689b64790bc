//! Process functions: user code with a life of its own, called for each record and, with a key, for each timer.
//!
//! | input | without a key | by key |
//! |---|---|---|
//! | one | [`ProcessFunction`] | [`KeyedProcessFunction`] |
//! | two | [`CoProcessFunction`] | [`KeyedCoProcessFunction`] |
//! | one, and one that all subtasks see | [`BroadcastProcessFunction`] | [`KeyedBroadcastProcessFunction`] |
//!
//! Method: what has a key shares one `KeyedBackend`: the slots of a batch's keys, their state and timers, the loop that
//! fires timers, and what is written into a snapshot. The operators here only say which of the user's methods is
//! called.
//! Invariants: calls of a function come one after the other, from one thread at a time; between two of them the
//! operator looks whether there is room for more output.

mod backend;
mod broadcast;
mod cleanup;
mod co;
mod context;
mod hooks;
mod keyed;
mod keyed_broadcast;
mod keyed_co;
mod plain;
mod slots;
mod snapshot;
#[cfg(test)]
mod tests;

pub use broadcast::{BroadcastContext, BroadcastProcess, BroadcastProcessFunction, ReadOnlyContext};
pub use co::{CoFlatMap, CoMap, CoProcess, CoProcessFunction};
pub use context::{KeyedContext, TimerFired};
pub use hooks::OperatorContext;
pub use keyed::{KeyedProcess, KeyedProcessFunction};
pub use keyed_broadcast::{
    KeyState, KeyedBroadcastContext, KeyedBroadcastProcess, KeyedBroadcastProcessFunction,
};
pub use keyed_co::{KeyedCoProcess, KeyedCoProcessFunction};
pub use plain::{Process, ProcessContext, ProcessFunction};

use super::{Out, Progress, UserResult};
use crate::base::batch::Batch;
use crate::base::data::{Data, Timestamp};
use crate::base::error::{Error, Result};

/// Whether the batch at hand has been turned around, so that records are taken from its end.
#[derive(Default)]
struct Reversed(bool);

/// Calls `call` for the records of a batch, one after the other, as long as there is room for output.
#[inline(always)]
fn each<T: Data, U: Data>(
    batch: &mut Batch<T>,
    reversed: &mut Reversed,
    out: &mut Out<U>,
    mut call: impl FnMut(T, Option<Timestamp>, &mut Out<U>) -> UserResult,
) -> Result<Progress> {
    if !std::mem::replace(&mut reversed.0, true) {
        batch.reverse();
    }
    while !out.is_full() {
        let Some((value, timestamp)) = batch.pop() else { break };
        call(value, timestamp, out).map_err(Error::User)?;
    }
    if !batch.is_empty() {
        return Ok(Progress::Yielded);
    }
    reversed.0 = false;
    Ok(Progress::Done)
}
