//! The comparison: each case in several ways against the reference.

use crate::cases::{Case, case, long_case, shrunk};
use crate::engine::{self, Found, Row, Wanted, Way, digest};
use crate::random::Random;
use crate::reference::{self, Outcome};
use mainstem::prelude::*;
use std::collections::BTreeMap;

/// Cases of an ordinary run.
const CASES: u64 = 800;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// STREAMING with both drivers and BATCH; aligned windows in both implementations.
pub fn ways(case: &Case, random: &mut Random) -> Vec<Way> {
    let memory = ByteSize::mib(8);
    let mut ways = Vec::new();
    for wanted in [Wanted::Plain, Wanted::General] {
        if wanted == Wanted::General && !case.is_default() {
            continue;
        }
        let wanted = if wanted == Wanted::Plain && random.one_in(3) { Wanted::Wrapped } else { wanted };
        for driver in [Driver::Threads, Driver::Simulation { seed: random.next() }] {
            let parallelism = 1 + random.below(4);
            ways.push(Way { mode: ExecutionMode::Streaming, driver, parallelism, memory, wanted });
        }
        let driver = random.pick(&[Driver::Threads, Driver::Simulation { seed: 1 }]);
        let parallelism = 1 + random.below(3);
        ways.push(Way { mode: ExecutionMode::Batch, driver, parallelism, memory, wanted });
    }
    ways
}

/// What the reference says, in the form in which runs are reported.
pub fn expected(case: &Case, batch: bool) -> Found {
    let reference = if batch { reference::batch } else { reference::streaming };
    let Outcome { firings, mut late, dropped } = reference(&case.definition, &case.arrivals);
    let row = |f: reference::Firing| -> Row { (f.key, f.start, f.end, f.stamp, digest(case, f.values)) };
    let mut rows: Vec<Row> = firings.into_iter().map(row).collect();
    rows.sort();
    late.sort();
    Found { rows, late, dropped, ..Found::default() }
}

/// What is only in one of two sorted lists.
fn only<T: Ord + Clone>(these: &[T], those: &[T]) -> Vec<T> {
    let mut left: BTreeMap<&T, i64> = BTreeMap::new();
    those.iter().for_each(|one| *left.entry(one).or_default() += 1);
    let surplus = these.iter().filter(|one| {
        let n = left.entry(one).or_default();
        *n -= 1;
        *n < 0
    });
    surplus.take(6).cloned().collect()
}

fn compare(case: &Case, way: &Way) -> Result<Found, String> {
    let expected = expected(case, way.mode == ExecutionMode::Batch);
    let found = engine::run(case, way).map_err(|e| e.to_string())?;
    if (&found.rows, &found.late, found.dropped) == (&expected.rows, &expected.late, expected.dropped) {
        return Ok(found);
    }
    Err(format!(
        "only found: {:?}\nmissing: {:?}\nlate, only found: {:?}\nlate, missing: {:?}\ndropped: {}, expected {}",
        only(&found.rows, &expected.rows),
        only(&expected.rows, &found.rows),
        only(&found.late, &expected.late),
        only(&expected.late, &found.late),
        found.dropped,
        expected.dropped
    ))
}

/// Panics with a small case that still fails.
fn fail(seed: u64, case: Case, way: &Way) -> ! {
    let small = shrunk(case, |case| compare(case, way).is_err());
    let failed = compare(&small, way).err().unwrap_or_else(|| "does not fail every time".into());
    panic!(
        "{failed}\n{way:?}\n{small:#?}\nrepeat: MAINSTEM_TEST_SEED={seed} MAINSTEM_TEST_CASES=1 cargo test --test \
         window_model"
    );
}

/// X1 to X17, M2, M6: random streams through random windows, in both modes, by both implementations.
#[test]
fn windows_give_what_the_rules_say() {
    let (cases, first) = (variable("MAINSTEM_TEST_CASES", CASES), variable("MAINSTEM_TEST_SEED", 1));
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut note = |what: String| *seen.entry(what).or_default() += 1;
    for seed in first..first + cases {
        let case = case(seed);
        for way in ways(&case, &mut Random::new(seed ^ 0xC0FF_EE00)) {
            let Ok(found) = compare(&case, &way) else { fail(seed, case, &way) };
            note(format!("{}, {:?}, parallelism {}", way.mode, way.wanted, way.parallelism));
            note(format!("{} {}", way.mode, found.implementation));
            for (yes, what) in [
                (!found.rows.is_empty(), "firings"),
                (!found.late.is_empty(), "late records"),
                (found.dropped > 0, "dropped records"),
            ] {
                if yes {
                    note(format!("{} with {what}", way.mode));
                }
            }
        }
        for feature in case.features() {
            note(feature);
        }
    }
    for (what, runs) in &seen {
        println!("{runs:6} {what}");
    }
    if cases >= CASES {
        let few: Vec<_> = seen.iter().filter(|(_, runs)| **runs < 5).collect();
        assert!(few.is_empty(), "hardly covered: {few:?}");
    }
}

/// As above with long streams: batches one after the other, and results that do not fit into one.
#[test]
fn long_streams_give_what_the_rules_say() {
    for seed in 1..=16 {
        let case = long_case(seed, 15_000, 8);
        for way in ways(&case, &mut Random::new(seed)) {
            if compare(&case, &way).is_err() {
                fail(seed, case, &way);
            }
        }
    }
}

/// M4, M5: as above, with files between the stages.
#[test]
fn spilled_streams_give_what_the_rules_say() {
    let mut spilled = 0;
    for seed in 101..=104 {
        let case = long_case(seed, 250_000, 400);
        for way in ways(&case, &mut Random::new(seed)) {
            if way.mode == ExecutionMode::Batch {
                let Ok(found) = compare(&case, &way) else { fail(seed, case, &way) };
                spilled += u64::from(found.spilled);
            }
        }
    }
    assert!(spilled >= 2, "only {spilled} runs were spilled");
}

/// The comparison notices a result too few and one too many.
#[test]
fn a_wrong_result_is_noticed() {
    let right = (2..).map(case).find(|case| expected(case, false).rows.len() > 3).unwrap();
    let way = ways(&right, &mut Random::new(1))[0];
    assert!(compare(&right, &way).is_ok());
    let found = engine::run(&right, &way).unwrap();
    let rows = expected(&right, false).rows;
    assert!(found.rows == rows);
    assert_eq!(only(&rows[1..], &rows), []);
    assert_eq!(only(&rows, &rows[1..]), rows[..1]);
    assert_eq!(only(&[1, 2, 2, 3], &[1, 2, 3]), [2]);
}
