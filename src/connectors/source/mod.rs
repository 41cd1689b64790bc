//! Sources that come with the engine, beside the contract that every source keeps.

pub(crate) mod files;
pub mod fixed;
pub mod generate;
pub mod iter;
#[cfg(test)]
pub(crate) mod testing;
pub mod text;

pub use crate::operator::source::{
    BYTES_READ, Boundedness, Poll, Source, SourceContext, SourceOutput, SplitReader,
};
pub use fixed::FixedSource;
pub use generate::Generate;
pub use iter::IterSource;
pub use text::{InvalidUtf8, TextSource};
