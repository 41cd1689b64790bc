//! A toy executor gives the same results as both real ones, and both real ones run the same operator types.

mod common;

use common::program::{Event, Fold, Op, Windows};
use common::toy::Toy;
use common::{engine, generator, oracle};
use mainstem::base::clock::VirtualClock;
use mainstem::base::vfs::OsVfs;
use mainstem::executors::job::{Cancellation, JobEnvironment};
use mainstem::operator::context::JobContext;
use mainstem::operator::source::SplitAssignment;
use mainstem::prelude::*;
use std::time::Duration;

/// Runs what the environment was given with the toy executor.
fn run_toy(env: &Environment) -> mainstem::Result<()> {
    let plan = env.physical_plan()?;
    let context = JobContext {
        name: "toy".into(),
        id: "toy".into(),
        parameters: Parameters::new(),
        auto_watermark_interval: std::time::Duration::from_millis(200),
    };
    let (clock, vfs) = (VirtualClock::new(), OsVfs::shared());
    let job =
        JobEnvironment::start(&plan, context, clock, vfs, SplitAssignment::Fixed, Cancellation::default())?;
    let accumulators = job.accumulators.attempt();
    let outcome = Toy::new(&plan, &job, &accumulators).run();
    job.finish(&plan, outcome)
}

fn config(mode: ExecutionMode, driver: Driver) -> engine::Config {
    let (buffer_timeout, memory) = (BufferTimeout::default(), ByteSize::mib(8));
    engine::Config {
        mode,
        driver,
        parallelism: 3,
        buffer_timeout,
        chaining: true,
        memory,
        watermarks: Duration::from_millis(1),
    }
}

/// The programs of the property test that end in no rolling operator: results are multisets.
#[test]
fn the_toy_executor_gives_the_same_results() {
    let simulation = Driver::Simulation { seed: 1 };
    let mut compared = 0;
    for seed in
        (1..300).filter(|&seed| !generator::program(seed).rolling_end && !generator::program(seed).batch_only)
    {
        let program = generator::program(seed);
        let env = config(ExecutionMode::Streaming, simulation).environment();
        let output = engine::build(&program, &env);
        run_toy(&env).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let mut toy = std::mem::take(&mut *output.lock().unwrap());
        toy.sort();
        for (mode, driver) in
            [(ExecutionMode::Streaming, simulation), (ExecutionMode::Batch, Driver::Threads)]
        {
            // Those that number the records of a key, too: which timestamp the n-th has decides its windows.
            let ordered = program.nodes.iter().any(|node| {
                matches!(node.op, Op::Keyed(_, fold) if fold.needs_order()
                    || matches!(fold, Fold::Process | Fold::MapWithState))
            });
            let (mut real, _) = engine::run(&program, &config(mode, driver)).unwrap();
            real.sort();
            let batch = mode == ExecutionMode::Batch;
            if batch && ordered {
                // M13: in BATCH the order is that of the timestamps.
                continue;
            }
            assert_eq!(toy, real, "seed {seed}, {mode}");
            let mut expected = oracle::expected(&program, batch, 3);
            expected.sort();
            assert_eq!(toy, expected, "seed {seed}, {mode}");
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} comparisons");
}

/// A plan without folds has the same steps in both modes; the very same operator types must have run in both.
#[test]
fn the_same_operator_types_run_in_both_executors() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..200 {
        let program = generator::program(seed);
        let sliced = |op| matches!(op, Op::Event(Event::Folded(Windows::Tumbling | Windows::Sliding)));
        if program.rolling_end || program.batch_only || program.nodes.iter().any(|node| sliced(node.op)) {
            continue;
        }
        let types = |mode, driver| -> Vec<String> {
            let (_, result) = engine::run(&program, &config(mode, driver)).unwrap();
            result.operators.into_iter().map(|operator| operator.operator_type).collect()
        };
        let streaming = types(ExecutionMode::Streaming, Driver::Threads);
        assert_eq!(streaming, types(ExecutionMode::Batch, Driver::Threads), "seed {seed}");
        assert!(streaming.iter().all(|name| !name.is_empty()), "seed {seed}: {streaming:?}");
        seen.extend(streaming.iter().filter_map(|name| name.split('<').next()).map(String::from));
    }
    assert!(seen.len() >= 10, "{seen:?}");
}
