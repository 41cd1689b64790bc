//! Graph: the plan as a Mermaid flowchart.

use super::physical::{PhysicalPlan, StepOperation};
use crate::base::config::ExecutionMode;
use std::fmt::Write;

/// A Mermaid `flowchart`: one subgraph for each chain or stage, dotted arrows where records are redistributed.
pub fn mermaid(plan: &PhysicalPlan) -> String {
    let mut text = String::from("flowchart LR\n");
    let word = if plan.mode == ExecutionMode::Batch { "stage" } else { "chain" };
    for task in &plan.tasks {
        let _ = writeln!(text, "  subgraph t{}[\"{} x{}\"]", task.id, word, task.parallelism);
        for &id in &task.steps {
            let step = &plan.steps[id];
            let (open, close) = match step.operation {
                StepOperation::Source(..) => ("([", "])"),
                StepOperation::Sink(_) => ("[(", ")]"),
                StepOperation::Operator(_) => ("[", "]"),
            };
            let _ = writeln!(text, "    s{id}{open}\"{}\"{close}", escape(&step.name));
        }
        text.push_str("  end\n");
    }
    for edge in &plan.edges {
        let _ = match edge.local {
            _ if edge.feedback => {
                writeln!(text, "  s{} -. fed back by {} .-> s{}", edge.from, edge.partitioning, edge.to)
            }
            true => writeln!(text, "  s{} --> s{}", edge.from, edge.to),
            false => writeln!(text, "  s{} -. {} .-> s{}", edge.from, edge.partitioning, edge.to),
        };
    }
    text
}

/// Mermaid reads `#quot;` as a quote inside a quoted label.
fn escape(name: &str) -> String {
    name.replace('"', "#quot;").replace(['\n', '\r'], " ")
}
