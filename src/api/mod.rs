//! What a program is written with: the environment, streams, settings, and what comes back from a job.

pub mod args;
mod bounded;
mod checkpoint_args;
mod client;
mod collect;
mod connected;
pub mod control;
mod data_stream;
mod environment;
mod figures;
mod handle;
mod interval_join;
mod iterate;
mod job;
mod keyed_stream;
pub mod progress;
#[cfg(test)]
mod record_limit_tests;
pub mod report;
pub mod result;
mod resume;
mod sliced_windows;
mod window_join;
mod windowed_stream;

pub use bounded::{BroadcastJoin, Iterated, IterationStep};
pub use client::{JobClient, JobStatus};
pub use collect::Collected;
pub use connected::{BroadcastConnected, ConnectedKeyedStreams, ConnectedStreams, KeyedBroadcastConnected};
pub use data_stream::DataStream;
pub use environment::{Environment, IntoRecords};
pub use interval_join::{IntervalJoin, IntervalJoined};

pub use keyed_stream::KeyedStream;
pub use window_join::{CoGroup, Join, WindowCoGroup, WindowJoin, WindowPair};
pub use windowed_stream::WindowedStream;
