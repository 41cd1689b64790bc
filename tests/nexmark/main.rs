//! Nexmark: the queries of the example in both modes and at several parallelisms, against plain loops.

use mainstem::prelude::*;

#[allow(dead_code, reason = "the example prints what the tests compare")]
#[path = "../../examples/nexmark/checksum.rs"]
mod checksum;
mod generated;
#[path = "../../examples/nexmark/generator.rs"]
mod generator;
#[path = "../../examples/nexmark/queries/mod.rs"]
mod queries;
#[path = "../../examples/common/random.rs"]
mod random;
mod reference;
#[path = "../../examples/nexmark/rows.rs"]
mod rows;
mod rules;

use checksum::{Checksum, ChecksumSink};
use generator::{Config, Event, Generator};
use queries::Query;
use std::collections::BTreeMap;

/// How many events: of a hundred seconds.
const EVENTS: u64 = 100_000;
/// How many of them in simulations.
const SIMULATED_EVENTS: u64 = 20_000;

/// A thousand events in a second, so that ten windows and some sessions pass.
fn generator() -> Generator {
    Generator::new(Config { events_per_second: 1_000, ..Config::default() })
}

fn events() -> Vec<Event> {
    let generator = generator();
    (0..EVENTS).map(|i| generator.event(i)).collect()
}

/// The checksum of rows, by a job of one subtask.
fn checksum_of<T: Data + Sync>(rows: Vec<T>) -> Checksum {
    let env = Environment::new().parallelism(1);
    let (sink, total) = ChecksumSink::all();
    env.from_iter(rows).sink_to(sink);
    env.execute("reference").unwrap();
    total.get()
}

/// The checksum of a query over the first `count` events.
fn run(query: Query, count: u64, env: &Environment) -> Checksum {
    let generator = generator();
    let source = Generate::new(count, move |i| generator.event(i)).timestamps(Event::timestamp);
    let total = query.checksum(&env.read(source));
    env.execute("query").unwrap();
    total.get()
}

fn assert_same_everywhere<T: Data + Sync>(query: Query, reference: fn(&[Event]) -> Vec<T>) {
    let events = events();
    let expected = checksum_of(reference(&events));
    assert!(expected.rows > 0);
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for parallelism in [1, 2, 3] {
            let env = Environment::new().execution_mode(mode).parallelism(parallelism);
            assert_eq!(run(query, EVENTS, &env), expected, "{query:?}, {mode}, parallelism {parallelism}");
        }
    }
    let expected = checksum_of(reference(&events[..SIMULATED_EVENTS as usize]));
    assert!(expected.rows > 0);
    for (seed, parallelism) in [(1, 1), (2, 2), (3, 3)] {
        let env = Environment::new().driver(Driver::Simulation { seed }).parallelism(parallelism);
        assert_eq!(run(query, SIMULATED_EVENTS, &env), expected, "{query:?}, seed {seed}");
    }
}

/// B1, A5: q0 passes all bids on.
#[test]
fn q0_passes_bids_on() {
    assert_same_everywhere(Query::Q0, reference::q0);
}

/// B1, A5: q1 converts all bids.
#[test]
fn q1_converts_bids() {
    assert_same_everywhere(Query::Q1, reference::q1);
}

/// B1, A5: q2 selects bids.
#[test]
fn q2_selects_bids() {
    assert_same_everywhere(Query::Q2, reference::q2);
}

/// B1, A5: q3 joins auctions with sellers that are known before or after them.
#[test]
fn q3_joins_sellers_with_auctions() {
    assert_same_everywhere(Query::Q3, reference::q3);
}

/// B1, A5, A7: q4 ends in the average of the winning bids of each category.
#[test]
fn q4_averages_winning_bids() {
    assert_same_everywhere(Query::Q4, reference::q4);
}

/// B1, A5, X8: q5 compares the counts of each window with each other.
#[test]
fn q5_finds_hot_items() {
    assert_same_everywhere(Query::Q5, reference::q5);
}

