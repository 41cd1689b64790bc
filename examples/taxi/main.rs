//! Taxi: four jobs over the rides of a city and their fares.
//!
//! - `cleansing`: the events of rides that start and end in New York City. Shows a filter.
//! - `fares`: each ride with its fare, whichever comes first, and what remains alone. Shows two streams with common
//!   state and timers, and side outputs.
//! - `tips`: the best tipped driver of each hour. Shows windows behind windows.
//! - `long-rides`: rides that are open for more than two hours. Shows timers of event time that are taken back.
//!
//! ```text
//! cargo run --release --example taxi -- --job tips [--rides N] [--output DIR] [--execution-mode batch]
//! ```
//!
//! Rides and fares are generated, out of order by up to a minute. Each job gives the same records in both modes.

use clap::{Parser, ValueEnum};
use data::{Fare, RideEvent};
use mainstem::prelude::*;
use output::Output;
use std::fmt::Write;
use std::process::ExitCode;

mod data;
mod job;
#[path = "../common/output.rs"]
mod output;
#[path = "../common/random.rs"]
mod random;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Jobs over taxi rides and their fares.
#[derive(Parser)]
#[command(name = "taxi")]
struct Args {
    /// What to do
    #[arg(long, value_enum)]
    job: Job,
    /// How many rides start
    #[arg(long, default_value_t = 10_000)]
    rides: u64,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    engine: EngineArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Job {
    /// The events of rides that start and end in New York City
    Cleansing,
    /// Each ride with its fare. One fare of 1000 is lost: rides without one are printed
    Fares,
    /// The best tipped driver of each hour
    Tips,
    /// Rides that are open for more than two hours
    LongRides,
}

fn run(args: Args) -> mainstem::Result<JobResult> {
    let env = Environment::with_settings(args.engine.settings()?);
    let events = || env.generate(data::events_of(args.rides), data::ride_event).name("ride events");
    match args.job {
        Job::Cleansing => args.output.sink(&job::cleansed(&events())),
        Job::Fares => {
            let arriving = env.generate(data::arriving_fares(args.rides), data::arriving_fare).name("fares");
            let rides = job::rides_with_fares(&events(), &arriving);
            rides.side_output(&job::rides_without_fare()).sink_to(PrintSink::with(
                |start: &RideEvent, line| {
                    write!(line, "ride {} of driver {} has no fare", start.ride, start.driver)
                },
            ));
            rides.side_output(&job::fares_without_ride()).sink_to(PrintSink::with(|fare: &Fare, line| {
                write!(line, "the fare of ride {} has no ride", fare.ride)
            }));
            args.output.sink(&rides);
        }
        Job::Tips => {
            let fares = env.generate(args.rides, data::fare).name("fares");
            args.output.sink(&job::hourly_tips(&fares));
        }
        Job::LongRides => args.output.sink(&job::long_rides(&events())),
    }
    env.execute("taxi")
}

fn main() -> ExitCode {
    output::report(run(Args::parse()))
}
