//! What a directory holds after jobs that succeed, fail at any operation, or lose power.

use super::{FileSink, StagedFile, TextSink};
use crate::base::batch::Batch;
use crate::base::error::{Error, Result};
use crate::base::vfs::{Fault, FaultPlan, FaultVfs, FileOp, Keep, MemVfs, OsVfs, SharedVfs, Vfs};
use crate::connectors::sink::testing::context_on;
use crate::connectors::sink::{CommitPoint, Sink, SinkContext, SinkWriter};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

const OLD: [(&str, &str); 3] =
    [("part-00000-00000.txt", "old"), ("part-00007-00000.csv", "old"), ("notes", "mine")];

/// Subtask, unit, records.
type Units = [(usize, usize, &'static [i64])];
const UNITS: &Units = &[(0, 0, &[1, 2]), (0, 1, &[]), (1, 0, &[3])];

fn put(vfs: &dyn Vfs, path: &str, text: &str) {
    let path = Path::new(path);
    let parent = path.parent().unwrap();
    vfs.create_dir_all(parent).unwrap();
    let mut file = vfs.create(path).unwrap();
    file.append(text.as_bytes()).unwrap();
    file.sync_data().unwrap();
    for dir in parent.ancestors() {
        vfs.sync_dir(dir).unwrap();
    }
}

fn with_old_content() -> MemVfs {
    let mem = MemVfs::new();
    OLD.iter().for_each(|(name, text)| put(&mem, &format!("/data/out/{name}"), text));
    mem
}

/// The visible content of /data/out; a hidden name anywhere fails the test.
fn output(tree: &Tree) -> Vec<(String, String)> {
    let hidden =
        tree.keys().find(|p| p.components().any(|c| c.as_os_str().to_string_lossy().starts_with('.')));
    assert_eq!(hidden, None, "left behind");
    let name = |p: &Path| p.strip_prefix("/data/out").ok().map(|p| p.display().to_string());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    tree.iter().filter_map(|(p, bytes)| Some((name(p)?, text(bytes.as_deref()?)))).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = list.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
    pairs.sort();
    pairs
}

fn new_output(more: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs(&[&[("part-00000-00000.txt", "1\n2\n"), ("part-00001-00000.txt", "3\n")], more].concat())
}

fn sink(overwrite: bool) -> TextSink {
    FileSink::text("/data/out").overwrite(overwrite)
}

fn write_units<S: Sink<i64, Committable = StagedFile>>(
    sink: &S,
    ctx: &SinkContext,
    units: &Units,
) -> Result<Vec<StagedFile>> {
    let mut finished = Vec::new();
    for (subtask, unit, records) in units {
        let mut writer = sink.writer(&SinkContext { subtask: *subtask, unit: *unit, ..ctx.clone() })?;
        for record in *records {
            writer.write(&mut Batch::from(vec![*record]))?;
        }
        finished.extend(writer.prepare_commit(CommitPoint::End)?);
    }
    Ok(finished)
}

/// A whole job as the executor runs it, without the abort.
fn job<S: Sink<i64, Committable = StagedFile>>(sink: &S, ctx: &SinkContext, units: &Units) -> Result<()> {
    sink.prepare(ctx)?;
    let finished = write_units(sink, ctx, units)?;
    sink.commit(finished, ctx)
}

fn ctx_on(vfs: &MemVfs) -> SinkContext {
    context_on(Arc::new(vfs.clone()))
}

/// M11: in BATCH all files appear together, at the end.
#[test]
fn a_new_directory_appears_with_all_files_and_only_then() {
    let mem = MemVfs::new();
    let (sink, ctx) = (sink(false), ctx_on(&mem));
    Sink::<i64>::prepare(&sink, &ctx).unwrap();
    let finished = write_units(&sink, &ctx, UNITS).unwrap();
    assert_eq!(finished.len(), 2, "a unit without records has no file");
    assert!(!mem.snapshot().contains_key(Path::new("/data/out")));
    Sink::<i64>::commit(&sink, finished.clone(), &ctx).unwrap();
    assert_eq!(output(&mem.snapshot()), new_output(&[]));
    Sink::<i64>::commit(&sink, finished, &ctx).unwrap();
    assert_eq!(output(&mem.crash(0, Keep::Nothing).snapshot()), new_output(&[]));
}

#[test]
fn an_empty_directory_is_filled() {
    let mem = MemVfs::new();
    mem.create_dir_all(Path::new("/data/out")).unwrap();
    let (sink, ctx) = (sink(false), ctx_on(&mem));
    Sink::<i64>::prepare(&sink, &ctx).unwrap();
    let finished = write_units(&sink, &ctx, UNITS).unwrap();
    Sink::<i64>::commit(&sink, finished.clone(), &ctx).unwrap();
    Sink::<i64>::commit(&sink, finished, &ctx).unwrap();
    assert_eq!(output(&mem.snapshot()), new_output(&[]));
}

#[test]
fn a_directory_with_content_is_refused_and_untouched() {
    let mem = with_old_content();
    let before = mem.snapshot();
    let error = job(&sink(false), &ctx_on(&mem), UNITS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output directory '/data/out' is not empty; give --overwrite to replace its part files"
    );
    assert_eq!(mem.snapshot(), before);
}

#[test]
fn overwrite_replaces_part_files_at_the_commit_and_nothing_else() {
    let mem = with_old_content();
    let (sink, ctx) = (sink(true), ctx_on(&mem));
    Sink::<i64>::prepare(&sink, &ctx).unwrap();
    let finished = write_units(&sink, &ctx, UNITS).unwrap();
    for (name, text) in OLD {
        let path = Path::new("/data/out").join(name);
        assert_eq!(mem.snapshot()[&path].as_deref(), Some(text.as_bytes()));
    }
    Sink::<i64>::commit(&sink, finished, &ctx).unwrap();
    assert_eq!(output(&mem.snapshot()), new_output(&[("notes", "mine")]));
}

#[test]
fn no_records_leave_an_empty_directory() {
    for (mem, left) in [(MemVfs::new(), vec![]), (with_old_content(), pairs(&[("notes", "mine")]))] {
        job(&sink(true), &ctx_on(&mem), &[(0, 0, &[])]).unwrap();
        assert_eq!(output(&mem.snapshot()), left);
        assert!(mem.metadata(Path::new("/data/out")).unwrap().is_dir);
    }
}

#[test]
fn targets_that_cannot_be_a_directory_are_named() {
    let mem = MemVfs::new();
    put(&mem, "/data/out", "a file");
    let error = job(&sink(false), &ctx_on(&mem), UNITS).unwrap_err();
    assert!(error.to_string().starts_with("output '/data/out' is a file"), "{error}");
    for bad in ["/data/out/below", "missing/.."] {
        let error = job(&FileSink::text(bad), &ctx_on(&mem), UNITS).unwrap_err();
        assert!(error.to_string().contains(bad), "{error}");
    }
    assert_eq!(mem.snapshot().len(), 2);
    let plan = FaultPlan::fail_at(0, Fault::Os(13)).only(&[FileOp::CreateDirAll]).on_path("mainstem");
    let ctx = context_on(FaultVfs::new(Arc::new(MemVfs::new()), plan));
    let error = job(&sink(false), &ctx, UNITS).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.starts_with("/data")), "{error}");
    assert!(error.to_string().contains("denied"), "{error}");
}