/// B1, A5: q7 finds the highest bids of all subtasks.
#[test]
fn q7_finds_highest_bids() {
    assert_same_everywhere(Query::Q7, reference::q7);
}

/// B1, A5: q8 groups people and sellers in windows.
#[test]
fn q8_finds_new_people_who_sell() {
    assert_same_everywhere(Query::Q8, reference::q8);
}

/// B1, A5: q11 divides the bids of a bidder into sessions.
#[test]
fn q11_counts_bids_in_sessions() {
    assert_same_everywhere(Query::Q11, reference::q11);
}

/// F2: q12 counts every bid in one window of the clock, also in those that are open at the end. Its checksum varies.
#[test]
fn q12_counts_all_bids_by_the_clock() {
    let expected = reference::bids_per_bidder(&events());
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for parallelism in [1, 2, 3] {
            let env = Environment::new().execution_mode(mode).parallelism(parallelism);
            let generator = generator();
            let source = Generate::new(EVENTS, move |i| generator.event(i)).timestamps(Event::timestamp);
            let rows = queries::q12(&env.read(source)).execute_and_collect("query").unwrap();
            let mut counts = BTreeMap::new();
            for row in rows.into_vec().unwrap() {
                assert_eq!(row.end - row.start, reference::WINDOW_MS);
                assert_eq!(row.start % reference::WINDOW_MS, 0);
                *counts.entry(row.bidder).or_default() += row.bids;
            }
            assert_eq!(counts, expected, "{mode}, parallelism {parallelism}");
        }
    }
    assert!(Query::Q12.varies().is_some() && Query::Q11.varies().is_none());
}

/// A missing, doubled or changed row changes the checksum; the order of rows does not.
#[test]
fn checksums_tell_results_apart() {
    let rows: Vec<u64> = (0..1_000).collect();
    let expected = checksum_of(rows.clone());
    assert_eq!(checksum_of(rows.iter().rev().copied().collect()), expected);
    assert_eq!(expected.rows, 1_000);
    let mut changed = rows.clone();
    changed[500] = 1_000;
    assert_ne!(checksum_of(changed), expected);
    assert_ne!(checksum_of(rows[1..].to_vec()), expected);
    assert_ne!(checksum_of([&rows[..], &rows[..1]].concat()), expected);
}

/// A7: of rows that are updated the last one of each key counts, so a running count and a final one are the same.
#[test]
fn the_last_row_of_a_key_is_what_both_modes_agree_on() {
    let expected = checksum_of((0..7u64).map(|key| (key, 9_999 / 7 + u64::from(key < 9_999 % 7))).collect());
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for parallelism in [1, 2, 3] {
            let env = Environment::new().execution_mode(mode).parallelism(parallelism);
            let (sink, total) = ChecksumSink::last_per_key(|(key, _): &(u64, u64)| *key);
            env.generate(9_999, |i| i).key_by(|i| i % 7).count().sink_to(sink);
            env.execute("counts").unwrap();
            assert_eq!(total.get(), expected, "{mode}, parallelism {parallelism}");
        }
    }
}

/// Every query finds something in the events of the tests.
#[test]
fn every_query_has_something_to_find() {
    let events = events();
    let windows = 10;
    assert!(reference::q3(&events).len() > 100);
    assert_eq!(reference::q4(&events).len(), 5);
    assert!(reference::q5(&events).len() >= 5 * windows);
    assert!(reference::q7(&events).len() >= windows);
    assert!(reference::q8(&events).len() > 100);
    assert!(reference::q11(&events).len() > 1_000);
    let counted: u64 = reference::bids_per_bidder(&events).values().sum();
    assert_eq!(counted, reference::q0(&events).len() as u64);
    let in_sessions: u64 = reference::q11(&events).iter().map(|session| session.bids).sum();
    assert_eq!(counted, in_sessions);
}
