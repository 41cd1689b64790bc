//! Figures: the graph of a plan with what its parts did in a run.

use super::result::JobResult;
use crate::base::text;
use crate::plan::{GraphFigures, PhysicalPlan, mermaid_with};

/// The graph of a plan that has been run, with the figures of its result.
pub(super) fn graph(plan: &PhysicalPlan, result: &JobResult) -> String {
    let step = |id: usize| {
        let Some(operator) = result.operators.iter().find(|operator| operator.id == id) else {
            return Vec::new();
        };
        let records = [(operator.records_in, "in"), (operator.records_out, "out")];
        let records = records.iter().filter(|(records, _)| *records > 0);
        let records: Vec<String> =
            records.map(|(records, way)| format!("{} {way}", text::count(*records))).collect();
        if records.is_empty() { Vec::new() } else { vec![records.join(", ")] }
    };
    let streaming = |task: usize| {
        let first = plan.tasks[task].steps.first();
        let Some(of) = first.and_then(|step| result.operators.get(*step)) else { return Vec::new() };
        vec![format!(
            "busy {}, idle {}, blocked {}",
            text::duration(of.busy),
            text::duration(of.idle),
            text::duration(of.backpressured)
        )]
    };
    let staged = |task: usize| {
        // A stage that was taken over from a process before has none.
        let Some(stage) = result.stages.iter().find(|stage| stage.id == task) else { return Vec::new() };
        let mut lines = vec![format!(
            "{}, {} units, {} attempts",
            text::duration(stage.duration),
            stage.units,
            stage.attempts
        )];
        if stage.shuffle_rows > 0 {
            lines.push(format!(
                "{} rows, {}, skew {:.2}",
                text::count(stage.shuffle_rows),
                text::bytes(stage.shuffle_bytes),
                stage.skew
            ));
        }
        if stage.spills > 0 {
            lines.push(format!(
                "spilled {} in {}",
                text::bytes(stage.spilled_bytes),
                text::count(stage.spills)
            ));
        }
        lines
    };
    let is_staged = result.mode == crate::base::config::ExecutionMode::Batch;
    let task = |id: usize| if is_staged { staged(id) } else { streaming(id) };
    mermaid_with(plan, &GraphFigures { task: &task, step: &step })
}
