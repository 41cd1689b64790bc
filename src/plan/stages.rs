//! Chains and stages: which steps run together in a subtask.
//!
//! A *chain* (pipelined) joins neighbours where all conditions of P4 hold. A *stage* (staged) is a connected
//! component over forward edges, whatever the chaining flags; a forward edge stays inside a stage unless that
//! would make the stage wait for itself.

use super::logical::Chaining;
use super::physical::{Edge, Step, Task};
use crate::operator::exchange::Partitioning;

/// Groups steps into chains and marks the edges inside them as local.
pub(super) fn chains(steps: &mut [Step], edges: &mut [Edge], enabled: bool) -> Vec<Task> {
    let mut groups = Groups::new(steps.len());
    for i in 0..edges.len() {
        let edge = &edges[i];
        let (from, to) = (&steps[edge.from], &steps[edge.to]);
        let only_input = edges.iter().filter(|e| e.to == edge.to).count() == 1;
        let joined = enabled
            && only_input
            && edge.partitioning == Partitioning::Forward
            && from.parallelism == to.parallelism
            && from.slot_group == to.slot_group
            && to.chaining == Chaining::Always
            && from.chaining != Chaining::Never
            && !from.blocking
            && !to.blocking;
        if joined {
            groups.join(edge.from, edge.to);
            edges[i].local = true;
        }
    }
    tasks(steps, edges, &groups)
}

/// Groups steps into stages and marks the edges inside them as local.
pub(super) fn stages(steps: &mut [Step], edges: &mut [Edge]) -> Vec<Task> {
    let mut groups = Groups::new(steps.len());
    for to in 0..steps.len() {
        for edge in edges.iter().filter(|e| e.to == to && e.partitioning == Partitioning::Forward) {
            if steps[to].whole && is_divided(edges, &groups, edge.from) {
                continue;
            }
            groups.join(edge.from, to);
            if waits_for_itself(steps.len(), edges, &groups, to) {
                groups.undo();
            }
        }
    }
    for edge in edges.iter_mut() {
        edge.local = inside(edge, &groups);
    }
    tasks(steps, edges, &groups)
}

/// Whether the subtasks of a step's group are several units of work: they read keyed input.
fn is_divided(edges: &[Edge], groups: &Groups, step: usize) -> bool {
    edges.iter().any(|e| e.partitioning == Partitioning::Hash && groups.of(e.to) == groups.of(step))
}

/// Whether the records of a source in the same stage may come to a step in several units of work. Not where it must see all of them,
/// or keeps something from record to record; where one input is to be read before another; nor behind a broadcast, which
/// each unit would read, keep in a table and perhaps answer with records.
fn bears_division(step: &Step, edges: &[Edge]) -> bool {
    let keeps = step.whole || step.stateful || step.inputs > 1;
    !keeps && !edges.iter().any(|e| e.to == step.id && e.partitioning == Partitioning::Broadcast)
}

/// A forward edge within a group needs no cut.
fn inside(edge: &Edge, groups: &Groups) -> bool {
    edge.partitioning == Partitioning::Forward && groups.of(edge.from) == groups.of(edge.to)
}

/// Whether some group depends on itself through edges that must be cut, looking at steps up to `last`.
fn waits_for_itself(steps: usize, edges: &[Edge], groups: &Groups, last: usize) -> bool {
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); steps];
    for edge in edges.iter().filter(|e| e.to <= last && !inside(e, groups)) {
        next[groups.of(edge.from)].push(groups.of(edge.to));
    }
    let mut state = vec![0u8; steps];
    (0..steps).any(|start| has_cycle(start, &next, &mut state))
}

/// Depth-first search: 1 marks the path, 2 what is known to be free of cycles.
fn has_cycle(start: usize, next: &[Vec<usize>], state: &mut [u8]) -> bool {
    let mut path = vec![(start, 0)];
    if state[start] != 0 {
        return false;
    }
    state[start] = 1;
    while let Some((at, i)) = path.last_mut() {
        match next[*at].get(*i) {
            Some(&to) => {
                *i += 1;
                match state[to] {
                    0 => {
                        state[to] = 1;
                        path.push((to, 0));
                    }
                    1 => return true,
                    _ => {}
                }
            }
            None => {
                state[*at] = 2;
                path.pop();
            }
        }
    }
    false
}

fn tasks(steps: &mut [Step], edges: &[Edge], groups: &Groups) -> Vec<Task> {
    // Order tasks so that edges between them point forward: take, again and again, the first group whose inputs
    // are all placed.
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); steps.len()];
    for step in 0..steps.len() {
        members[groups.of(step)].push(step);
    }
    let mut open: Vec<usize> = (0..steps.len()).filter(|&g| !members[g].is_empty()).collect();
    let mut placed = vec![false; steps.len()];
    let mut tasks: Vec<Task> = Vec::new();
    while !open.is_empty() {
        let ready = open.iter().position(|&g| {
            let inside = |step: usize| members[g].contains(&step);
            edges.iter().all(|e| e.feedback || !inside(e.to) || inside(e.from) || placed[e.from])
        });
        let group = open.remove(ready.unwrap_or(0));
        let id = tasks.len();
        for &step in &members[group] {
            placed[step] = true;
            steps[step].task = id;
        }
        let of = |step: usize| &steps[step];
        let names: Vec<&str> = members[group].iter().map(|&s| of(s).name.as_str()).collect();
        tasks.push(Task {
            id,
            name: names.join(" -> "),
            parallelism: of(members[group][0]).parallelism,
            slot_group: of(members[group][0]).slot_group.clone(),
            blocking: members[group].iter().any(|&s| of(s).blocking),
            divides_sources: members[group].iter().all(|&s| bears_division(of(s), edges)),
            steps: members[group].clone(),
        });
    }
    tasks
}

/// Disjoint groups of steps; the lowest step stands for its group.
struct Groups {
    of: Vec<usize>,
    before: Vec<usize>,
}

impl Groups {
    fn new(n: usize) -> Self {
        Groups { of: (0..n).collect(), before: Vec::new() }
    }
    fn of(&self, step: usize) -> usize {
        self.of[step]
    }
    fn join(&mut self, a: usize, b: usize) {
        self.before = self.of.clone();
        let (a, b) = (self.of[a], self.of[b]);
        let (low, high) = (a.min(b), a.max(b));
        self.of.iter_mut().filter(|g| **g == high).for_each(|g| *g = low);
    }
    fn undo(&mut self) {
        std::mem::swap(&mut self.of, &mut self.before);
    }
}
