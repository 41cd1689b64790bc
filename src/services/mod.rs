//! What executors stand on beside the operators: the shuffle of the staged executor, and the directory in which a job
//! outlives its process.

pub mod job_dir;
pub mod shuffle;
