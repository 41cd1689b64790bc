//! Checkpoint: consistent cuts of a running job, and how they are kept.
//!
//! [`coordinator`] decides when a checkpoint begins, is complete or is given up: pure, without a clock or files.
//! [`metadata`] says what a completed checkpoint consists of, [`store`] keeps it in a directory, and [`state_file`] is the
//! format of the files that hold the state of operators. [`origin`] notes what a job was started from,
//! and [`copies`] are those of state files in the directory of the job where checkpoints are kept elsewhere.
//!
//! Place: nothing here knows operators or plans; state is bytes. A shell in the pipelined executor does what the
//! coordinator says.

pub mod coordinator;
pub mod copies;
pub mod metadata;
pub mod origin;
pub mod state_file;
pub mod store;
#[cfg(test)]
mod store_tests;

pub use coordinator::{Action, Coordinator, Event, Purpose, Rules};
pub use copies::Copies;
pub use metadata::{
    JobTag, Metadata, OperatorEntry, OperatorKind, OperatorName, StateBytes, StateHandle, SubtaskEntry,
};
pub use origin::Origin;
pub use state_file::{FileHandle, StateWriter};
pub use store::{Foreign, Pins, StateDir, Store};
