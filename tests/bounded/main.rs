//! Operators over bounded input (M12), in both modes, at several parallelisms and memories, against plain iterators.

mod groups;
mod iterations;
mod joins;
mod partitions;
mod refused;
mod snapshots;
mod sorting;
mod support;
