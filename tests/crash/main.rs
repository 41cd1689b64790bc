//! Crashes: jobs that are killed at any moment and at every fail point, restored and run to their end, and whose output
//! is then compared with what it should be: nothing lost, nothing doubled, nothing out of order, nothing left behind.
//!
//! The sizes are those of CI; `MAINSTEM_LONG=1` runs the long ones. A failure prints its seed, its plan and the line that
//! does it again. `RELIABILITY.md` is the card.

mod calm;
#[path = "../common/mod.rs"]
mod common;
mod corruption;
mod data;
mod fencing;
mod full_disk;
mod harness;
mod kills;
mod output;
mod points;
mod power;
mod process;
mod programs;
mod rig;
mod rows;
mod shapes;
mod simulation;
mod size;
mod sizes;
mod slow;
mod two_phase;

use process::{CHILD, child};

/// Not a test: the process that the others kill.
#[test]
#[ignore = "the child process of the others"]
fn the_child() {
    if let Ok(orders) = std::env::var(CHILD) {
        child(&orders);
    }
}
