//! What executors stand on beside the operators: the shuffle of the staged executor, checkpoints of the pipelined one,
//! and the directory in which a job outlives its process.

pub mod checkpoint;
pub mod job_dir;
pub mod savepoint;
pub mod shuffle;
