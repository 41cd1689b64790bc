//! Fraud: alerts for a small card transaction that is followed at once by a large one. Shows a keyed process function
//! with a flag for each key and a timer that clears it.
//!
//! ```text
//! cargo run --release --example fraud -- [--events N | --input FILE] [--small 1.00] [--large 500.00]
//!     [--output DIR] [--execution-mode batch]
//! ```
//!
//! Transactions are generated, or read from a text file with rows `account,amount,timestamp` in the order of time; a
//! first row with these names is left out. Both modes give the same alerts: STREAMING as they happen, BATCH
//! account by account.

use clap::Parser;
use job::Thresholds;
use mainstem::prelude::*;
use output::Output;
use std::path::PathBuf;
use std::process::ExitCode;

mod data;
mod job;
#[path = "../common/output.rs"]
mod output;
#[path = "../common/random.rs"]
mod random;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Alerts for a small card transaction that is followed at once by a large one.
#[derive(Parser)]
#[command(name = "fraud")]
struct Args {
    /// How many transactions to generate
    #[arg(long, default_value_t = 10_000)]
    events: u64,
    /// Read transactions from this text file instead: rows account,amount,timestamp
    #[arg(long, value_name = "FILE", conflicts_with = "events")]
    input: Option<PathBuf>,
    /// Below this amount a transaction is small
    #[arg(long, value_name = "AMOUNT", default_value = "1.00", value_parser = data::parse_cents)]
    small: u64,
    /// Above this amount a transaction is large
    #[arg(long, value_name = "AMOUNT", default_value = "500.00", value_parser = data::parse_cents)]
    large: u64,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    engine: EngineArgs,
}

fn run(args: Args) -> mainstem::Result<JobResult> {
    let env = Environment::with_settings(args.engine.settings()?);
    // One subtask, which keeps the order of the transactions.
    let transactions = match args.input {
        Some(file) => env
            .read(TextSource::path(file))
            .parallelism(1)
            .filter(|row| row != data::HEADER)
            .parallelism(1)
            .try_map(|row| data::parse(&row))
            .parallelism(1),
        None => env.generate(args.events, data::transaction).parallelism(1),
    };
    let thresholds = Thresholds { small_cents: args.small, large_cents: args.large };
    args.output.sink(&job::alerts(&transactions.name("transactions"), thresholds));
    env.execute("fraud")
}

fn main() -> ExitCode {
    output::report(run(Args::parse()))
}
