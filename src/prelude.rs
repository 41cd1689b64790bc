//! What most programs need: `use mainstem::prelude::*`.
//!
//! - to begin and to end: [`Environment`], [`EngineArgs`], [`ExecutionMode`], [`ByteSize`], [`RestartStrategy`],
//!   [`CheckpointMode`], [`CheckpointStorage`], [`Restore`], [`JobResult`],
//!   [`JobClient`];
//! - streams: [`DataStream`], [`KeyedStream`], [`ConnectedStreams`], [`ConnectedKeyedStreams`], [`BroadcastConnected`],
//!   [`KeyedBroadcastConnected`]; sources [`TextSource`], [`FixedSource`], [`Generate`], [`IterSource`]; sinks [`TextSink`],
//!   [`CsvSink`], [`PrintSink`], [`DiscardSink`], [`FnSink`];
//! - functions: [`Collector`], [`ProcessFunction`], [`KeyedProcessFunction`], [`CoProcessFunction`],
//!   [`KeyedCoProcessFunction`], [`BroadcastProcessFunction`], [`KeyedBroadcastProcessFunction`] with their [`States`] ([`ValueState`],
//!   [`ListState`], [`MapState`], [`ReducingState`], [`AggregatingState`]; [`BroadcastState`], [`OperatorListState`]; [`StateTtl`]), [`Aggregator`], and what
//!   they return, [`UserResult`];
//! - windows: [`WindowedStream`] over [`Tumbling`], [`Sliding`], [`Sessions`] or [`GlobalWindows`], with triggers
//!   ([`CountTrigger`], [`PurgingTrigger`], ...) and evictors ([`CountEvictor`], ...), functions
//!   ([`ProcessWindowFunction`] with [`WindowContext`] and [`WindowStates`]) and results ([`Windowed`], [`Window`]);
//! - the bounds of records, keys and state: [`Data`], [`Key`], [`SortKey`], [`State`]; records of bytes: [`FixedBytes`].
//!
//! `Result` and `Error` are not in it, so that those of the program keep their names: write `mainstem::Result`.

pub use crate::api::args::EngineArgs;
pub use crate::api::result::JobResult;
pub use crate::api::{
    BroadcastConnected, Collected, ConnectedKeyedStreams, ConnectedStreams, DataStream, Environment,
    JobClient, JobStatus, KeyedBroadcastConnected, KeyedStream, WindowedStream,
};
pub use crate::base::accumulator::{DoubleCounter, Histogram, LongCounter};
pub use crate::base::config::{
    BufferTimeout, CheckpointMode, CheckpointStorage, Driver, ExecutionMode, Restore,
};
pub use crate::base::data::{Data, Key, State, Timestamp};
pub use crate::base::fixed::FixedBytes;
pub use crate::base::memory::ByteSize;
pub use crate::base::parameters::Parameters;
pub use crate::base::restart::RestartStrategy;
pub use crate::base::sort_key::SortKey;
pub use crate::connectors::sink::{CsvSink, DiscardSink, FnSink, PrintSink, TextSink};
pub use crate::connectors::source::{FixedSource, Generate, InvalidUtf8, IterSource, TextSource};
pub use crate::operator::aggregate::{Aggregator, Count};
pub use crate::operator::collector::Collector;
pub use crate::operator::process::{
    BroadcastContext, BroadcastProcessFunction, CoProcessFunction, KeyState, KeyedBroadcastContext,
    KeyedBroadcastProcessFunction, KeyedCoProcessFunction, KeyedContext, KeyedProcessFunction,
    OperatorContext, ProcessContext, ProcessFunction, ReadOnlyContext, TimerFired,
};
pub use crate::operator::side_output::SideOutput;
pub use crate::operator::window::process::{ProcessWindowFunction, WindowContext, WindowStates};
pub use crate::operator::window::{Either, Windowed};
pub use crate::operator::{RuntimeContext, UserResult};
pub use crate::semantics::state::{
    AggregatingState, BroadcastRead, BroadcastState, BroadcastWrite, ListState, MapState, OperatorListState,
    ReducingState, StateTtl, States, TtlUpdate, TtlVisibility, ValueState,
};
pub use crate::semantics::time::{WatermarkGenerator, WatermarkOutput, WatermarkStrategy};
pub use crate::semantics::window::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountEvictor, CountTrigger, DeltaEvictor,
    DeltaTrigger, EventTimeTrigger, GlobalWindows, NeverTrigger, ProcessingTimeTrigger, PurgingTrigger,
    Sessions, Sliding, TimeDomain, TimeEvictor, Tumbling, Window,
};
pub use crate::text::{KeyString, words};
pub use compact_str::CompactString;
