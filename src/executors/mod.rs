//! Executors: two ways to run a physical plan with the same operators.

pub mod chain;
pub mod job;
pub mod pipelined;
pub mod report;
pub mod resume;
pub mod staged;
pub mod times;
