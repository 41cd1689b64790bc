//! TumblingSlices: tumbling windows, where a window is a slice.
//!
//! State: a table for each open window, with an accumulator for each key that has records in it. When the watermark
//! passes the end of a window its table is emptied into the output, in the order in which its keys came.

use super::Slicing;
use super::tables::{Slice, SliceTables};
use crate::base::batch::{Barrier, Batch};
use crate::base::codec;
use crate::base::data::{Data, Key, Timestamp};
use crate::base::error::Result;
use crate::base::hash::hash_of;
use crate::base::metrics::Counter;
use crate::operator::exchange::KeySelector;
use crate::operator::side_output::SideOutput;
use crate::operator::window::{WindowFold, Windowed};
use crate::operator::{Context, LATE_RECORDS_DROPPED, Operator, Out, Progress, SNAPSHOT_SLICE_BYTES};
use crate::semantics::state::tables::{Part, RowReader, RowWriter, TableKind};
use crate::semantics::state::{ImportedState, OperatorSnapshot, OperatorState, StateTable};
use crate::semantics::window::Aligned;
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::Arc;

/// Entries handed to the output before it is asked whether it is full.
const DRAIN_ENTRIES: usize = 256;

/// Folds the records of each key and tumbling window. Records whose window has fired are late.
pub struct TumblingSlices<K, T, F: WindowFold<T>> {
    tables: SliceTables<K, T, F>,
    late_to: Option<SideOutput<T>>,
    late: Option<Counter>,
    /// The first open window is being emptied.
    firing: bool,
}

impl<K: Key, T: Data, F: WindowFold<T>> TumblingSlices<K, T, F> {
    /// The operator around a fold. Late records go to `late_to`, or are counted.
    pub fn new(
        fold: F,
        aligned: Aligned,
        selector: Arc<dyn KeySelector<T, K>>,
        late_to: Option<SideOutput<T>>,
    ) -> Self {
        let tables = SliceTables::new(fold, Slicing::new(aligned), selector);
        TumblingSlices { tables, late_to, late: None, firing: false }
    }
}

/// Sends late records on, or counts them; empties the batch.
pub(in crate::operator::window) fn divert<T: Data, U: Data>(
    late: &mut Batch<T>,
    late_to: &Option<SideOutput<T>>,
    dropped: &mut Option<Counter>,
    ctx: &Context,
    out: &mut Out<U>,
) {
    match late_to {
        Some(output) => {
            for (value, &timestamp) in late.values.drain(..).zip(&late.timestamps) {
                out.push_to(output, value, Some(timestamp));
            }
        }
        None => {
            let counter = dropped.get_or_insert_with(|| ctx.runtime.counter(LATE_RECORDS_DROPPED));
            counter.add(late.len() as u64);
        }
    }
    late.clear();
}

impl<K: Key, T: Data, F: WindowFold<T>> Operator for TumblingSlices<K, T, F> {
    type In = T;
    type Out = Windowed<K, F::Value>;

    fn process(
        &mut self,
        batch: &mut Batch<T>,
        ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        let (late_to, late) = (&self.late_to, &mut self.late);
        let ctx = &*ctx;
        self.tables.fold_batch(batch, |slice, part| {
            let is_late = slice.max_timestamp() <= ctx.watermark;
            if is_late {
                divert(part, late_to, late, ctx, out);
            }
            is_late
        })?;
        Ok(Progress::Done)
    }

    fn watermark(
        &mut self,
        watermark: Timestamp,
        _ctx: &mut Context,
        out: &mut Out<Self::Out>,
    ) -> Result<Progress> {
        loop {
            let SliceTables { fold, open, .. } = &mut self.tables;
            let Some(Slice { window, table, changes, .. }) = open.front_mut() else {
                return Ok(Progress::Done);
            };
            let (window, timestamp) = (*window, window.max_timestamp());
            if !self.firing && timestamp > watermark {
                return Ok(Progress::Done);
            }
            self.firing = true;
            loop {
                if out.is_full() {
                    return Ok(Progress::Yielded);
                }
                let mut written = Ok(());
                let more = table.drain_slots(DRAIN_ENTRIES, |slot, _hash, key, acc| {
                    let copied = changes.changing(slot, |copies| copies.put_slot(slot, Some(&(&key, &acc))));
                    written = std::mem::replace(&mut written, Ok(())).and(copied);
                    out.push(Windowed { key, window, value: fold.value(&acc) }, Some(timestamp));
                });
                written?;
                if !more {
                    break;
                }
            }
            self.firing = false;
            self.tables.retire(0);
        }
    }

    fn snapshot(&mut self, barrier: Barrier, into: &mut OperatorSnapshot) -> Result<Progress> {
        let tables = &mut self.tables;
        tables.left_behind.clear();
        for slice in &mut tables.open {
            into.put(OPEN, &slice.window.start)?;
            slice.changes.cut(barrier.full, slice.table.slots());
        }
        self.snapshot_more(into)
    }

