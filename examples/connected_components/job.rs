//! The job, and the graph that it is tried on.

use mainstem::api::{Iterated, IterationStep};
use mainstem::prelude::*;

/// Rounds at most: a graph whose longest shortest way is longer is not finished.
pub const ROUNDS_MAX: u64 = 1000;

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
