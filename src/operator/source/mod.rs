//! Source: what a program implements to bring records in ([`contract`]), and the operator that reads it ([`read`]).

pub mod contract;
pub mod read;
mod splits;

pub use contract::{BYTES_READ, Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
pub(crate) use contract::divide;
pub use read::{AnySource, SourceRun, SplitAssignment};
