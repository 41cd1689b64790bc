//! What every layer stands on: records in batches, their encoding and hash, errors, memory, files, the clock.

pub mod accumulator;
pub mod batch;
pub mod clock;
pub mod codec;
pub mod config;
pub mod data;
pub mod error;
pub mod failpoint;
pub mod fixed;
pub mod hash;
pub mod memory;
pub mod metrics;
pub mod mutant;
pub mod parameters;
mod properties;
pub mod restart;
pub mod rows;
pub mod sort_key;
pub mod text;
pub mod vfs;
