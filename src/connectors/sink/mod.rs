//! Sinks that come with the engine, beside the contract that every sink keeps.

pub mod collect;
pub mod console;
pub mod discard;
pub mod files;
pub mod func;
pub mod line;
#[cfg(test)]
pub(crate) mod testing;

pub use crate::operator::sink::{CommitPoint, Recovered, Sink, SinkContext, SinkWriter, WriterStates};
pub use crate::semantics::state::Section;
pub use collect::{CollectSink, CollectedRecords};
pub use console::PrintSink;
pub use discard::DiscardSink;
pub use files::rows;
pub use files::{CsvSink, FileSink, RollingPolicy, StagedFile, TextSink, date_hour};
pub use func::FnSink;
