//! Savepoints of a pipelined job: made from a checkpoint of everything, and read back as one.
//!
//! Place: written on the thread of whoever asked, or, when the job stops with one, on the job's thread. The job goes on
//! meanwhile; the checkpoint is kept until the savepoint is complete.
//! Method: operators that were never opened say what the snapshots in the checkpoint hold, as tables. Reading goes the other
//! way, so that a restore sees no difference between a savepoint and a checkpoint.

use super::checkpoints::{Restored, restored_operator};
use crate::base::batch::CheckpointId;
use crate::base::error::{Error, Result};
use crate::base::failpoint;
use crate::base::vfs::SharedVfs;
use crate::plan::{PhysicalPlan, Step, StepOperation, find_step, operator_names};
use crate::semantics::state::tables::{RAW, RawTable};
use crate::semantics::state::{ImportedState, OperatorState, StateTable};
use crate::services::checkpoint::{Foreign, OperatorEntry, Pins, Store};
use crate::services::savepoint::{
    Manifest, OperatorTables, TableEntry, TableReader, TableSpec, notes_of, write_table,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// Writes savepoints of a job.
pub struct Savepoints {
    plan: Arc<PhysicalPlan>,
    vfs: SharedVfs,
    checkpoints: Foreign,
    pins: Pins,
}

impl Savepoints {
    /// For a job with its checkpoints in a store; savepoints go to `vfs`.
    pub fn new(plan: Arc<PhysicalPlan>, vfs: SharedVfs, store: &Store) -> Savepoints {
        Savepoints { plan, vfs, checkpoints: store.reader(), pins: store.pins() }
    }

    /// Checks that a savepoint can be written to a path, and makes its directory.
    ///
    /// # Errors
    /// When there is something already, or it cannot be made.
    pub fn prepare(&self, dir: &Path) -> Result<()> {
        Manifest::prepare(&self.vfs, dir)
    }

    /// Writes a savepoint of a completed checkpoint, which holds all state, to a directory that was prepared. The checkpoint
    /// need not be kept any more.
    ///
    /// # Errors
    /// When the checkpoint cannot be read or the savepoint cannot be written; then there is none.
    pub fn write(&self, checkpoint: CheckpointId, dir: &Path, now_ms: i64) -> Result<()> {
        let _pinned = Pinned(&self.pins, checkpoint);
        let mut files = Vec::new();
        let written = self.try_write(checkpoint, dir, now_ms, &mut files);
        if written.is_err() {
            Manifest::withdraw(&self.vfs, dir, &files);
        }
        written
    }

    fn try_write(
        &self,
        checkpoint: CheckpointId,
        dir: &Path,
        now_ms: i64,
        files: &mut Vec<String>,
    ) -> Result<()> {
        let metadata = self.checkpoints.load_id(checkpoint)?;
        let names = operator_names(&self.plan);
        let mut operators = Vec::new();
        for (number, entry) in metadata.operators.iter().enumerate() {
            let step = find_step(&names, &entry.operator)
                .map_err(|why| Error::Internal(format!("{} is in a checkpoint, {why}", entry.operator)))?;
            operators.push(self.write_operator(number, &self.plan.steps[step], entry, dir, files)?);
        }
        let manifest = Manifest {
            version: env!("CARGO_PKG_VERSION").to_string(),
            job: metadata.job,
            checkpoint,
            created_ms: now_ms,
            operators,
        };
        manifest.write(&self.vfs, dir)
    }

    fn write_operator(
        &self,
        number: usize,
        step: &Step,
        entry: &OperatorEntry,
        dir: &Path,
        files: &mut Vec<String>,
    ) -> Result<OperatorTables> {
        let (state, subtasks) =
            restored_operator(entry, &|handle, take| self.checkpoints.read(handle, take))?;
        let mut tables = state_tables(step);
        let left = uncovered(&state, &tables);
        if !left.is_empty() {
            tracing::warn!(
                operator = step.name,
                sections = left.join(", "),
                "state of which the operator does not say what it is goes into the savepoint as bytes"
            );
            tables.push(Box::new(RawTable::new(left)));
        }
        let mut written = Vec::new();
        let name = step.uid.as_deref().unwrap_or(&step.name);
        for table in &tables {
            let (parts, notes) = (table.parts(), table.notes());
            let spec = TableSpec {
                name: table.name(),
                kind: table.kind(),
                parts: &parts,
                notes: &notes,
                max_parallelism: step.max_parallelism,
                operator: &step.name,
            };
            let stem = format!("{number}-{}-{}", file_name(name), file_name(table.name()));
            let file = unused(&stem, files);
            files.push(file.clone());
            let table = write_table(&self.vfs, dir, &file, &spec, &mut |rows| table.export(&state, rows));
            written.push(table.map_err(|e| in_operator(e, step))?);
            failpoint::check("savepoint.table_written")?;
        }
        Ok(OperatorTables {
            operator: entry.operator.clone(),
            max_parallelism: step.max_parallelism,
            subtasks,
            tables: written,
        })
    }
}

/// Releases a checkpoint, whatever happens.
struct Pinned<'a>(&'a Pins, CheckpointId);

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.0.release(self.1);
    }
}

