//! Kills: `kill -9` at random times and at every fail point.

use crate::harness::{End, FIRST_RECORD_MAX, Job, Report};
use crate::shapes::Shape;
use crate::size::{random, seed, size};
use std::time::Duration;

const CHECKPOINTS: [&str; 2] = ["--checkpoint-interval", "50ms"];

/// A streaming job of about a second, with twenty checkpoints.
fn second(shape: Shape) -> Job {
    Job::new(shape, 20_000).rate(20_000.0).options(&CHECKPOINTS)
}

/// T1: `kill -9` at random times, again and again, until the job is done.
#[test]
fn t1_kill_at_random_times() {
    let kills_wanted = size(20, 200);
    let (mut kills, mut jobs, mut first_record) = (0, 0, Duration::ZERO);
    let seed = seed(1);
    while kills < kills_wanted {
        let mut random = random(seed, jobs);
        let shape = [Shape::Files, Shape::Timers, Shape::TwoPhase][jobs as usize % 3];
        let end =
            |random: &mut crate::size::Random| End::After(Duration::from_millis(random.below(900) as u64));
        let ends: Vec<End> = (0..1 + random.below(4)).map(|_| end(&mut random)).collect();
        let Report { kills: died, first_record: first, .. } = second(shape).run("t1_", seed, &ends);
        kills += died as u64;
        first_record = first_record.max(first);
        jobs += 1;
    }
    println!("T1: {jobs} jobs, {kills} kills, first record after {first_record:?} at most, seed {seed}");
    assert!(first_record <= FIRST_RECORD_MAX, "{first_record:?} to the first record");
}
