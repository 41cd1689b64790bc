//! Staged: how fast are jobs over more than fits into memory, how much memory do they take, and what do failures cost them?
//!
//! Run: `cargo bench --bench staged [-- FILTER... --quick --part N --runs N --no-peers]`; see `harness` for the method. With `--quick`
//! and `--part` budgets are divided as the data is, down to 24 MiB, so that what spills at full size spills then.
//! Peaks are the budget and 128 MiB for everything that it does not count; more is a failure of the bench. Where a
//! process is killed the figure is CPU time: that of the killed and the resuming process to that of an undisturbed one.

#[path = "engine/staged.rs"]
mod engine;
mod harness;

use std::process::ExitCode;
use std::time::Duration;

use harness::allocator::{Allocator, Chosen};
use harness::{Mode, Program, Unit, Wanted, Workload, peers};

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

fn main() -> ExitCode {
    harness::main(WORKLOADS)
}

const GROUP_IN_MEMORY: Program = Program { name: "group-in-memory", run: engine::group_in_memory };
const GROUP_KEYS: u64 = 10_000_000;
/// What a budget does not count.
const BESIDE_MIB: u64 = 128;

/// Every workload with its programs: the engine's are named after the id.
const WORKLOADS: &[Workload] = &[
    Workload {
        engine: Some(Program { name: "group-512", run: engine::group_within }),
        bound: Some(GROUP_IN_MEMORY),
        unit: Unit::Events,
        records: engine::GROUP_RECORDS,
        keys: GROUP_KEYS,
        allocator: Allocator::System,
        ..Workload::new(
            "group-512",
            "group by, 100 M rows, 10 M groups, `--memory 512MiB`; the bound has all memory",
            Mode::Batch,
            Wanted::OfBoundWithin { share: 0.4, peak_mib: 512 + BESIDE_MIB },
        )
    },
    Workload {
        engine: Some(GROUP_IN_MEMORY),
        unit: Unit::Events,
        records: engine::GROUP_RECORDS,
        keys: GROUP_KEYS,
        allocator: Allocator::System,
        ..Workload::new(
            "group-in-memory",
            "the same in memory",
            Mode::Batch,
            Wanted::Rate { per_second: 15e6 },
        )
    },
    Workload {
        engine: Some(Program { name: "join-512", run: engine::join }),
        oracle: Some(Program { name: "join-oracle", run: engine::join_oracle }),
        unit: Unit::Events,
        records: engine::JOIN_RECORDS,
        keys: engine::JOIN_KEYS,
        allocator: Allocator::System,
        ..Workload::new(
            "join-512",
            "join, 50 M and 10 M rows, `--memory 512MiB`",
            Mode::Batch,
            Wanted::RateWithin { per_second: 4e6, peak_mib: 512 + BESIDE_MIB },
        )
    },
    Workload {
        engine: Some(Program { name: "skew-sum", run: engine::skewed_sum }),
        bound: Some(Program { name: "uniform-sum", run: engine::uniform_sum }),
        bound_differs: true,
        unit: Unit::Events,
        records: engine::SKEW_RECORDS,
        keys: 1_000_000,
        ..Workload::new(
            "skew-sum",
            "sums, 50 M rows, half of them of one key, `--memory 512MiB`; the bound's keys are uniform",
            Mode::Batch,
            Wanted::OfBound(0.5),
        )
    },
    Workload {
        engine: Some(Program { name: "skew-group", run: engine::skewed_group }),
        oracle: Some(Program { name: "skew-oracle", run: engine::skewed_oracle }),
        unit: Unit::Events,
        records: engine::SKEW_RECORDS,
        keys: 1_000_000,
        ..Workload::new(
            "skew-group",
            "groups as iterators, 50 M rows, half of them of one key, `--memory 256MiB`",
            Mode::Batch,
            Wanted::PeakWithin { peak_mib: 256 + BESIDE_MIB },
        )
    },
    Workload {
        engine: Some(Program { name: "W6-batch", run: engine::failure }),
        bound: Some(Program { name: "W6-undisturbed", run: engine::undisturbed }),
        unit: Unit::Events,
        records: engine::FAILURE_RECORDS,
        keys: 4_000_000,
        ..Workload::new(
            "W6-batch",
            "two shuffles, 40 M rows, a failure at 90 % of the last stage; the bound is undisturbed",
            Mode::Batch,
            Wanted::OfBound(1.0 / 1.05),
        )
    },
    Workload {
        engine: Some(Program { name: "W6-gap", run: engine::failure_gap }),
        records: engine::FAILURE_RECORDS,
        keys: 4_000_000,
        ..Workload::new(
            "W6-gap",
            "the same: longest time without output after the failure",
            Mode::Batch,
            Wanted::ReportedWithin(Duration::from_millis(500)),
        )
    },
    Workload {
        engine: Some(Program { name: "resume-shuffles", run: engine::resume_shuffles }),
        parts: &[Program { name: "resumed-shuffles", run: engine::resumed_shuffles }],
        records: engine::FAILURE_RECORDS,
        keys: 4_000_000,
        ..Workload::new(
            "resume-shuffles",
            "two shuffles, 40 M rows, killed at 70 % and resumed: CPU time to that of an undisturbed run",
            Mode::Batch,
            Wanted::RatioWithin(1.2),
        )
    },
    Workload {
        engine: Some(Program { name: "resume-sum", run: engine::resume_sum }),
        parts: &[Program { name: "resumed-sum", run: engine::resumed_sum }],
        records: engine::FAILURE_RECORDS,
        keys: 4_000_000,
        ..Workload::new(
            "resume-sum",
            "a sum, 40 M rows, most of it the source's stage, killed at 70 % and resumed: the same",
            Mode::Batch,
            Wanted::RatioWithin(1.2),
        )
    },
    Workload {
        engine: Some(Program { name: "heavy-sort", run: engine::heavy_sort }),
        oracle: Some(Program { name: "heavy-oracle", run: engine::heavy_oracle }),
        unit: Unit::Events,
        records: engine::HEAVY_RECORDS,
        keys: 100_000,
        ..Workload::new(
            "heavy-sort",
            "global sort, 200 k rows, keys of 200 B, values of 10 KB, `--memory 256MiB`",
            Mode::Batch,
            Wanted::PeakWithin { peak_mib: 256 + BESIDE_MIB },
        )
    },
    Workload {
        engine: Some(Program { name: "heavy-group", run: engine::heavy_group }),
        oracle: Some(Program { name: "heavy-oracle", run: engine::heavy_oracle }),
        unit: Unit::Events,
        records: engine::HEAVY_RECORDS,
        keys: 100_000,
        ..Workload::new(
            "heavy-group",
            "groups of the same rows as iterators, `--memory 256MiB`",
            Mode::Batch,
            Wanted::PeakWithin { peak_mib: 256 + BESIDE_MIB },
        )
    },
    Workload {
        engine: Some(Program { name: "W4-sort", run: engine::sort }),
        unit: Unit::Events,
        records: peers::SORT_RECORDS,
        peers: peers::SORT,
        sorts_records: true,
        ..Workload::new(
            "W4-sort",
            "sort, 5 GB of 100-byte records, `--memory 1GiB`",
            Mode::Batch,
            // The fastest peer took 37 s when it was measured.
            Wanted::RateWithin { per_second: peers::SORT_RECORDS as f64 / 37.0, peak_mib: 1024 + BESIDE_MIB },
        )
    },
];
