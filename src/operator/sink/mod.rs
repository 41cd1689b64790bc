//! Sink: what a program implements to take records out ([`contract`]), and the operator that writes it ([`write`](mod@write)).

pub mod contract;
pub mod write;

pub use contract::{Sink, SinkContext, SinkWriter};
pub use write::{AnySink, SinkRun, TypedSink};
