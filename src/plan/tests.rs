//! Tests of what is checked before a plan is laid out.

use super::{LogicalPlan, PhysicalPlan, PlanOptions};
use crate::base::config::ExecutionMode;

#[test]
fn a_plan_without_operators_is_refused_in_a_sentence() {
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch, ExecutionMode::Automatic] {
        let options = PlanOptions { mode, parallelism: 1, max_parallelism: None, chaining: true };
        let error = PhysicalPlan::new(&LogicalPlan::default(), &options).err().map(|e| e.to_string());
        assert!(error.as_deref().is_some_and(|e| e.contains("no operators")), "{mode}: {error:?}");
    }
}
