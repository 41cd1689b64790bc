//! Nexmark: queries over the events of an online auction house.
//!
//! ```text
//! cargo run --release --example nexmark -- --query q1 --events 10000000 [--execution-mode batch] [--parallelism 2]
//! ```
//!
//! Prints one line: how many events a second were processed, how many rows came out, and a checksum of the rows that
//! depends on neither their order, nor the execution mode, nor the parallelism; of q4, whose rows are updated, the
//! last row of each category counts. q12 counts by the clock: a second line says why its checksum is another each time.

use clap::Parser;
use generator::{Config, Event, Generator};
use mainstem::prelude::*;
use queries::Query;
use std::process::ExitCode;

mod checksum;
mod generator;
mod queries;
#[path = "../common/random.rs"]
mod random;
mod rows;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Queries over the events of an online auction house.
#[derive(Parser)]
#[command(name = "nexmark")]
struct Args {
    /// Which query.
    #[arg(long, value_enum)]
    query: Query,
    /// How many events.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Events in a second of event time: how much a window holds. Not how fast they are made.
    #[arg(long, default_value_t = Config::default().events_per_second,
        value_parser = clap::value_parser!(u64).range(1..))]
    events_per_second: u64,
    /// Bytes of a bid on average; people and auctions are not affected.
    #[arg(long, default_value_t = Config::default().bid_bytes)]
    bid_bytes: usize,
    /// Print the report of the job too.
    #[arg(long)]
    report: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

fn run(args: Args) -> mainstem::Result<()> {
    let env = Environment::with_settings(args.engine.settings()?);
    let config =
        Config { events_per_second: args.events_per_second, bid_bytes: args.bid_bytes, ..Config::default() };
    let generator = Generator::new(config);
    let source = Generate::new(args.events, move |i| generator.event(i)).timestamps(Event::timestamp);
    let total = args.query.checksum(&env.read(source).name("events"));
    let result = env.execute(&format!("nexmark {:?}", args.query))?;
    if result.explained {
        return Ok(());
    }
    let seconds = result.duration.as_secs_f64();
    println!(
        "query={:?} mode={} parallelism={} events={} seconds={seconds:.3} events_per_second={:.0} {}",
        args.query,
        result.mode,
        result.parallelism,
        args.events,
        args.events as f64 / seconds.max(1e-9),
        total.get()
    );
    if let Some(why) = args.query.varies() {
        println!("the checksum of another run will differ: {why}");
    }
    if args.report {
        println!("\n{result}");
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
