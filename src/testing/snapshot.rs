//! HarnessSnapshot: what the operators of a harness keep, to be found again by their uids or places.

use crate::base::error::{Error, Result};
use crate::plan::{PhysicalPlan, Step, StepOperation};
use crate::semantics::state::{OperatorSnapshot, OperatorState};
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
    uid: Option<String>,
    /// Place among the operators without a uid.
    place: Option<usize>,
    name: String,
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
        self.operators.iter().map(|kept| (kept.name.as_str(), &kept.state))
    }

    /// A snapshot of what each subtask (its index; its operators by step) has given.
    pub(super) fn new(
        plan: &PhysicalPlan,
        processing_time_ms: i64,
        subtasks: Vec<(usize, Vec<(usize, OperatorSnapshot)>)>,
    ) -> HarnessSnapshot {
        let places = places(plan);
        let all = subtasks.into_iter().flat_map(|(subtask, states)| {
            states.into_iter().map(move |(step, state)| (step, subtask, state))
        });
        let mut all: Vec<_> = all.filter(|(_, _, state)| !state.is_empty()).collect();
        all.sort_by_key(|&(step, subtask, _)| (step, subtask));
        let operators = all.into_iter().map(|(step, subtask, state)| {
            let Step { uid, name, .. } = &plan.steps[step];
            Kept { uid: uid.clone(), place: places[step], name: name.clone(), subtask, state }
        });
        HarnessSnapshot { processing_time_ms, operators: operators.collect() }
    }

    /// The snapshots by step and subtask of another plan.
    ///
    /// # Errors
    /// State that no operator of the plan is for.
    pub(super) fn by_step(&self, plan: &PhysicalPlan) -> Result<BTreeMap<(usize, usize), OperatorState>> {
        let places = places(plan);
        let mut found = BTreeMap::new();
        for kept in &self.operators {
            let step = match &kept.uid {
                Some(uid) => plan.steps.iter().find(|step| step.uid.as_ref() == Some(uid)),
                None => plan.steps.iter().find(|step| places[step.id] == kept.place),
            };
            let step = step.ok_or_else(|| kept.unmatched("which the program does not have"))?;
            if kept.uid.is_none() && step.name != kept.name {
                return Err(kept.unmatched(&format!("but '{}' stands there now", step.name)));
            }
            if kept.subtask >= step.parallelism {
                return Err(kept.unmatched("which has fewer subtasks now"));
            }
            found.insert((step.id, kept.subtask), kept.state.clone().into());
        }
        Ok(found)
    }
}

impl Kept {
    #[cold]
    fn unmatched(&self, why: &str) -> Error {
        let of = match (&self.uid, self.place) {
            (Some(uid), _) => format!("of the operator with uid '{uid}'"),
            (None, place) => format!(
                "of operator '{}' at place {} of those without a uid",
                self.name,
                place.unwrap_or_default()
            ),
        };
        Error::config(format!(
            "the snapshot holds state {of}, {why}; give operators the uids that they had when it was taken, or \
             give those that keep state a uid before the next one is"
        ))
    }
}

/// The place of each step among those that are operators and have no uid.
fn places(plan: &PhysicalPlan) -> Vec<Option<usize>> {
    let mut next = 0;
    let place = |step: &Step| {
        let counts = step.uid.is_none() && matches!(step.operation, StepOperation::Operator(_));
        let place = counts.then_some(next);
        next += usize::from(counts);
        place
    };
    plan.steps.iter().map(place).collect()
}
