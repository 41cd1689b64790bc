//! Windows: how fast are event-time windows, sessions, timers and interval joins, and how soon does a result come out?
//!
//! Run: `cargo bench --bench windows [-- FILTER... --quick --runs N --no-peers]`; see `harness` for the method and
//! `harness/data.rs` for the events: out of order by up to a second, 100 of them in a millisecond of event time, two
//! source subtasks that take the even and the odd ones.

#[path = "engine/windows.rs"]
mod engine;
mod harness;

use std::process::ExitCode;
use std::time::Duration;

use harness::allocator::{Allocator, Chosen};
use harness::bounds::{interval, sessions, sliding, timers, window};
use harness::{Mode, Program, Unit, Wanted, Workload, peers};

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

fn main() -> ExitCode {
    harness::main(WORKLOADS)
}

const WINDOW: Program = Program { name: "bound-window", run: window::run };
const TUMBLING: Program = Program { name: "W2-streaming", run: engine::tumbling_streaming };
const SLIDING_10: Program =
    Program { name: "oracle-sliding-10", run: |job| sliding::totals(job, 10_000, 1_000) };
const SLIDING_60: Program =
    Program { name: "oracle-sliding-60", run: |job| sliding::totals(job, 60_000, 1_000) };
const SLIDING_600: Program =
    Program { name: "oracle-sliding-600", run: |job| sliding::totals(job, 600_000, 1_000) };
const SESSIONS: Program = Program { name: "oracle-sessions", run: sessions::totals };
const TIMERS: Program = Program { name: "oracle-timers", run: timers::totals };
const INTERVAL: Program = Program { name: "oracle-interval", run: interval::totals };

const EVENTS: u64 = 50_000_000;
const KEYS: u64 = 100_000;
const KNOWN: &str = "results:5038898,counts:50000000,sums:26212660786483";

/// Every workload with its programs: the engine's are named after the id.
const WORKLOADS: &[Workload] = &[
    Workload {
        engine: Some(TUMBLING),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        bound: Some(WINDOW),
        peers: peers::WINDOW,
        known_result: Some(KNOWN),
        ..Workload::new(
            "W2-streaming",
            "tumbling 10 s, 50 M events, 100 k keys",
            Mode::Streaming,
            Wanted::OfBound(0.5),
        )
    },
    Workload {
        engine: Some(Program { name: "W2-batch", run: engine::tumbling_batch }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        bound: Some(WINDOW),
        known_result: Some(KNOWN),
        ..Workload::new("W2-batch", "the same", Mode::Batch, Wanted::OfBound(0.4))
    },
    Workload {
        engine: Some(Program { name: "sliding-60", run: engine::sliding_60 }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        oracle: Some(SLIDING_60),
        bound: Some(TUMBLING),
        bound_differs: true,
        ..Workload::new(
            "sliding-60",
            "sliding 60 s / 1 s; the bound is tumbling 10 s",
            Mode::Streaming,
            Wanted::OfBound(0.25),
        )
    },
    Workload {
        engine: Some(Program { name: "sliding-10", run: engine::sliding_10 }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        oracle: Some(SLIDING_10),
        bound: Some(TUMBLING),
        bound_differs: true,
        ..Workload::new("sliding-10", "sliding 10 s / 1 s", Mode::Streaming, Wanted::OfBound(0.25))
    },
    Workload {
        engine: Some(Program { name: "sliding-600", run: engine::sliding_600 }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        oracle: Some(SLIDING_600),
        bound: Some(TUMBLING),
        bound_differs: true,
        ..Workload::new("sliding-600", "sliding 600 s / 1 s", Mode::Streaming, Wanted::OfBound(0.25))
    },
    Workload {
        engine: Some(Program { name: "sliding-60-batch", run: engine::sliding_batch }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        oracle: Some(SLIDING_60),
        bound: Some(TUMBLING),
        bound_differs: true,
        ..Workload::new("sliding-60-batch", "sliding 60 s / 1 s", Mode::Batch, Wanted::OfBound(0.25))
    },
    Workload {
        engine: Some(Program { name: "sessions", run: engine::sessions }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        oracle: Some(SESSIONS),
        ..Workload::new(
            "sessions",
            "sessions, gap 500 ms, 50 M events, 100 k keys",
            Mode::Streaming,
            Wanted::Rate { per_second: 5e6 },
        )
    },
    Workload {
        engine: Some(Program { name: "timers", run: engine::timers }),
        unit: Unit::Events,
        records: 10_000_000,
        keys: 1_000_000,
        allocator: Allocator::System,
        oracle: Some(TIMERS),
        ..Workload::new(
            "timers",
            "10 M event-time timers, 1 M keys, each registered and fired",
            Mode::Streaming,
            Wanted::Rate { per_second: 3e6 },
        )
    },
    Workload {
        engine: Some(Program { name: "interval-join", run: engine::interval_join }),
        unit: Unit::Events,
        records: 20_000_000,
        keys: KEYS,
        oracle: Some(INTERVAL),
        ..Workload::new(
            "interval-join",
            "interval join, two streams of 10 M, +-1 s, 100 k keys",
            Mode::Streaming,
            Wanted::Rate { per_second: 2e6 },
        )
    },
    Workload {
        engine: Some(Program { name: "latency", run: engine::latency }),
        unit: Unit::None,
        records: EVENTS,
        keys: KEYS,
        ..Workload::new(
            "latency",
            "watermark to result, 100 k keys firing, 99th percentile",
            Mode::Streaming,
            Wanted::ReportedWithin(Duration::from_millis(50)),
        )
    },
];
