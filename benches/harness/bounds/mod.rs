//! Bounds: for each workload a program of two threads written by hand for just that job.
//!
//! Place: run as children of a bench, in turns with the engine; the figure is a share of their throughput.
//! Method: no records in general, no serialisation, no timers, no recovery; the best general hash table
//! (hashbrown), a fast hash, flat loops. They are good programs, not physical limits.
//! Each returns its result as one line that the engine's program has to match.

pub mod exchange;
pub mod interval;
pub mod long_rows;
pub mod maps;
pub mod sessions;
pub mod sliding;
pub mod sum;
pub mod timers;
pub mod window;
pub mod wordcount;

/// Threads of every bound, and the parallelism that the engine is given.
pub const THREADS: usize = 2;
