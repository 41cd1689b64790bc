//! Facts: what a plan is, as names and texts that can be compared with those of another process.
//!
//! Place: written into the directory of a job when it begins, compared when it is resumed. What user functions do is not in
//! it; that is known by the executable.

use super::physical::{PhysicalPlan, StepOperation};

impl PhysicalPlan {
    /// Its steps and edges as names and texts: equal plans have equal ones, and the first that differs tells what
    /// was changed.
    pub fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![
            ("execution mode".to_string(), self.mode.to_string()),
            ("parallelism".to_string(), self.parallelism.to_string()),
            ("number of operators".to_string(), self.steps.len().to_string()),
        ];
        for step in &self.steps {
            let kind = match &step.operation {
                StepOperation::Source(source, _) => source.describe(),
                StepOperation::Sink(sink) => sink.describe(),
                StepOperation::Operator(_) => "function".to_string(),
            };
            let text = format!(
                "'{}' ({kind}), uid {:?}, {} inputs, {} subtasks, {} key groups, in task {}",
                step.name, step.uid, step.inputs, step.parallelism, step.max_parallelism, step.task
            );
            facts.push((format!("operator {}", step.id), text));
        }
        for edge in &self.edges {
            let text = format!(
                "from {} to {}, input {}, port {:?}, {:?}, records of type {}, key {:?}",
                edge.from,
                edge.to,
                edge.input,
                edge.port,
                edge.partitioning,
                edge.exchange.record_type(),
                edge.exchange.key_type()
            );
            facts.push((format!("edge {}", edge.id), text));
        }
        facts
    }
}
