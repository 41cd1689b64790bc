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

/// How many events: of a hundred seconds.
const EVENTS: u64 = 100_000;

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

fn assert_same_everywhere(query: Query, expected: Checksum) {
    assert!(expected.rows > 0);
    for mode in [ExecutionMode::Streaming, ExecutionMode::Batch] {
        for parallelism in [1, 2, 3] {
            let env = Environment::new().execution_mode(mode).parallelism(parallelism);
            let generator = generator();
            let source = Generate::new(EVENTS, move |i| generator.event(i)).timestamps(Event::timestamp);
            let total = query.checksum(&env.read(source));
            env.execute("query").unwrap();
            assert_eq!(total.get(), expected, "{query:?}, {mode}, parallelism {parallelism}");
        }
    }
}

/// B1, A5: q0 passes all bids on.
#[test]
fn q0_passes_bids_on() {
    assert_same_everywhere(Query::Q0, checksum_of(reference::q0(&events())));
}

/// B1, A5: q1 converts all bids.
#[test]
fn q1_converts_bids() {
    assert_same_everywhere(Query::Q1, checksum_of(reference::q1(&events())));
}

/// B1, A5: q2 selects bids.
#[test]
fn q2_selects_bids() {
    assert_same_everywhere(Query::Q2, checksum_of(reference::q2(&events())));
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

/// The queries still to come find something in the events of the tests.
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
