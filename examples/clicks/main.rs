//! Clicks: how often each page was clicked in each window of 15 seconds. Shows tumbling windows of event time with a
//! count.
//!
//! ```text
//! cargo run --release --example clicks -- [--events N | --input PATH...] [--output DIR] [--execution-mode batch]
//! ```
//!
//! `operations.sh` beside this file shows a life of the job: killed, restored, stopped, rescaled, changed, and slowed down,
//! with a thousand clicks in each window after each step. It uses `--rate`, so that the job lasts, and `--back-pressure`.
//!
//! Clicks are generated: exactly 1,000 of each of six pages in each window, so that any other count is a mistake. Or
//! they are read from text files with rows `page,timestamp`, roughly in the order of time; rows with these names are
//! left out.

use clap::Parser;
use mainstem::prelude::*;
use output::Output;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod data;
mod job;
#[path = "../common/output.rs"]
mod output;
#[path = "../common/random.rs"]
mod random;

/// How often the program looks whether somebody has pressed Ctrl-C or the job has ended.
const LOOK: Duration = Duration::from_millis(5);

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Counts the clicks of each page in each window of 15 seconds.
#[derive(Parser)]
#[command(name = "clicks")]
struct Args {
    /// How many clicks to generate; a multiple of 6000 fills the last window
    #[arg(long, default_value_t = 20 * data::CLICKS_PER_WINDOW)]
    events: u64,
    /// How many clicks to generate in a second; as many as the job takes if nothing is said
    #[arg(long, value_name = "N", conflicts_with = "input")]
    rate: Option<f64>,
    /// Add an operator that is slow for the clicks of every other minute
    #[arg(long)]
    back_pressure: bool,
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
        let clicks = Generate::new(args.events, data::click);
        env.read(args.rate.into_iter().fold(clicks, Generate::rate))
    } else {
        let rows = env.read(TextSource::new(args.input)).filter(|row| row != data::HEADER);
        rows.try_map(|row| data::parse(&row))
    };
    let clicks = clicks.name("clicks").uid("clicks");
    let clicks = if args.back_pressure { job::slowed(&clicks) } else { clicks };
    args.output.sink(&job::counts(&clicks));
    let job = env.execute_async("clicks")?;
    // Ctrl-C: with checkpoints the job stops at one, from which it can be restored; without them it is cancelled.
    let asked = Arc::new(AtomicBool::new(false));
    let on_signal = asked.clone();
    let _ = ctrlc::set_handler(move || on_signal.store(true, Ordering::Relaxed));
    while job.status() == JobStatus::Running {
        if asked.swap(false, Ordering::Relaxed) && job.stop(false).is_err() {
            job.cancel();
        }
        std::thread::sleep(LOOK);
    }
    job.result()
}

fn main() -> ExitCode {
    output::report(run(Args::parse()))
}
