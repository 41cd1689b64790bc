//! The jobs of the fraud, taxi and click examples, in both modes, against plain loops over their data.

mod clicks;
mod fraud;
#[path = "../../examples/common/random.rs"]
mod random;
mod taxi;

use mainstem::prelude::*;
use std::fmt::Debug;

/// Environments with one to three subtasks for each mode, STREAMING with threads and as a simulation; and their names.
fn runs() -> impl Iterator<Item = (Environment, String)> {
    (1..=3).flat_map(|parallelism| {
        let seed = 40 + parallelism as u64;
        let runs = [
            (ExecutionMode::Streaming, Driver::Threads),
            (ExecutionMode::Streaming, Driver::Simulation { seed }),
            (ExecutionMode::Batch, Driver::Threads),
        ];
        runs.map(|(mode, driver)| {
            let env = Environment::new().execution_mode(mode).driver(driver).parallelism(parallelism);
            (env, format!("{mode}, {driver:?}, parallelism {parallelism}"))
        })
    })
}

/// Runs a program everywhere. Its records, sorted by `key`, must be `expected`, which must hold something.
fn assert_same_everywhere<T, O>(
    mut expected: Vec<T>,
    key: impl Fn(&T) -> O,
    program: impl Fn(&Environment) -> DataStream<T>,
) where
    T: Data + PartialEq + Debug,
    O: Ord,
{
    assert!(!expected.is_empty());
    expected.sort_by_key(&key);
    for (env, run) in runs() {
        let mut found = program(&env).execute_and_collect("example").unwrap().into_vec().unwrap();
        found.sort_by_key(&key);
        assert_eq!(found.len(), expected.len(), "{run}");
        let wrong = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert!(wrong.is_none(), "{run}: found and expected: {wrong:#?}");
    }
}
