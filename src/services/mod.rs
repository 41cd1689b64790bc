//! What executors stand on beside the operators: the shuffle of the staged executor.

pub mod shuffle;