#[test]
fn an_abort_leaves_nothing_and_takes_away_the_parents_it_made() {
    let mem = MemVfs::new();
    put(&mem, "/data/kept", "x");
    let before = mem.snapshot();
    let (sink, ctx) = (FileSink::text("/data/new/deep/out"), ctx_on(&mem));
    Sink::<i64>::prepare(&sink, &ctx).unwrap();
    let mut writer = Sink::<i64>::writer(&sink, &ctx).unwrap();
    writer.write(&mut Batch::from(vec![1i64])).unwrap();
    let finished = SinkWriter::<i64>::prepare_commit(&mut writer, CommitPoint::End).unwrap();
    assert_eq!(finished.len(), 1);
    Sink::<i64>::abort(&sink, &ctx).unwrap();
    Sink::<i64>::abort(&sink, &ctx).unwrap();
    assert_eq!(mem.snapshot(), before);
}

#[test]
fn an_abort_spares_what_others_put_beside_the_output() {
    let mem = MemVfs::new();
    let (sink, ctx) = (sink(false), ctx_on(&mem));
    Sink::<i64>::prepare(&sink, &ctx).unwrap();
    put(&mem, "/data/other", "theirs");
    Sink::<i64>::abort(&sink, &ctx).unwrap();
    assert_eq!(mem.snapshot().len(), 2);
}

