//! Power loss: what the disk may hold after it, at each operation of a job, and whether the job goes on from that.

use crate::rig::{KEEPS, Rig, Watched};
use crate::shapes::Shape;
use crate::size::{random, seed, size};
use mainstem::base::vfs::MemVfs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// States that are held at once.
const HELD: u64 = 200;

/// T3: before each operation of checkpoints, commits and cleaning up, with what was not synced lost, kept at random and
/// torn: the job goes on and its output is exact. That a checkpoint older than the last acknowledged one is never taken
/// follows: what was committed with it would come twice.
#[test]
fn t3_the_power_fails_at_each_operation() {
    let seed = seed(3);
    let mut states = 0;
    for shape in [Shape::Files, Shape::TwoPhase, Shape::Timers] {
        let rig = Rig::new(shape);
        let wanted = size(70, 700);
        for first in (0..wanted).step_by(HELD as usize) {
            let held = lose_power(&rig, seed, first, HELD.min(wanted - first));
            for (at, what, disk) in &held {
                if let Err(e) = rig.completes(disk, seed + 1) {
                    panic!("T3, {shape:?}, seed {seed}, power lost before {at}, {what}: {e}");
                }
            }
            states += held.len();
        }
    }
    println!("T3: {states} states, seed {seed}");
}

/// Some of the states that the disk may be in, from the `first`-th on.
fn lose_power(rig: &Rig, seed: u64, first: u64, states: u64) -> Vec<(String, String, MemVfs)> {
    let count = Arc::new(AtomicU64::new(0));
    let counted = count.clone();
    let disk = Rig::disk();
    let watched = Watched::new(Arc::new(disk), move |_, _| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    rig.process(watched, seed, false).unwrap();
    let operations = count.load(Ordering::Relaxed);
    // Each state has an operation and what is kept.
    let mut chosen: Vec<(u64, u64)> =
        (first..first + states).map(|n| (random(seed, n).below(operations as usize) as u64, n)).collect();
    chosen.sort();
    let disk = Rig::disk();
    let held = Arc::new(Mutex::new(Vec::new()));
    let (into, at, of) = (held.clone(), AtomicU64::new(0), disk.clone());
    let watched = Watched::new(Arc::new(disk), move |op, path| {
        let now = at.fetch_add(1, Ordering::Relaxed);
        for (_, n) in chosen.iter().filter(|(at, _)| *at == now) {
            let keep = KEEPS[*n as usize % KEEPS.len()];
            let at = format!("operation {now} of {operations}, {op:?} of {}", path.display());
            into.lock().unwrap().push((at, format!("state {n}, {keep:?}"), of.crash(*n, keep)));
        }
    });
    rig.process(watched, seed, false).unwrap();
    let held = std::mem::take(&mut *held.lock().unwrap());
    assert_eq!(held.len() as u64, states, "the same seed gives the same operations");
    held
}
