//! Checkpoints of a pipelined job: what carries out the decisions of the
//! [coordinator](crate::services::checkpoint::Coordinator).
//!
//! Place: the thread of the job has a [`Shell`] around the coordinator and the store. Barriers reach the
//! subtasks through `Requests`, which they look at once for each element. What they have written goes as [`Message`]s
//! through one bounded queue to a [`Writer`], in the background or, in a simulation, inline; what the writer
//! has done goes back to the shell as [`News`].
//! Order: state files are durable, then the metadata is, then sinks commit, then operators are told.

mod messages;
mod restore;
mod shell;
mod writer;

pub use messages::{Message, News, Port};
pub(super) use restore::{Read, restored_operator};
pub use restore::{Restored, restore};
pub(super) use shell::keeps_state_at_end;
pub use shell::{CheckpointStats, Shell, ShellParts, Verdict};
pub use writer::Writer;
