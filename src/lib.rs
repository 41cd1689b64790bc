//! One dataflow program, run pipelined (streaming) or staged (batch), in one process.

pub mod base;
pub mod connectors;
pub mod semantics;

pub use base::data::{Data, Key, State, Timestamp};
pub use base::error::{Error, ErrorKind, Result};
