//! What the pipeline property test is made of. `program` describes a random pipeline as data; `engine` builds it with
//! the typed API and runs it; `oracle` computes its results with plain iterators and shares the description only;
//! `coverage` counts what was run.

pub mod coverage;
pub mod engine;
pub mod generator;
pub mod oracle;
pub mod program;
pub mod random;