#[test]
fn a_writer_dropped_before_its_end_removes_its_file_and_the_next_attempt_counts() {
    let mem = MemVfs::new();
    let (sink, ctx) = (sink(false), ctx_on(&mem));
    Sink::<i64>::prepare(&sink, &ctx).unwrap();
    let long: Vec<i64> = (0..200_000).collect();
    let mut failed = Sink::<i64>::writer(&sink, &ctx).unwrap();
    failed.write(&mut Batch::from(long)).unwrap();
    let staged =
        |mem: &MemVfs| mem.snapshot().keys().filter(|p| p.to_string_lossy().contains("attempt")).count();
    assert_eq!(staged(&mem), 1);
    drop(failed);
    assert_eq!(staged(&mem), 0);
    let retry = SinkContext { attempt: 1, ..ctx.clone() };
    let finished = write_units(&sink, &retry, UNITS).unwrap();
    Sink::<i64>::commit(&sink, finished, &ctx).unwrap();
    assert_eq!(output(&mem.snapshot()), new_output(&[]));
}

/// A writer that hung when its process gave the job up may end when the next one has written the same unit in its first attempt, too.
#[test]
fn a_writer_of_a_process_before_takes_nothing_away() {
    let mem = MemVfs::new();
    let (sink, ctx) = (sink(false), ctx_on(&mem));
    Sink::<i64>::prepare(&sink, &ctx).unwrap();
    let mut hung = Sink::<i64>::writer(&sink, &SinkContext { process: 1, ..ctx.clone() }).unwrap();
    hung.write(&mut Batch::from((0..200_000).collect::<Vec<i64>>())).unwrap();
    let finished = write_units(&sink, &SinkContext { process: 2, ..ctx.clone() }, UNITS).unwrap();
    drop(hung);
    Sink::<i64>::commit(&sink, finished, &ctx).unwrap();
    assert_eq!(output(&mem.snapshot()), new_output(&[]));
}

#[test]
fn finished_files_of_attempts_that_do_not_count_go_at_the_commit() {
    for mem in [MemVfs::new(), with_old_content()] {
        let (sink, ctx) = (sink(true), ctx_on(&mem));
        Sink::<i64>::prepare(&sink, &ctx).unwrap();
        write_units(&sink, &ctx, &[(0, 0, &[9]), (5, 0, &[9])]).unwrap();
        let finished = write_units(&sink, &SinkContext { attempt: 1, ..ctx.clone() }, UNITS).unwrap();
        Sink::<i64>::commit(&sink, finished, &ctx).unwrap();
        assert!(output(&mem.snapshot()).iter().all(|(_, text)| text != "9\n"));
    }
}

#[test]
fn two_sinks_of_one_job_cannot_share_a_directory() {
    let mem = MemVfs::new();
    let ctx = ctx_on(&mem);
    let (first, second) = (sink(false), sink(false));
    Sink::<i64>::prepare(&first, &ctx).unwrap();
    let error = Sink::<i64>::prepare(&second, &ctx).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    let finished = write_units(&first, &ctx, UNITS).unwrap();
    Sink::<i64>::commit(&first, finished, &ctx).unwrap();
    assert_eq!(output(&mem.snapshot()), new_output(&[]));
}

#[test]
fn leftovers_of_a_dead_job_go_and_those_of_a_live_one_stay() {
    for mem in [MemVfs::new(), with_old_content()] {
        let before = mem.snapshot();
        let ctx = |id: &str| SinkContext { job_id: id.to_string(), ..ctx_on(&mem) };
        let (live, dead) = (sink(true), sink(true));
        Sink::<i64>::prepare(&dead, &ctx("dead")).unwrap();
        write_units(&dead, &ctx("dead"), UNITS).unwrap();
        drop(dead);
        Sink::<i64>::prepare(&live, &ctx("live")).unwrap();
        let finished = write_units(&live, &ctx("live"), UNITS).unwrap();
        let third = sink(true);
        Sink::<i64>::prepare(&third, &ctx("third")).unwrap();
        Sink::<i64>::abort(&third, &ctx("third")).unwrap();
        assert!(!mem.snapshot().keys().any(|p| p.to_string_lossy().contains("dead")));
        Sink::<i64>::commit(&live, finished, &ctx("live")).unwrap();
        let kept = if before.is_empty() { vec![] } else { vec![("notes", "mine")] };
        assert_eq!(output(&mem.snapshot()), new_output(&kept));
    }
}

