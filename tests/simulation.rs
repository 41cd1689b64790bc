//! The simulation driver: one seed, one trace and one order of the output; other seeds, other schedules, equal
//! results. And what travels in order through a chain.

use mainstem::base::batch::{AnyBatch, Barrier, Element, ErasedBatch};
use mainstem::base::clock::VirtualClock;
use mainstem::base::vfs::OsVfs;
use mainstem::executors::chain::{Chain, ChainPosition, ChainState, Exit};
use mainstem::executors::job::{Cancellation, JobEnvironment};
use mainstem::operator::context::JobContext;
use mainstem::operator::source::SplitAssignment;
use mainstem::prelude::*;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// A job with shuffles, a union and a rolling operator: its trace and its output in order.
fn simulate(seed: u64) -> (u64, Vec<(u64, u64)>) {
    let env = Environment::new().parallelism(3).driver(Driver::Simulation { seed });
    let numbers = env.generate(3000, |i| i * 7919 % 1000);
    let counts = numbers.rebalance().map(|n| n + 1).union(&[&numbers]).key_by(|n| n % 17).count();
    let output = Arc::new(Mutex::new(Vec::new()));
    let into = output.clone();
    counts.sink_to(FnSink::new(move |count| into.lock().unwrap().push(count)));
    let trace = env.execute("simulated").unwrap().trace.expect("a simulated job has a trace");
    let output = std::mem::take(&mut *output.lock().unwrap());
    (trace, output)
}

#[test]
fn the_same_seed_gives_the_same_trace_and_the_same_order() {
    for seed in [0, 1, 42, u64::MAX] {
        assert_eq!(simulate(seed), simulate(seed), "seed {seed}");
    }
}

#[test]
fn other_seeds_give_other_schedules() {
    let runs: Vec<_> = (0..20).map(simulate).collect();
    let traces: BTreeSet<u64> = runs.iter().map(|run| run.0).collect();
    let orders: BTreeSet<&Vec<(u64, u64)>> = runs.iter().map(|run| &run.1).collect();
    assert!(traces.len() >= 18, "only {} of 20 seeds have a trace of their own", traces.len());
    assert!(orders.len() >= 10, "only {} of 20 seeds have an order of their own", orders.len());
}

#[test]
fn fifty_seeds_give_equal_results() {
    let sorted = |seed| {
        let mut output = simulate(seed).1;
        output.sort();
        output
    };
    let first = sorted(0);
    assert_eq!(first.len(), 6000);
    for seed in 1..50 {
        assert_eq!(sorted(seed), first, "seed {seed}");
    }
}

/// In BATCH the seed draws the order of the units of work; the output is that of the plan.
#[test]
fn the_order_of_units_does_not_change_a_batch() {
    let run = |seed| {
        let env = Environment::new()
            .execution_mode(ExecutionMode::Batch)
            .parallelism(2)
            .driver(Driver::Simulation { seed });
        let counts = env.generate(2000, |i| i * 31 % 97).key_by(|n| *n).count();
        let mut counts = counts.execute_and_collect("batch").unwrap().into_vec().unwrap();
        counts.sort();
        counts
    };
    assert_eq!(run(1).len(), 97);
    (2..20).for_each(|seed| assert_eq!(run(seed), run(1), "seed {seed}"));
}

/// Writes down what leaves a chain.
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Exit for Recorder {
    fn push(&mut self, element: Element) -> mainstem::Result<Option<ErasedBatch>> {
        self.0.lock().unwrap().push(match &element {
            Element::Batch(batch) => format!("{} records", AnyBatch::len(&**batch)),
            Element::Watermark(i64::MAX) => "watermark max".into(),
            Element::Watermark(watermark) => format!("watermark {watermark}"),
            Element::Barrier(barrier) => format!("barrier {}", barrier.id),
            other => other.kind().into(),
        });
        Ok(None)
    }
    fn is_full(&mut self) -> bool {
        false
    }
    fn flush(&mut self) -> mainstem::Result<()> {
        Ok(())
    }
}

/// W4, W9: a control element leaves a chain behind everything emitted before it and before everything after it; a
/// bounded source ends with the highest watermark.
#[test]
fn control_elements_travel_in_order() {
    let env = Environment::new().parallelism(1);
    env.generate(2500, |i| i).map(|n| n + 1).filter(|_| true).rebalance().sink_to(DiscardSink);
    let plan = env.physical_plan().unwrap();
    let context = JobContext {
        name: "job".into(),
        id: "job".into(),
        parameters: Parameters::new(),
        auto_watermark_interval: std::time::Duration::from_millis(200),
    };
    let (clock, vfs) = (VirtualClock::new(), OsVfs::shared());
    let job =
        JobEnvironment::start(&plan, context, clock, vfs, SplitAssignment::Fixed, Cancellation::default())
            .unwrap();
    let at = ChainPosition {
        subtask: 0,
        unit: 0,
        source_parts: None,
        attempt: 0,
        table_bytes: 1 << 20,
        spill: None,
        short_calls: true,
        perfect_watermarks: false,
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut chain =
        Chain::new(&plan, &plan.tasks[0], at, &job, |_| Box::new(Recorder(seen.clone()))).unwrap();
    let source = chain.sources()[0];
    chain.open().unwrap();
    let mut step = |elements: Vec<Element>| {
        chain.poll(source).unwrap();
        elements.into_iter().for_each(|element| chain.inject(source, element));
        assert_eq!(chain.run().unwrap(), ChainState::Drained);
    };
    step(vec![
        Element::Watermark(5),
        Element::Watermark(3),
        Element::Barrier(Barrier { id: 1, full: true, savepoint: false }),
    ]);
    step(vec![
        Element::Idle,
        Element::Active,
        Element::Barrier(Barrier { id: 2, full: true, savepoint: false }),
    ]);
    step(vec![]);
    step(vec![]);
    chain.finish().unwrap();
    let expected = [
        "1024 records",
        "watermark 5",
        "barrier 1",
        "1024 records",
        "idle",
        "active",
        "barrier 2",
        "452 records",
        "watermark max",
        "end",
    ];
    assert_eq!(*seen.lock().unwrap(), expected, "a watermark never decreases");
}