    fn snapshot_more(&mut self, into: &mut OperatorSnapshot) -> Result<Progress> {
        let mut left = SNAPSHOT_SLICE_BYTES;
        for (window, mut copies) in self.tables.left_behind.drain(..) {
            into.section(&section_of(window.start)).take_from(&mut copies);
        }
        for Slice { window, table, changes, .. } in &mut self.tables.open {
            if !changes.is_under_way() {
                continue;
            }
            let section = into.section(&section_of(window.start));
            let before = section.bytes().len();
            let done = changes.write(section, left, |slot, into| table.put_entry(slot, into))?;
            left = left.saturating_sub(section.bytes().len() - before);
            if !done || left == 0 {
                return Ok(Progress::Yielded);
            }
        }
        Ok(Progress::Done)
    }

    fn state_tables(&self) -> Vec<Box<dyn StateTable>> {
        vec![Box::new(SlicesTable::<K, F::Acc>(PhantomData))]
    }

    fn restore(&mut self, state: &OperatorState, ctx: &mut Context) -> Result<()> {
        let open: BTreeSet<Timestamp> = state.entries(OPEN).collect::<Result<_>>()?;
        for start in open {
            let section = section_of(start);
            let slice = self.tables.slicing.slice_of(start)?;
            let at = self.tables.position(slice);
            let table = &mut self.tables.open[at].table;
            table.reserve(state.table_len(&section) / ctx.runtime.parallelism());
            // Of a subtask in which the slice was not open any more there are older entries.
            let open_in = state.subtasks().iter().map(|subtask| {
                let newest = subtask.newest().into_iter();
                newest
                    .flat_map(|part| part.entries::<Timestamp>(OPEN))
                    .any(|open| open.is_ok_and(|o| o == start))
            });
            let open_in: Vec<bool> = open_in.collect();
            let entries = state.table::<(K, F::Acc)>(&section).filter_map(|entry| match entry {
                Ok((subtask, _, entry)) => {
                    open_in.get(subtask).copied().unwrap_or(false).then_some(Ok(entry))
                }
                Err(e) => Some(Err(e)),
            });
            table.insert_all(entries, |hash| ctx.runtime.owns(hash))?;
            if self.tables.open[at].table.is_empty() {
                self.tables.retire(at);
            }
        }
        Ok(())
    }
}

/// The starts of the slices that were open in a subtask: of others there may be older entries.
fn open_in(state: &OperatorState) -> Result<Vec<BTreeSet<Timestamp>>> {
    let newest = state.subtasks().iter().map(|subtask| {
        subtask.newest().into_iter().flat_map(|part| part.entries::<Timestamp>(OPEN)).collect::<Result<_>>()
    });
    newest.collect()
}

/// The table of all open slices: a row for each key and slice.
struct SlicesTable<K, A>(PhantomData<fn() -> (K, A)>);

impl<K: Key, A: Data> StateTable for SlicesTable<K, A> {
    fn name(&self) -> &str {
        "windows"
    }
    fn kind(&self) -> TableKind {
        TableKind::Windows
    }
    fn parts(&self) -> Vec<Part> {
        vec![Part::of::<K>("key"), Part::of::<Timestamp>("window_start"), Part::of::<A>("value")]
    }
    fn covers(&self, section: &str) -> bool {
        section == OPEN || section.starts_with(SLICE)
    }
    fn export(&self, state: &OperatorState, rows: &mut dyn RowWriter) -> Result<()> {
        let open_in = open_in(state)?;
        let all: BTreeSet<Timestamp> = open_in.iter().flatten().copied().collect();
        for start in all {
            for entry in state.table::<(K, A)>(&section_of(start)) {
                let (subtask, _, (key, acc)) = entry?;
                if open_in[subtask].contains(&start) {
                    rows.row(subtask, Some(hash_of(&key)), &[&key, &start, &acc])?;
                }
            }
        }
        Ok(())
    }
    fn import(&self, _notes: &[u8], rows: &mut dyn RowReader, into: &mut ImportedState) -> Result<()> {
        let mut open = BTreeSet::new();
        while let Some(subtask) = rows.next()? {
            let start = codec::decode(rows.part(1)?)?;
            if open.insert((subtask, start)) {
                into.subtask(subtask)?.put(OPEN, &start)?;
            }
            into.put_entry(subtask, &section_of(start), &[rows.part(0)?, rows.part(2)?])?;
        }
        Ok(())
    }
}

/// Section of a snapshot with the starts of the open slices; the entries of each are a table of its own.
const OPEN: &str = "open slices";

/// Begin of the name of the section of a slice.
const SLICE: &str = "slice ";

fn section_of(start: Timestamp) -> String {
    format!("{SLICE}{start}")
}
