//! Sizes: records of no size and of many megabytes, kept as state, snapshotted, restored.

use crate::rig::{JOB, OUT, Rig};
use crate::size::size;
use mainstem::base::config::Settings;
use mainstem::base::hash::hash_of;
use mainstem::base::vfs::{Fault, FaultPlan, FaultVfs, MemVfs, SharedVfs};
use mainstem::prelude::*;
use std::path::Path;
use std::sync::Arc;

const RECORDS: u64 = 24;
/// A multiple of the parallelism, so that all records of a key are in one split.
const KEYS: u64 = 4;

/// Record `i`: so many bytes that depend on it.
fn payload(i: u64, bytes: usize) -> String {
    let letters = (0..).map(|n| char::from(b'a' + ((n * 7 + i) % 23) as u8));
    letters.take(bytes).collect()
}

/// Emits each record's number with the number of bytes and the hash of the record before of its key, which is its state.
struct Before {
    record: ValueState<String>,
    all: ListState<u64>,
}

impl KeyedProcessFunction<u64, (u64, String), String> for Before {
    fn process(
        &mut self,
        (i, payload): (u64, String),
        ctx: &mut KeyedContext<u64>,
        out: &mut Collector<'_, String>,
    ) -> UserResult {
        let before = self.record.get(ctx).map(|before| (before.len(), hash_of(before)));
        self.all.add(ctx, i);
        out.emit(format!("{i} {before:?} {:?}", self.all.get(ctx)));
        self.record.set(ctx, payload);
        Ok(())
    }
}

fn run(vfs: SharedVfs, bytes: usize, restore: bool) -> mainstem::Result<JobResult> {
    let args =
        ["sizes", "--seed", "1", "--parallelism", "2", "--job-dir", JOB, "--checkpoint-interval", "20ms"];
    let restored: &[&str] = if restore { &["--restore", "latest"] } else { &[] };
    let (settings, _) = Settings::from_args_iter(args.iter().chain(restored))?;
    let env = Environment::with_settings(settings).vfs(vfs);
    env.read(Generate::new(RECORDS, move |i| (i, payload(i, bytes))).rate(200.0))
        .uid("records")
        .key_by(|(i, _)| i % KEYS)
        .process(|states| Before { record: states.value("record"), all: states.list("all") })
        .uid("before")
        .sink_to(TextSink::text(Path::new(OUT).join("sizes")))
        .uid("sink");
    env.execute("sizes")
}

fn lines(disk: &MemVfs) -> Vec<String> {
    let files = crate::output::in_memory(disk, Path::new(OUT));
    let text = files.iter().filter(|(path, _)| crate::output::is_committed(path)).map(|(_, content)| content);
    let mut lines: Vec<String> =
        text.flat_map(|c| String::from_utf8_lossy(c).lines().map(String::from).collect::<Vec<_>>()).collect();
    lines.sort();
    lines
}

fn expected(bytes: usize) -> Vec<String> {
    let line = |i: u64| {
        let before = i.checked_sub(KEYS).map(|before| payload(before, bytes));
        let all: Vec<u64> = (0..=i).filter(|n| n % KEYS == i % KEYS).collect();
        format!("{i} {:?} {all:?}", before.map(|before| (before.len(), hash_of(&before))))
    };
    let mut lines: Vec<String> = (0..RECORDS).map(line).collect();
    lines.sort();
    lines
}

/// T15: state of any size is cut into slices, written, and restored as it was, after a kill at some operations.
#[test]
fn t15_state_of_any_size_survives_a_kill() {
    let sizes = [0, 1, 255 << 10, 1 << 20, if size(0, 1) == 1 { 64 << 20 } else { 5 << 20 }];
    for bytes in sizes {
        let disk = Rig::disk();
        let whole = FaultVfs::new(Arc::new(disk.clone()), FaultPlan::none());
        run(whole.clone(), bytes, false).unwrap();
        assert_eq!(lines(&disk), expected(bytes), "{bytes} bytes");
        for part in 1..4 {
            let k = whole.operations() * part / 4;
            let disk = Rig::disk();
            let plan = FaultPlan::fail_at(k, Fault::Io).and_from_then_on();
            let faulty = FaultVfs::new(Arc::new(disk.clone()), plan);
            let ended = run(faulty.clone(), bytes, false);
            assert!(ended.is_err() && faulty.failures() > 0, "{bytes} bytes: not killed at {k}");
            run(Arc::new(disk.clone()), bytes, true).unwrap_or_else(|e| panic!("{bytes} bytes, {k}: {e}"));
            assert_eq!(lines(&disk), expected(bytes), "{bytes} bytes, killed at operation {k}");
        }
    }
}
