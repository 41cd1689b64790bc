//! What a program is written with: settings from the command line, parameters, accumulators, results.

pub mod accumulator;
pub mod args;
pub mod parameters;
pub mod progress;
mod properties;
pub mod result;
