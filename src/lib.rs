//! One dataflow program, run pipelined (streaming) or staged (batch), in one process.

pub mod api;
pub mod base;
pub mod connectors;
pub mod executors;
pub mod operator;
pub mod plan;
pub mod prelude;
pub mod semantics;
pub mod services;
pub mod text;

pub use base::data::{Data, Key, State, Timestamp};
pub use base::error::{Error, ErrorKind, Result};
