//! What a program is written with: settings from the command line, parameters, accumulators, results.

pub mod args;
pub mod parameters;
mod properties;
