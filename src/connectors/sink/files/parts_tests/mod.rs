//! What readers find in the directory of a job with checkpoints: whatever fails, each record once.

mod faults;
mod life;
mod restore;
mod savepoints;

use super::parts::WriterState;
use super::rows::{RowEncoder, RowFormat};
use super::{BucketAssigner, FileSink, RollingPolicy, StagedFile, TextSink};
use crate::base::batch::CheckpointId;
use crate::base::clock::VirtualClock;
use crate::base::error::{Error, Result};
use crate::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, Keep, MemVfs, OsVfs, SharedVfs, Vfs};
use crate::operator::sink::driver::Process;
use crate::operator::sink::{AnySink, TypedSink, WriterStates};
use crate::semantics::state::OperatorState;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const RECORDS: u64 = 24;

/// A durable checkpoint: what the sink kept, and the next record to be read.
#[derive(Clone)]
struct Checkpoint {
    id: CheckpointId,
    state: OperatorState,
    next: u64,
}

/// A format whose files can be read only when they are complete.
#[derive(Clone)]
struct Bulk;
struct BulkEncoder(Vec<u64>);

impl RowFormat<u64> for Bulk {
    type Encoder = BulkEncoder;
    fn name(&self) -> &'static str {
        "bulk"
    }
    fn extension(&self) -> &'static str {
        "bulk"
    }
    fn is_bulk(&self) -> bool {
        true
    }
    fn encoder(&self) -> BulkEncoder {
        BulkEncoder(Vec::new())
    }
}

impl RowEncoder<u64> for BulkEncoder {
    fn encode(&mut self, records: &[u64], _out: &mut Vec<u8>) -> Result<()> {
        self.0.extend(records);
        Ok(())
    }
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.0.iter().for_each(|record| out.extend(format!("{record}\n").bytes()));
        out.extend(format!("rows {}\n", self.0.len()).bytes());
        Ok(())
    }
}

type MakeSink = Arc<dyn Fn() -> Arc<dyn AnySink>>;

fn boxed<F: RowFormat<u64>, B: BucketAssigner<u64>>(sink: FileSink<F, B>) -> Arc<dyn AnySink> {
    Arc::new(TypedSink::<u64, _>::new(sink))
}

fn text() -> TextSink {
    FileSink::text("/data/out")
}

/// The kinds of sinks: files over several checkpoints, small ones, one for each, and several directories.
fn sinks() -> Vec<(&'static str, MakeSink)> {
    vec![
        ("long files", Arc::new(|| boxed(text()))),
        ("short files", Arc::new(|| boxed(text().rolling(RollingPolicy::default().max_bytes(6))))),
        ("bulk", Arc::new(|| boxed(FileSink::with_format("/data/out", Bulk)))),
        (
            "buckets",
            Arc::new(|| {
                boxed(
                    text().bucket_by(|n: &u64, bucket| bucket.push_str(["", "a/b", "../c"][*n as usize % 3])),
                )
            }),
        ),
    ]
}

fn start(sink: &MakeSink, vfs: SharedVfs, restored: bool) -> Result<Process> {
    Process::start(sink(), vfs, VirtualClock::new(), restored)
}

/// Runs an attempt to the end of its input, with a barrier after each five records.
fn run(process: &mut Process, parallelism: usize, durable: &mut Option<Checkpoint>) -> Result<()> {
    process.attempt(parallelism, durable.as_ref().map(|checkpoint| &checkpoint.state))?;
    let (mut id, mut next) = durable.as_ref().map_or((0, 0), |checkpoint| (checkpoint.id, checkpoint.next));
    while next < RECORDS {
        // One subtask has ended before the last checkpoints.
        let subtask = next as usize / 2 % parallelism;
        let subtask = if process.is_running(subtask) { subtask } else { 0 };
        process.write(subtask, vec![next])?;
        next += 1;
        if next == RECORDS - 8 && parallelism > 1 {
            process.end(1)?;
        }
        if next.is_multiple_of(5) {
            id += 1;
            checkpoint(process, id, next, durable)?;
        }
    }
    for subtask in 0..parallelism {
        if process.is_running(subtask) {
            process.end(subtask)?;
        }
    }
    let state = process.barrier(id + 1)?;
    *durable = Some(Checkpoint { id: id + 1, state, next });
    Ok(())
}

fn checkpoint(
    process: &mut Process,
    id: CheckpointId,
    next: u64,
    durable: &mut Option<Checkpoint>,
) -> Result<()> {
    let state = process.barrier(id)?;
    *durable = Some(Checkpoint { id, state, next });
    process.complete(id)
}

/// The whole of a job, from its last checkpoint on.
fn finish(mut process: Process, parallelism: usize, durable: &mut Option<Checkpoint>) -> Result<()> {
    run(&mut process, parallelism, durable)?;
    process.commit()
}

type Files = BTreeMap<String, String>;

/// The finished files.
fn finished(mem: &MemVfs) -> Files {
    let mut files = Files::new();
    for (path, content) in mem.snapshot() {
        let hidden = path.components().any(|c| c.as_os_str().to_string_lossy().starts_with('.'));
        if let (Ok(path), Some(content), false) = (path.strip_prefix("/data/out"), content, hidden) {
            files.insert(path.display().to_string(), String::from_utf8(content).unwrap());
        }
    }
    files
}

/// The records in finished files, in order.
fn records(files: &Files) -> Vec<u64> {
    let mut all = Vec::new();
    for (name, content) in files {
        let mut lines: Vec<&str> = content.lines().collect();
        assert!(content.ends_with('\n') && !lines.is_empty(), "{name} is torn: {content:?}");
        if name.ends_with(".bulk") {
            assert_eq!(lines.pop(), Some(format!("rows {}", lines.len()).as_str()), "{name} is torn");
        }
        all.extend(lines.iter().map(|line| line.parse::<u64>().unwrap()));
    }
    all.sort_unstable();
    all
}

fn assert_records(mem: &MemVfs, next: u64, what: &str) {
    let files = finished(mem);
    assert!(records(&files).into_iter().eq(0..next), "{what}: not the records before {next}: {files:?}");
}

fn assert_nothing_hidden(mem: &MemVfs, what: &str) {
    let hidden = mem.snapshot().into_keys().find(|path| {
        path.components().any(|component| component.as_os_str().to_string_lossy().starts_with('.'))
    });
    assert_eq!(hidden, None, "{what}");
}

/// Files that readers may have seen are still as they were.
fn assert_unchanged(before: &Files, mem: &MemVfs, what: &str) {
    let after = finished(mem);
    for (name, content) in before {
        assert_eq!(after.get(name), Some(content), "{what}: {name}");
    }
}
