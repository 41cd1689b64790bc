//! A report over CSV files, with many joins: what customers of each country have bought of each category, and who has bought nothing.
//!
//! ```text
//! cargo run --release --example report -- --generate DIR [--orders N]
//! cargo run --release --example report -- --input DIR [--output DIR] [--execution-mode batch]
//! ```
//!
//! Four files: `countries.csv` (code,name), `customers.csv` (id,country), `products.csv` (id,category,cents) and `orders.csv`
//! (customer,product,pieces). Countries and products are small and go to every subtask; customers and orders are
//! shuffled by customer. The rows of the report are `country,category,orders,cents`, by revenue, and, of category `-`,
//! the number of customers without an order.

use clap::Parser;
use mainstem::prelude::*;
use output::Output;
use std::path::PathBuf;
use std::process::ExitCode;

mod job;
#[path = "../common/output.rs"]
mod output;

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reports what was bought.
#[derive(Parser)]
#[command(name = "report")]
struct Args {
    /// Make files to report about in this directory
    #[arg(long, value_name = "DIR", conflicts_with = "input")]
    generate: Option<PathBuf>,
    /// How many orders to make
    #[arg(long, default_value_t = 100_000)]
    orders: u64,
    /// Report about the files in this directory
    #[arg(long, value_name = "DIR", required_unless_present = "generate")]
    input: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    engine: EngineArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(dir) = args.generate {
        return match job::generate(&dir, args.orders) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("error: {}: {e}", dir.display());
                ExitCode::FAILURE
            }
        };
    }
    let dir = args.input.unwrap_or_default();
    let run = || {
        let env = Environment::with_settings(args.engine.settings()?);
        args.output.sink(&job::report(&env, &dir));
        env.execute("report")
    };
    output::report(run())
}
