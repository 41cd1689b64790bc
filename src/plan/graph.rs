//! Graph: the plan as a Mermaid flowchart.

use super::physical::{PhysicalPlan, StepOperation};
use crate::base::config::ExecutionMode;
use std::fmt::Write;

/// What is written below the names in a graph, a line each.
pub struct GraphFigures<'a> {
    /// Of a chain or stage.
    pub task: &'a dyn Fn(usize) -> Vec<String>,
    /// Of an operator.
    pub step: &'a dyn Fn(usize) -> Vec<String>,
}

/// A Mermaid `flowchart`: one subgraph for each chain or stage, dotted arrows where records are redistributed.
pub fn mermaid(plan: &PhysicalPlan) -> String {
    mermaid_with(plan, &GraphFigures { task: &|_| Vec::new(), step: &|_| Vec::new() })
}

/// The same, with figures below the names.
pub fn mermaid_with(plan: &PhysicalPlan, figures: &GraphFigures<'_>) -> String {
    let mut text = String::from("flowchart LR\n");
    let word = if plan.mode == ExecutionMode::Batch { "stage" } else { "chain" };
    for task in &plan.tasks {
        let title = label(format!("{word} x{}", task.parallelism), (figures.task)(task.id));
        let _ = writeln!(text, "  subgraph t{}[\"{title}\"]", task.id);
        for &id in &task.steps {
            let step = &plan.steps[id];
            let (open, close) = match step.operation {
                StepOperation::Source(..) => ("([", "])"),
                StepOperation::Sink(_) => ("[(", ")]"),
                StepOperation::Operator(_) => ("[", "]"),
            };
            let _ =
                writeln!(text, "    s{id}{open}\"{}\"{close}", label(escape(&step.name), (figures.step)(id)));
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

/// A name with lines below it.
fn label(name: String, below: Vec<String>) -> String {
    below.iter().fold(name, |label, line| label + "<br/>" + &escape(line))
}

/// Mermaid reads `#quot;` as a quote inside a quoted label.
fn escape(name: &str) -> String {
    name.replace('"', "#quot;").replace(['\n', '\r'], " ")
}
