//! Slow: a source without end before a slow sink: memory stays where it is, and checkpoints go on.

use crate::harness::Job;
use crate::process::Process;
use crate::shapes::Shape;
use crate::size::size;
use std::path::Path;
use std::time::{Duration, Instant};

/// A checkpoint may take so long, and so may the wait for the next one.
const CHECKPOINT_MAX: Duration = Duration::from_secs(5);
/// How much the process may grow after it has warmed up.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// The highest number of a completed checkpoint.
fn newest_checkpoint(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir.join("job/checkpoints")).into_iter().flatten().flatten();
    let complete = entries.filter(|entry| entry.path().join("metadata").exists());
    let number = |name: String| name.strip_prefix("chk-").and_then(|number| number.parse().ok());
    complete.filter_map(|entry| number(entry.file_name().to_string_lossy().into_owned())).max().unwrap_or(0)
}

/// What was seen of a job with a sink that takes a millisecond a record and stalls for a second.
struct Seen {
    /// Memory in the first quarter, and in all.
    warm: u64,
    most: u64,
    newest: u64,
    longest: Duration,
}

fn watch() -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let job = Job::new(Shape::Slow, 0).options(&["--checkpoint-interval", "500ms"]);
    let mut process = Process::start(&job, dir.path(), 0, "").unwrap();
    let start = Instant::now();
    let length = Duration::from_secs(size(20, 600));
    let (mut newest, mut at, mut longest) = (0, Instant::now(), Duration::ZERO);
    let (mut warm, mut most) = (0, 0);
    while start.elapsed() < length {
        assert!(process.wait(start.elapsed() + Duration::from_millis(50)).is_none(), "{}", process.errors());
        let now = newest_checkpoint(dir.path());
        if now > newest {
            longest = longest.max(at.elapsed());
            (newest, at) = (now, Instant::now());
        }
        let memory = process.memory_bytes();
        most = memory.max(most);
        if start.elapsed() < length / 4 {
            warm = most;
        }
    }
    let longest = longest.max(at.elapsed());
    process.kill();
    println!(
        "T7: {length:?}, {newest} checkpoints, {longest:?} between two at most, memory {} MiB, then {} MiB",
        warm / MIB,
        most / MIB
    );
    Seen { warm, most, newest, longest }
}

/// T7: memory stays where it is.
#[test]
fn t7_a_slow_sink_bounds_memory() {
    let Seen { warm, most, .. } = watch();
    assert!(most > 0 && most - warm < GROWTH_BYTES_MAX, "memory grows from {warm} to {most} bytes");
}

/// T7: checkpoints are complete in time.
#[test]
fn t7_checkpoints_go_on_before_a_slow_sink() {
    let Seen { newest, longest, .. } = watch();
    assert!(newest >= 2 && longest <= CHECKPOINT_MAX, "{newest} checkpoints, {longest:?} between two");
}
