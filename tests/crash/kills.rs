//! Kills: `kill -9` at random times and at every fail point.

use crate::harness::{End, FIRST_RECORD_MAX, Job};
use crate::shapes::Shape;
use crate::size::{Random, random, seed, size};
use std::time::Duration;

const STREAMS: [Shape; 3] = [Shape::Files, Shape::Timers, Shape::TwoPhase];

/// A streaming job of about a second, with twenty checkpoints.
fn second(shape: Shape) -> Job {
    Job::new(shape, 20_000).rate(20_000.0).options(&["--checkpoint-interval", "50ms"])
}

/// One to four kills within the time of the job.
fn random_ends(random: &mut Random) -> Vec<End> {
    (0..1 + random.below(4)).map(|_| End::After(Duration::from_millis(random.below(900) as u64))).collect()
}

/// Runs jobs until so many processes were killed; from case to case other shapes.
fn kill_until(test: &str, wanted: u64, usual_seed: u64, job: impl Fn(u64, &mut Random) -> Job) {
    let seed = seed(usual_seed);
    let (mut kills, mut jobs, mut first_record) = (0, 0, Duration::ZERO);
    while kills < wanted {
        let mut random = random(seed, jobs);
        let job = job(jobs, &mut random);
        let ends = random_ends(&mut random);
        let report = job.run(test, seed, &ends);
        kills += report.kills;
        first_record = first_record.max(report.first_record);
        jobs += 1;
    }
    println!("{test}: {jobs} jobs, {kills} kills, {first_record:?} to the first record at most, seed {seed}");
    assert!(first_record <= FIRST_RECORD_MAX, "{first_record:?} to the first record");
}

/// T1: `kill -9` at random times, again and again, until the job is done.
#[test]
fn t1_kill_at_random_times() {
    kill_until("t1_", size(20, 200), 1, |n, _| second(STREAMS[n as usize % 3]));
}

/// T12: killed and restored with other parallelisms, up and down.
#[test]
fn t12_rescale_after_a_kill() {
    kill_until("t12_", size(10, 100), 12, |n, random| {
        let parallelism: &[usize] = random.pick(&[&[2, 3, 1], &[1, 4, 2], &[4, 1, 3, 2]]);
        second(STREAMS[n as usize % 3]).parallelism(parallelism)
    });
}

/// T13: timers of both domains, killed between their registration and their time, also with another parallelism after it.
#[test]
fn t13_timers_fire_once() {
    kill_until("t13_", size(10, 100), 13, |n, _| {
        second(Shape::Timers).parallelism(if n % 2 == 0 { &[2] } else { &[2, 3, 1, 2] })
    });
}
