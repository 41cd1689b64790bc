//! Buckets of jobs without checkpoints: they appear with all other files, or not at all.

use super::rows::{RowEncoder, RowFormat};
use super::writer::OPEN_BUCKETS_MAX;
use super::{FileSink, StagedFile};
use crate::base::batch::Batch;
use crate::base::error::Result;
use crate::base::vfs::{Fault, FaultPlan, FaultVfs, Keep, MemVfs, Vfs};
use crate::connectors::sink::testing::context_on;
use crate::connectors::sink::{CommitPoint, Sink, SinkContext, SinkWriter};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Names that are those of our own files, or lead elsewhere.
const BUCKETS: [&str; 5] = ["", "lock", "commit", "a/b", "../c"];

type Files = BTreeMap<String, String>;

/// The visible files below the output directory; a hidden name anywhere fails the test.
fn output(mem: &MemVfs, what: &str) -> Files {
    let mut files = Files::new();
    let rest = |path: &Path| path.display().to_string().contains(".done");
    // An emptied staging directory whose removal was not synced goes with the next job.
    for (path, content) in mem.snapshot().into_iter().filter(|(path, _)| !rest(path)) {
        let name = path.display().to_string();
        assert!(!name.contains("/."), "{what}: left behind: {name}");
        if let (Some(content), Ok(name)) = (content, path.strip_prefix("/data/out")) {
            files.insert(name.display().to_string(), String::from_utf8(content).unwrap());
        }
    }
    files
}

fn write<S: Sink<u64, Committable = StagedFile>>(
    sink: &S,
    ctx: &SinkContext,
    subtasks: u64,
    records: u64,
) -> Result<Vec<StagedFile>> {
    let mut finished = Vec::new();
    for subtask in 0..subtasks {
        let mut writer = sink.writer(&SinkContext { subtask: subtask as usize, ..ctx.clone() })?;
        let records: Vec<u64> = (0..records).filter(|n| n % subtasks == subtask).collect();
        records.chunks(7).try_for_each(|chunk| writer.write(&mut Batch::from(chunk.to_vec())))?;
        finished.extend(writer.prepare_commit(CommitPoint::End)?);
    }
    Ok(finished)
}

fn bucketed(overwrite: bool) -> impl Sink<u64, Committable = StagedFile> {
    FileSink::text("/data/out")
        .overwrite(overwrite)
        .bucket_by(|n: &u64, bucket| bucket.push_str(BUCKETS[*n as usize % BUCKETS.len()]))
}

fn expected(more: &[(&str, &str)]) -> Files {
    let mut files = Files::new();
    for n in 0..20u64 {
        let dir = ["", "lock/", "commit/", "a/b/", "%2E./c/"][n as usize % 5];
        *files.entry(format!("{dir}part-{:05}-00000.txt", n % 2)).or_default() += &format!("{n}\n");
    }
    files.extend(more.iter().map(|(name, text)| (name.to_string(), text.to_string())));
    files
}

/// No directory, an empty one, and one with files of a job before and of somebody else; with what stays.
fn targets() -> Vec<(MemVfs, Vec<(&'static str, &'static str)>)> {
    let empty = MemVfs::new();
    empty.create_dir_all(Path::new("/data/out")).unwrap();
    ["/", "/data"].iter().for_each(|dir| empty.sync_dir(Path::new(dir)).unwrap());
    let old = empty.crash(0, Keep::Nothing);
    for name in ["part-00000-00000.txt", "part-00009-00000.txt", "a/b/part-00007-00003.txt", "a/notes"] {
        let path = Path::new("/data/out").join(name);
        let dir = path.parent().unwrap();
        old.create_dir_all(dir).unwrap();
        let mut file = old.create(&path).unwrap();
        file.append(b"old").unwrap();
        file.sync_data().unwrap();
        dir.ancestors().for_each(|dir| old.sync_dir(dir).unwrap());
    }
    vec![(MemVfs::new(), vec![]), (empty, vec![]), (old, vec![("a/notes", "old")])]
}

/// K5: without checkpoints buckets appear with the end of the job; those of a job before are replaced as all its files.
#[test]
fn buckets_appear_at_the_end_of_the_job() {
    for (mem, kept) in targets() {
        let before = mem.snapshot();
        let (sink, ctx) = (bucketed(true), context_on(Arc::new(mem.clone())));
        sink.prepare(&ctx).unwrap();
        let finished = write(&sink, &ctx, 2, 20).unwrap();
        let mut now = mem.snapshot();
        now.retain(|path, _| path.starts_with("/data/out") && !path.display().to_string().contains("/."));
        let before = before.into_iter().filter(|(path, _)| path.starts_with("/data/out"));
        assert!(now.into_iter().eq(before), "nothing is to be seen before the end");
        sink.commit(finished.clone(), &ctx).unwrap();
        assert_eq!(output(&mem, "committed"), expected(&kept));
        sink.commit(finished, &ctx).unwrap();
        assert_eq!(output(&mem.crash(0, Keep::Nothing), "durable"), expected(&kept));
    }
}

