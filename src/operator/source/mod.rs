//! Source: what a program implements to bring records in ([`contract`]), and the operator that reads it ([`read`]).

pub mod contract;
pub mod read;
mod splits;

pub(crate) use contract::divide;
pub use contract::{BYTES_READ, Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader};
pub use read::{AnySource, SourceRun, SplitAssignment};
