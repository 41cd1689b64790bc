//! Points: a kill, an error and a panic at every fail point, in normal work and while a job recovers.

use crate::harness::{End, Job};
use crate::shapes::Shape;
use crate::size::{Random, random, seed, size};
use mainstem::base::failpoint::NAMES;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const SHAPES: [Shape; 4] = [Shape::Files, Shape::Timers, Shape::TwoPhase, Shape::Batch];

/// A third of a second with a dozen checkpoints, or a batch that spills.
fn job(shape: Shape) -> Job {
    match shape {
        Shape::Batch => Job::new(shape, 120_000).options(&["--memory", "8MiB"]),
        _ => Job::new(shape, 6_000).rate(20_000.0).options(&["--checkpoint-interval", "20ms"]),
    }
}

/// What a recovery comes by depends on when the process before it died: so many are looked at.
const RECOVERIES: u64 = 8;
/// And so many are tried until one comes by a certain point: how often a job does is not the same each time.
const TRIES: u64 = 12;

/// The hits of each fail point in a process that starts the job, and in those that go on with it.
fn hits(shape: Shape, seed: u64) -> (BTreeMap<String, u64>, BTreeMap<String, u64>) {
    let started = job(shape).run("t2_", seed, &[]).hits;
    let mut restored = BTreeMap::new();
    for n in 0..RECOVERIES {
        let death = dies(shape, &started, &mut random(seed, n));
        for (name, hits) in job(shape).run("t2_", seed, &[death]).hits {
            let least = restored.entry(name).or_insert(hits);
            *least = hits.min(*least);
        }
    }
    (started, restored)
}

/// A kill in the middle of the job: of a streaming one when all subtasks are through with a checkpoint that will not be
/// there, so that sinks have written what a restore must take back; of a batch when some of its units of work are done,
/// so that the next process has something to resume. Neither depends on how fast the machine is.
fn dies(shape: Shape, started: &BTreeMap<String, u64>, random: &mut Random) -> End {
    match shape {
        Shape::Batch => {
            let units = started["stage.unit_done"] as usize;
            End::At(format!("stage.unit_done=kill@{}", 2 + random.below(units - 1)))
        }
        _ => End::At(format!("checkpoint.write=kill@{}", 3 + random.below(4))),
    }
}

/// T2: at each fail point that a job comes by, a kill, and in turn an error or a panic; then the job goes on, and in every
/// third case it is killed again while it recovers. All points are met.
#[test]
fn t2_kill_at_every_fail_point() {
    let seed = seed(2);
    let mut met: BTreeSet<String> = BTreeSet::new();
    let (mut kills, mut jobs) = (0, 0);
    for shape in SHAPES {
        let (started, restored) = hits(shape, seed);
        let first = started.iter().map(|point| (point, false));
        let again =
            restored.iter().filter(|(name, _)| !started.contains_key(*name)).map(|point| (point, true));
        let points: Vec<_> = first.chain(again).collect();
        for (n, ((name, hits), in_recovery)) in points.iter().enumerate() {
            for round in 0..size(1, 10) {
                let mut random = random(seed ^ (shape as u64) << 40, n as u64 * 1_000 + round);
                // The first hits matter as much as all later ones.
                let hit = if random.one_in(3) { 1 } else { 1 + random.below(**hits as usize / 2 + 1) };
                let action =
                    if (n as u64 + round) % 4 == 3 { random.pick(&["error", "panic"]) } else { "kill" };
                let at = End::At(format!("{name}={action}@{hit}"));
                let second = if random.one_in(3) {
                    let (name, _) = restored.iter().nth(random.below(restored.len())).unwrap();
                    Some(End::At(format!("{name}=kill@1")))
                } else {
                    None
                };
                let mut died = 0;
                for _ in 0..TRIES {
                    let before = in_recovery.then(|| dies(shape, &started, &mut random));
                    let ends: Vec<End> =
                        before.into_iter().chain([at.clone()]).chain(second.clone()).collect();
                    let report = job(shape).run("t2_", seed, &ends);
                    (died, jobs) = (report.kills, jobs + 1);
                    if died > u64::from(*in_recovery) {
                        met.insert(name.to_string());
                        break;
                    }
                }
                kills += died;
            }
        }
    }
    // Those of savepoints are met below.
    let all = NAMES.iter().filter(|name| !of_savepoints(name));
    let missed: Vec<_> = all.filter(|name| !met.contains(**name)).collect();
    println!("T2: {jobs} jobs, {kills} kills, errors and panics at {} points, seed {seed}", met.len());
    assert!(missed.is_empty(), "no job was stopped at {missed:?}");
}

fn of_savepoints(point: &str) -> bool {
    point.starts_with("savepoint.")
}

/// T2: a job that stops with a savepoint and goes on from it dies at each fail point of the writing. The process behind it
/// goes on from the savepoint where that is whole, and else from the checkpoint. In every third case it is killed as well.
#[test]
fn t2_kill_at_every_fail_point_of_a_savepoint() {
    let seed = seed(3);
    let job = || job(Shape::Files).through_savepoint();
    let calm = job().run("t2_", seed, &[]).hits;
    let (mut jobs, mut kills) = (0, 0);
    for (n, name) in NAMES.iter().filter(|name| of_savepoints(name)).enumerate() {
        let hits = *calm.get(*name).unwrap_or_else(|| panic!("no savepoint comes by {name}"));
        for round in 0..size(4, 40) {
            let mut random = random(seed, n as u64 * 1_000 + round);
            let action = ["kill", "kill", "error", "panic"][round as usize % 4];
            let mut ends = vec![End::At(format!("{name}={action}@{}", 1 + random.below(hits as usize)))];
            if random.one_in(3) {
                let second = random.pick(&["restore.read", "restore.operator", "savepoint.renamed"]);
                ends.push(End::At(format!("{second}=kill@1")));
            }
            let report = job().run("t2_", seed, &ends);
            assert!(report.kills > 0, "{name} with {action} did not end the process");
            (jobs, kills) = (jobs + 1, kills + report.kills);
        }
    }
    println!("T2, savepoints: {jobs} jobs, {kills} kills, errors and panics, seed {seed}");
}

/// Every point that the code comes by is in the list, and every name in the list is in the code.
#[test]
fn the_list_of_fail_points_is_that_of_the_code() {
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path != PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/base/failpoint.rs") {
            let text = std::fs::read_to_string(path).unwrap();
            for call in ["failpoint::reach(\"", "failpoint::check(\"", "failpoint::pass(\""] {
                let names = text.split(call).skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(String::from));
            }
        }
    }
    let listed: BTreeSet<String> = NAMES.iter().map(|name| name.to_string()).collect();
    assert_eq!(found, listed);
    assert!(listed.len() >= 25, "{} fail points", listed.len());
}
