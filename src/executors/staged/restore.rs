//! Restore: writes finished units down in the ledger, and takes over those that a process before this one has written.
//!
//! Rule: a unit counts if it is recorded, if what it has read is that of recorded units, and if what its writers handed over
//! is still there. What it has left is needed only by units that do not count; where it is missing, its producer runs
//! again.

use super::attempt::{Success, edges_from, edges_into};
use super::kept::Left;
use super::layout::partition_of_unit;
use super::ledger::{Ledger, UnitRecord};
use super::recovery::is_gone;
use super::run::State;
use super::schedule::{Attempt, UnitId};
use super::totals::LeftStats;
use crate::base::error::{Error, Result};
use crate::services::shuffle::{Remainder, ShuffleOutput};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

impl State<'_> {
    /// Whether what the units of a stage have done outlives the process: what it reads is then of no use any more when
    /// it is complete. Without a job directory nothing outlives it, and it is of no use either.
    pub fn survives(&self, stage: usize) -> bool {
        self.ledger.is_none() || self.durable[stage]
    }

    /// Writes an attempt that has succeeded down, and before it that these units do not count any more.
    pub fn write_down(&self, attempt: Attempt, success: &Success, changed: &BTreeSet<UnitId>) -> Result<()> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let id = attempt.id;
        for &consumer in changed {
            ledger.withdraw(consumer)?;
        }
        let mut sinks = Vec::new();
        let at = self.place_of(id);
        for step in &self.plan.tasks[id.stage].steps {
            if let Some(sink) = self.job.sinks.get(step)
                && let Some(handed_over) = sink.handed_over(at)?
            {
                sinks.push((*step as u64, handed_over));
            }
        }
        let stored = |left: &Left| {
            let stored = left.output.stored();
            let stored = stored.ok_or_else(|| Error::Internal("an output to keep is not in files".into()))?;
            Ok((left.edge as u64, stored))
        };
        let record = UnitRecord {
            of: ledger.of(id),
            counts: self.durable[id.stage],
            attempt: attempt.number,
            outputs: success.left.iter().map(stored).collect::<Result<_>>()?,
            sinks,
            summary: success.summary.clone(),
        };
        ledger.write(id, &record)?;
        success.left.iter().for_each(|left| left.output.keep(true));
        Ok(())
    }

    /// Subtask and unit within it, as sinks know them.
    fn place_of(&self, id: UnitId) -> (usize, usize) {
        let layout = self.layouts[id.stage];
        (layout.subtask(id.unit), id.unit % layout.units_per_subtask)
    }

    /// Takes over what a process before this one has finished.
    pub fn restore(&mut self, ledger: &Ledger) -> Result<()> {
        let mut records: BTreeMap<UnitId, UnitRecord> = BTreeMap::new();
        for (stage, layout) in self.layouts.iter().enumerate() {
            for unit in 0..layout.units() {
                let id = UnitId { stage, unit };
                records.extend(ledger.read(id)?.map(|record| (id, record)));
            }
        }
        let mut done = BTreeSet::new();
        for (&id, record) in &records {
            let of = Attempt { id, number: record.attempt };
            for (edge, stored) in &record.outputs {
                self.kept().remember(id.unit, *edge as usize, stored.digests());
            }
            if !record.counts
                || !self.has_read_what_is_recorded(id, &records)
                || !self.take_over(id, record)?
            {
                self.schedule.was_tried(of);
                continue;
            }
            self.schedule.was_done(of);
            for (edge, stored) in &record.outputs {
                let left = LeftStats { stats: stored.stats(), rows: stored.rows().into() };
                self.stages[id.stage].left(id.unit, *edge as usize, left);
            }
            record.summary.count(self.job);
            self.summaries.insert(id, record.summary.clone());
            done.insert(id);
        }
        let mut in_use = BTreeSet::new();
        for id in &done {
            for (edge, stored) in &records[id].outputs {
                let edge = *edge as usize;
                let consumer = self.plan.edges.get(edge).map(|edge| self.plan.steps[edge.to].task);
                if consumer.is_none_or(|stage| self.schedule.is_complete(stage) && self.survives(stage)) {
                    continue;
                }
                match ShuffleOutput::open(ledger.vfs(), ledger.dir(), stored) {
                    Ok(output) => {
                        in_use.extend(stored.file_names().map(str::to_string));
                        let reservation = self.kept().budget().reservation();
                        let (output, remainder) = (Arc::new(output), Remainder::Disk);
                        self.kept().put(id.unit, Left { edge, output, reservation, remainder });
                    }
                    Err(error) => {
                        tracing::warn!(%error, stage = id.stage, unit = id.unit,
                            "what a unit of work has left is gone; it runs again if it is still needed");
                    }
                }
            }
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let again = self.schedule.restore(|c, p| is_gone(self.plan, &self.layouts, &kept, c, p));
        drop(kept);
        self.run_again(again);
        ledger.clean(&in_use)
    }

    /// Whether there is a record of each unit that this one has read: without it nobody could tell whether a repeated
    /// attempt leaves the same.
    fn has_read_what_is_recorded(&self, id: UnitId, records: &BTreeMap<UnitId, UnitRecord>) -> bool {
        edges_into(self.plan, id.stage).all(|edge| {
            let divided = self.plan.steps[edge.to].divided;
            let stage = self.plan.steps[edge.from].task;
            partition_of_unit(edge, divided, &self.layouts[id.stage], id.unit).is_none()
                || (0..self.layouts[stage].units()).all(|unit| records.contains_key(&UnitId { stage, unit }))
        })
    }

    /// Whether a record says what this plan would say, and what was handed over to sinks is still there; then it is taken
    /// over.
    fn take_over(&self, id: UnitId, record: &UnitRecord) -> Result<bool> {
        let edges: Vec<u64> = edges_from(self.plan, id.stage).map(|edge| edge.id as u64).collect();
        let found: BTreeSet<u64> = record.outputs.iter().map(|(edge, _)| *edge).collect();
        if found != edges.into_iter().collect() {
            return Ok(false);
        }
        let at = self.place_of(id);
        for step in &self.plan.tasks[id.stage].steps {
            let Some(sink) = self.job.sinks.get(step) else { continue };
            let handed_over = record.sinks.iter().find(|(of, _)| *of == *step as u64);
            let Some((_, handed_over)) = handed_over else { return Ok(false) };
            if !sink.take_over(at, handed_over)? {
                tracing::warn!(
                    stage = id.stage,
                    unit = id.unit,
                    operator = self.plan.steps[*step].name,
                    "what a writer has left is gone; its unit of work runs again"
                );
                return Ok(false);
            }
        }
        Ok(true)
    }
}
