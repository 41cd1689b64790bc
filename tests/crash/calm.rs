//! Calm: the jobs without any crash, so that what the others find is the crash's doing.

use crate::output::{in_memory, verify};
use crate::shapes::Shape;
use mainstem::base::vfs::{MemVfs, Vfs};
use mainstem::prelude::*;
use std::path::Path;
use std::sync::Arc;

pub const SHAPES: [Shape; 4] = [Shape::Files, Shape::Timers, Shape::TwoPhase, Shape::Batch];

/// Every shape gives what the oracle says, by threads and by simulation.
#[test]
fn jobs_that_nobody_disturbs_are_exact() {
    for shape in SHAPES {
        for driver in [Driver::Threads, Driver::Simulation { seed: 3 }] {
            let disk = MemVfs::new();
            disk.create_dir_all(Path::new("/out")).unwrap();
            disk.create_dir_all(Path::new("/tmp")).unwrap();
            let env = Environment::new()
                .execution_mode(shape.mode())
                .driver(driver)
                .parallelism(2)
                .temp_dir("/tmp")
                .vfs(Arc::new(disk.clone()));
            let records = 10_007;
            shape.build(&env, records, None, Path::new("/out"), || ());
            env.execute("calm").unwrap();
            if let Err(e) = verify(shape, records, &in_memory(&disk, Path::new("/out"))) {
                panic!("{shape:?}, {driver:?}: {e}");
            }
        }
    }
}
