//! Sinks that come with the engine, beside the contract that every sink keeps.

pub mod collect;
pub mod console;
pub mod discard;
pub mod files;
#[cfg(test)]
mod files_tests;
pub mod func;
pub mod line;
pub mod rows;
mod staging;
#[cfg(test)]
pub(crate) mod testing;

pub use crate::operator::sink::{CommitPoint, Recovered, Sink, SinkContext, SinkWriter, WriterStates};
pub use crate::semantics::state::Section;
pub use collect::{CollectSink, CollectedRecords};
pub use console::PrintSink;
pub use discard::DiscardSink;
pub use files::{CsvSink, FileSink, TextSink};
pub use func::FnSink;
pub use staging::StagedFile;
