//! Plan: what the user asked for, as data; and what an executor will run.
//!
//! Place: the typed API appends nodes to a [`LogicalPlan`]; [`PhysicalPlan::new`] checks it and turns it into
//! tasks for one execution mode; executors read the result. Nothing here runs anything.

mod explain;
mod facts;
mod graph;
mod logical;
mod loops;
mod names;
mod physical;
mod stages;
#[cfg(test)]
mod tests;

pub use explain::{explain, without_uid};
pub use graph::{GraphFigures, mermaid, mermaid_with};
pub use logical::{
    Bounded, Chaining, Combining, LogicalEdge, LogicalPlan, Node, NodeId, Operation, OperatorFactory,
    Semantics, Timestamps,
};
pub use loops::Loop;
pub use names::{find_step, operator_names};
pub use physical::{Edge, PhysicalPlan, PlanOptions, Step, StepOperation, Task};
