//! Loops: the nodes and steps that records pass on their way from the head of a loop back to it.
//!
//! A loop is made by edges that lead back to its head ([`Node::feedback`]); all other edges point forward. A step is in the
//! loop if the head leads to it and it leads to an edge back.

use super::logical::{LogicalPlan, Node, NodeId};
use super::physical::{Edge, Step};
use crate::base::config::ExecutionMode;
use crate::base::error::{Error, Result};

/// The steps between the head of a loop and the edges that lead back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The step to which records come back.
    pub head: usize,
    /// The steps of the loop, in order, the head among them.
    pub steps: Vec<usize>,
    /// Their tasks, in order. These may have other steps, too.
    pub tasks: Vec<usize>,
}

/// The places on a way from `head` to one of `ends`, of `places` whose forward edges are given in the order of where they lead.
fn between(places: usize, edges: &[(usize, usize)], head: usize, ends: &[usize]) -> Vec<bool> {
    let mut behind = vec![false; places];
    behind[head] = true;
    for &(from, to) in edges {
        behind[to] |= behind[from];
    }
    let mut leads_back = vec![false; places];
    ends.iter().for_each(|&end| leads_back[end] = true);
    for &(from, to) in edges.iter().rev() {
        leads_back[from] |= leads_back[to];
    }
    behind.iter().zip(&leads_back).map(|(&behind, &leads_back)| behind && leads_back).collect()
}

/// The loops of a plan, in the order of their heads.
pub(super) fn find(steps: &[Step], edges: &[Edge]) -> Vec<Loop> {
    let mut forward: Vec<(usize, usize)> =
        edges.iter().filter(|edge| !edge.feedback).map(|edge| (edge.from, edge.to)).collect();
    forward.sort_by_key(|&(from, to)| (to, from));
    let mut heads: Vec<usize> = edges.iter().filter(|edge| edge.feedback).map(|edge| edge.to).collect();
    heads.sort_unstable();
    heads.dedup();
    let found = heads.into_iter().map(|head| {
        let ends: Vec<usize> =
            edges.iter().filter(|e| e.feedback && e.to == head).map(|edge| edge.from).collect();
        let inside = between(steps.len(), &forward, head, &ends);
        let members: Vec<usize> = (0..steps.len()).filter(|&step| inside[step]).collect();
        let mut tasks: Vec<usize> = members.iter().map(|&step| steps[step].task).collect();
        tasks.sort_unstable();
        tasks.dedup();
        Loop { head, steps: members, tasks }
    });
    found.collect()
}

/// A10: what a loop cannot be, with what to do instead.
pub(super) fn check(logical: &LogicalPlan, mode: ExecutionMode) -> Result<()> {
    let needed = logical.needed();
    let heads = || logical.nodes.iter().filter(|node| needed[node.id] && !node.feedback.is_empty());
    if heads().next().is_none() {
        return Ok(());
    }
    let edges_of = |node: &Node| node.edges().map(|edge| (edge.from, node.id)).collect::<Vec<_>>();
    let forward: Vec<(NodeId, NodeId)> = logical.nodes.iter().flat_map(edges_of).collect();
    for head in heads() {
        if mode == ExecutionMode::Batch {
            return Err(Error::plan(
                &head.name,
                "its records go round while others come, and in BATCH a stage begins when those before it have ended, so none \
                 can wait for itself; use --execution-mode streaming, or iterate_bulk, which runs round after round",
            ));
        }
        let ends: Vec<NodeId> = head.feedback.iter().map(|edge| edge.from).collect();
        for &end in &ends {
            if !between(logical.nodes.len(), &forward, head.id, &[end])[end] {
                return Err(Error::plan(
                    &head.name,
                    format!(
                        "the stream to be fed back comes from '{}', which is not in the loop; return one that is made from the \
                         stream given to the body",
                        logical.nodes[end].name
                    ),
                ));
            }
        }
        let inside = between(logical.nodes.len(), &forward, head.id, &ends);
        for node in logical.nodes.iter().filter(|node| inside[node.id]) {
            if let Some(why) = node.needs_end {
                return Err(Error::plan(
                    &node.name,
                    format!(
                        "{why}, but in the loop '{}' the end comes only when nothing goes round any more; move it out of the \
                         loop, or use iterate_bulk",
                        head.name
                    ),
                ));
            }
        }
    }
    Ok(())
}
