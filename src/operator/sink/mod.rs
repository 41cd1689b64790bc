//! Sink: what a program implements to take records out ([`contract`]), what its writers keep in checkpoints
//! ([`states`]), and the operator that drives it ([`write`](mod@write)) with its notes on what is to be committed.

pub mod contract;
#[cfg(test)]
pub(crate) mod driver;
mod notes;
pub mod states;
pub mod write;
#[cfg(test)]
mod write_tests;

pub use contract::{CommitPoint, Recovered, Sink, SinkContext, SinkWriter};
pub use states::WriterStates;
pub use write::{AnySink, COMMITTABLES, SinkRun, TypedSink};
