//! Property: a random pipeline gives the results of a plain iterator, in both modes, at every parallelism, with both
//! drivers. `MAINSTEM_TEST_CASES` and `MAINSTEM_TEST_SEED` ask for more cases, or for the one that failed.

mod common;

use common::coverage::{Coverage, PARALLELISMS};
use common::engine::{self, Config};
use common::program::{Op, Program, Rec};
use common::random::Random;
use common::{generator, oracle};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

/// Cases of an ordinary run; the floor below is meant for these.
const CASES: u64 = 1200;
/// Runs that every feature must have had at least, in every mode, with every driver, at every parallelism.
const RUNS_MIN: u64 = 2;
/// Everything that must be covered.
const FEATURES: [&str; 50] = [
    "event time",
    "tumbling windows, folded",
    "sliding windows, folded",
    "session windows, folded",
    "tumbling windows, listed",
    "sliding windows, listed",
    "session windows, listed",
    "timers at the end",
    "timers on the way",
    "window join",
    "interval join",
    "windows of the clock",
    "broadcast state",
    "from_iter",
    "generate",
    "generate with timestamps",
    "map",
    "try_map",
    "filter",
    "try_filter",
    "flat_map",
    "try_flat_map",
    "process",
    "reduce",
    "reduce in order",
    "sum",
    "min",
    "max",
    "min_by",
    "max_by",
    "aggregate",
    "count",
    "keyed process",
    "keyed process in order",
    "map_with_state",
    "union",
    "union with itself",
    "auto",
    "forward",
    "rebalance",
    "rescale",
    "shuffle",
    "broadcast",
    "global",
    "partition_custom",
    "own parallelism",
    "start_new_chain",
    "disable_chaining",
    "slot_group",
    "blocking",
];

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The ways in which one program is run: both modes with both drivers, the rest drawn.
fn configs(program: &Program, random: &mut Random) -> Vec<Config> {
    let mut configs = Vec::new();
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        if mode == ExecutionMode::Streaming && program.batch_only {
            continue;
        }
        for driver in [Driver::Threads, Driver::Simulation { seed: random.next() }] {
            configs.push(Config {
                mode,
                driver,
                parallelism: random.pick(&PARALLELISMS),
                buffer_timeout: random.pick(&[
                    BufferTimeout::default(),
                    BufferTimeout::After(Duration::from_millis(1)),
                    BufferTimeout::EveryRecord,
                    BufferTimeout::WhenFull,
                ]),
                chaining: !random.one_in(4),
                memory: random.pick(&[ByteSize::mib(8), ByteSize::mib(8), ByteSize::mib(64)]),
                watermarks: random.pick(&[Duration::from_millis(1), Duration::from_millis(200)]),
            });
        }
    }
    configs
}

/// Compares what came out with what was expected.
fn compare(
    program: &Program,
    config: &Config,
    mut actual: Vec<Rec>,
    result: &JobResult,
) -> Result<(), String> {
    let batch = config.mode == ExecutionMode::Batch;
    let mut expected = oracle::expected(program, batch, config.parallelism);
    if program.rolling_end && !batch {
        // A7: one output for each input; the last one of each key is the result.
        let inputs = result
            .operators
            .iter()
            .rev()
            .find(|o| o.operator_type.contains("::Rolling<"))
            .map(|o| o.records_in);
        if inputs != Some(actual.len() as u64) {
            return Err(format!("{} outputs of a rolling operator with {inputs:?} inputs", actual.len()));
        }
        let last: BTreeMap<u8, Rec> = actual.into_iter().map(|record| (record.key, record)).collect();
        actual = last.into_values().collect();
    }
    actual.sort();
    expected.sort();
    if actual == expected {
        return Ok(());
    }
    let only = |these: &[Rec], those: &[Rec]| -> Vec<String> {
        let mut those = those.to_vec();
        let missing = these.iter().filter(|record| match those.iter().position(|other| other == *record) {
            Some(at) => {
                those.swap_remove(at);
                false
            }
            None => true,
        });
        missing.take(5).map(|record| format!("{record:.60?}")).collect()
    };
    Err(format!(
        "{} records, expected {}; only in the output: {:?}; missing: {:?}",
        actual.len(),
        expected.len(),
        only(&actual, &expected),
        only(&expected, &actual),
    ))
}

#[test]
fn random_pipelines_give_the_results_of_plain_iterators() {
    let (cases, first) = (variable("MAINSTEM_TEST_CASES", CASES), variable("MAINSTEM_TEST_SEED", 1));
    let mut coverage = Coverage::default();
    for seed in first..first + cases {
        let program = generator::program(seed);
        for config in configs(&program, &mut Random::new(seed ^ 0xC0FF_EE00)) {
            let failed = match engine::run(&program, &config) {
                Ok((records, result)) => {
                    coverage.add(&program, &config);
                    coverage.spilled += u64::from(result.spilled_bytes() > 0);
                    compare(&program, &config, records, &result).err()
                }
                Err(e) => Some(e.to_string()),
            };
            if let Some(failed) = failed {
                panic!(
                    "{failed}\n{config:?}\n{program:#?}\nrepeat: MAINSTEM_TEST_SEED={seed} MAINSTEM_TEST_CASES=1 \
                     cargo test --test pipelines"
                );
            }
        }
    }
    println!("{coverage}");
    if cases >= CASES {
        let below = coverage.below(RUNS_MIN, &FEATURES);
        assert!(below.is_empty(), "below {RUNS_MIN} runs:\n{}", below.join("\n"));
        assert!(coverage.spilled >= 10, "only {} runs spilled", coverage.spilled);
    }
}

/// The comparison notices a wrong, a missing and an additional record.
#[test]
fn a_wrong_result_is_noticed() {
    let program = (1..)
        .map(generator::program)
        .find(|p| !p.rolling_end && oracle::expected(p, true, 1).len() > 3)
        .unwrap();
    assert!(matches!(program.nodes[0].op, Op::FromIter { .. } | Op::Generate { .. } | Op::Timed { .. }));
    let config = Config {
        mode: ExecutionMode::Batch,
        driver: Driver::Threads,
        parallelism: 1,
        buffer_timeout: BufferTimeout::default(),
        chaining: true,
        memory: ByteSize::mib(8),
        watermarks: Duration::from_millis(1),
    };
    let (right, result) = engine::run(&program, &config).unwrap();
    assert_eq!(compare(&program, &config, right.clone(), &result), Ok(()));
    let mut wrong = right.clone();
    wrong[0].body.value += 1;
    assert!(compare(&program, &config, wrong, &result).is_err());
    assert!(compare(&program, &config, right[1..].to_vec(), &result).is_err());
    assert!(compare(&program, &config, [&right[..], &right[..1]].concat(), &result).is_err());
}
