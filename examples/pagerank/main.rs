//! PageRank of a graph by bulk iteration: a fixed number of rounds over an edge list.
//!
//! ```text
//! cargo run --release --example pagerank -- [--input PATH... | --vertices N] [--rounds N] [--output DIR]
//!     [--execution-mode batch]
//! ```
//!
//! Edges are lines `from to`, read from text files, or generated. A rank is in billionths and a whole number, so that
//! the result does not depend on the order in which shares are added: it is the same in both modes and at every
//! parallelism. What comes out are rows `vertex,rank`.

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

/// Ranks the vertices of a graph.
#[derive(Parser)]
#[command(name = "pagerank")]
struct Args {
    /// Read edges from these text files: lines `from to`
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "vertices")]
    input: Vec<PathBuf>,
    /// How many vertices to generate, with four edges each
    #[arg(long, default_value_t = 10_000)]
    vertices: u64,
    /// How many rounds to go
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    engine: EngineArgs,
}

fn run(args: Args) -> mainstem::Result<JobResult> {
    let env = Environment::with_settings(args.engine.settings()?);
    let edges = if args.input.is_empty() {
        let vertices = args.vertices;
        env.generate(4 * vertices, move |i| job::edge(i, vertices))
    } else {
        env.read(TextSource::new(args.input)).try_map(|line| job::parse(&line))
    };
    args.output.sink(&job::ranks(&edges.name("edges"), args.rounds)?);
    env.execute("pagerank")
}

fn main() -> ExitCode {
    output::report(run(Args::parse()))
}
