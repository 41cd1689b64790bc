//! Savepoints of whole jobs: what they hold, and that a job which stops with one and goes on gives what an uninterrupted one
//! gives: at another parallelism, with another operator, with other types.

mod damage;
mod evolution;
mod files;
mod golden;
mod jobs;
mod round_trips;
mod tables;
