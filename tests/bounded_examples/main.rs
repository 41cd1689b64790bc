//! The examples over bounded input: sorting, iterations and a report, in both modes, against plain loops.

#[allow(dead_code, reason = "each test uses its share")]
#[path = "../../examples/connected_components/job.rs"]
mod connected_components;
#[allow(dead_code, reason = "each test uses its share")]
#[path = "../../examples/pagerank/job.rs"]
mod pagerank;
#[allow(dead_code, reason = "each test uses its share")]
#[path = "../../examples/report/job.rs"]
mod report;
#[allow(dead_code, reason = "an example's `main` is not called here")]
#[path = "../../examples/sort_records.rs"]
mod sort_records;

use mainstem::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn environments() -> impl Iterator<Item = (String, Environment)> {
    [ExecutionMode::Streaming, ExecutionMode::Batch].into_iter().flat_map(|mode| {
        [1, 2, 3].map(|parallelism| {
            let env =
                Environment::new().execution_mode(mode).parallelism(parallelism).memory(ByteSize::mib(8));
            (format!("{mode} x{parallelism}"), env)
        })
    })
}

/// M12: more records than fit into memory, sorted over all part files; nothing is lost or changed.
#[test]
fn records_are_sorted_over_all_files() {
    for (name, env) in environments() {
        let dir = tempfile::tempdir().unwrap();
        let [made, sorted] = ["made", "sorted"].map(|sub| dir.path().join(sub));
        sort_records::generate(&env, 120_000, &made).unwrap();
        let before = sort_records::content(&made).unwrap();
        assert!(before.records == 120_000 && before.unordered.is_some(), "{name}: {before:?}");
        let result = sort_records::sort(&env, &made, &sorted).unwrap();
        let after = sort_records::content(&sorted).unwrap();
        let expected = sort_records::Content { unordered: None, ..before };
        assert_eq!(after, expected, "{name}");
        if name.contains("batch") {
            assert!(result.stages.iter().any(|stage| stage.spilled_bytes > 0), "{name}: {result}");
        }
    }
}

/// A file that is cut off is refused before anything runs.
#[test]
fn half_a_record_is_an_error_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in");
    std::fs::create_dir(&input).unwrap();
    std::fs::write(input.join("a.dat"), [7; 250]).unwrap();
    let error =
        sort_records::sort(&Environment::new(), &input, &dir.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("a.dat") && error.contains("250 bytes") && error.contains("100 bytes"), "{error}");
}

/// M12: iteration with a convergence test, against a search through the graph.
#[test]
fn components_are_those_of_a_search() {
    let edges: Vec<(u64, u64)> = (0..600).map(connected_components::edge).collect();
    let mut component: Vec<u64> = (0..600).collect();
    // Edges point to earlier vertices, but two parts may meet later.
    while edges.iter().any(|&(a, b)| {
        let (x, y) = (component[a as usize], component[b as usize]);
        let (least, most) = (x.min(y), x.max(y));
        component.iter_mut().filter(|c| **c == most).for_each(|c| *c = least);
        least != most
    }) {}
    let expected: Vec<(u64, u64)> = (0..600).zip(component).collect();
    assert!(expected.iter().map(|c| c.1).collect::<BTreeSet<_>>().len() > 6);
    for (name, env) in environments() {
        let found = connected_components::components(&env.generate(600, connected_components::edge)).unwrap();
        assert!(found.converged && found.rounds > 2, "{name}: {} rounds", found.rounds);
        let mut labels = found.stream.execute_and_collect("labels").unwrap().into_vec().unwrap();
        labels.sort();
        assert!(labels == expected, "{name}");
    }
}

/// M12: iteration with a fixed number of rounds, against a loop.
#[test]
fn ranks_are_those_of_a_loop() {
    const VERTICES: u64 = 300;
    const ROUNDS: u64 = 5;
    let mut links: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for i in 0..4 * VERTICES {
        let (from, to) = pagerank::edge(i, VERTICES);
        links.entry(from).or_default().push(to);
        links.entry(to).or_default();
    }
    let n = links.len() as u64;
    let mut expected: BTreeMap<u64, u64> = links.keys().map(|v| (*v, pagerank::WHOLE / n)).collect();
    for _ in 0..ROUNDS {
        let mut sums: BTreeMap<u64, u64> = links.keys().map(|v| (*v, 0)).collect();
        for (from, targets) in &links {
            let share = expected[from] / targets.len().max(1) as u64;
            targets.iter().for_each(|to| *sums.entry(*to).or_default() += share);
        }
        expected =
            sums.into_iter().map(|(v, sum)| (v, 15 * (pagerank::WHOLE / n) / 100 + sum * 85 / 100)).collect();
    }
    for (name, env) in environments() {
        let edges = env.generate(4 * VERTICES, |i| pagerank::edge(i, VERTICES));
        let found = pagerank::ranks(&edges, ROUNDS).unwrap().execute_and_collect("ranks").unwrap();
        let found: BTreeMap<u64, u64> = found.map(Result::unwrap).collect();
        assert!(found == expected, "{name}");
    }
}

/// Joins of all sizes, against loops over the generated data.
#[test]
fn the_report_adds_up() {
    const ORDERS: u64 = 5000;
    let dir = tempfile::tempdir().unwrap();
    report::generate(dir.path(), ORDERS).unwrap();
    let customers = report::customers(ORDERS);
    let names = BTreeMap::from([("de", "Germany"), ("fr", "France"), ("it", "Italy"), ("pl", "Poland")]);
    let mut sums: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    let mut buyers = BTreeSet::new();
    for (customer, product, pieces) in (0..ORDERS).map(|i| report::order(i, customers)) {
        let (category, cents) = report::product(product);
        let key = (names[report::country(customer)].to_string(), category.to_string());
        let sum = sums.entry(key).or_default();
        *sum = (sum.0 + 1, sum.1 + cents * pieces);
        buyers.insert(customer);
    }
    for customer in (0..customers).filter(|customer| !buyers.contains(customer)) {
        sums.entry((names[report::country(customer)].to_string(), "-".to_string())).or_default().0 += 1;
    }
    let row = |((country, category), (orders, cents))| report::Row { country, category, orders, cents };
    let mut expected: Vec<report::Row> = sums.into_iter().map(row).collect();
    expected.sort();
    assert_eq!(expected.len(), 20);
    for (name, env) in environments() {
        let mut found =
            report::report(&env, dir.path()).execute_and_collect("report").unwrap().into_vec().unwrap();
        if name.ends_with("x1") {
            assert!(found.is_sorted_by(|a, b| a.cents >= b.cents), "{name}: {found:?}");
        }
        found.sort();
        assert_eq!(found, expected, "{name}");
    }
}