/// K5, T5: an operation fails, or power is lost for good: all buckets or none, and a commit that was begun is completed.
#[test]
fn faults_leave_all_buckets_or_none() {
    for target in 0..3 {
        for k in 0.. {
            let (mem, kept) = targets().swap_remove(target);
            let (before, what) = (mem.snapshot(), format!("target {target}, operation {k}"));
            let fault = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::fail_at(k, Fault::Io));
            let (sink, ctx) = (bucketed(true), context_on(fault.clone()));
            let done = sink.prepare(&ctx).and_then(|()| sink.commit(write(&sink, &ctx, 2, 20)?, &ctx));
            if done.is_err() {
                sink.abort(&ctx).unwrap_or_else(|e| panic!("{what}: {e}"));
            }
            if done.is_ok() || mem.snapshot() != before {
                assert_eq!(output(&mem, &what), expected(&kept), "{what}: {done:?}");
            }
            if fault.failures() == 0 {
                assert!(done.is_ok() && k > 40, "{what}");
                break;
            }
        }
        for k in 0.. {
            let (mem, kept) = targets().swap_remove(target);
            let fault = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::none());
            let (sink, ctx) = (bucketed(true), context_on(fault.clone()));
            sink.prepare(&ctx).unwrap();
            let finished = write(&sink, &ctx, 2, 20).unwrap();
            fault.set_plan(FaultPlan::fail_at(k, Fault::Io).and_from_then_on());
            let died = sink.commit(finished.clone(), &ctx).is_err();
            for (seed, keep) in [(0, Keep::Nothing), (1, Keep::Torn), (2, Keep::Torn), (3, Keep::Random)] {
                let what = format!("target {target}, operation {k}, seed {seed}");
                let after = mem.crash(seed, keep);
                let again = context_on(Arc::new(after.clone()));
                let committed = bucketed(true).commit(finished.clone(), &again);
                committed.unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(output(&after, &what), expected(&kept), "{what}");
            }
            if !died {
                break;
            }
        }
    }
}

/// K5: more buckets than files may be open: each still has one file of a unit.
#[test]
fn many_buckets_share_few_open_files() {
    let buckets = OPEN_BUCKETS_MAX as u64 + 40;
    let mem = MemVfs::new();
    let sink = FileSink::text("/data/out").bucket_by(move |n: &u64, bucket: &mut String| {
        bucket.push_str(&(n % buckets).to_string());
    });
    let ctx = context_on(Arc::new(mem.clone()));
    Sink::<u64>::prepare(&sink, &ctx).unwrap();
    let finished = write(&sink, &ctx, 1, buckets * 3).unwrap();
    Sink::<u64>::commit(&sink, finished, &ctx).unwrap();
    let files = output(&mem, "many");
    assert_eq!(files.len() as u64, buckets);
    for n in 0..buckets {
        let text = &files[&format!("{n}/part-00000-00000.txt")];
        assert_eq!(*text, format!("{n}\n{}\n{}\n", n + buckets, n + 2 * buckets));
    }
}

/// A format that puts nothing out before its end.
#[derive(Clone)]
struct AtEnd;
struct Sum(u64);

impl RowFormat<u64> for AtEnd {
    type Encoder = Sum;
    fn name(&self) -> &'static str {
        "sum"
    }
    fn extension(&self) -> &'static str {
        "sum"
    }
    fn is_bulk(&self) -> bool {
        true
    }
    fn encoder(&self) -> Sum {
        Sum(0)
    }
}

impl RowEncoder<u64> for Sum {
    fn encode(&mut self, records: &[u64], _out: &mut Vec<u8>) -> Result<()> {
        self.0 += records.iter().sum::<u64>();
        Ok(())
    }
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<()> {
        out.extend(self.0.to_string().bytes());
        Ok(())
    }
}

/// K5: what a format has kept for the end of its file is not lost, and a unit without records has no file.
#[test]
fn a_bulk_format_writes_at_the_end() {
    let mem = MemVfs::new();
    let sink = FileSink::with_format("/data/out", AtEnd);
    let ctx = context_on(Arc::new(mem.clone()));
    Sink::<u64>::prepare(&sink, &ctx).unwrap();
    let finished = write(&sink, &ctx, 3, 2).unwrap();
    Sink::<u64>::commit(&sink, finished, &ctx).unwrap();
    let expected = [("part-00000-00000.sum", "0"), ("part-00001-00000.sum", "1")];
    let expected = expected.map(|(name, sum)| (name.to_string(), sum.to_string()));
    assert_eq!(output(&mem, "bulk"), Files::from(expected));
}
