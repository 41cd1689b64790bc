//! Environments, records and comparison.

use mainstem::prelude::*;
use std::fmt::Debug;

/// Modes, drivers and parallelisms. The least memory, so that larger inputs spill.
pub fn environments() -> Vec<(String, Environment)> {
    let mut all = Vec::new();
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for parallelism in [1, 2, 3] {
            for driver in [Driver::Threads, Driver::Simulation { seed: 11 + parallelism as u64 }] {
                let env = Environment::new()
                    .execution_mode(mode)
                    .parallelism(parallelism)
                    .driver(driver)
                    .memory(ByteSize::mib(8));
                all.push((format!("{mode} x{parallelism} {driver:?}"), env));
            }
        }
    }
    all
}

/// Those of [`environments`] that run on threads: for larger inputs.
pub fn threaded() -> Vec<(String, Environment)> {
    environments().into_iter().filter(|(name, _)| name.contains("Threads")).collect()
}

/// What a stream gives, sorted.
pub fn sorted<T: Data + Ord>(stream: &DataStream<T>) -> Vec<T> {
    let mut records = stream.execute_and_collect("test").unwrap().into_vec().unwrap();
    records.sort();
    records
}

/// A program gives in all environments what is expected, in whatever order.
#[track_caller]
pub fn gives<T: Data + Ord + Debug>(program: impl Fn(&Environment) -> DataStream<T>, mut expected: Vec<T>) {
    expected.sort();
    for (name, env) in environments() {
        let found = sorted(&program(&env));
        assert!(
            found == expected,
            "{name}: {} records instead of {}; first difference {:?}",
            found.len(),
            expected.len(),
            found.iter().zip(&expected).find(|(a, b)| a != b),
        );
    }
}

/// A number that looks drawn: the same for the same index.
pub fn mixed(i: u64) -> u64 {
    let mut x = i.wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^= x >> 31;
    x = x.wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 29
}
