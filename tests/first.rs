//! One keyed count, in all modes, parallelisms and drivers, against a plain loop.

use mainstem::prelude::*;
use std::collections::BTreeMap;

fn counts(env: Environment) -> BTreeMap<u64, u64> {
    let stream = env
        .generate(10_000, |i| i * 7919 % 1000)
        .map(|x| x % 37)
        .filter(|x| x % 2 == 0)
        .key_by(|x| *x)
        .count();
    let mut last = BTreeMap::new();
    for r in stream.execute_and_collect("t").unwrap() {
        let (k, v) = r.unwrap();
        let e = last.entry(k).or_insert(0);
        *e = v.max(*e);
    }
    last
}

#[test]
fn works() {
    let mut expected = BTreeMap::new();
    for i in 0..10_000u64 {
        let x = i * 7919 % 1000 % 37;
        if x % 2 == 0 {
            *expected.entry(x).or_insert(0) += 1;
        }
    }
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for p in [1, 2, 5] {
            for driver in [Driver::Threads, Driver::Simulation { seed: 7 }] {
                let env = Environment::new().execution_mode(mode).parallelism(p).driver(driver);
                assert_eq!(counts(env), expected, "{mode} {p} {driver:?}");
            }
        }
    }
}
