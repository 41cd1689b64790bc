//! Totals: what the units of a stage have left, of the attempts that count.

use crate::services::shuffle::{ShuffleOutput, ShuffleStats};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What one unit has left on one edge.
pub struct LeftStats {
    pub stats: ShuffleStats,
    /// Rows by partition.
    pub rows: Box<[u64]>,
}

impl LeftStats {
    /// Of an output.
    pub fn of(output: &ShuffleOutput) -> LeftStats {
        let rows = (0..output.partitions()).map(|partition| output.partition_stats(partition).rows).collect();
        LeftStats { stats: output.stats(), rows }
    }
}

/// The totals of one stage.
#[derive(Default)]
pub struct StageTotals {
    start: Option<Instant>,
    /// From the start of its first unit to the end of its last.
    pub duration: Duration,
    /// By edge and unit; a later attempt takes the place of an earlier one.
    left: BTreeMap<(usize, usize), LeftStats>,
}

impl StageTotals {
    /// A unit of it starts.
    pub fn started(&mut self) {
        self.start.get_or_insert_with(Instant::now);
    }

    /// All of its units are done, perhaps once more.
    pub fn complete(&mut self) {
        self.duration = self.start.map_or(Duration::ZERO, |start| start.elapsed());
    }

    /// An attempt of a unit has left something on an edge.
    pub fn left(&mut self, unit: usize, edge: usize, left: LeftStats) {
        self.left.insert((edge, unit), left);
    }

    /// The sum of what was left.
    pub fn sum(&self) -> ShuffleStats {
        let mut total = ShuffleStats::default();
        for LeftStats { stats, .. } in self.left.values() {
            total.rows += stats.rows;
            total.raw_bytes += stats.raw_bytes;
            total.stored_bytes += stats.stored_bytes;
            total.spilled_bytes += stats.spilled_bytes;
            total.runs += stats.runs;
            total.spills += stats.spills;
        }
        total
    }

    /// The rows of the largest partition against the mean of all, on the edge where that is most; 0 without rows.
    pub fn skew(&self) -> f64 {
        let mut edges: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for ((edge, _), left) in &self.left {
            let sums = edges.entry(*edge).or_default();
            sums.resize(sums.len().max(left.rows.len()), 0);
            sums.iter_mut().zip(&left.rows).for_each(|(sum, rows)| *sum += rows);
        }
        let skew = |rows: &Vec<u64>| {
            let (total, most) = (rows.iter().sum::<u64>(), rows.iter().max().copied().unwrap_or(0));
            if total == 0 { 0.0 } else { most as f64 * rows.len() as f64 / total as f64 }
        };
        edges.values().map(skew).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(rows: &[u64]) -> LeftStats {
        let stats = ShuffleStats { rows: rows.iter().sum(), ..ShuffleStats::default() };
        LeftStats { stats, rows: rows.into() }
    }

    #[test]
    fn skew_is_that_of_the_worst_edge_over_all_units() {
        let mut totals = StageTotals::default();
        assert_eq!((totals.skew(), totals.sum().rows), (0.0, 0));
        totals.left(0, 1, left(&[10, 0, 0, 0]));
        assert_eq!(totals.skew(), 4.0);
        totals.left(1, 1, left(&[0, 10, 10, 10]));
        assert_eq!((totals.skew(), totals.sum().rows), (1.0, 40));
        totals.left(0, 2, left(&[3, 1]));
        assert_eq!((totals.skew(), totals.sum().rows), (1.5, 44));
        // Another attempt takes the place of the one before.
        totals.left(0, 2, left(&[2, 2]));
        assert_eq!((totals.skew(), totals.sum().rows), (1.0, 44));
    }
}
