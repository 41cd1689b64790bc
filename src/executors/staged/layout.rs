//! Layout: how a stage is divided into units of work, and where the partitions of an edge go.

use crate::operator::exchange::Partitioning;
use crate::operator::source::SourceRun;
use crate::plan::{Edge, PhysicalPlan, Task};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Hash ranges of a subtask that reads keyed input: what is sorted, retried and resumed as a whole.
const UNITS_PER_SUBTASK: usize = 8;
/// Parts of what a source reads. A failure or a kill costs up to one of them for each subtask: less than a fifth of a job, whatever
/// share of it its sources have. But a fold before the shuffle begins anew in each, which took a tenth of the time more with 6 parts
/// than with one where each had most of the keys.
const SOURCE_PARTS: usize = 5;

/// The units of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageLayout {
    /// Number of subtasks.
    pub subtasks: usize,
    /// Units of each subtask.
    pub units_per_subtask: usize,
    /// Whether the units of a subtask share what its sources read. If not, the first one reads it all.
    pub divides_sources: bool,
}

impl StageLayout {
    /// The layout of a stage. It depends on nothing but the plan and the input, since the bytes of a job depend on it.
    pub fn of(
        plan: &PhysicalPlan,
        task: &Task,
        sources: &BTreeMap<usize, Arc<dyn SourceRun>>,
    ) -> StageLayout {
        let keyed = |s: &&usize| plan.edges_into(**s).any(|e| e.partitioning == Partitioning::Hash);
        let groups = task.steps.iter().filter(keyed).map(|&s| plan.steps[s].max_parallelism);
        let hash_ranges = groups.min().map(|groups| (groups / task.parallelism).clamp(1, UNITS_PER_SUBTASK));
        let source = |s: &usize| sources.get(s).filter(|_| task.divides_sources);
        let parts = task.steps.iter().filter_map(source).map(|source| source.parts(SOURCE_PARTS)).max();
        let units_per_subtask = hash_ranges.or(parts).unwrap_or(1);
        let divides_sources = parts.is_some() && units_per_subtask > 1;
        StageLayout { subtasks: task.parallelism, units_per_subtask, divides_sources }
    }
    /// Number of units.
    pub fn units(&self) -> usize {
        self.subtasks * self.units_per_subtask
    }
    /// The subtask of a unit.
    pub fn subtask(&self, unit: usize) -> usize {
        unit / self.units_per_subtask
    }
    /// Whether a unit is the first of its subtask: the one that reads what is not keyed.
    pub fn is_first(&self, unit: usize) -> bool {
        unit.is_multiple_of(self.units_per_subtask)
    }
}

/// Number of partitions of an edge into a stage: units where it is keyed, subtasks where it is not, and one where
/// every consumer reads all.
pub fn partitions(edge: &Edge, consumer: &StageLayout) -> usize {
    match edge.partitioning {
        Partitioning::Hash => consumer.units(),
        // Cut by those who read it, when all of it is there.
        Partitioning::Broadcast | Partitioning::Range => 1,
        _ => consumer.subtasks,
    }
}

/// Whether several units read the same partition of an edge, so that none of them is the last.
pub fn is_shared(edge: &Edge) -> bool {
    matches!(edge.partitioning, Partitioning::Broadcast | Partitioning::Range)
}

/// The partition that a unit reads of an edge, if any. A broadcast is read by every unit of a step whose
/// other records are divided among them, and else once by each subtask.
pub fn partition_of_unit(
    edge: &Edge,
    divided_step: bool,
    consumer: &StageLayout,
    unit: usize,
) -> Option<usize> {
    match edge.partitioning {
        Partitioning::Hash => Some(unit),
        Partitioning::Range => consumer.is_first(unit).then_some(0),
        Partitioning::Broadcast => (divided_step || consumer.is_first(unit)).then_some(0),
        _ => consumer.is_first(unit).then(|| consumer.subtask(unit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::{hash_of, key_group, subtask_of_group};

    /// P1: a hash range of a subtask holds only keys of that subtask.
    #[test]
    fn units_are_ranges_within_their_subtask() {
        for (max, subtasks, per) in [(128, 2, 8), (128, 5, 8), (128, 100, 1), (7, 3, 2)] {
            let layout = StageLayout { subtasks, units_per_subtask: per, divides_sources: false };
            for i in 0..2000u64 {
                let group = key_group(hash_of(&i), max);
                let unit = subtask_of_group(group, layout.units(), max);
                assert_eq!(layout.subtask(unit), subtask_of_group(group, subtasks, max));
            }
        }
    }
}
