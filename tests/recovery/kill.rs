//! kill -9 at random points of a job of four stages, which is resumed until it ends, perhaps killed again on the way.
//!
//! The child is this test's own executable, run for the one test that is the job. `MAINSTEM_LONG=1` kills at 20 points
//! instead of 5.

use super::support::{Log, build, no_trouble};
use mainstem::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const COUNT: u64 = 60_000;
const DIRECTORY: &str = "MAINSTEM_TEST_KILLED_JOB";
const RESUME: &str = "MAINSTEM_TEST_RESUME";
/// A run that takes longer hangs.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Not a test of its own: the job, in a process that is killed.
#[test]
#[ignore = "the child of the tests in this file"]
fn child() {
    let Ok(dir) = std::env::var(DIRECTORY) else { return };
    let dir = Path::new(&dir);
    let env = Environment::new()
        .execution_mode(ExecutionMode::Batch)
        .parallelism(2)
        .memory(ByteSize::mib(8))
        .temp_dir(dir.join("tmp"));
    let env = match std::env::var(RESUME).as_deref() {
        Ok("1") => env.resume(dir.join("job")),
        _ => env.job_dir(dir.join("job")),
    };
    let log = Log::default();
    build(&env, COUNT, &log, &no_trouble(), &dir.join("out"));
    match env.execute("killed") {
        Ok(_) => std::fs::write(dir.join("opened"), log.opened().to_string()).unwrap(),
        Err(e) => {
            std::fs::write(dir.join("error"), e.to_string()).unwrap();
            std::process::exit(3);
        }
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        Place(dir)
    }
    fn start(&self, resume: bool) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::child", "--ignored", "--nocapture"])
            .env(DIRECTORY, self.0.path())
            .env(RESUME, if resume { "1" } else { "0" })
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
    /// The files of the output.
    fn output(&self) -> BTreeMap<String, Vec<u8>> {
        let files = std::fs::read_dir(self.0.path().join("out")).unwrap().map(|entry| entry.unwrap());
        files
            .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
            .collect()
    }
    fn names(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.0.path().join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
    fn has_begun(&self) -> bool {
        self.0.path().join("job/job").exists()
    }
}

fn wait(mut child: Child, what: &str) {
    let until = Instant::now() + TIME_MAX;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return assert!(status.success(), "{what}: {status}"),
            None if Instant::now() > until => {
                let _ = child.kill();
                panic!("{what}: hangs");
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// A fixed sequence of numbers for a seed.
fn number(seed: u64, n: u64) -> u64 {
    mainstem::base::hash::hash_of(&(seed, n))
}

/// T1, M10: killed at any point and resumed, as often as it takes: byte-identical output, nothing but the mark of the finished
/// job beside it, and no source is opened again once the first stage was finished.
#[test]
fn a_job_that_is_killed_anywhere_is_resumed() {
    let undisturbed = Place::new();
    let started = Instant::now();
    wait(undisturbed.start(false), "undisturbed");
    let time = started.elapsed();
    let expected = undisturbed.output();
    assert_eq!(expected.len(), 16);
    let points = if std::env::var("MAINSTEM_LONG").is_ok() { 40 } else { 8 };
    let seed = std::env::var("MAINSTEM_SEED_OF_KILLS").map_or(1, |seed| seed.parse().unwrap());
    let (mut kills, mut spared) = (0, 0);
    for point in 0..points {
        let place = Place::new();
        let what = format!("MAINSTEM_SEED_OF_KILLS={seed}, point {point} of {points}");
        let mut runs = 0;
        loop {
            let (resume, first_done) = (place.has_begun(), is_first_stage_done(&place));
            let mut child = place.start(resume);
            runs += 1;
            // Up to three times, anywhere in the time that the whole job takes; spread evenly the first time.
            let part = match runs {
                1 => (point * 1000 + number(seed, point) % 1000) / points,
                _ => number(seed, point * 10 + runs) % 1000,
            };
            if runs <= 3 {
                std::thread::sleep(time * part as u32 / 1000);
                if child.try_wait().unwrap().is_none() {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    kills += 1;
                    continue;
                }
            }
            let error = || std::fs::read_to_string(place.0.path().join("error")).unwrap_or_default();
            wait(child, &format!("{what}, run {runs}: {}", error()));
            if first_done {
                let opened = std::fs::read_to_string(place.0.path().join("opened")).unwrap();
                assert_eq!(opened, "0", "{what}");
                spared += 1;
            }
            break;
        }
        assert!(place.output() == expected, "{what}: the output differs");
        assert_eq!(place.names("job"), ["job", "lock", "owner"], "{what}");
        assert_eq!(place.names("tmp"), [""; 0], "{what}");
        let left: Vec<_> = place.names(".").into_iter().filter(|name| name.starts_with('.')).collect();
        assert_eq!(left, [""; 0], "{what}");
    }
    println!("{kills} kills, {spared} of {points} jobs ended without reading their sources again");
    assert!(kills >= points, "{kills} kills");
}

/// Whether the units of the first stage are written down.
fn is_first_stage_done(place: &Place) -> bool {
    (0..2).all(|unit| place.0.path().join(format!("job/stages/stage000-unit{unit:05}.unit")).exists())
}

/// T19: while a process runs the job another one is refused, and leaves it alone.
#[test]
fn a_second_process_is_refused() {
    let place = Place::new();
    let mut first = place.start(false);
    let until = Instant::now() + TIME_MAX;
    while !place.has_begun() {
        assert!(Instant::now() < until && first.try_wait().unwrap().is_none(), "it does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    // SAFETY: the process is our child and was not waited for.
    assert_eq!(unsafe { libc::kill(first.id() as i32, libc::SIGSTOP) }, 0);
    let status = place.start(true).wait().unwrap();
    assert_eq!(status.code(), Some(3));
    let error = std::fs::read_to_string(place.0.path().join("error")).unwrap();
    assert!(error.contains(&format!("is in use by process {}", first.id())), "{error}");
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(first.id() as i32, libc::SIGCONT) }, 0);
    wait(first, "the first process");
    assert_eq!(place.output().len(), 16);
}