#[test]
fn a_directory_that_fills_up_during_the_job_is_not_touched() {
    for exists in [false, true] {
        let mem = MemVfs::new();
        if exists {
            mem.create_dir_all(Path::new("/data/out")).unwrap();
        }
        let (sink, ctx) = (sink(false), ctx_on(&mem));
        Sink::<i64>::prepare(&sink, &ctx).unwrap();
        let finished = write_units(&sink, &ctx, UNITS).unwrap();
        put(&mem, "/data/out/part-00000-00000.txt", "theirs");
        let error = Sink::<i64>::commit(&sink, finished, &ctx).unwrap_err();
        assert!(error.to_string().contains("dropped"), "{error}");
        Sink::<i64>::abort(&sink, &ctx).unwrap();
        assert_eq!(output(&mem.snapshot()), pairs(&[("part-00000-00000.txt", "theirs")]));
    }
}

/// The three kinds of target, each with what is there before.
fn targets() -> [MemVfs; 3] {
    let empty = MemVfs::new();
    empty.create_dir_all(Path::new("/data/out")).unwrap();
    for dir in ["/", "/data"] {
        empty.sync_dir(Path::new(dir)).unwrap();
    }
    [MemVfs::new(), empty, with_old_content()]
}

/// Runs the job with a fault at every operation in turn and checks what is left.
fn sweep(plan: impl Fn(u64) -> FaultPlan) {
    for target in 0..3 {
        for k in 0.. {
            let mem = targets()[target].clone();
            let before = mem.snapshot();
            let fault = FaultVfs::new(Arc::new(mem.clone()), plan(k));
            let (sink, ctx) = (sink(true), context_on(fault.clone()));
            let done = job(&sink, &ctx, UNITS);
            let mut aborted = Ok(());
            if done.is_err() {
                aborted = Sink::<i64>::abort(&sink, &ctx);
            }
            aborted.unwrap_or_else(|e| panic!("target {target}, operation {k}: {e}"));
            let after = mem.snapshot();
            let kept: &[_] = if target == 2 { &[("notes", "mine")] } else { &[] };
            if done.is_ok() || after != before {
                assert_eq!(output(&after), new_output(kept), "target {target}, operation {k}: {done:?}");
            }
            if fault.failures() == 0 {
                assert!(done.is_ok() && k > 15, "target {target}: {k} operations");
                break;
            }
        }
    }
}

/// M11, T5: all or nothing, whichever operation fails.
#[test]
fn a_fault_at_any_operation_leaves_all_or_nothing() {
    sweep(|k| FaultPlan::fail_at(k, Fault::Io));
    sweep(|k| FaultPlan::fail_at(k, Fault::ShortWrite));
}

#[test]
fn a_disk_that_stays_full_leaves_nothing_and_the_old_content() {
    for target in 0..3 {
        for k in 0.. {
            let mem = targets()[target].clone();
            let before = mem.snapshot();
            let plan = FaultPlan::fail_at(k, Fault::ShortWrite).and_from_then_on().only(FileOp::NEEDS_SPACE);
            let fault = FaultVfs::new(Arc::new(mem.clone()), plan);
            let (sink, ctx) = (sink(true), context_on(fault.clone()));
            let Err(error) = job(&sink, &ctx, UNITS) else {
                assert!(fault.failures() == 0 && k > 6);
                break;
            };
            assert!(
                matches!(&error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
                "{error}"
            );
            Sink::<i64>::abort(&sink, &ctx).unwrap();
            assert_eq!(mem.snapshot(), before, "target {target}, operation {k}");
        }
    }
}

#[test]
fn an_abort_that_fails_can_be_repeated() {
    for target in 0..3 {
        for k in 0.. {
            let mem = targets()[target].clone();
            let before = mem.snapshot();
            let fault = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::none());
            let (sink, ctx) = (sink(true), context_on(fault.clone()));
            Sink::<i64>::prepare(&sink, &ctx).unwrap();
            write_units(&sink, &ctx, UNITS).unwrap();
            fault.set_plan(FaultPlan::fail_at(k, Fault::Io));
            let aborted = Sink::<i64>::abort(&sink, &ctx);
            assert_eq!(aborted.is_err(), fault.failures() == 1, "no failure is hidden");
            fault.set_plan(FaultPlan::none());
            Sink::<i64>::abort(&sink, &ctx).unwrap();
            assert_eq!(mem.snapshot(), before, "target {target}, operation {k}");
            if aborted.is_ok() {
                break;
            }
        }
    }
}

