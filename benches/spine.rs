//! Spine: how fast are the ways that most jobs go (text, keyed sums, plain maps), and what does an empty job cost?
//!
//! Run: `cargo bench --bench spine [-- FILTER... --quick --runs N --no-peers]`; see `harness` for the method and
//! `harness/data.rs` for the events. Event `i` of the keyed sums has one of 10,000,000 keys; two source subtasks
//! take the even and the odd `i`.
//!
//! Allocators: measured with both, the bound of the word count is a fifth to a quarter faster with mimalloc (which
//! backs its tables with huge pages), those of the keyed sums are up to a quarter faster with glibc's. Each workload
//! gives its engine the one that is the better for its bound.

mod engine;
mod harness;

use std::process::ExitCode;
use std::time::Duration;

use harness::allocator::{Allocator, Chosen};
use harness::bounds::{long_rows, maps, sum, wordcount};
use harness::{Mode, Program, Unit, Wanted, Workload, peers};

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

fn main() -> ExitCode {
    harness::main(WORKLOADS)
}

const WORD_COUNT: Program = Program { name: "bound-word-count", run: wordcount::run };
const RUNNING_SUM: Program = Program { name: "bound-running-sum", run: sum::running };
const LAST_SUM: Program = Program { name: "bound-last-sum", run: sum::last };
const LONG_ROWS: Program = Program { name: "oracle-long-rows", run: long_rows::oracle };
const MAPS_BATCHED: Program = Program { name: "bound-maps-batched", run: maps::batched };
const MAPS_FUSED: Program = Program { name: "bound-maps-fused", run: maps::fused };

const TEXT_BYTES: u64 = 1_000_000_000;
const EVENTS: u64 = 50_000_000;
const KEYS: u64 = 10_000_000;

/// Every workload with its programs: the engine's are named after the id.
const WORKLOADS: &[Workload] = &[
    Workload {
        engine: Some(Program { name: "W1-batch", run: engine::word_count_batch }),
        unit: Unit::Bytes,
        records: TEXT_BYTES,
        bound: Some(WORD_COUNT),
        peers: peers::WORD_COUNT,
        known_result: Some("words:159514608,distinct:999999"),
        reads_words: true,
        writes_lines: true,
        ..Workload::new("W1-batch", "word count, 1 GB of text", Mode::Batch, Wanted::OfBound(0.85))
    },
    Workload {
        engine: Some(Program { name: "W1-streaming", run: engine::word_count_streaming }),
        unit: Unit::Bytes,
        records: TEXT_BYTES,
        bound: Some(WORD_COUNT),
        known_result: Some("words:159514608,distinct:999999"),
        reads_words: true,
        ..Workload::new("W1-streaming", "word count, 1 GB of text", Mode::Streaming, Wanted::OfBound(0.45))
    },
    Workload {
        engine: Some(Program { name: "W3-streaming", run: engine::running_sum_streaming }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        allocator: Allocator::System,
        bound: Some(RUNNING_SUM),
        peers: peers::SUM,
        known_result: Some("outputs:50000000,running-counts:174973154"),
        ..Workload::new(
            "W3-streaming",
            "keyed running sum, 50 M events, 10 M keys",
            Mode::Streaming,
            Wanted::OfBound(0.9),
        )
    },
    Workload {
        engine: Some(Program { name: "W3-process-streaming", run: engine::process_sum_streaming }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        allocator: Allocator::System,
        bound: Some(RUNNING_SUM),
        known_result: Some("outputs:50000000,running-counts:174973154"),
        ..Workload::new(
            "W3-process-streaming",
            "the same as a keyed process with state",
            Mode::Streaming,
            Wanted::OfBound(0.9),
        )
    },
    Workload {
        engine: Some(Program { name: "W3-batch", run: engine::last_sum_batch }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        allocator: Allocator::System,
        bound: Some(LAST_SUM),
        ..Workload::new(
            "W3-batch",
            "keyed sum, combining, 50 M events, 10 M keys",
            Mode::Batch,
            Wanted::OfBound(0.9),
        )
    },
    Workload {
        engine: Some(Program { name: "W3-process-batch", run: engine::process_sum_batch }),
        unit: Unit::Events,
        records: EVENTS,
        keys: KEYS,
        oracle: Some(RUNNING_SUM),
        known_result: Some("outputs:50000000,running-counts:174973154"),
        ..Workload::new(
            "W3-process-batch",
            "keyed process that cannot combine, 50 M events, 10 M keys, `--memory 512MiB`",
            Mode::Batch,
            Wanted::RateWithin { per_second: 6e6, peak_mib: 512 + 128 },
        )
    },
    Workload {
        engine: Some(Program { name: "long-rows-batch", run: engine::long_rows_batch }),
        unit: Unit::Events,
        records: 5_000_000,
        keys: 1_000_000,
        oracle: Some(LONG_ROWS),
        ..Workload::new(
            "long-rows-batch",
            "keyed process, 5 M rows, keys of 200 B, values of 1 KiB, `--memory 256MiB`",
            Mode::Batch,
            Wanted::PeakWithin { peak_mib: 256 + 128 },
        )
    },
    Workload {
        engine: Some(Program { name: "maps-streaming", run: engine::maps_streaming }),
        unit: Unit::Events,
        records: 500_000_000,
        bound: Some(MAPS_BATCHED),
        also: &[MAPS_FUSED],
        ..Workload::new(
            "maps-streaming",
            "map, filter, map, 500 M integers",
            Mode::Streaming,
            Wanted::OfBound(0.9),
        )
    },
    Workload {
        engine: Some(Program { name: "maps-batch", run: engine::maps_batch }),
        unit: Unit::Events,
        records: 500_000_000,
        bound: Some(MAPS_BATCHED),
        ..Workload::new("maps-batch", "map, filter, map, 500 M integers", Mode::Batch, Wanted::OfBound(0.9))
    },
    Workload {
        engine: Some(Program { name: "empty-streaming", run: engine::empty_streaming }),
        ..Workload::new(
            "empty-streaming",
            "empty job, process start to exit",
            Mode::Streaming,
            Wanted::WallWithin(EMPTY_JOB),
        )
    },
    Workload {
        engine: Some(Program { name: "empty-batch", run: engine::empty_batch }),
        ..Workload::new(
            "empty-batch",
            "empty job, process start to exit",
            Mode::Batch,
            Wanted::WallWithin(EMPTY_JOB),
        )
    },
    Workload {
        engine: Some(Program { name: "slow-sink-streaming", run: engine::slow_sink }),
        records: 60,
        ..Workload::new(
            "slow-sink-streaming",
            "endless generator into a slow sink, 60 s",
            Mode::Streaming,
            Wanted::Flat { peak_mib: 100 },
        )
    },
];

const EMPTY_JOB: Duration = Duration::from_millis(50);
