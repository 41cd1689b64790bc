//! Checkpoints: what do they cost while a job runs, how large are they, and how soon is it back after a failure?
//!
//! Run: `cargo bench --bench checkpoints [-- FILTER... --quick --runs N]`; see `harness` for the method. The bound of a
//! job with checkpoints is the same job without, in turns: the figure is how much of its speed is left. At full size
//! a run takes 40 seconds and more, so that it holds several checkpoints; fewer than six are a failure. Each run prints
//! its checkpoints, their bytes and the longest step of a subtask.

#[path = "engine/checkpoints.rs"]
mod engine;
mod harness;

use std::process::ExitCode;
use std::time::Duration;

use harness::allocator::{Allocator, Chosen};
use harness::{Mode, Program, Unit, Wanted, Workload};

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

fn main() -> ExitCode {
    harness::main(WORKLOADS)
}

/// Events of the tumbling windows, and their keys.
const WINDOW_EVENTS: u64 = 4_000_000_000;
const WINDOW_KEYS: u64 = 100_000;
/// Events of the running sums, and their keys.
const SUM_EVENTS: u64 = 1_500_000_000;
const SUM_KEYS: u64 = 10_000_000;

/// Every workload with its programs: the engine's are named after the id.
const WORKLOADS: &[Workload] = &[
    Workload {
        engine: Some(Program { name: "W2-checkpoints", run: engine::tumbling_checkpoints }),
        bound: Some(Program { name: "W2-none", run: engine::tumbling_none }),
        unit: Unit::Events,
        records: WINDOW_EVENTS,
        keys: WINDOW_KEYS,
        ..Workload::new(
            "W2-checkpoints",
            "tumbling windows, 4 G events, 100 k keys, a checkpoint each second; the bound takes none",
            Mode::Streaming,
            Wanted::OfBound(0.95),
        )
    },
    Workload {
        engine: Some(Program { name: "W3-checkpoints", run: engine::sum_checkpoints }),
        bound: Some(Program { name: "W3-none", run: engine::sum_none }),
        unit: Unit::Events,
        records: SUM_EVENTS,
        keys: SUM_KEYS,
        allocator: Allocator::System,
        ..Workload::new(
            "W3-checkpoints",
            "running sums, 1.5 G events, 10 M keys, a checkpoint every 5 s; the bound takes none",
            Mode::Streaming,
            Wanted::OfBound(0.75),
        )
    },
    Workload {
        engine: Some(Program { name: "changes", run: engine::changes }),
        unit: Unit::Events,
        records: SUM_EVENTS,
        keys: SUM_KEYS,
        ..Workload::new(
            "changes",
            "10 M keys of which 5 % change: longest checkpoint; larger than twice the changes is a failure",
            Mode::Streaming,
            Wanted::ReportedWithin(Duration::from_secs(5)),
        )
    },
    Workload {
        engine: Some(Program { name: "restore", run: engine::restore }),
        unit: Unit::Events,
        records: 10_000_000,
        keys: 10_000_000,
        ..Workload::new(
            "restore",
            "restore of 1 GB of state, to the first record",
            Mode::Streaming,
            Wanted::ReportedWithin(Duration::from_secs(5)),
        )
    },
    Workload {
        engine: Some(Program { name: "W6-failure", run: engine::failures::output_again }),
        unit: Unit::Events,
        records: SUM_EVENTS / 3,
        keys: SUM_KEYS,
        ..Workload::new(
            "W6-failure",
            "running sums, 10 M keys: from a failure to output again",
            Mode::Streaming,
            Wanted::ReportedWithin(Duration::from_secs(1)),
        )
    },
    Workload {
        engine: Some(Program { name: "W6-rate", run: engine::failures::rate_again }),
        unit: Unit::Events,
        records: SUM_EVENTS / 3,
        keys: SUM_KEYS,
        ..Workload::new(
            "W6-rate",
            "the same: from the failure to nine tenths of the rate before",
            Mode::Streaming,
            Wanted::ReportedWithin(Duration::from_secs(3)),
        )
    },
    Workload {
        engine: Some(Program { name: "killed", run: engine::failures::killed }),
        ..Workload::new(
            "killed",
            "kill -9 of a small job: from the start of its next process to the first record",
            Mode::Streaming,
            Wanted::ReportedWithin(Duration::from_secs(1)),
        )
    },
    Workload {
        engine: Some(Program { name: "idle", run: engine::idle }),
        records: 5,
        ..Workload::new(
            "idle",
            "longest checkpoint of an idle small job, every 100 ms for 5 s",
            Mode::Streaming,
            Wanted::ReportedWithin(Duration::from_millis(20)),
        )
    },
];
