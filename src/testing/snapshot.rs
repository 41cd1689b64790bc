//! HarnessSnapshot: what the operators of a harness keep, to be found again by their uids or places.

use crate::base::error::{Error, Result};
use crate::plan::{PhysicalPlan, find_step, operator_names};
use crate::semantics::state::{OperatorSnapshot, OperatorState};
use crate::services::checkpoint::{OperatorKind, OperatorName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the operators in a harness keep, and the processing time it was taken at. It can be written to a file and read
/// by a later version of a test: serde's `Serialize` and `Deserialize`.
///
/// An operator finds its state by its [`uid`](crate::api::DataStream::uid); one without a uid by its place among the
/// operators of the program that have none, where an operator of the same name must stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HarnessSnapshot {
    pub(super) processing_time_ms: i64,
    operators: Vec<Kept>,
}

/// What one subtask of one operator keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    operator: OperatorName,
    subtask: usize,
    state: OperatorSnapshot,
}

impl HarnessSnapshot {
    /// Whether no operator keeps anything.
    pub fn is_empty(&self) -> bool {
        self.operators.is_empty()
    }

    /// The operators that keep something: their names, and their snapshots.
    pub fn operators(&self) -> impl Iterator<Item = (&str, &OperatorSnapshot)> {
        self.operators.iter().map(|kept| (kept.operator.name.as_str(), &kept.state))
    }

    /// A snapshot of what each subtask (its index; its operators by step) has given.
    pub(super) fn new(
        plan: &PhysicalPlan,
        processing_time_ms: i64,
        subtasks: Vec<(usize, Vec<(usize, OperatorSnapshot)>)>,
    ) -> HarnessSnapshot {
        let names = operator_names(plan);
        let all = subtasks.into_iter().flat_map(|(subtask, states)| {
            states.into_iter().map(move |(step, state)| (step, subtask, state))
        });
        // The inputs of a test and its probes are not part of what it tests.
        let kept = |step: usize| names[step].kind == OperatorKind::Operator;
        let mut all: Vec<_> = all.filter(|(step, _, state)| kept(*step) && !state.is_empty()).collect();
        all.sort_by_key(|&(step, subtask, _)| (step, subtask));
        let operators = all.into_iter().map(|(step, subtask, state)| Kept {
            operator: names[step].clone(),
            subtask,
            state,
        });
        HarnessSnapshot { processing_time_ms, operators: operators.collect() }
    }

    /// The snapshots by step and subtask of another plan.
    ///
    /// # Errors
    /// State that no operator of the plan is for.
    pub(super) fn by_step(&self, plan: &PhysicalPlan) -> Result<BTreeMap<(usize, usize), OperatorState>> {
        let names = operator_names(plan);
        let mut found = BTreeMap::new();
        for kept in &self.operators {
            let step = find_step(&names, &kept.operator).map_err(|why| kept.unmatched(&why))?;
            if kept.subtask >= plan.steps[step].parallelism {
                return Err(kept.unmatched("which has fewer subtasks now"));
            }
            found.insert((step, kept.subtask), kept.state.clone().into());
        }
        Ok(found)
    }
}

impl Kept {
    #[cold]
    fn unmatched(&self, why: &str) -> Error {
        Error::config(format!(
            "the snapshot holds state of {}, {why}; give operators the uids that they had when it was taken, or \
             give those that keep state a uid before the next one is",
            self.operator
        ))
    }
}
