//! The job, and the graph that it is tried on.

use mainstem::api::IterationStep;
use mainstem::prelude::*;

/// The sum of all ranks.
pub const WHOLE: u64 = 1_000_000_000_000;
/// Of a hundred, what a page passes on; the rest is spread over all.
const DAMPING: u64 = 85;

/// Edge number `i` of a generated graph, in which low vertices are pointed to more often.
pub fn edge(i: u64, vertices: u64) -> (u64, u64) {
    let mixed = (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let low = (mixed >> 33) % vertices;
    (i / 4 % vertices, low * (mixed >> 11 & 0xff) / 256)
}

/// The edge of a line.
pub fn parse(line: &str) -> Result<(u64, u64), String> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(from)), Some(Ok(to)), None) => Ok((from, to)),
        _ => Err(format!("'{line}' is not an edge: two numbers, from and to")),
    }
}

/// The rank of each vertex that has an edge.
pub fn ranks(edges: &DataStream<(u64, u64)>, rounds: u64) -> mainstem::Result<DataStream<(u64, u64)>> {
    // Where each vertex points to; nowhere for those that are only pointed to.
    let ends = edges.flat_map(|(from, to), out| out.extend([(from, Some(to)), (to, None)]));
    let links = ends.key_by(|end| end.0).reduce_group(|from, ends| {
        let mut targets: Vec<u64> = ends.filter_map(|end| end.1).collect();
        targets.sort();
        [(*from, targets)]
    });
    let links = links.name("links").keep("pagerank links")?;
    let vertices = links.count().name("vertices").keep("pagerank vertices")?;
    let start = links.cross(&vertices, |link, n| (link.0, WHOLE / n)).name("first ranks");
    let ranked = start.iterate_bulk("pagerank round", rounds, |ranks, _| {
        let shares =
            links.key_by(|link| link.0).join(&ranks.key_by(|rank| rank.0)).apply(|(_, targets), rank| {
                let share = rank.1 / targets.len().max(1) as u64;
                targets.iter().map(|to| (*to, share)).collect::<Vec<_>>()
            });
        let shares = shares.name("shares").flat_map(|shares, out| out.extend(shares));
        let sums = shares
            .key_by(|share| share.0)
            .reduce_group(|to, shares| [(*to, shares.map(|s| s.1).sum::<u64>())]);
        let next = links
            .key_by(|link| link.0)
            .join(&sums.key_by(|sum| sum.0))
            .apply_left(|link, sum| (link.0, sum.map_or(0, |sum| sum.1)));
        let next = next.cross(&vertices, |(vertex, sum), n| {
            (*vertex, (100 - DAMPING) * (WHOLE / n) / 100 + sum * DAMPING / 100)
        });
        IterationStep::new(next.name("ranks"))
    })?;
    Ok(ranked.stream)
}