/// C4: a commit is repeated after a crash and has then happened once.
#[test]
fn a_commit_cut_by_a_power_loss_is_completed_by_the_next_process() {
    for target in 0..3 {
        for k in 0.. {
            let mem = targets()[target].clone();
            let fault = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::none());
            let (first, ctx) = (sink(true), context_on(fault.clone()));
            Sink::<i64>::prepare(&first, &ctx).unwrap();
            let finished = write_units(&first, &ctx, UNITS).unwrap();
            fault.set_plan(FaultPlan::fail_at(k, Fault::Io).and_from_then_on());
            let died = Sink::<i64>::commit(&first, finished.clone(), &ctx).is_err();
            for (seed, keep) in [(0, Keep::Nothing)].into_iter().chain((0..12).map(|s| (s, Keep::Torn))) {
                let after = mem.crash(seed, keep);
                let again = Sink::<i64>::commit(&sink(true), finished.clone(), &ctx_on(&after));
                again.unwrap_or_else(|e| panic!("target {target}, operation {k}, seed {seed}: {e}"));
                let kept: &[_] = if target == 2 { &[("notes", "mine")] } else { &[] };
                assert_eq!(output(&after.snapshot()), new_output(kept));
                let durable = after.crash(0, Keep::Nothing);
                let durable: Tree = durable.snapshot().into_iter().filter(|(p, _)| !is_rest(p)).collect();
                assert_eq!(output(&durable), new_output(kept), "durable");
            }
            if !died {
                break;
            }
        }
    }
}

/// An emptied staging directory whose removal was not synced: it goes with the next job.
fn is_rest(path: &Path) -> bool {
    path.to_string_lossy().contains(".done")
}

#[test]
fn the_next_job_completes_a_commit_that_a_dead_one_had_begun() {
    let mem = with_old_content();
    let fault = FaultVfs::new(Arc::new(mem.clone()), FaultPlan::none());
    let (dead, ctx) = (sink(true), context_on(fault.clone()));
    Sink::<i64>::prepare(&dead, &ctx).unwrap();
    let finished = write_units(&dead, &ctx, UNITS).unwrap();
    let second_part = FaultPlan::fail_at(0, Fault::Io).and_from_then_on().on_path("/data/out/part-00001");
    fault.set_plan(second_part);
    assert!(Sink::<i64>::commit(&dead, finished, &ctx).is_err());
    drop(dead);
    let next = SinkContext { job_id: "next".to_string(), ..ctx_on(&mem) };
    let error = Sink::<i64>::prepare(&sink(false), &next).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
    assert_eq!(output(&mem.snapshot()), new_output(&[("notes", "mine")]));
}

#[test]
fn a_manifest_with_foreign_names_is_not_obeyed() {
    for bad in ["", "{}", r#"{"version":1,"files":[],"replaced":["../../etc/passwd"]}"#] {
        let mem = MemVfs::new();
        put(&mem, "/data/out/.mainstem-dead/.lock", "");
        put(&mem, "/data/out/.mainstem-dead/commit", bad);
        let error = Sink::<i64>::prepare(&sink(true), &ctx_on(&mem)).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
}

#[test]
fn a_real_directory_takes_csv_with_a_header() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("deep/out");
    let vfs: SharedVfs = OsVfs::shared();
    for (records, overwrite) in [(3usize, false), (50_000, true)] {
        let sink = FileSink::csv(&out).header(false).overwrite(overwrite);
        let ctx = context_on(vfs.clone());
        Sink::<(usize, String)>::prepare(&sink, &ctx).unwrap();
        let mut writer = Sink::<(usize, String)>::writer(&sink, &ctx).unwrap();
        let rows = (0..records).map(|i| (i, format!("a,{i}"))).collect::<Vec<_>>();
        writer.write(&mut Batch::from(rows)).unwrap();
        let finished = SinkWriter::<(usize, String)>::prepare_commit(&mut writer, CommitPoint::End).unwrap();
        Sink::<(usize, String)>::commit(&sink, finished, &ctx).unwrap();
        let text = std::fs::read_to_string(out.join("part-00000-00000.csv")).unwrap();
        assert_eq!(text.lines().count(), records);
        assert_eq!(text.lines().last(), Some(format!("{0},\"a,{0}\"", records - 1).as_str()));
    }
    assert_eq!(std::fs::read_dir(out.parent().unwrap()).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
    let error = Sink::<i64>::prepare(&FileSink::csv(&out), &context_on(vfs)).unwrap_err();
    assert!(error.to_string().contains("not empty"), "{error}");
}
