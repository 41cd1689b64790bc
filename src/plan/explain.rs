//! Explain: the plan as text: what was asked for, what will run together, where it is cut, what to know.

use super::logical::{LogicalPlan, Operation};
use super::physical::PhysicalPlan;
use crate::base::config::ExecutionMode;
use crate::operator::exchange::Partitioning;
use std::fmt::Write;

/// The logical plan, the tasks and their edges, the differences between the modes that this plan can show, and, of a job
/// that takes `checkpoints`, what may not be found again in them.
pub fn explain(logical: &LogicalPlan, physical: &PhysicalPlan, checkpoints: bool) -> String {
    let mut text = String::new();
    let batch = physical.mode == ExecutionMode::Batch;
    let _ = writeln!(text, "Logical plan");
    for node in &logical.nodes {
        let inputs: Vec<String> = node
            .edges()
            .map(|e| {
                let side =
                    e.port.checked_sub(1).and_then(|side| logical.nodes[e.from].side_outputs.get(side));
                let side = side.map_or(String::new(), |side| format!(" side '{}'", side.name()));
                match e.exchange.partitioning() {
                    Partitioning::Auto => format!("{}{side}", e.from),
                    other => format!("{}{side} by {other}", e.from),
                }
            })
            .collect();
        let kind = match &node.operation {
            Operation::Source(_) => "source",
            Operation::Sink(_) => "sink",
            Operation::Combining(_) => "fold",
            Operation::Bounded(_) => "bounded operator",
            Operation::Timestamps(_) => "timestamps",
            Operation::Operator(_) => "operator",
        };
        let _ = write!(text, "  {}: {kind} '{}'", node.id, node.name);
        if let Some(uid) = &node.uid {
            let _ = write!(text, " uid={uid}");
        }
        if !inputs.is_empty() {
            let _ = write!(text, " <- {}", inputs.join(", "));
        }
        let fed_back: Vec<String> = node.feedback.iter().map(|edge| edge.from.to_string()).collect();
        if !fed_back.is_empty() {
            let _ = write!(text, ", fed back from {}", fed_back.join(", "));
        }
        if let Some(implementation) = &node.implementation {
            let _ = write!(text, " ({implementation})");
        }
        for state in &node.states {
            let _ = write!(text, " [{} state '{}': {}]", state.kind, state.name, state.type_name);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "\n{} ({})", if batch { "Stages" } else { "Chains" }, physical.mode);
    for task in &physical.tasks {
        let _ = writeln!(text, "  {}: {} x{}", task.id, task.name, task.parallelism);
        for edge in physical.edges.iter().filter(|e| !e.local && physical.steps[e.to].task == task.id) {
            let _ = writeln!(
                text,
                "     <- {} by {}{}{} ({})",
                physical.steps[edge.from].task,
                edge.partitioning,
                if edge.feedback { ", fed back" } else { "" },
                if batch && edge.exchange.is_sorted() { ", sorted by key" } else { "" },
                edge.exchange.record_type(),
            );
        }
    }
    let subtasks: usize = physical.tasks.iter().map(|t| t.parallelism).sum();
    let _ = writeln!(text, "\nExecution\n  {} tasks, {subtasks} subtasks", physical.tasks.len());
    let warnings = warnings(logical);
    if !warnings.is_empty() {
        let _ = writeln!(text, "\nWhere the modes differ");
        for warning in warnings {
            let _ = writeln!(text, "  {warning}");
        }
    }
    if checkpoints && !batch {
        let nameless = without_uid(logical);
        if !nameless.is_empty() {
            let _ = writeln!(
                text,
                "\nState without a uid\n  {}\n  is found again by its place in the program only; with a uid it is found wherever it stands",
                nameless.join(", ")
            );
        }
    }
    text
}

/// The operators that keep state for which there is no better name than where they stand in the program.
pub fn without_uid(logical: &LogicalPlan) -> Vec<String> {
    let needed = logical.needed();
    let keeps = |node: &&super::Node| {
        let outside = matches!(node.operation, Operation::Source(_) | Operation::Sink(_));
        needed[node.id]
            && node.uid.is_none()
            && (outside || node.semantics.stateful || node.semantics.rolling || !node.states.is_empty())
    };
    logical.nodes.iter().filter(keeps).map(|node| format!("'{}'", node.name)).collect()
}

/// M13: each difference between the modes that the plan can show.
fn warnings(logical: &LogicalPlan) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut after_rolling: Vec<Option<&str>> = Vec::with_capacity(logical.nodes.len());
    for node in &logical.nodes {
        let semantics = &node.semantics;
        let before = node.edges().find_map(|e| after_rolling[e.from]);
        if node.semantics.rolling {
            warnings.push(format!(
                "'{}' emits a result for each record in STREAMING and one final result for each key in BATCH",
                node.name
            ));
        }
        if let (Some(rolling), true) = (before, node.semantics.stateful) {
            warnings.push(format!(
                "'{}' sees every intermediate result of '{rolling}' in STREAMING and only the final ones in BATCH",
                node.name
            ));
        }
        if node.semantics.processing_time {
            warnings.push(format!(
                "'{}' uses processing time, which follows the clock in STREAMING and stands still in BATCH",
                node.name
            ));
        }
        for (applies, what) in [
            (semantics.drops_late, "finds records late in STREAMING; in BATCH nothing is late"),
            (
                semantics.fires_repeatedly,
                "may emit several results for a window in STREAMING and the final one in BATCH",
            ),
            (semantics.ordered, "depends on the order of records: arrival in STREAMING, timestamps in BATCH"),
            (
                semantics.interleaved,
                "sees its inputs as they arrive in STREAMING, and in a fixed order in BATCH",
            ),
            (
                semantics.reads_watermark,
                "may read the watermark, which rises in STREAMING and stands at its minimum until the end in BATCH",
            ),
        ] {
            if applies {
                warnings.push(format!("'{}' {what}", node.name));
            }
        }
        after_rolling.push(if node.semantics.rolling { Some(&node.name) } else { before });
    }
    warnings
}