/// What bytes that cannot be read belong to; errors about files speak for themselves.
fn in_operator(error: Error, step: &Step) -> Error {
    match error {
        Error::Io { .. } | Error::Corrupt { .. } | Error::Config(_) => error,
        error => error.in_operator(&step.name, 0),
    }
}

/// What the snapshots of a step hold.
fn state_tables(step: &Step) -> Vec<Box<dyn StateTable>> {
    match &step.operation {
        StepOperation::Source(source, _) => source.state_tables(),
        StepOperation::Operator(factory) => factory().state_tables(),
        StepOperation::Sink(sink) => sink.state_tables(),
    }
}

/// The sections that hold something and belong to no table.
fn uncovered(state: &OperatorState, tables: &[Box<dyn StateTable>]) -> Vec<String> {
    let newest = state.subtasks().iter().filter_map(|subtask| subtask.newest());
    let sections = newest.flat_map(|snapshot| snapshot.sections()).filter(|(_, section)| !section.is_empty());
    let left = sections.map(|(name, _)| name).filter(|name| tables.iter().all(|table| !table.covers(name)));
    left.map(str::to_string).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The name of a file that is not there yet: different names may look the same as names of files.
fn unused(stem: &str, files: &[String]) -> String {
    let numbered = (2..).map(|n| format!("{stem}-{n}.parquet"));
    let mut names = std::iter::once(format!("{stem}.parquet")).chain(numbered);
    names.find(|name| !files.contains(name)).unwrap_or_default()
}

/// A name as a part of the name of a file.
fn file_name(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(fit).take(48).collect()
}

/// Reads a savepoint and finds the operators that its state is for.
///
/// # Errors
/// When a file is damaged or cannot be read; when state does not fit its operator, or there is no operator for it, unless
/// that is `allowed`.
pub fn restore_savepoint(
    plan: &PhysicalPlan,
    vfs: &SharedVfs,
    dir: &Path,
    allowed: bool,
) -> Result<Restored> {
    let manifest = Manifest::read(vfs, dir)?;
    let names = operator_names(plan);
    let mut restored = Restored::new(manifest.job.clone(), manifest.checkpoint);
    restored.is_savepoint = true;
    // First everything is looked at that can be without reading tables.
    let mut found = Vec::new();
    for entry in &manifest.operators {
        match find_step(&names, &entry.operator) {
            Ok(step) => {
                let step = &plan.steps[step];
                check_parallelism(step, entry, dir)?;
                found.push((step, entry));
            }
            Err(_) if entry.tables.iter().all(|table| table.rows == 0) => {}
            Err(why) if allowed => {
                tracing::warn!(operator = %entry.operator, why, "state of the savepoint is left out");
            }
            Err(why) => {
                return Err(Error::config(format!(
                    "savepoint '{}' of job '{}' holds state of {}, {why}; give operators the uids that they had when it was \
                     taken, or leave the state out with allow-non-restored-state",
                    dir.display(),
                    manifest.job.name,
                    entry.operator
                )));
            }
        }
    }
    for (step, entry) in found {
        let state = read_operator(vfs, dir, step, entry, allowed).map_err(|e| in_operator(e, step))?;
        restored.insert(step.id, state, &entry.subtasks);
    }
    restored.find_finished(plan);
    Ok(restored)
}

fn check_parallelism(step: &Step, entry: &OperatorTables, dir: &Path) -> Result<()> {
    if step.parallelism > entry.max_parallelism {
        return Err(Error::plan(
            &step.name,
            format!(
                "parallelism {} is above the max parallelism {} with which savepoint '{}' was written, and that is fixed for \
                 the life of a job; choose {} or less",
                step.parallelism,
                entry.max_parallelism,
                dir.display(),
                entry.max_parallelism
            ),
        ));
    }
    Ok(())
}

fn read_operator(
    vfs: &SharedVfs,
    dir: &Path,
    step: &Step,
    entry: &OperatorTables,
    allowed: bool,
) -> Result<OperatorState> {
    let mut tables = state_tables(step);
    if entry.tables.iter().any(|table| table.name == RAW) {
        tables.push(Box::new(RawTable::default()));
    }
    let is_known =
        |of: &TableEntry| tables.iter().any(|table| table.name() == of.name && table.kind() == of.kind);
    for left in entry.tables.iter().filter(|table| !is_known(table) && table.rows > 0) {
        let what = match tables.iter().any(|table| table.name() == left.name) {
            true => "and what the operator keeps under this name is of another kind",
            false => "which the operator does not have",
        };
        if !allowed {
            return Err(Error::plan(
                &step.name,
                format!(
                    "savepoint '{}' holds its state '{}' ({} rows), {what}; declare the state as it was, or leave it out with \
                     allow-non-restored-state",
                    dir.display(),
                    left.name,
                    left.rows
                ),
            ));
        }
        tracing::warn!(operator = step.name, state = left.name, "state of the savepoint is left out");
    }
    let mut imported = ImportedState::new(entry.subtasks.len());
    for table in &tables {
        // A state that is new starts empty.
        let written = entry.tables.iter().find(|of| of.name == table.name() && of.kind == table.kind());
        let Some(written) = written else { continue };
        let mut reader = TableReader::open(vfs, dir, written, &step.name, &table.parts())?;
        table.import(&notes_of(written)?, &mut reader, &mut imported)?;
    }
    imported.finish()
}
