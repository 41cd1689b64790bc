//! What a program is written with: the environment, streams, settings, and what comes back from a job.

pub mod args;
mod bounded;
mod checkpoint_args;
mod collect;
mod connected;
mod data_stream;
mod environment;
mod interval_join;
mod job;
mod keyed_stream;
pub mod progress;
pub mod result;
mod resume;
mod sliced_windows;
mod window_join;
mod windowed_stream;

pub use bounded::{BroadcastJoin, Iterated, IterationStep};
pub use collect::Collected;
pub use connected::{BroadcastConnected, ConnectedKeyedStreams, ConnectedStreams, KeyedBroadcastConnected};
pub use data_stream::DataStream;
pub use environment::{Environment, IntoRecords};
pub use interval_join::{IntervalJoin, IntervalJoined};
pub use job::{JobClient, JobStatus};
pub use keyed_stream::KeyedStream;
pub use window_join::{CoGroup, Join, WindowCoGroup, WindowJoin, WindowPair};
pub use windowed_stream::WindowedStream;
