//! Clicks: how often each page was clicked in each window of 15 seconds. Shows tumbling windows of event time with a
//! count.
//!
//! ```text
//! cargo run --release --example clicks -- [--events N | --input PATH...] [--output DIR] [--execution-mode batch]
//! ```
//!
//! Clicks are generated: exactly 1,000 of each of six pages in each window, so that any other count is a mistake. Or
//! they are read from text files with rows `page,timestamp`, roughly in the order of time; rows with these names are
//! left out.

use clap::Parser;
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

/// Counts the clicks of each page in each window of 15 seconds.
#[derive(Parser)]
#[command(name = "clicks")]
struct Args {
    /// How many clicks to generate; a multiple of 6000 fills the last window
    #[arg(long, default_value_t = 20 * data::CLICKS_PER_WINDOW)]
    events: u64,
    /// Read clicks from these text files instead: rows page,timestamp
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "events")]
    input: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    engine: EngineArgs,
}

fn run(args: Args) -> mainstem::Result<JobResult> {
    let env = Environment::with_settings(args.engine.settings()?);
    let clicks = if args.input.is_empty() {
        env.generate(args.events, data::click)
    } else {
        let rows = env.read(TextSource::new(args.input)).filter(|row| row != data::HEADER);
        rows.try_map(|row| data::parse(&row))
    };
    args.output.sink(&job::counts(&clicks.name("clicks")));
    env.execute("clicks")
}

fn main() -> ExitCode {
    output::report(run(Args::parse()))
}
