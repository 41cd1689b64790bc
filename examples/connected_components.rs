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
use mainstem::api::{Iterated, IterationStep};
use mainstem::prelude::*;
use output::Output;
use std::path::PathBuf;
use std::process::ExitCode;

#[path = "common/output.rs"]
#[allow(dead_code, reason = "each example uses its share")]
mod output;

#[cfg(not(test))]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds at most: a graph whose longest shortest way is longer is not finished.
const ROUNDS_MAX: u64 = 1000;

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

/// Edge number `i` of a generated graph: to an earlier vertex of the same hundred.
pub fn edge(i: u64) -> (u64, u64) {
    let within = i % 100;
    let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    // One of ten starts a component of its own, or joins one.
    (i, i - if within == 0 { 0 } else { mixed % (within + 1) })
}

/// The edge of a line.
pub fn parse(line: &str) -> Result<(u64, u64), String> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(one)), Some(Ok(other)), None) => Ok((one, other)),
        _ => Err(format!("'{line}' is not an edge: the numbers of two vertices")),
    }
}

/// The component of each vertex that has an edge.
pub fn components(edges: &DataStream<(u64, u64)>) -> mainstem::Result<Iterated<(u64, u64)>> {
    let both = edges.flat_map(|(one, other), out| out.extend([(one, other), (other, one)]));
    let edges = both.distinct().keep("components edges")?;
    let labels = edges.map(|edge| edge.0).distinct().map(|vertex| (vertex, vertex));
    labels.iterate_bulk("components round", ROUNDS_MAX, |labels, _| {
        let keyed = labels.key_by(|label| label.0);
        let told = edges.key_by(|edge| edge.0).join(&keyed).apply(|edge, label| (edge.1, label.1));
        let next = keyed.co_group(&told.key_by(|label| label.0)).apply(|vertex, own, told| {
            let own = own.map(|label| label.1).min().unwrap_or(u64::MAX);
            let least = told.map(|label| label.1).min().unwrap_or(u64::MAX).min(own);
            [(*vertex, least, least < own)]
        });
        let changes = next.filter(|label| label.2);
        IterationStep::new(next.map(|label| (label.0, label.1)).name("labels")).until_empty(&changes)
    })
}

fn run(args: Args) -> mainstem::Result<JobResult> {
    let env = Environment::with_settings(args.engine.settings()?);
    let edges = if args.input.is_empty() {
        env.generate(args.vertices, edge)
    } else {
        env.read(TextSource::new(args.input)).try_map(|line| parse(&line))
    };
    let found = components(&edges.name("edges"))?;
    if !found.converged && found.rounds == ROUNDS_MAX {
        return Err(mainstem::Error::config(format!("labels still change after {ROUNDS_MAX} rounds")));
    }
    args.output.sink(&found.stream);
    env.execute("connected components")
}

fn main() -> ExitCode {
    output::report(run(Args::parse()))
}
