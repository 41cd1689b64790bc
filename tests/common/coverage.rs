//! Coverage: what was run, by operator, mode, driver and parallelism.

use super::engine::Config;
use super::program::{Chaining, Op, Program};
use mainstem::prelude::{Driver, ExecutionMode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub const PARALLELISMS: [usize; 4] = [1, 2, 3, 5];
/// Mode, driver and parallelism.
type Column = (&'static str, &'static str, usize);

/// How many runs had a feature, for each way to run.
#[derive(Default)]
pub struct Coverage {
    runs: BTreeMap<&'static str, BTreeMap<Column, u64>>,
    /// Runs that spilled.
    pub spilled: u64,
}

fn columns() -> impl Iterator<Item = Column> {
    ["streaming", "batch"].into_iter().flat_map(|mode| {
        ["threads", "simulation"].into_iter().flat_map(move |driver| {
            PARALLELISMS.into_iter().map(move |parallelism| (mode, driver, parallelism))
        })
    })
}

impl Coverage {
    pub fn add(&mut self, program: &Program, config: &Config) {
        let mode = if config.mode == ExecutionMode::Batch { "batch" } else { "streaming" };
        let driver = if config.driver == Driver::Threads { "threads" } else { "simulation" };
        let mut features = BTreeSet::new();
        for node in &program.nodes {
            features.insert(node.op.name());
            features.insert(node.step.edge.name());
            let joins = matches!(node.op, Op::Event(event) if event.is_join());
            if node.inputs.len() > 1 && !joins {
                let itself = node.inputs.windows(2).any(|pair| pair[0] == pair[1]);
                features.insert(if itself { "union with itself" } else { "union" });
            }
        }
        features.insert(program.sink.edge.name());
        for step in program.nodes.iter().map(|node| &node.step).chain([&program.sink]) {
            let flags = [
                (step.parallelism.is_some(), "own parallelism"),
                (step.chaining == Chaining::StartNew, "start_new_chain"),
                (step.chaining == Chaining::Disabled, "disable_chaining"),
                (step.slot_group.is_some(), "slot_group"),
                (step.blocking, "blocking"),
            ];
            features.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name));
        }
        for feature in features {
            *self.runs.entry(feature).or_default().entry((mode, driver, config.parallelism)).or_default() +=
                1;
        }
    }

    /// The features that were run in some way fewer times than `floor`, with that way. `all` is what there is.
    pub fn below<'a>(&'a self, floor: u64, all: &'a [&'static str]) -> Vec<String> {
        let runs = |feature: &str, column: Column| {
            self.runs.get(feature).and_then(|runs| runs.get(&column)).copied().unwrap_or(0)
        };
        all.iter()
            .flat_map(|feature| columns().map(move |column| (*feature, column)))
            .filter(|(feature, column)| runs(feature, *column) < floor)
            .map(|(feature, column)| format!("{feature} {column:?}: {} runs", runs(feature, column)))
            .collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:26}|  streaming, threads |  streaming, simul.  |   batch, threads    |   batch, simulation",
            "runs"
        )?;
        write!(f, "{:26}", "parallelism")?;
        for (i, (_, _, parallelism)) in columns().enumerate() {
            write!(f, "{}{parallelism:>5}", if i.is_multiple_of(4) { "|" } else { "" })?;
        }
        for (feature, runs) in &self.runs {
            write!(f, "\n{feature:26}")?;
            for (i, column) in columns().enumerate() {
                let bar = if i.is_multiple_of(4) { "|" } else { "" };
                write!(f, "{bar}{:>5}", runs.get(&column).copied().unwrap_or(0))?;
            }
        }
        write!(f, "\nruns that spilled: {}", self.spilled)
    }
}
