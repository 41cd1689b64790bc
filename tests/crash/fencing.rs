//! Fencing: one process at a time works on a job, whatever state the other one is in.

use crate::harness::{End, Job};
use crate::output::{on_disk, verify};
use crate::process::{Process, TIME_LIMIT};
use crate::shapes::Shape;
use crate::size::{random, seed, size};
use std::time::{Duration, Instant};

/// T19: a second process on the job directory is refused while the first one runs, also while it is stopped; one that was
/// stopped goes on and does not lose or double anything; when it is killed the next one takes over.
#[test]
fn t19_a_second_process_is_refused() {
    let seed = seed(19);
    for case in 0..size(20, 200) {
        let mut random = random(seed, case);
        let shape = random.pick(&[Shape::Files, Shape::Timers, Shape::TwoPhase]);
        let dir = tempfile::tempdir().unwrap();
        let job = Job::new(shape, 6_000).rate(20_000.0).options(&["--checkpoint-interval", "20ms"]);
        let what = format!("T19, {shape:?}, seed {seed}, case {case}");
        let mut first = Process::start(&job, dir.path(), 0, "").unwrap();
        let start = Instant::now();
        while !first.has_a_record() {
            assert!(start.elapsed() < TIME_LIMIT, "{what}: no record; {}", first.errors());
            std::thread::park_timeout(Duration::from_millis(1));
        }
        std::thread::park_timeout(Duration::from_millis(random.below(150) as u64));
        first.signal(libc::SIGSTOP);
        let mut second = Process::start(&job, dir.path(), 1, "").unwrap();
        let refused = second.wait(TIME_LIMIT).unwrap_or_else(|| panic!("{what}: the second process waits"));
        let error = second.errors();
        assert!(!refused.success() && error.contains("in use by"), "{what}: {refused}, {error}");
        if random.one_in(2) {
            first.kill();
            let mut third = Process::start(&job, dir.path(), 2, "").unwrap();
            assert_eq!(third.ends(&End::Itself), Ok(false), "{what}: after a kill");
        } else {
            first.signal(libc::SIGCONT);
            assert_eq!(first.ends(&End::Itself), Ok(false), "{what}: after a stop");
        }
        verify(shape, job.records, &on_disk(&dir.path().join("out")))
            .unwrap_or_else(|e| panic!("{what}: {e}"));
    }
}
