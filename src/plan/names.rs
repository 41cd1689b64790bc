//! Names: by what the operators of one program are found again in a later form of it.
//!
//! Rules: an operator with a uid is found by it. One without by its place among those of its kind that have none,
//! where one of the same name must stand.

use super::physical::{PhysicalPlan, StepOperation};
use crate::services::checkpoint::{OperatorKind, OperatorName};

/// The name of each step of a plan.
pub fn operator_names(plan: &PhysicalPlan) -> Vec<OperatorName> {
    let mut next = [0; 3];
    let name = |step: &super::Step| {
        let kind = match step.operation {
            StepOperation::Source(..) => OperatorKind::Source,
            StepOperation::Operator(_) => OperatorKind::Operator,
            StepOperation::Sink(_) => OperatorKind::Sink,
        };
        let next = &mut next[kind as usize];
        let place = step.uid.is_none().then_some(*next);
        *next += usize::from(place.is_some());
        OperatorName { uid: step.uid.clone(), kind, place, name: step.name.clone() }
    };
    plan.steps.iter().map(name).collect()
}

/// The step that an operator of an earlier form of the program is, by the names of the steps.
///
/// # Errors
/// Why there is none, to go behind "which" or "but".
pub fn find_step(names: &[OperatorName], wanted: &OperatorName) -> Result<usize, String> {
    let found = names.iter().position(|name| {
        name.kind == wanted.kind
            && name.uid == wanted.uid
            && (name.uid.is_some() || name.place == wanted.place)
    });
    let step = found.ok_or_else(|| "which the program does not have".to_string())?;
    if wanted.uid.is_none() && names[step].name != wanted.name {
        return Err(format!("but '{}' stands there now", names[step].name));
    }
    Ok(step)
}
