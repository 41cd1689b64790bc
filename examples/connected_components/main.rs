//! Connected components of a graph by bulk iteration: each vertex takes the smallest label of its neighbours, until no label
//! changes.
//!
//! ```text
//! cargo run --release --example connected_components -- [--input PATH... | --vertices N] [--output DIR]
//!     [--execution-mode batch]
//! ```
//!
//! Edges are lines `one other`, read from text files, or generated; they have no direction. What comes out are rows
//! `vertex,component`, where a component is the smallest of its vertices.

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

/// Finds the connected components of a graph.
#[derive(Parser)]
#[command(name = "connected_components")]
struct Args {
    /// Read edges from these text files: lines `one other`
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "vertices")]
    input: Vec<PathBuf>,
    /// How many vertices to generate, in components of up to a hundred
    #[arg(long, default_value_t = 10_000)]
    vertices: u64,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    engine: EngineArgs,
}

fn run(args: Args) -> mainstem::Result<JobResult> {
    let env = Environment::with_settings(args.engine.settings()?);
    let edges = if args.input.is_empty() {
        env.generate(args.vertices, job::edge)
    } else {
        env.read(TextSource::new(args.input)).try_map(|line| job::parse(&line))
    };
    let found = job::components(&edges.name("edges"))?;
    if !found.converged && found.rounds == job::ROUNDS_MAX {
        return Err(mainstem::Error::config(format!("labels still change after {} rounds", job::ROUNDS_MAX)));
    }
    args.output.sink(&found.stream);
    env.execute("connected components")
}

fn main() -> ExitCode {
    output::report(run(Args::parse()))
}
